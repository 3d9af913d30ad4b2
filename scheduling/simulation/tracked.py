"""What is known of one thing, as the columns of its target would say."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from math import inf

from scheduling.cadence import Standing
from scheduling.simulation.inventory import Thing

BEGINNING = datetime(2027, 1, 1, tzinfo=UTC)
NEVER = -inf


def moment(at: float) -> datetime:
    """Seconds since BEGINNING as a time."""
    return BEGINNING + timedelta(seconds=at)


def seconds(at: datetime) -> float:
    return (at - BEGINNING).total_seconds()


class Tracked:
    """The attributes that strategies look at are those of `scheduling.selection.Candidate`.

    Unlike one of those it changes: a year has millions of changes, and objects are dear.
    """

    __slots__ = (
        *("id", "created_at", "last_scheduled_at", "hint_at", "found_at", "ok_since"),
        *("staleness", "position"),
        *("checks", "hint_until", "seen", "stale_from", "standing", "thing"),
    )

    last_scheduled_at: datetime | None
    hint_at: datetime | None
    staleness: timedelta | None

    def __init__(self, thing: Thing, *, id: int, listed_at: float) -> None:
        self.id = id
        self.thing = thing
        self.created_at = moment(listed_at)
        self.last_scheduled_at = self.hint_at = self.staleness = None
        self.seen = thing.version(listed_at)  # by the newest check
        self.checks = 0
        self.stale_from = NEVER  # it has changed from then on; NEVER: it was not found yet
        self.hint_until = NEVER if thing.hinted else inf  # its hint is right up to then
        self.learn(Standing())
        self.hear(listed_at)

    def learn(self, standing: Standing) -> None:
        """Take over what a result has made of it."""
        self.standing = standing
        self.found_at = standing.found_at
        self.ok_since = standing.ok_since
        self.position = standing.position
        self._compare()

    def hear(self, listed_at: float) -> None:
        """Take over what a listing says."""
        if listed_at < self.hint_until:
            return
        changed_at, self.hint_until = self.thing.changes_around(listed_at)
        self.hint_at = moment(changed_at)
        self._compare()

    def _compare(self) -> None:
        hint_at, found_at = self.hint_at, self.found_at
        if hint_at is not None and found_at is not None and hint_at > found_at:
            self.staleness = hint_at - found_at
        else:
            self.staleness = None
