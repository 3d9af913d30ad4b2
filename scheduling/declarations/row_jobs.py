"""One django-celery-beat row and its job: comparing the two, and making the job follow."""

from __future__ import annotations

import logging
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any

from django.db.models import Q, QuerySet
from django_celery_beat.models import PeriodicTask

from scheduling import runs
from scheduling.conf import conf
from scheduling.declarations.columns import as_json, difference, from_json, write
from scheduling.declarations.rows import ROW_FIELDS, columns_of_row
from scheduling.errors import InvalidDeclaration, InvalidSchedule
from scheduling.models import Cause, Job, Notification, Run, Target
from scheduling.models.job import DeclaredIn, Kind
from scheduling.models.system import Event
from scheduling.schedules import Every, parse

logger = logging.getLogger(__name__)

BY = "django-celery-beat"
SUFFIX = " (periodic task)"
INSTANT = timedelta(microseconds=1)


@dataclass(slots=True, kw_only=True)
class Changes:
    """Names of jobs by what became of them; `diffs`: name -> lines `field: old -> new`."""

    created: list[str] = field(default_factory=list)
    updated: list[str] = field(default_factory=list)
    retired: list[str] = field(default_factory=list)
    unchanged: list[str] = field(default_factory=list)
    problems: list[str] = field(default_factory=list)
    diffs: dict[str, list[str]] = field(default_factory=dict)


@dataclass(frozen=True, slots=True, kw_only=True)
class Followed:
    """A row with the job that follows it, as far as there is one."""

    row: PeriodicTask
    job: Job | None
    target: Target | None
    # The first fire time that its present schedule answers for.
    since: datetime | None


def rows() -> QuerySet[PeriodicTask]:
    found: QuerySet[PeriodicTask] = PeriodicTask.objects.select_related(
        "interval", "crontab", "solar", "clocked"
    )
    return found


# --- comparing ------------------------------------------------------------------------------------


def is_in_step(followed: Followed) -> bool:
    row, job, target = followed.row, followed.job, followed.target
    if job is None or target is None or job.retired_at is not None:
        return False
    wanted, error = _wanted(row)
    # In shadow mode the phase follows each run of stock beat, and only the last one will matter.
    follows_phase = job.declared_in != DeclaredIn.SETTINGS and not conf.SHADOW
    if not follows_phase and _is_same(job.schedule, wanted["schedule"]):
        del wanted["schedule"]
    return (
        job.name in (row.name, _other_name(row))
        and job.schedule_error == error
        and not _pause_differs(row, job)
        and not _ran_elsewhere(row, target)
        and not _has_had_its_run(row)
        and not difference(job, wanted)
    )


def _wanted(row: PeriodicTask) -> tuple[dict[str, Any], str]:
    """The columns that a row decides, and what is wrong with it; then it does not fire."""
    wanted: dict[str, Any]
    try:
        wanted, error = columns_of_row(row), ""
    except (InvalidSchedule, InvalidDeclaration) as problem:
        wanted, error = {"schedule": "manual"}, str(problem)
    if row.enabled:
        wanted["runs_left"] = 1 if row.one_off else None
    return wanted, error


def _is_same(one: str, other: str) -> bool:
    """Whether two schedules differ in nothing but the phase, which a row has from its last run."""
    left, right = parse(one), parse(other)
    if isinstance(left, Every) and isinstance(right, Every) and not left.from_end:
        return left.interval == right.interval
    return left == right


def _ran_elsewhere(row: PeriodicTask, target: Target) -> bool:
    """Our claims write `last_run_at` and move the cursor beyond it at once: this was not ours.

    In shadow mode no run is ours, and our cursors follow the clock alone.
    """
    if conf.SHADOW or row.last_run_at is None or target.next_fire_at is None:
        return False
    return bool(row.last_run_at >= target.next_fire_at)


def _has_had_its_run(row: PeriodicTask) -> bool:
    """Under django-celery-beat's scheduler, which disables such a row a little later.

    In shadow mode it is left to do so.
    """
    return bool(row.enabled and row.one_off and row.total_run_count and not conf.SHADOW)


def _pause_differs(row: PeriodicTask, job: Job) -> bool:
    return bool(row.enabled) == (job.paused_by == BY)


def _other_name(row: PeriodicTask) -> str:
    return f"{row.name[: 200 - len(SUFFIX)]}{SUFFIX}"


# --- following ------------------------------------------------------------------------------------


