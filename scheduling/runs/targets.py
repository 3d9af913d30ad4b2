"""The life of targets: first cursor, edited schedule, retirement and return."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime
from enum import Enum
from typing import Any, Literal

from django.db.models import F, QuerySet

from scheduling import redis
from scheduling.calendars import DaysOff
from scheduling.db import short_transaction
from scheduling.errors import InvalidSchedule
from scheduling.models import Calendar, Cause, Job, Parked, Reason, Resource, Run, Target
from scheduling.models.job import ScheduleStretch
from scheduling.runs import circuits, coverage, ends, log, make, pool, seats, services
from scheduling.runs.cursors import (
    CURSOR_FIELDS,
    begin,
    by_rules,
    job_of,
    lock_counted_jobs,
    lock_target,
    park,
    schedule_of,
    set_cursor,
)
from scheduling.runs.scopes import pause_of, scopes_of, told
from scheduling.runs.settle import settle_up_to
from scheduling.schedules import parse, require_supported
from scheduling.services import ALWAYS, is_service

PLACE_FIELDS = (*CURSOR_FIELDS, *pool.POOL_FIELDS, "interval")
FirstRun = datetime | Literal["now", "next"]


class Keep(Enum):
    """The default of an argument for which None says something."""

    KEEP = "keep"


KEEP = Keep.KEEP


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
            if wait_until is not None or first == "now":
                _run_first(target, job, wait_until or now, now=now)
            redis.ring_on_commit()
    return target


def first_run_of(job: Job) -> FirstRun:
    """Read the job's column; what cannot be read (it was written by hand) is the next fire."""
    if job.first_run == "now":
        return "now"
    try:
        return datetime.fromisoformat(job.first_run).astimezone(UTC)
    except ValueError:
        return "next"


def _run_first(target: Target, job: Job, at: datetime, *, now: datetime) -> None:
    run = make.queued(
        target,
        job,
        scheduled_at=at,
        cause=Cause.MANUAL,
        now=now,
        ready_at=at,
        requested_by=make.FIRST_RUN,
    )
    run.save(force_insert=True)
    log.changed(run, "queued")


def reschedule(
    job: Job,
    *,
    now: datetime,
    schedule: str | None = None,
    calendar: str | Keep | None = KEEP,
    clock_change: str | None = None,
    after: datetime | None = None,
    starts_at: datetime | Keep | None = KEEP,
    ends_at: datetime | Keep | None = KEEP,
) -> None:
    """Change when the job fires: its text, calendar (by name), rule for clock changes, start, end.

    1. What the old schedule owes up to now is settled by the job's policies.
    2. The columns change, and with them the version.
    3. New cursors lie strictly after `after` (default: now).
    Targets with a schedule of their own keep it, within the job's calendar, start and end. Raises
    InvalidSchedule, also for a calendar that does not exist or leaves nothing over.
    """
    if schedule is not None:
        require_supported(parse(schedule))
    with short_transaction():
        targets = lock_targets(Target.objects.filter(job=job, retired_at=None))
        stored = Job.objects.select_related("circuit", "calendar").get(pk=job.pk)
        settled, former = {}, []
        for target in targets:
            target.job = stored
            settled[target.pk] = _settle(target, stored, now)
            former += [target] if is_service(stored, target) else []
        if schedule is not None:
            stored.schedule = schedule
        if clock_change is not None:
            stored.clock_change = clock_change
        if calendar is not KEEP:
            stored.calendar = None if calendar is None else _calendar(calendar)
        if starts_at is not KEEP:
            stored.starts_at = starts_at
        if ends_at is not KEEP:
            stored.ends_at = ends_at
        if schedule is not None or clock_change is not None or calendar is not KEEP:
            by_rules(stored.schedule, stored)
        Job.objects.filter(pk=job.pk).update(
            schedule=stored.schedule,
            calendar=stored.calendar,
            clock_change=stored.clock_change,
            starts_at=stored.starts_at,
            ends_at=stored.ends_at,
            schedule_error="",
            schedule_version=F("schedule_version") + 1,
        )
        for target in targets:
            if schedule is not None and not target.schedule:
                target.interval = None
            _restart(target, stored, after=after or settled[target.pk], now=now)
        for target in former:
            if not is_service(stored, target):
                services.stop_former(target, now=now)
        seats.keep_distance(targets, now=now)
        redis.ring_on_commit()
    job.refresh_from_db()


