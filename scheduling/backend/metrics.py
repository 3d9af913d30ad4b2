"""Metrics: how well the inventory is covered."""

from __future__ import annotations

from scheduling import clock
from scheduling.backend.jobs import jobs_named
from scheduling.coverage import Coverage, coverage
from scheduling.runs.recounting import recount


def get_coverage(job: str | None = None, source: str | None = None) -> list[Coverage]:
    """Give the coverage of each job, by name, or of what one source named first; [] if unknown.

    Counts are kept with each change: there is nothing to wait for. The reference: `get_metrics`.
    """
    return coverage(job, source, now=clock.now())


def update_coverage(job: str | None = None) -> list[Coverage]:
    """Count anew from the targets themselves, and give the coverage; what has vanished is gone.

    Only needed after rows were written past Beatkeeper. Raises UnknownJob. The reference:
    `update_metrics`.
    """
    recount(None if job is None else jobs_named([job])[job])
    return get_coverage(job)
