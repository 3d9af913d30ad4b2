"""Edits of when jobs fire, their retirement among them, and how their targets follow.

Up to AT_ONCE targets follow at once, in the edit's transaction. With more of them the edit itself
is a short transaction that locks none: it writes the job's row and an Edit, which says what was
before. Ticks move the targets, a batch in each transaction (`follow_edits`); what a crash leaves
undone is behind by its version, and found by the next. Who has a target in hand that is behind
moves it first (`bring_up`), so nothing is claimed by a schedule that is no more.
"""

from __future__ import annotations

import logging
from collections import Counter, defaultdict
from collections.abc import Mapping, Sequence
from copy import copy
from datetime import datetime
from enum import Enum
from itertools import pairwise
from typing import Any

from django.db.models import F, Q, QuerySet

from scheduling import redis
from scheduling.calendars import DaysOff
from scheduling.db import short_transaction, skip_locked
from scheduling.errors import InvalidSchedule
from scheduling.models import Calendar, Edit, Job, Run, Target
from scheduling.runs import moving, pool
from scheduling.runs.cursors import by_rules, lock_counted_jobs
from scheduling.schedules import parse, require_supported

logger = logging.getLogger(__name__)

# So many targets of a job follow in the transaction of its edit ...
AT_ONCE = 500
# ... and so many in one of a tick. What is reckoned between two statements stays short, too: a
# transaction that is idle for seconds is ended.
BATCH = 100
# Of a batch: the end of each is several statements.
MOST_QUEUED = 50
# What an edit changes, beside the days of a calendar.
TERMS = ("schedule", "clock_change", "starts_at", "ends_at", "retired_at")


class Keep(Enum):
    """The default of an argument for which None says something."""

    KEEP = "keep"


KEEP = Keep.KEEP


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
        targets = _lock_few(Target.objects.filter(job=job, retired_at=None))
        [stored] = _locked(Job.objects.filter(pk=job.pk))
        edit = _edit_of(stored, now=now, after=after)
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
        stored.schedule_error = ""
        _write(stored, edit, targets, now=now)
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
        targets = _lock_few(Target.objects.filter(job__calendar=calendar, retired_at=None))
        jobs = _locked(Job.objects.filter(calendar=calendar))
        # Locked, so that two edits do not mix.
        stored = Calendar.objects.select_for_update(no_key=True).get(pk=calendar.pk)
        edits = [_edit_of(job, now=now) for job in jobs]
        stored.days, stored.timezone = days, timezone or stored.timezone
        stored.save(update_fields=("days", "timezone"))
        for job, edit in zip(jobs, edits, strict=True):
            job.calendar = stored
            if job.retired_at is None:
                by_rules(job.schedule, job)
            mine = None if targets is None else [each for each in targets if each.job_id == job.pk]
            _write(job, edit, mine, now=now)
    calendar.refresh_from_db()


def retire(job: Job, *, now: datetime) -> bool:
    """Take a job out of use; its history stays. Queued runs are skipped, running ones go on."""
    with short_transaction():
        targets = _lock_few(pool.moving(job).filter(retired_at=None))
        [stored] = _locked(Job.objects.filter(pk=job.pk))
        if stored.retired_at is not None:
            return False
        edit = _edit_of(stored, now=now)
        stored.retired_at = now
        _write(stored, edit, targets, now=now)
    job.refresh_from_db()
    return True


def revive(job: Job, *, now: datetime) -> bool:
    """Put a retired job back into use: its next fire lies strictly after now."""
    # Each start of a beat asks for each job: not at the price of locks.
    if not Job.objects.filter(pk=job.pk, retired_at__isnull=False).exists():
        return False
    with short_transaction():
        targets = _lock_few(pool.moving(job).filter(retired_at=None))
        [stored] = _locked(Job.objects.filter(pk=job.pk))
        if stored.retired_at is None:
            return False
        edit = _edit_of(stored, now=now)
        stored.retired_at = None
        pool.place_again(stored)
        _write(stored, edit, targets, now=now)
    job.refresh_from_db()
    return True