def _calendar(name: str) -> Calendar:
    found = Calendar.objects.filter(name=name).first()
    if found is None:
        raise InvalidSchedule(f"There is no calendar {name!r}; make it first", value=name)
    return found


def change_calendar(
    calendar: Calendar, *, days: str, timezone: str | None = None, now: datetime
) -> None:
    """Give a calendar other days off; its jobs' fires up to now are settled by the old ones.

    Raises InvalidCalendar, which names the line, or InvalidSchedule if a job would never fire.
    """
    DaysOff.parse(days, timezone=timezone or calendar.timezone)
    with short_transaction():
        of_jobs = Target.objects.filter(job__calendar=calendar, retired_at=None)
        targets = lock_targets(of_jobs)
        settled = {target.pk: _settle(target, job_of(target), now) for target in targets}
        # Locked, so that two edits do not mix.
        stored = Calendar.objects.select_for_update(no_key=True).get(pk=calendar.pk)
        stored.days, stored.timezone = days, timezone or stored.timezone
        stored.save(update_fields=("days", "timezone"))
        for job in Job.objects.active().filter(calendar=stored).select_related("calendar"):
            by_rules(job.schedule, job)
        for target in targets:
            _restart(target, job_of(target), after=settled[target.pk], now=now)
        seats.keep_distance(targets, now=now)
        redis.ring_on_commit()
    calendar.refresh_from_db()


def reschedule_target(target: Target, *, schedule: str, now: datetime) -> None:
    """Give one target a schedule of its own; "" goes back to the job's. Raises InvalidSchedule."""
    if schedule:
        _require_own(schedule)
    with short_transaction():
        locked = lock_target(target.pk)
        end = _settle(locked, job_of(locked), now)
        locked.schedule, locked.interval = schedule, None
        locked.save(update_fields=("schedule",))
        _restart(locked, locked.job, after=end, now=now)
        seats.keep_distance([locked], now=now)
        redis.ring_on_commit()
    target.refresh_from_db()


def _require_own(schedule: str) -> None:
    """Raises InvalidSchedule: limits and queue of a service are those of its whole job."""
    if str(require_supported(parse(schedule))) == ALWAYS:
        raise InvalidSchedule(
            "No target alone can run always; give its job the schedule 'always'", value=schedule
        )


def _settle(target: Target, job: Job, now: datetime) -> datetime:
    """Decide about what the present schedule owes, then end its stretch; give the end.

    That is now, or the newest fire that a beat has taken meanwhile, whose time is ahead of ours or
    who had the lock before us.
    """
    is_parked = target.parked in (Parked.PAUSED, Parked.CIRCUIT)
    owed_from = target.parked_cursor if is_parked else target.next_fire_at
    held, reason = _why_held(target, job)
    if owed_from is not None and owed_from <= now and _is_anchored(target, job):
        set_cursor(target, owed_from)
        settle_up_to(target, job, now=now, held=held, reason=reason)
        if held is not None:
            park(target, Parked.PAUSED if reason == Reason.PAUSED else Parked.CIRCUIT)
    taken = (
        Run.objects.filter(
            target=target, cause__in=(Cause.SCHEDULE, Cause.CATCH_UP), scheduled_at__gt=now
        )
        .order_by("-scheduled_at")
        .values_list("scheduled_at", flat=True)
        .first()
    )
    before = ScheduleStretch.objects.filter(target=target, until__isnull=False)
    # Another edit, whose time is ahead of ours, may have been first.
    ended = before.order_by("-until").values_list("until", flat=True).first()
    end = max(now, taken or now, (ended or now) - now.resolution)
    ScheduleStretch.objects.filter(target=target, until=None).update(until=end + end.resolution)
    return end


def _why_held(target: Target, job: Job) -> tuple[str | None, Reason]:
    """What keeps a target from firing, or kept it until a moment ago, in words; None: nothing."""
    pauses = [told(name, scope) for name, scope in scopes_of(job, target) if scope.paused_at]
    if pauses:
        return pauses[0], Reason.PAUSED
    circuit = circuits.held_by(job)
    if circuit is not None:
        return circuits.told(circuit), Reason.CIRCUIT
    if target.parked == Parked.CIRCUIT:
        return "Its circuit was open", Reason.CIRCUIT
    return "It was paused" if target.parked == Parked.PAUSED else None, Reason.PAUSED


