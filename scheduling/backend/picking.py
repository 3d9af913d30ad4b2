"""Targets that a strategy picks, each with a run."""

from __future__ import annotations

from datetime import datetime

from scheduling import clock, runs
from scheduling.backend.jobs import jobs_named
from scheduling.feeds import Cooldowns
from scheduling.models import Source
from scheduling.runs.listing import source_named
from scheduling.runs.selecting import Pick


def select(
    job: str,
    strategy: str,
    count: int,
    *,
    source: str = "",
    cooldowns: Cooldowns | None = None,
    sample: float | None = None,
    at: datetime | None = None,
    dry_run: bool = False,
) -> list[Pick]:
    """Pick up to `count` targets of a fed job in a strategy's order, and queue a run for each.

    Nobody else is given the same. `cooldowns`: others than the job's; `sample`: look at so much of
    the inventory, a fraction. A dry run marks nothing. Raises UnknownJob, UnknownSource, NotFed,
    UnknownStrategy. The reference: `grab_next_visits`.
    """
    found: Source | None = source_named(source) if source else None
    return runs.select(
        jobs_named([job])[job],
        strategy,
        count,
        now=at or clock.now(),
        source=found,
        cooldowns=cooldowns,
        sample=sample,
        dry_run=dry_run,
    )
