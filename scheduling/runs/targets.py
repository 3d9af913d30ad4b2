"""The life of targets: first cursor, edited schedule, retirement and return."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from typing import Any, Literal

from django.db.models import F, QuerySet

from scheduling import redis
from scheduling.db import short_transaction
from scheduling.errors import InvalidSchedule
from scheduling.models import Cause, Installation, Job, Parked, Reason, Resource, Run, Target
from scheduling.models.job import ScheduleStretch
from scheduling.policies import CatchUp
from scheduling.runs import ends, log, make
from scheduling.runs.cursors import (
    CURSOR_FIELDS,
    begin,
    lock_target,
    park,
    schedule_of,
    set_cursor,
)
from scheduling.runs.settle import settle_up_to
from scheduling.schedules import parse, require_supported

FirstRun = Literal["now", "next"]


def adopt(
    job: Job,
    *,
    now: datetime,
    after: datetime | None = None,
    first_run: FirstRun = "next",
) -> Target:
    """Give the job its plain target, with a first cursor, if it has none.

    The cursor lies strictly after `after` (default: now), so a job that knows when it last ran
    elsewhere catches up by its policy.
    """
    return add_target(job, "", now=now, after=after, first_run=first_run)


def add_target(
    job: Job,
    key: str,
    *,
    now: datetime,
    resource: Resource | None = None,
    schedule: str = "",
    kwargs: Mapping[str, Any] | None = None,
    after: datetime | None = None,
    first_run: FirstRun = "next",
) -> Target:
    """Give the job a target for `key`, or return the one it has. Raises InvalidSchedule.

    `first_run="now"` adds one run at once; the schedule's own fires are not moved by it.
    """
    if schedule:
        require_supported(parse(schedule))
    with short_transaction():
        target, created = Target.objects.get_or_create(
            job=job,
            key=key,
            defaults={
                "resource": resource,
                "schedule": schedule,
                "kwargs": dict(kwargs or {}),
            },
        )
        if created:
            begin(target, job, after=after or now, since=now)
            target.save(update_fields=CURSOR_FIELDS)
            if first_run == "now":
                run = make.queued(
                    target,
                    job,
                    scheduled_at=now,
                    cause=Cause.MANUAL,
                    now=now,
                    requested_by="first run",
                )
                run.save(force_insert=True)
                log.changed(run, "queued")
            redis.ring_on_commit()
    return target


def reschedule(
    job: Job,
    *,
    now: datetime,
    schedule: str | None = None,
    after: datetime | None = None,
    starts_at: datetime | Literal["keep"] | None = "keep",
    ends_at: datetime | Literal["keep"] | None = "keep",
) -> None:
    """Give the job another schedule: the text, its start or its end. Raises InvalidSchedule.

    1. What the old schedule owes up to now is settled by the job's policies.
    2. The columns change, and with them the version.
    3. New cursors lie strictly after `after` (default: now).
    Targets with a schedule of their own keep it, within the job's start and end.
    """
    if schedule is not None:
        require_supported(parse(schedule))
    with short_transaction():
        targets = lock_targets(Target.objects.filter(job=job, retired_at=None))
        stored = Job.objects.get(pk=job.pk)
        settled = {}
        for target in targets:
            target.job = stored
            settled[target.pk] = _settle(target, stored, now)
        if schedule is not None:
            stored.schedule = schedule
        if starts_at != "keep":
            stored.starts_at = starts_at
        if ends_at != "keep":
            stored.ends_at = ends_at
        Job.objects.filter(pk=job.pk).update(
            schedule=stored.schedule,
            starts_at=stored.starts_at,
            ends_at=stored.ends_at,
            schedule_error="",
            schedule_version=F("schedule_version") + 1,
        )
        for target in targets:
            _restart(target, stored, after=after or settled[target.pk], now=now)
        redis.ring_on_commit()
    job.refresh_from_db()


def reschedule_target(target: Target, *, schedule: str, now: datetime) -> None:
    """Give one target a schedule of its own; "" goes back to the job's. Raises InvalidSchedule."""
    if schedule:
        require_supported(parse(schedule))
    with short_transaction():
        locked = lock_target(target.pk)
        locked.job = Job.objects.get(pk=target.job_id)
        end = _settle(locked, locked.job, now)
        locked.schedule = schedule
        locked.save(update_fields=("schedule",))
        _restart(locked, locked.job, after=end, now=now)
        redis.ring_on_commit()
    target.refresh_from_db()