# --- the edit itself ------------------------------------------------------------------------------


def lock_for_edit(job: Job) -> None:
    """Lock what an edit of a job locks, for who locks the job's row before it edits: targets come
    before jobs everywhere.
    """
    _lock_few(Target.objects.filter(job=job, retired_at=None))


def lock_targets(targets: QuerySet[Target]) -> list[Target]:
    """Lock targets in the one order, then the jobs among theirs that count their runs; always
    before a job's row is written.
    """
    rows = targets.order_by("pk").select_related("resource")
    locked = list(rows.select_for_update(no_key=True, of=("self",)))
    lock_counted_jobs(locked)
    return locked


def _lock_few(targets: QuerySet[Target]) -> list[Target] | None:
    """Lock what follows an edit at once; None: these are too many."""
    ids = list(targets.values_list("pk", flat=True)[: AT_ONCE + 1])
    return lock_targets(Target.objects.filter(pk__in=ids)) if len(ids) <= AT_ONCE else None


def _locked(jobs: QuerySet[Job]) -> list[Job]:
    known = jobs.select_related("circuit", "calendar").order_by("pk")
    return list(known.select_for_update(no_key=True, of=("self",)))


def _edit_of(job: Job, *, now: datetime, after: datetime | None = None) -> Edit:
    """What a locked job is, before it is edited."""
    calendar = job.calendar
    return Edit(
        job=job,
        version=job.schedule_version,
        at=now,
        after=after,
        days="" if calendar is None else calendar.days,
        timezone="" if calendar is None else calendar.timezone,
        **{name: getattr(job, name) for name in TERMS},
    )


def _write(job: Job, edit: Edit, targets: list[Target] | None, *, now: datetime) -> None:
    """Write a locked job's new terms; let `targets` follow, or None: leave them to the ticks."""
    job.schedule_version = edit.version + 1
    job.save(update_fields=(*TERMS, "calendar", "schedule_error", "schedule_version"))
    if targets is None or Edit.objects.filter(job=job).exists():
        edit.save(force_insert=True)
        logger.info(
            "Job %s: its targets follow an edit in batches",
            job.name,
            extra={"event": "job.edit_begun", "job": job.name},
        )
    elif targets:
        _carry(targets, job, [edit], now=now)
    redis.ring_on_commit()


# --- following ------------------------------------------------------------------------------------


def follow_edits(*, now: datetime) -> int:
    """Move a batch of targets that are behind an edit of their job; give how many. For ticks, any
    number of which do this side by side: targets that somebody holds are left for later.
    """
    jobs = Edit.objects.order_by("job").values_list("job", flat=True).distinct()
    return next((moved for job_id in jobs if (moved := _follow(job_id, now=now))), 0)


def _follow(job_id: int, *, now: datetime) -> int:
    job = Job.objects.select_related("calendar").get(pk=job_id)
    edits = list(Edit.objects.filter(job=job).order_by("version"))
    if not edits:
        return 0
    behind, newest = _behind(job, edits), edits[-1]
    with short_transaction(in_index_order=True):
        left = behind.filter(pk__gt=newest.moved_up_to).order_by("pk")
        ids = list(left.values_list("pk", flat=True)[:BATCH])
    if ids:
        return _move_batch(ids, newest, now=now)
    if behind.exists():
        # Somebody held them; begin anew at the next tick.
        Edit.objects.filter(pk=newest.pk).update(moved_up_to=0)
        return 0
    if Edit.objects.filter(pk__in=[edit.pk for edit in edits]).delete()[0]:
        logger.info(
            "Job %s: all its targets follow its edits",
            job.name,
            extra={"event": "job.edit_done", "job": job.name},
        )
    return 0