def follow(followed: Followed, changes: Changes, *, now: datetime) -> None:
    """Make the job say what the row says. Runs in a transaction of the caller's."""
    if followed.target is not None:
        # Against a claim that takes the row's only run while we are about to allow it one.
        list(Target.objects.select_for_update(no_key=True).filter(pk=followed.target.pk))
    row = rows().filter(pk=followed.row.pk).first()  # it may have changed since the comparison
    if row is None:
        return
    if _has_had_its_run(row):
        PeriodicTask.objects.filter(pk=row.pk).update(enabled=False, total_run_count=0)
        row.enabled = False
    wanted, error = _wanted(row)
    if error:
        changes.problems.append(f"Periodic task {row.name!r}: {error}")
    job = _find_job(row, now=now)
    if job is not None:
        changes.diffs[job.name] = _update(row, job, wanted, now=now)
        changes.updated.append(job.name)
    elif row.task:
        job = _create(row, wanted, now=now)
        changes.created.append(job.name)
    else:
        return  # nothing that could be run; told as a problem
    if error != job.schedule_error:
        _set_error(job, error, now=now)


def _find_job(row: PeriodicTask, *, now: datetime) -> Job | None:
    """The row's job; or the settings entry, or the retired job, of the row's name."""
    linked = Job.objects.filter(periodic_task_id=row.pk).first()
    if linked is not None:
        if linked.declared_in != DeclaredIn.SETTINGS or linked.name == row.name:
            return linked
        let_go(linked, now=now)  # the row was renamed: the settings entry stands alone again
    for name in (row.name, _other_name(row)):
        named = Job.objects.filter(name=name, periodic_task_id=None).first()
        if named is not None and named.declared_in in (
            DeclaredIn.SETTINGS,
            DeclaredIn.PERIODIC_TASK,
        ):
            return named
    return None


def _create(row: PeriodicTask, wanted: dict[str, Any], *, now: datetime) -> Job:
    name = row.name
    if Job.objects.filter(name=name).exists():
        # A job of the code or of an admin has the name. The row is to go on firing all the same.
        name = _other_name(row)
    columns = {"runs_left": 1 if row.one_off else None, "task": row.task} | wanted
    job = Job.objects.create(
        name=name,
        kind=Kind.TASK,
        declared_in=DeclaredIn.PERIODIC_TASK,
        periodic_task_id=row.pk,
        **columns,
    )
    if not row.enabled:
        _pause(job, now=now)
    runs.adopt(job, now=now, after=_begins_after(row, now))
    return job


def _update(row: PeriodicTask, job: Job, wanted: dict[str, Any], *, now: datetime) -> list[str]:
    """Write what differs, and give it as lines of a diff."""
    wanted |= {"periodic_task_id": row.pk}
    if job.declared_in == DeclaredIn.SETTINGS and job.retired_at is None:
        wanted |= _over_settings(job, wanted, now=now)
    else:
        wanted |= {
            "name": _free_name(row, job),
            "declared_in": DeclaredIn.PERIODIC_TASK,
            "overrides": {},
        }
    lines = difference(job, wanted)
    if not row.enabled and job.paused_by != BY:
        # In place of a person's pause, which may end while the row is still disabled.
        runs.resume(job, by=BY, now=now)
        _pause(job, now=now)
        lines.append("paused: no -> yes")
    target = Target.objects.filter(job=job, key="").first()
    begins_after = _begins_after(row, now)
    if target is not None and target.next_fire_at is not None and _ran_elsewhere(row, target):
        # As if edited just before our cursor: what ran elsewhere is not ours to account for.
        edited_at = target.next_fire_at - INSTANT
        runs.reschedule(job, now=edited_at, after=begins_after, schedule=wanted["schedule"])
        lines.append(f"next fire: {as_json(target.next_fire_at)} -> after {row.last_run_at}")
    write(job, wanted, now=now, after=begins_after if row.solar_id or row.clocked_id else None)
    if job.retired_at is not None:
        runs.revive(job, now=now)
        lines.append("retired: yes -> no")
    if target is None:
        runs.adopt(job, now=now, after=begins_after)
    if row.enabled and job.paused_by == BY:
        _resume(row, job, now=now)
        lines.append("paused: yes -> no")
    return lines