def _settle(target: Target, job: Job, now: datetime) -> datetime:
    """Decide about what the present schedule owes, then end its stretch; give the end.

    That is now, or the newest fire that a beat has taken meanwhile, whose time is ahead of ours or
    who had the lock before us.
    """
    paused = target.parked == Parked.PAUSED
    owed_from = target.parked_cursor if paused else target.next_fire_at
    scopes = (Installation.objects.filter(pk=1).first(), job, target)
    paused = paused or any(scope is not None and scope.paused_at for scope in scopes)
    if owed_from is not None and owed_from <= now and _is_anchored(target, job):
        set_cursor(target, owed_from)
        settle_up_to(target, job, now=now, missed=CatchUp.NONE if paused else None)
        if paused:
            park(target, Parked.PAUSED)
    taken = (
        Run.objects.filter(
            target=target, cause__in=(Cause.SCHEDULE, Cause.CATCH_UP), scheduled_at__gt=now
        )
        .order_by("-scheduled_at")
        .values_list("scheduled_at", flat=True)
        .first()
    )
    end = max(now, taken or now)
    ScheduleStretch.objects.filter(target=target, until=None).update(until=end + end.resolution)
    return end


def _is_anchored(target: Target, job: Job) -> bool:
    try:
        return schedule_of(target, job).is_anchored
    except InvalidSchedule:
        return False


def _restart(target: Target, job: Job, *, after: datetime | None, now: datetime) -> None:
    if job.retired_at is not None or target.retired_at is not None:
        # Its schedule begins when it is put back into use.
        park(target, Parked.RETIRED)
        target.save(update_fields=CURSOR_FIELDS)
        return
    parked = target.parked
    begin(target, job, after=after or now, since=now)
    open_runs = Run.objects.open().filter(target=target)
    if parked == Parked.PAUSED or job.is_paused(now):
        park(target, Parked.PAUSED)
    elif target.next_fire_at is not None and not _is_anchored(target, job) and open_runs.exists():
        park(target, Parked.OPEN)
    target.save(update_fields=CURSOR_FIELDS)


def lock_targets(targets: QuerySet[Target]) -> list[Target]:
    """Lock targets one by one in one order; always before their job's row is written."""
    return [lock_target(pk) for pk in targets.order_by("pk").values_list("pk", flat=True)]


def retire(job: Job, *, now: datetime) -> bool:
    """Take a job out of use; its history stays. Queued runs are skipped, running ones go on."""
    with short_transaction():
        targets = lock_targets(Target.objects.filter(job=job))
        if not Job.objects.filter(pk=job.pk, retired_at=None).update(retired_at=now):
            return False
        for target in targets:
            _retire_locked(target, now)
    job.refresh_from_db()
    return True


def retire_target(target: Target, *, now: datetime) -> bool:
    """Take one target out of use; its history stays."""
    with short_transaction():
        locked = lock_target(target.pk)
        if not Target.objects.filter(pk=target.pk, retired_at=None).update(retired_at=now):
            return False
        _retire_locked(locked, now)
    target.refresh_from_db()
    return True


def _retire_locked(target: Target, now: datetime) -> None:
    target.job = Job.objects.get(pk=target.job_id)
    _settle(target, target.job, now)
    park(target, Parked.RETIRED)
    target.save(update_fields=CURSOR_FIELDS)
    for run in Run.objects.queued().filter(target=target).select_related("job"):
        ends.skip_queued(run, target, reason=Reason.RETIRED, now=now)


def revive(job: Job, *, now: datetime) -> bool:
    """Put a retired job back into use: its next fire lies strictly after now."""
    with short_transaction():
        targets = lock_targets(Target.objects.filter(job=job, retired_at=None))
        if not Job.objects.filter(pk=job.pk, retired_at__isnull=False).update(retired_at=None):
            return False
        stored = Job.objects.get(pk=job.pk)
        for target in targets:
            _restart(target, stored, after=None, now=now)
        redis.ring_on_commit()
    job.refresh_from_db()
    return True


def revive_target(target: Target, *, now: datetime) -> bool:
    """Put a retired target back into use."""
    with short_transaction():
        locked = lock_target(target.pk)
        changed = Target.objects.filter(pk=target.pk, retired_at__isnull=False)
        if not changed.update(retired_at=None):
            return False
        _restart(locked, Job.objects.get(pk=target.job_id), after=None, now=now)
        redis.ring_on_commit()
    target.refresh_from_db()
    return True
