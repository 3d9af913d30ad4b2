"""How soon a target deserves another look: what one more result makes of what is known. Pure."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timedelta
from enum import StrEnum
from hashlib import blake2b
from typing import Self

from scheduling.outcome import Outcome, require_fingerprint, require_wait
from scheduling.schedule_unanchored import START_LEVEL, TOP_LEVEL, Adaptive, days
from scheduling.zones import require_aware

__all__ = [
    "Ended",
    "Observation",
    "Standing",
    "days",
    "fold",
    "next_interval",
    "noise_of",
    "staleness_of",
]

DAY = timedelta(days=1)
# How far a place on the virtual clock may lie off, either way: it spreads what came in one burst.
FUDGE = 0.1


class Ended(StrEnum):
    """How a look at a target ended."""

    FOUND = "found"
    MISSING = "missing"
    FAILED = "failed"


@dataclass(frozen=True, slots=True, kw_only=True)
class Observation:
    """One result: of a run of ours, or from elsewhere.

    An `outcome`, changed or unchanged, goes with what was found and has no fingerprint.
    `retry_after`: not to be looked at again before so much time has passed since `at`, ten years at
    most.
    """

    at: datetime
    ended: Ended
    outcome: Outcome | None = None
    fingerprint: str = ""
    retry_after: timedelta | None = None

    def __post_init__(self) -> None:
        """Raises NaiveTime, ValueError."""
        require_aware(self.at)
        Ended(self.ended)
        if (self.outcome is not None or self.fingerprint) and self.ended != Ended.FOUND:
            raise ValueError(
                f"A result that ended {str(self.ended)!r} has neither outcome nor fingerprint; "
                f"leave out {self.outcome or self.fingerprint!r}"
            )
        if self.outcome is not None and (self.fingerprint or self.outcome == Outcome.MISSING):
            raise ValueError(
                f"The outcome {str(self.outcome)!r} does not go with the rest; say changed, "
                "unchanged or a fingerprint of what was found, and ended='missing' of what was not"
            )
        if self.fingerprint:
            require_fingerprint(self.fingerprint)
        if self.retry_after is not None:
            require_wait(self.retry_after)

    @classmethod
    def of(
        cls, fingerprint: str | None, *, at: datetime, retry_after: timedelta | None = None
    ) -> Self:
        """What a success is worth where each has a fingerprint: without one it has failed."""
        if not fingerprint:
            return cls(at=at, ended=Ended.FAILED, retry_after=retry_after)
        return cls(at=at, ended=Ended.FOUND, fingerprint=fingerprint, retry_after=retry_after)


@dataclass(frozen=True, slots=True, kw_only=True)
class Standing:
    """What is known of a target; the columns of Target have the same names."""

    observed_at: datetime | None = None
    found_at: datetime | None = None
    ok_since: datetime | None = None
    last_ended: Ended | None = None
    last_outcome: str = ""
    fingerprint: str = ""
    streak: int = 0
    misses: int = 0
    level: int = START_LEVEL
    position: int | None = None
    interval: timedelta | None = None
    not_before: datetime | None = None


def fold(
    standing: Standing,
    observation: Observation,
    *,
    clock: int,
    noise: float,
    adaptive: Adaptive | None,
) -> Standing:
    """Give what is known after one more result, whatever the order in which results come.

    One that is not newer than the newest known changes no counter; if it is the newest that found
    the target, that is still kept. `clock` is the virtual clock, in seconds, from which a target
    without a place starts; `noise`, in [-1, 1], spreads places and the ladder's intervals.
    """
    at, found = observation.at, observation.ended == Ended.FOUND
    found_at, fingerprint = standing.found_at, standing.fingerprint
    if found and (found_at is None or at > found_at):
        found_at, fingerprint = at, observation.fingerprint or fingerprint
    if standing.observed_at is not None and at <= standing.observed_at:
        return _with_find(standing, found_at, fingerprint)
    outcome = _outcome(standing, observation)
    level = _level(standing, outcome)
    fudged = days(level) * (1 + FUDGE * noise)
    start = clock if standing.position is None else standing.position
    return Standing(
        observed_at=at,
        found_at=found_at,
        ok_since=(standing.ok_since or at) if found else None,
        last_ended=observation.ended,
        last_outcome=outcome,
        fingerprint=fingerprint,
        streak=standing.streak + 1 if standing.last_ended == observation.ended else 1,
        misses=0 if found else standing.misses + 1,
        level=level,
        position=start + int(fudged * 86_400),
        interval=_interval(standing, outcome, adaptive, fudged),
        # The newest has its say, also by asking for nothing.
        not_before=None if observation.retry_after is None else at + observation.retry_after,
    )


def next_interval(adaptive: Adaptive, standing: Standing) -> timedelta:
    """How long an `adaptive` schedule waits after the newest result."""
    return adaptive.interval(standing.interval, level=standing.level)


def staleness_of(hint_at: datetime | None, found_at: datetime | None) -> timedelta | None:
    """How much is known to be out of date; None: nothing."""
    if hint_at is None or found_at is None or hint_at <= found_at:
        return None
    return hint_at - found_at


def noise_of(name: str, at: datetime) -> float:
    """A number in [-1, 1] that is the same for the same target and time, in every process."""
    digest = blake2b(f"{name} {at.timestamp()}".encode(), digest_size=4).digest()
    return int.from_bytes(digest, "big") / 0xFFFF_FFFF * 2 - 1


def _with_find(standing: Standing, found_at: datetime | None, fingerprint: str) -> Standing:
    """The same with a find that became known late."""
    if found_at == standing.found_at:
        return standing
    return Standing(
        observed_at=standing.observed_at,
        found_at=found_at,
        ok_since=standing.ok_since,
        last_ended=standing.last_ended,
        last_outcome=standing.last_outcome,
        fingerprint=fingerprint,
        streak=standing.streak,
        misses=standing.misses,
        level=standing.level,
        position=standing.position,
        interval=standing.interval,
        not_before=standing.not_before,
    )


def _outcome(standing: Standing, observation: Observation) -> str:
    if observation.ended == Ended.MISSING:
        return Outcome.MISSING.value
    if observation.fingerprint:
        same = observation.fingerprint == standing.fingerprint
        return Outcome.UNCHANGED.value if same else Outcome.CHANGED.value
    return "" if observation.outcome is None else observation.outcome.value


def _level(standing: Standing, outcome: str) -> int:
    if standing.observed_at is None:
        return standing.level
    if outcome == Outcome.CHANGED:
        return max(0, standing.level - 2)
    return min(TOP_LEVEL, standing.level + 1)


def _interval(
    standing: Standing, outcome: str, adaptive: Adaptive | None, fudged: float
) -> timedelta | None:
    if adaptive is None:
        return standing.interval
    if adaptive.start is None or adaptive.shortest is None or adaptive.longest is None:
        return fudged * DAY
    now = standing.interval or adaptive.start
    if outcome == Outcome.CHANGED:
        return max(adaptive.shortest, now / adaptive.factor)
    if outcome == Outcome.UNCHANGED:
        return min(adaptive.longest, now * adaptive.factor)
    return standing.interval
