"""Runs that waited for another one's end."""

from __future__ import annotations

from datetime import datetime

from scheduling.models import Run


def wake_waiters(run: Run, *, now: datetime) -> int:
    """Let the runs that waited for the end of `run` be published; give how many."""
    waiters = Run.objects.queued().filter(waiting_on=run).select_related("job")
    return sum(wake(waiter, now=now) for waiter in waiters.defer("output", "error"))


def wake(run: Run, *, now: datetime) -> bool:
    """Let a run no longer wait for another one. A delay that it has on top is kept.

    The time in which it must start begins now, unless its job has named that time: then waiting
    counts, whatever for.
    """
    ready = max(run.ready_at or now, now)
    start_by = run.start_by
    is_named = run.job is not None and run.job.start_within is not None
    if start_by is not None and run.ready_at is not None and not is_named:
        start_by += ready - run.ready_at
    changed = Run.objects.queued().filter(pk=run.pk, waiting_on=run.waiting_on_id)
    return bool(
        changed.update(
            waiting_on=None, ready_at=ready, publish_at=ready, published_at=None, start_by=start_by
        )
    )
