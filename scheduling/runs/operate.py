"""What people and programs ask for: run now, cancel, pause, resume."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime, timedelta
from typing import Any
from uuid import UUID

from django.db.models import Q

from scheduling import redis
from scheduling.db import short_transaction
from scheduling.errors import InvalidSchedule, JobRetired, UnknownRun, UnknownTarget
from scheduling.models import (
    Cause,
    Installation,
    Job,
    Parked,
    Reason,
    Run,
    State,
    Target,
)
from scheduling.models.target import TargetQuerySet
from scheduling.policies import CatchUp
from scheduling.runs import ends, log, make
from scheduling.runs.cursors import (
    CURSOR_FIELDS,
    first_fire,
    lock_target,
    park,
    schedule_of,
    set_cursor,
)
from scheduling.runs.settle import settle_up_to

Scope = Installation | Job | Target
RESUME_BATCH = 500
# A scope that is not paused, but has a `paused_until`, was resumed and is to be looked at again
# then: later if whoever resumes it has not come to the end.
UNFINISHED = timedelta(minutes=5)
SETTLED = timedelta(seconds=5)


def installation() -> Installation:
    return Installation.objects.get_or_create(pk=1)[0]


def trigger(
    job: Job,
    *,
    key: str = "",
    kwargs: Mapping[str, Any] | None = None,
    delay: timedelta | None = None,
    by: str,
    now: datetime,
    head_start: timedelta = timedelta(0),
) -> Run:
    """Insert a run by hand; the schedule does not move. Also for a paused job.

    `head_start`: the caller means to start it in this process, so beats leave it alone so long.

    While a run of the target is running, asking several times with the same arguments gives one
    run after it: the first request is returned again. Raises UnknownTarget, JobRetired.
    """
    target_id = Target.objects.filter(job=job, key=key).values_list("pk", flat=True).first()
    if target_id is None:
        raise UnknownTarget(
            f"Job {job.name!r} has no target {key!r}; add it, or name one of its keys", key=key
        )
    with short_transaction():
        target = lock_target(target_id)
        job = Job.objects.get(pk=job.pk)
        target.job = job
        if job.retired_at is not None:
            raise JobRetired(f"Job {job.name!r} is retired; declare it again to run it")
        if delay is None and (asked := _asked_already(target, dict(kwargs or {}))) is not None:
            return asked
        run = make.queued(
            target,
            job,
            scheduled_at=now,
            cause=Cause.MANUAL,
            now=now,
            ready_at=now + (delay or timedelta(0)),
            kwargs=dict(kwargs or {}),
            requested_by=by[:150],
        )
        if run.publish_at is not None:
            run.publish_at += head_start
        run.save(force_insert=True)
        log.changed(run, f"asked for by {by}")
        redis.ring_on_commit()
    return run


def _asked_already(target: Target, kwargs: dict[str, Any]) -> Run | None:
    open_runs = list(Run.objects.open().filter(target=target).order_by("created_at"))
    if not any(run.state == State.RUNNING for run in open_runs):
        return None
    for run in open_runs:
        if run.state == State.QUEUED and run.cause == Cause.MANUAL and run.kwargs == kwargs:
            return run
    return None


def cancel(run_id: UUID, *, by: str, now: datetime) -> Run:
    """Skip a queued run, or ask the worker of a running one to stop it. Raises UnknownRun.

    A run that has ended stays as it is.
    """
    found = Run.objects.filter(pk=run_id, job__isnull=False).first()
    if found is None or found.target_id is None:
        raise UnknownRun(f"There is no run {str(run_id)!r}", run=run_id)
    with short_transaction():
        target = lock_target(found.target_id)
        run = Run.objects.select_related("job").get(pk=run_id)
        assert run.job is not None
        target.job = run.job
        if run.state == State.QUEUED:
            ends.skip_queued(run, target, reason=Reason.CANCELLED, detail=f"by {by}", now=now)
        elif run.state == State.RUNNING:
            Run.objects.filter(
                pk=run.pk, attempt=run.attempt, state=State.RUNNING, stop_requested_at=None
            ).update(stop_requested_at=now, stop_requested_by=by[:150])
            log.changed_by(run, "asked to stop", by)
    return Run.objects.get(pk=run_id)


def pause(
    scope: Scope, *, by: str, reason: str, now: datetime, until: datetime | None = None
) -> bool:
    """Stop everything, a job or a target from firing. False: it was paused already.

    Open runs go on. Cursors are parked when a beat meets them, so this is one UPDATE.
    """
    paused = type(scope).objects.filter(Q(paused_at=None) | Q(paused_until__lte=now), pk=scope.pk)
    changed: int = paused.update(
        paused_at=now, paused_by=by[:150], pause_reason=reason[:300], paused_until=until
    )
    scope.refresh_from_db()
    if changed:
        log.pausing(str(scope), "paused", by, reason)
    return bool(changed)


def resume(scope: Scope, *, by: str, now: datetime, missed: CatchUp = CatchUp.NONE) -> bool:
    """Let it fire again; `missed` says which of the fires of the pause are run after all.

    The others are recorded as skipped. False: it was not paused.
    """
    changed: int = (
        type(scope)
        .objects.filter(pk=scope.pk, paused_at__isnull=False)
        .update(paused_at=None, paused_by="", pause_reason="", paused_until=now + UNFINISHED)
    )
    scope.refresh_from_db()
    if not changed:
        return False
    log.pausing(str(scope), "resumed", by, missed.value)
    affected = _of_scope(scope).filter(
        Q(parked=Parked.PAUSED) | Q(next_fire_at__lte=now), retired_at=None
    )
    ids = list(affected.order_by("pk").values_list("pk", flat=True))
    for begin in range(0, len(ids), RESUME_BATCH):
        _resume_targets(ids[begin : begin + RESUME_BATCH], missed, now)
    type(scope).objects.filter(pk=scope.pk, paused_at=None).update(paused_until=now + SETTLED)
    redis.ring()
    return True


def look_again(scope: Scope, *, now: datetime) -> int:
    """Resume who is still parked a while after `scope` was resumed; give how many.

    Whoever resumed it may have died halfway, and a claim may have parked a target by the pause
    that was being lifted. What they missed is skipped.
    """
    left = _of_scope(scope).filter(parked=Parked.PAUSED, next_fire_at=None, retired_at=None)
    ids = list(left.order_by("pk").values_list("pk", flat=True))
    for begin in range(0, len(ids), RESUME_BATCH):
        _resume_targets(ids[begin : begin + RESUME_BATCH], CatchUp.NONE, now)
    type(scope).objects.filter(pk=scope.pk, paused_at=None).update(paused_until=None)
    return len(ids)


def _of_scope(scope: Scope) -> TargetQuerySet:
    if isinstance(scope, Job):
        return Target.objects.filter(job=scope)
    return Target.objects.filter(pk=scope.pk) if isinstance(scope, Target) else Target.objects.all()


def _resume_targets(target_ids: list[int], missed: CatchUp, now: datetime) -> None:
    everything = installation()
    with short_transaction():
        for target_id in target_ids:
            target = lock_target(target_id)
            job = Job.objects.get(pk=target.job_id)
            target.job = job
            still = any(scope.is_paused(now) for scope in (everything, job, target))
            if not still and job.retired_at is None:
                _resume_target(target, job, missed, now)
                target.save(update_fields=CURSOR_FIELDS)


def _resume_target(target: Target, job: Job, missed: CatchUp, now: datetime) -> None:
    cursor = target.parked_cursor or target.next_fire_at
    try:
        schedule = schedule_of(target, job)
    except InvalidSchedule:
        # Due at once: the claim puts it aside with an error.
        set_cursor(target, now)
        return
    if not schedule.is_anchored:
        # A pause counted from the last end is simply counted anew.
        if Run.objects.open().filter(target=target).exists():
            park(target, Parked.OPEN)
        else:
            set_cursor(target, first_fire(schedule, job, after=now, name=target.name))
        return
    set_cursor(target, cursor or first_fire(schedule, job, after=now, name=target.name))
    if cursor is not None and cursor <= now:
        settle_up_to(target, job, now=now, missed=missed)
