"""Whose runs would be going on beside ours, and want the same resources. Pure."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta

from scheduling.schedules import Schedule

SHORTEST_RUN = timedelta(seconds=60)  # what a run counts for at least
MOST_OTHERS = 50
MOST_FIRES = 10
MOST_SHOWN = 3  # for one fire


@dataclass(frozen=True, slots=True, kw_only=True)
class Holder:
    """What holds resources when it runs, for how long, and when."""

    name: str
    schedule: Schedule
    locks: frozenset[str]
    duration: timedelta = SHORTEST_RUN
    starts_at: datetime | None = None
    ends_at: datetime | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Clash:
    """A fire of another whose run would meet ours, and the resources both want, sorted."""

    name: str
    fire: datetime
    locks: tuple[str, ...]


def clashes(
    fires: Sequence[datetime],
    others: Sequence[Holder],
    *,
    locks: frozenset[str],
    duration: timedelta,
) -> list[list[Clash]]:
    """Give for each fire, in its order, the first clash with each of the others, earliest first.

    A run lasts [fire, fire + duration): one that begins when another ends meets nobody. Looks at
    MOST_FIRES fires and MOST_OTHERS others, and gives up to MOST_SHOWN clashes for a fire.
    """
    sharing = [other for other in others[:MOST_OTHERS] if other.locks & locks]
    return [_clashes_at(fire, sharing, locks, duration) for fire in fires[:MOST_FIRES]]


def _clashes_at(
    fire: datetime, others: Sequence[Holder], locks: frozenset[str], duration: timedelta
) -> list[Clash]:
    found = []
    for other in others:
        theirs = _first_meeting(other, fire, max(duration, SHORTEST_RUN))
        if theirs is not None:
            shared = tuple(sorted(other.locks & locks))
            found.append(Clash(name=other.name, fire=theirs, locks=shared))
    return sorted(found, key=lambda clash: (clash.fire, clash.name))[:MOST_SHOWN]


def _first_meeting(other: Holder, fire: datetime, duration: timedelta) -> datetime | None:
    """The first fire of the other in (fire - its duration, fire + duration)."""
    after = fire - max(other.duration, SHORTEST_RUN)
    if other.starts_at is not None:
        # A fire exactly at the start counts.
        after = max(after, other.starts_at - datetime.resolution)
    theirs = other.schedule.next(after, name=other.name)
    if theirs is None or theirs >= fire + duration:
        return None
    return None if other.ends_at is not None and theirs > other.ends_at else theirs