def may_be_ahead_of_stock(followed: Followed) -> bool:
    """Whether our cursor may have passed a run of another scheduler, as it does in shadow mode.

    What an edit since that run has decided stands.
    """
    row, job, target, since = followed.row, followed.job, followed.target, followed.since
    if conf.SHADOW or job is None or target is None or since is None:
        return False
    last, cursor = row.last_run_at, target.next_fire_at
    if not row.enabled or job.retired_at is not None or last is None or cursor is None:
        return False
    return bool(since <= last < cursor and last != target.last_scheduled_at)


def go_back_behind_stock(followed: Followed) -> None:
    """Go on behind the last run of stock beat, unless we have run or skipped something since.

    What it has left undone is due after all, and intervals are counted from its last run. Runs in
    a transaction of the caller's; brings the job and the target up to date.
    """
    row, job, target = followed.row, followed.job, followed.target
    assert job is not None
    assert target is not None
    runs.lock_targets(Target.objects.filter(pk=target.pk))
    last = row.last_run_at
    ours = Q(scheduled_at__gte=last) | Q(scheduled_until__gte=last)
    taken = Run.objects.filter(ours, target=target, cause__in=(Cause.SCHEDULE, Cause.CATCH_UP))
    wanted, error = _wanted(row)
    if not error and not taken.exists():
        runs.reschedule(job, now=last, after=last, schedule=wanted["schedule"])
        target.refresh_from_db()


def _begins_after(row: PeriodicTask, now: datetime) -> datetime | None:
    """What the fires of a row lie behind, if not simply behind now: its last run.

    Of a row that names a single moment, that moment counts even if it has just passed.
    """
    begins: datetime | None = row.last_run_at
    if begins is None and row.clocked_id:
        begins = row.clocked.clocked_time - INSTANT
    if begins is None and row.solar_id:
        begins = row.date_changed
    return None if begins is None else min(begins, now)


def _free_name(row: PeriodicTask, job: Job) -> str:
    taken = Job.objects.filter(name=row.name).exclude(pk=job.pk).exists()
    return _other_name(row) if taken else str(row.name)


def _over_settings(job: Job, wanted: dict[str, Any], *, now: datetime) -> dict[str, Any]:
    """Turn the row's values into overrides where they differ from the settings' values."""
    overrides = dict(job.overrides)
    columns: dict[str, Any] = {}
    for name in ROW_FIELDS:
        if name not in wanted:
            continue
        known = job.override_of(name)
        code = from_json(name, known["code"]) if known else getattr(job, name)
        same = _is_same(code, wanted[name]) if name == "schedule" else code == wanted[name]
        if same:
            overrides.pop(name, None)
            columns[name] = code
        elif known is None or getattr(job, name) != wanted[name]:
            overrides[name] = {"code": as_json(code), "by": BY, "at": now.isoformat()}
    return columns | {"overrides": overrides}


def let_go(job: Job, *, now: datetime) -> None:
    """The row of a settings entry is gone: back to what the settings say."""
    code = {
        name: from_json(name, override["code"])
        for name, override in job.overrides.items()
        if override["by"] == BY
    }
    overrides = {name: job.overrides[name] for name in job.overrides if name not in code}
    wanted = {**code, "runs_left": None, "periodic_task_id": None, "overrides": overrides}
    write(job, wanted, now=now)
    if job.schedule_error:
        _set_error(job, "", now=now)
    if job.paused_by == BY:
        runs.resume(job, by=BY, now=now)


def _pause(job: Job, *, now: datetime) -> None:
    runs.pause(job, by=BY, reason="disabled in its periodic task", now=now)


def _resume(row: PeriodicTask, job: Job, *, now: datetime) -> None:
    if row.solar_id and row.last_run_at is None and not conf.SHADOW:
        # Its next event counts from here, not from an edit long ago.
        PeriodicTask.objects.filter(pk=row.pk).update(date_changed=now)
        fresh = rows().get(pk=row.pk)
        write(job, columns_of_row(fresh), now=now)
    runs.resume(job, by=BY, now=now)


def _set_error(job: Job, error: str, *, now: datetime) -> None:
    """Say what is wrong with a row; a row that cannot be read stops nothing else."""
    Job.objects.filter(pk=job.pk).update(schedule_error=error)
    job.schedule_error = error
    if error:
        logger.error("Periodic task of job %s does not fire: %s", job.name, error)
        Notification.objects.create(
            name=job.name,
            event=Event.SCHEDULE_ERROR,
            detail=error,
            created_at=now,
            deliver_at=now,
        )