def _move_batch(ids: Sequence[int], newest: Edit, *, now: datetime) -> int:
    with short_transaction():
        free = Target.objects.filter(pk__in=ids).order_by("pk").select_related("resource")
        targets = list(free.select_for_update(skip_locked=skip_locked(), no_key=True, of=("self",)))
        some = _as_few_queued(targets)
        lock_counted_jobs(some)
        moved = bring_up(some, now=now)
        up_to = ids[-1] if len(some) == len(targets) else some[-1].pk
        Edit.objects.filter(pk=newest.pk).update(moved_up_to=up_to)
    return len(moved)


def _behind(job: Job, edits: Sequence[Edit]) -> QuerySet[Target]:
    """The targets of a job that have an edit yet to follow."""
    schedules = {_schedule_terms(_before(job, edit)) for edit in edits}
    # Of a mere retirement, a million that are simply picked no more need no look.
    is_same = schedules == {_schedule_terms(job)}
    targets = pool.moving(job) if is_same else Target.objects.filter(job=job)
    return targets.filter(retired_at=None, schedule_version__lt=job.schedule_version)


def _schedule_terms(job: Job) -> tuple[Any, ...]:
    calendar = job.calendar
    days = None if calendar is None else (calendar.days, calendar.timezone)
    return (job.schedule, job.clock_change, job.starts_at, job.ends_at, days)


def is_behind() -> Q:
    """Which targets have a cursor from before an edit that they have yet to follow."""
    jobs = list(Edit.objects.values_list("job", flat=True).distinct())
    return Q(
        job__in=jobs,
        next_fire_at__isnull=False,
        schedule_version__lt=F("job__schedule_version"),
    )


def _as_few_queued(targets: list[Target]) -> list[Target]:
    """The first of these targets, with no more queued runs than one transaction may end."""
    queued = Counter(
        Run.objects.queued().filter(target__in=targets).values_list("target", flat=True)
    )
    total = 0
    for number, target in enumerate(targets):
        total += queued[target.pk]
        if total > MOST_QUEUED:
            return targets[: number or 1]
    return targets


def bring_up(
    targets: Sequence[Target], *, now: datetime, jobs: Mapping[int, Job] | None = None
) -> set[int]:
    """Let those of these locked targets that are behind follow the edits of their jobs; give the
    ids of those that were moved. They are as the table says.

    `jobs`, if the caller has them: read under the locks, with circuit and calendar.
    """
    if jobs is None:
        known = Job.objects.select_related("circuit", "calendar")
        jobs = known.in_bulk({target.job_id for target in targets})
    behind = defaultdict(list)
    for target in targets:
        is_behind = target.schedule_version < jobs[target.job_id].schedule_version
        if is_behind and target.retired_at is None:
            behind[target.job_id].append(target)
    moved = set()
    for job_id, those in behind.items():
        edits = list(Edit.objects.filter(job=job_id).order_by("version"))
        if edits:
            _carry(those, jobs[job_id], edits, now=now)
            moved |= {target.pk for target in those}
        for target in those:
            # Without an edit all have followed, and it is but the number that is old.
            target.schedule_version = jobs[job_id].schedule_version
    return moved


def _carry(targets: Sequence[Target], job: Job, edits: Sequence[Edit], *, now: datetime) -> None:
    """Let locked targets go through the edits in their order: what was between two of them has
    its say about its own time.
    """
    ways = pairwise([*(_before(job, edit) for edit in edits), job])
    untils = [*(edit.at for edit in edits[1:]), None]
    for edit, (before, after), until in zip(edits, ways, untils, strict=True):
        those = [
            target
            for target in targets
            if target.schedule_version <= edit.version and target.retired_at is None
        ]
        for begin in range(0, len(those), BATCH):
            moving.move(
                those[begin : begin + BATCH],
                before,
                after,
                at=edit.at,
                now=now,
                after=edit.after,
                until=until,
            )


def _before(job: Job, edit: Edit) -> Job:
    """The job as it was before an edit."""
    former = copy(job)
    for name in TERMS:
        setattr(former, name, getattr(edit, name))
    former.calendar = Calendar(days=edit.days, timezone=edit.timezone) if edit.timezone else None
    former.schedule_version = edit.version
    return former
