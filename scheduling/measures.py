"""What one target adds to the counts of coverage. Pure."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta

KNOWN = "known"
ACTIVE = "active"
NEVER_CHECKED = "never_checked"
STALE = "stale"
MISSED = "missed"
PAUSED = "paused"
STANDING = (KNOWN, ACTIVE, NEVER_CHECKED, STALE, MISSED, PAUSED)

# Upper bounds, each closed; what is longer than all of them is `more`.
BOUNDS: Mapping[str, timedelta] = {
    "1h": timedelta(hours=1),
    "6h": timedelta(hours=6),
    "1d": timedelta(days=1),
    "1w": timedelta(weeks=1),
    "30d": timedelta(days=30),
    "90d": timedelta(days=90),
    "1y": timedelta(days=365),
}
MORE = "more"
BUCKETS = (*BOUNDS, MORE)

LAG = "lag:"
# These count what happened, not how things stand.
EVENTS = "first_success"
FIRST_SUCCESS = "first_success:"
FIRST_SUCCESS_SECONDS = "first_success_seconds"


@dataclass(frozen=True, slots=True, kw_only=True)
class Facts:
    """The columns of a target that are counted, by their names there."""

    created_at: datetime
    retired_at: datetime | None = None
    paused_at: datetime | None = None
    found_at: datetime | None = None
    staleness: timedelta | None = None
    misses: int = 0


def bucket_of(span: timedelta) -> str:
    return next((name for name, bound in BOUNDS.items() if span <= bound), MORE)


def measures_of(facts: Facts | None) -> dict[str, int]:
    """Give measure -> 1 for each that counts a target with these facts; None: there is none.

    known = active + paused; stale = the sum of the lags. A retired target counts nowhere.
    """
    if facts is None or facts.retired_at is not None:
        return {}
    if facts.paused_at is not None:
        return {KNOWN: 1, PAUSED: 1}
    measures = {KNOWN: 1, ACTIVE: 1}
    if facts.found_at is None:
        measures[NEVER_CHECKED] = 1
    if facts.staleness is not None:
        measures[STALE] = 1
        measures[LAG + bucket_of(facts.staleness)] = 1
    if facts.misses > 0:
        measures[MISSED] = 1
    return measures


def first_success_of(before: Facts | None, after: Facts | None) -> dict[str, int]:
    """Give what is counted, once and for ever, when a target is found for the first time."""
    if before is None or after is None or before.found_at is not None or after.found_at is None:
        return {}
    # A result from elsewhere may be older than the target's row.
    took = max(after.found_at - after.created_at, timedelta(0))
    return {FIRST_SUCCESS + bucket_of(took): 1, FIRST_SUCCESS_SECONDS: round(took.total_seconds())}


def difference(before: Facts | None, after: Facts | None) -> dict[str, int]:
    """Give measure -> what a change of a target adds to it; those that stay are left out."""
    old, new = measures_of(before), measures_of(after)
    deltas = {name: new.get(name, 0) - old.get(name, 0) for name in {**old, **new}}
    return {name: each for name, each in deltas.items() if each} | first_success_of(before, after)
