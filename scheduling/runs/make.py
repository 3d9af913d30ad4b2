"""Building rows of the ledger; nothing is saved in here."""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import Any

from scheduling.models import Cause, Job, Reason, Run, State, Target
from scheduling.policies import Overlap, start_within
from scheduling.schedules import Schedule
from scheduling.services import is_service, queue_of

# By whom the first run of a target is asked for: by nobody, so a pause holds it.
FIRST_RUN = "first run"
# What the column keeps: one job with a longer name must not stop the claim of the others.
LONGEST_QUEUE = 200
# The claimer publishes at once; other beats leave a run alone for so long.
CLAIMER_GOES_FIRST = timedelta(seconds=2)


def is_exclusive(job: Job, target: Target) -> bool:
    """Whether a run may not run beside another one of its target; a service never does."""
    return job.overlap != Overlap.ALLOW or is_service(job, target)


def is_by_hand(run: Run) -> bool:
    """Whether a person asked for the run: neither a pause nor a circuit is in its way."""
    return run.cause in (Cause.MANUAL, Cause.BACKFILL) and run.requested_by != FIRST_RUN


def first(target: Target, job: Job, *, at: datetime, now: datetime) -> Run:
    """The first run of a new target, which comes before its schedule does."""
    return queued(
        target,
        job,
        scheduled_at=at,
        cause=Cause.MANUAL,
        now=now,
        ready_at=at,
        requested_by=FIRST_RUN,
    )


def queued(
    target: Target,
    job: Job,
    *,
    scheduled_at: datetime,
    cause: Cause,
    now: datetime,
    schedule: Schedule | None = None,
    ready_at: datetime | None = None,
    waiting_on: Run | None = None,
    **columns: Any,
) -> Run:
    """A run that waits for its start. Its `start_by` counts from when it is ready."""
    ready = ready_at or now
    limit = (
        start_within(
            schedule, now, configured=job.start_within, cause=cause.value, name=target.name
        )
        if schedule is not None
        else job.start_within
    )
    if cause in (Cause.CATCH_UP, Cause.BACKFILL) or is_service(job, target):
        limit = None
    return Run(
        job=job,
        target=target,
        name=job.name,
        key=target.key,
        scheduled_at=scheduled_at,
        cause=cause,
        state=State.QUEUED,
        created_at=now,
        ready_at=ready,
        start_by=None if limit is None else ready + limit,
        waiting_on=waiting_on,
        publish_at=None if waiting_on is not None else ready,
        exclusive=is_exclusive(job, target),
        queue=queue_of(job)[:LONGEST_QUEUE],
        **columns,
    )


def skipped(
    target: Target,
    job: Job,
    *,
    first: datetime,
    reason: Reason,
    now: datetime,
    last: datetime | None = None,
    fires: int = 1,
    cause: Cause = Cause.SCHEDULE,
    detail: str = "",
    **columns: Any,
) -> Run:
    """A fire, or a stretch of `fires` fires from first to last, that gets no run."""
    return Run(
        job=job,
        target=target,
        name=job.name,
        key=target.key,
        scheduled_at=first,
        scheduled_until=last if last != first else None,
        fires=fires,
        cause=cause,
        state=State.SKIPPED,
        reason=reason,
        detail=detail[:500],
        created_at=now,
        ended_at=now,
        exclusive=is_exclusive(job, target),
        queue=queue_of(job)[:LONGEST_QUEUE],
        **columns,
    )