def _is_anchored(target: Target, job: Job) -> bool:
    try:
        return schedule_of(target, job).is_anchored
    except InvalidSchedule:
        return False


def _restart(target: Target, job: Job, *, after: datetime | None, now: datetime) -> None:
    if job.retired_at is not None or target.retired_at is not None:
        # Its schedule begins when it is put back into use.
        park(target, Parked.RETIRED)
        pool.place(target, job, now=now)
        target.save(update_fields=PLACE_FIELDS)
        return
    parked = target.parked
    first = first_run_of(job)
    # What has not begun yet does not begin by an edit.
    awaited = first if isinstance(first, datetime) else now
    begin(target, job, after=max(after or now, awaited), since=now)
    open_runs = Run.objects.open().filter(target=target)
    if parked == Parked.PAUSED or pause_of(job, target, now) is not None:
        park(target, Parked.PAUSED)
    elif target.next_fire_at is not None and not _is_anchored(target, job) and open_runs.exists():
        park(target, Parked.OPEN)
    if job.is_picked:
        pool.place(target, job, now=now, is_busy=open_runs.exists())
    target.save(update_fields=PLACE_FIELDS)


def lock_targets(targets: QuerySet[Target]) -> list[Target]:
    """Lock targets one by one in one order, then the jobs among theirs that count their runs;
    always before a job's row is written.
    """
    locked = [lock_target(pk) for pk in targets.order_by("pk").values_list("pk", flat=True)]
    lock_counted_jobs(locked)
    return locked


def retire(job: Job, *, now: datetime) -> bool:
    """Take a job out of use; its history stays. Queued runs are skipped, running ones go on."""
    with short_transaction():
        targets = lock_targets(pool.moving(job))
        if not Job.objects.filter(pk=job.pk, retired_at=None).update(retired_at=now):
            return False
        for target in targets:
            _retire_locked(target, now)
        seats.keep_distance(targets, now=now)
    job.refresh_from_db()
    return True


def retire_target(target: Target, *, now: datetime) -> bool:
    """Take one target out of use; its history stays."""
    with short_transaction():
        locked = lock_target(target.pk)
        with coverage.noting(target.pk):
            changed = Target.objects.filter(pk=target.pk, retired_at=None).update(retired_at=now)
        if not changed:
            return False
        _retire_locked(locked, now)
        seats.keep_distance([locked], now=now)
    target.refresh_from_db()
    return True


def _retire_locked(target: Target, now: datetime) -> None:
    _settle(target, job_of(target), now)
    park(target, Parked.RETIRED)
    target.eligible_at = target.eligible_since = None
    target.save(update_fields=PLACE_FIELDS)
    for run in Run.objects.queued().filter(target=target).select_related("job"):
        ends.skip_queued(run, target, reason=Reason.RETIRED, now=now)


def revive(job: Job, *, now: datetime) -> bool:
    """Put a retired job back into use: its next fire lies strictly after now."""
    retired = Job.objects.filter(pk=job.pk, retired_at__isnull=False)
    # Each start of a beat asks for each job: not at the price of locking a million targets.
    if not retired.exists():
        return False
    with short_transaction():
        targets = lock_targets(pool.moving(job).filter(retired_at=None))
        if not retired.update(retired_at=None):
            return False
        pool.place_again(job)
        for target in targets:
            _restart(target, job_of(target), after=None, now=now)
        redis.ring_on_commit()
    job.refresh_from_db()
    return True


def revive_target(target: Target, *, now: datetime) -> bool:
    """Put a retired target back into use."""
    with short_transaction():
        locked = lock_target(target.pk)
        with coverage.noting(target.pk):
            retired = Target.objects.filter(pk=target.pk, retired_at__isnull=False)
            changed = retired.update(retired_at=None)
        if not changed:
            return False
        locked.retired_at = None
        _restart(locked, job_of(locked), after=None, now=now)
        redis.ring_on_commit()
    target.refresh_from_db()
    return True
