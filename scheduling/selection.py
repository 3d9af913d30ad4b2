"""Which targets of a fed job may be picked, in which order, and how many: pure rules.

The database has the same orders as indexes (scheduling.strategies); a test holds them together.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from math import floor
from typing import Any

from scheduling.cadence import Ended
from scheduling.feeds import (
    EXPRESS,
    MOST_OPEN,
    NEVER_CHECKED,
    OLDEST_SCHEDULED,
    STALEST,
    UNTIL_SUCCESS,
    WITHOUT_HINT,
    Cooldowns,
)


def eligible_from(
    cooldowns: Cooldowns,
    *,
    scheduled_at: datetime | None,
    observed_at: datetime | None,
    ended: Ended | None,
    over_at: datetime | None = None,
    not_before: datetime | None = None,
) -> datetime | None:
    """The moment strictly after which a target may be picked; None: at any time.

    `scheduled_at`: when it was picked last; `observed_at`, `ended`: its newest result; `over_at`:
    when a run of it came to an end last, with a result or without one. A result or an end that is
    newer than the pick ends the hold of what is in flight, nothing else.
    """
    ends: list[datetime] = [] if not_before is None else [not_before]
    if scheduled_at is not None:
        if cooldowns.absolute is not None:
            ends.append(scheduled_at + cooldowns.absolute)
        has_come = any(at is not None and at > scheduled_at for at in (observed_at, over_at))
        if cooldowns.in_flight is not None and not has_come:
            ends.append(scheduled_at + cooldowns.in_flight)
    if observed_at is not None:
        if cooldowns.failed is not None and ended == Ended.FAILED:
            ends.append(observed_at + cooldowns.failed)
        if cooldowns.missing is not None and ended == Ended.MISSING:
            ends.append(observed_at + cooldowns.missing)
    return max(ends, default=None)


def is_eligible(moment: datetime | None, now: datetime) -> bool:
    """Whether a cooldown that ends at `moment` is over: strictly."""
    return moment is None or moment < now


# --- how many -------------------------------------------------------------------------------------


def free_slots(max_length: int | None, length: int | None, *, trickle: int) -> int:
    """How many runs may be let out: at most MOST_OPEN, without a maximum that many.

    `length` None: nobody can say. Then a trickle.
    """
    if not max_length:
        return MOST_OPEN
    if length is None:
        return min(max_length, trickle)
    return max(0, min(max_length - length, MOST_OPEN))


def is_worth_it(slots: int, max_length: int, threshold: float) -> bool:
    """Whether more than the fraction `threshold` is free, so that few large batches are fed."""
    return slots > int(min(max_length, MOST_OPEN) * threshold)


def shares_of(
    slots: int, weights: Mapping[str, float], credits: Mapping[str, float]
) -> tuple[dict[str, int], dict[str, float]]:
    """Divide slots by weights; give strategy -> picks, and strategy -> what it is owed after them.

    Largest remainder over time: what a strategy is owed, a fraction of one pick, counts the next
    time, so that small weights have their turn. Weight 0: never. The sum is `slots`, unless all
    weights are 0.
    """
    total = sum(weights.values())
    if slots <= 0 or total <= 0:
        return dict.fromkeys(weights, 0), dict(credits)
    exact = {
        name: slots * weight / total + (credits.get(name, 0.0) if weight else 0.0)
        for name, weight in weights.items()
    }
    picks = {name: max(0, floor(due)) for name, due in exact.items()}
    by_remainder = sorted(
        (name for name, weight in weights.items() if weight),
        key=lambda name: (picks[name] - exact[name], name),
    )
    missing = slots - sum(picks.values())
    while missing > 0:
        for name in by_remainder[:missing]:
            picks[name] += 1
        missing = slots - sum(picks.values())
    for name in reversed(by_remainder):
        # What was owed from before may come to more than there is.
        given_back = min(picks[name], -missing) if missing < 0 else 0
        picks[name] -= given_back
        missing += given_back
    owed = {
        name: min(1.0, max(-1.0, exact[name] - picks[name])) if weight else 0.0
        for name, weight in weights.items()
    }
    return picks, owed


def after_shortfall(
    credits: Mapping[str, float], wanted: Mapping[str, int], picked: Mapping[str, int]
) -> dict[str, float]:
    """What strategies are owed that had fewer targets than picks: nothing. Their share goes to the
    others now, and they do not claim it back later.
    """
    return {
        name: 0.0 if picked.get(name, 0) < wanted.get(name, 0) else owed
        for name, owed in credits.items()
    }


def next_look(now: datetime, *, picked: int, wanted: int, idle: timedelta) -> datetime | None:
    """When a job is fed again: with something left to pick at the next tick (None), else later."""
    return now + idle if picked < wanted else None


# --- in which order -------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True, kw_only=True)
class Candidate:
    """What the strategies look at; the columns of Target with these names."""

    id: int
    created_at: datetime
    last_scheduled_at: datetime | None = None
    hint_at: datetime | None = None
    found_at: datetime | None = None
    ok_since: datetime | None = None
    staleness: timedelta | None = None
    position: int | None = None


# Sorts what a strategy would pick, smallest first; None: it would not pick it.
Order = Callable[[Candidate], tuple[Any, ...] | None]


def oldest_scheduled(one: Candidate) -> tuple[Any, ...]:
    """Never picked first, then who was picked longest ago."""
    if one.last_scheduled_at is None:
        return (0, one.created_at, one.id)
    return (1, one.last_scheduled_at, one.id)


def never_checked(one: Candidate) -> tuple[Any, ...] | None:
    """Never found, by the oldest hint."""
    if one.found_at is not None or one.hint_at is None:
        return None
    return (one.hint_at, one.id)


def stalest(one: Candidate) -> tuple[Any, ...] | None:
    """Changed since it was found last, by how long."""
    return None if one.staleness is None else (-one.staleness, one.id)


def without_hint(one: Candidate) -> tuple[Any, ...] | None:
    """Nobody says when it changes: by its place on the virtual clock, without one first."""
    if one.hint_at is not None:
        return None
    if one.position is None:
        return (0, one.created_at, one.id)
    return (1, one.position, one.id)


def until_success(one: Candidate) -> tuple[Any, ...] | None:
    """Not found the last time, or never looked at: by the oldest hint, without one last."""
    if one.ok_since is not None:
        return None
    if one.hint_at is not None:
        return (0, one.hint_at, one.id)
    return (1, one.created_at, one.id)


ORDERS: Mapping[str, Order] = {
    OLDEST_SCHEDULED: oldest_scheduled,
    NEVER_CHECKED: never_checked,
    STALEST: stalest,
    WITHOUT_HINT: without_hint,
    UNTIL_SUCCESS: until_success,
    # Of one source, and only what was not picked since its listing.
    EXPRESS: oldest_scheduled,
}


def order_of(name: str) -> Order:
    """Raises KeyError for a strategy that is not built in."""
    return ORDERS[name]
