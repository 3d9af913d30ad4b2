"""Targets one by one: making them, and their own schedules and retirements."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from typing import Any

from scheduling import redis
from scheduling.db import short_transaction
from scheduling.errors import InvalidSchedule
from scheduling.models import Job, Resource, Target
from scheduling.runs import coverage, edits, log, make, moving, pool, seats
from scheduling.runs.cursors import begin, job_of, lock_target
from scheduling.runs.listed import is_picked
from scheduling.runs.moving import PLACE_FIELDS, FirstRun, first_run_of
from scheduling.runs.settle import open_runs_of
from scheduling.schedules import parse, require_supported
from scheduling.services import ALWAYS


def adopt(
    job: Job,
    *,
    now: datetime,
    after: datetime | None = None,
    first_run: FirstRun | None = None,
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
    first_run: FirstRun | None = None,
) -> Target:
    """Give the job a target for `key`, or return the one it has. Raises InvalidSchedule.

    `first_run` (default: the job's) says when it runs first: at the "next" fire time; "now", which
    moves no fire time; or at a time to come, before which its schedule does not fire.
    """
    if schedule:
        _require_own(schedule)
    first = first_run or first_run_of(job)
    wait_until = first if isinstance(first, datetime) and first > now else None
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
            coverage.note(job.pk, target.source_id, None, coverage.facts_of(target))
            begin(target, job, after=wait_until or after or now, since=now)
            pool.place(target, job, now=now)
            target.save(update_fields=PLACE_FIELDS)
            # Of what strategies pick, each pick is a run, also the first.
            if (wait_until is not None or first == "now") and not is_picked(target, job):
                _run_first(target, job, wait_until or now, now=now)
            redis.ring_on_commit()
            pool.wake_feeders_of([target])
    return target


def _run_first(target: Target, job: Job, at: datetime, *, now: datetime) -> None:
    run = make.first(target, job, at=at, now=now)
    run.save(force_insert=True)
    log.changed(run, "queued")


def reschedule_target(target: Target, *, schedule: str, now: datetime) -> None:
    """Give one target a schedule of its own; "" goes back to the job's. Raises InvalidSchedule."""
    if schedule:
        _require_own(schedule)
    with short_transaction():
        locked, job = _locked(target, now=now)
        open_runs = open_runs_of([locked.pk])
        end = moving.settle([locked], job, open_runs, at=now)[locked.pk]
        locked.schedule, locked.interval = schedule, None
        locked.save(update_fields=("schedule",))
        if job.retired_at is not None or locked.retired_at is not None:
            # It begins when it is put back into use.
            moving.put_away([locked], job, open_runs, now=now)
        else:
            moving.restart([locked], job, {locked.pk: end}, open_runs, at=now, now=now)
        seats.keep_distance([locked], now=now)
        redis.ring_on_commit()
    target.refresh_from_db()


def _require_own(schedule: str) -> None:
    """Raises InvalidSchedule: limits and queue of a service are those of its whole job."""
    if str(require_supported(parse(schedule))) == ALWAYS:
        raise InvalidSchedule(
            "No target alone can run always; give its job the schedule 'always'", value=schedule
        )


def retire_target(target: Target, *, now: datetime) -> bool:
    """Take one target out of use; its history stays."""
    with short_transaction():
        locked, job = _locked(target, now=now)
        with coverage.noting(target.pk):
            changed = Target.objects.filter(pk=target.pk, retired_at=None).update(retired_at=now)
        if not changed:
            return False
        open_runs = open_runs_of([locked.pk])
        moving.settle([locked], job, open_runs, at=now)
        moving.put_away([locked], job, open_runs, now=now)
        seats.keep_distance([locked], now=now)
    target.refresh_from_db()
    return True


def revive_target(target: Target, *, now: datetime) -> bool:
    """Put a retired target back into use."""
    with short_transaction():
        locked, job = _locked(target, now=now)
        with coverage.noting(target.pk):
            retired = Target.objects.filter(pk=target.pk, retired_at__isnull=False)
            changed = retired.update(retired_at=None)
        if not changed:
            return False
        locked.retired_at = None
        open_runs = open_runs_of([locked.pk])
        if job.retired_at is not None:
            moving.put_away([locked], job, open_runs, now=now)
        else:
            moving.restart([locked], job, {locked.pk: now}, open_runs, at=now, now=now)
        redis.ring_on_commit()
    target.refresh_from_db()
    return True


def _locked(target: Target, *, now: datetime) -> tuple[Target, Job]:
    """Lock a target, and let it follow edits of its job that it does not follow yet."""
    locked = lock_target(target.pk)
    edits.bring_up([locked], now=now)
    return locked, job_of(locked)
