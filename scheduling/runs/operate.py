"""What people and programs ask of a job or a run: run now, cancel."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime, timedelta
from typing import Any
from uuid import UUID

from scheduling import redis
from scheduling.db import short_transaction
from scheduling.errors import JobRetired, UnknownRun, UnknownTarget
from scheduling.models import Cause, Job, Reason, Run, State, Target
from scheduling.policies import Overlap
from scheduling.runs import ends, log, make
from scheduling.runs.cursors import job_of, lock_target
from scheduling.runs.line import Line, request_stop
from scheduling.runs.settle import TARGET_FIELDS, open_runs_of


def trigger(
    job: Job,
    *,
    key: str = "",
    kwargs: Mapping[str, Any] | None = None,
    delay: timedelta | None = None,
    overlap: Overlap | None = None,
    as_of: datetime | None = None,
    by: str,
    now: datetime,
    head_start: timedelta = timedelta(0),
) -> Run:
    """Insert a run by hand; the schedule does not move. Also for a paused job.

    `overlap` decides, now, about the target's open runs; the run that it refuses is given as a
    skipped one. Without it the run comes after what runs, and asking several times meanwhile with
    the same arguments gives one run: the first request is returned again. `as_of` is the
    scheduled time that the job is told, instead of now. `head_start`: the caller means to start
    the run in this process, so beats leave it alone so long. Raises UnknownTarget, JobRetired.
    """
    target_id = Target.objects.filter(job=job, key=key).values_list("pk", flat=True).first()
    if target_id is None:
        raise UnknownTarget(
            f"Job {job.name!r} has no target {key!r}; add it, or name one of its keys", key=key
        )
    with short_transaction():
        target = lock_target(target_id)
        job = job_of(target)
        if job.retired_at is not None:
            raise JobRetired(f"Job {job.name!r} is retired; declare it again to run it")
        asked: dict[str, Any] = {"kwargs": dict(kwargs or {}), "requested_by": by[:150]}
        at = as_of or now
        ready = now + (delay or timedelta(0))
        if overlap is not None:
            line = Line(target, job, open_runs_of([target.pk])[target.pk], policy=overlap)
            run = line.meet(at, Cause.MANUAL, now=now, ready_at=ready, **asked)
            target.save(update_fields=TARGET_FIELDS)
        else:
            if delay is None and (before := _asked_already(target, asked["kwargs"], as_of)):
                return before
            run = make.queued(
                target, job, scheduled_at=at, cause=Cause.MANUAL, now=now, ready_at=ready, **asked
            )
        if run.publish_at is not None:
            run.publish_at += head_start
        run.save(force_insert=True)
        log.changed(run, f"asked for by {by}")
        redis.ring_on_commit()
    return run


def _asked_already(target: Target, kwargs: dict[str, Any], as_of: datetime | None) -> Run | None:
    open_runs = list(Run.objects.open().filter(target=target).order_by("created_at"))
    if not any(run.state == State.RUNNING for run in open_runs):
        return None
    for run in open_runs:
        is_queued_by_hand = run.state == State.QUEUED and run.cause == Cause.MANUAL
        is_the_same = run.kwargs == kwargs and run.scheduled_at == (as_of or run.created_at)
        if is_queued_by_hand and is_the_same:
            return run
    return None


def cancel(run_id: UUID, *, by: str, now: datetime, at_once: bool = False) -> Run:
    """Skip a queued run, or ask the worker of a running one to stop it. Raises UnknownRun.

    `at_once`: kill it, where its worker can. A run that has ended stays as it is.
    """
    found = Run.objects.filter(pk=run_id, job__isnull=False).first()
    if found is None or found.target_id is None:
        raise UnknownRun(f"There is no run {str(run_id)!r}", run=run_id)
    with short_transaction():
        target = lock_target(found.target_id)
        run = Run.objects.get(pk=run_id)
        run.job = job_of(target)
        if run.state == State.QUEUED:
            ends.skip_queued(run, target, reason=Reason.CANCELLED, detail=f"by {by}", now=now)
        elif run.state == State.RUNNING:
            request_stop(run, by=by, at_once=at_once, now=now)
    return Run.objects.get(pk=run_id)
