"""django-celery-beat's rows as jobs: followed when they are edited, written back when they fire.

A row is a job of its own. A row with the name of an entry in CELERY_BEAT_SCHEDULE is the same job
as that entry: the settings are the code's value, the row overrides it.
"""

from __future__ import annotations

import logging
from collections.abc import Iterable, Iterator, Sequence
from datetime import datetime
from importlib.util import find_spec

from celery import current_app
from django.db import DataError, IntegrityError
from django.db.models import Case, F, OuterRef, Subquery, Value, When
from django_celery_beat.models import PeriodicTask, PeriodicTasks

from scheduling import runs
from scheduling.db import short_transaction
from scheduling.declarations import row_jobs
from scheduling.declarations.row_jobs import BY, Changes, Followed
from scheduling.declarations.settings import entries
from scheduling.errors import SchedulingError
from scheduling.models import Job, ScheduleStretch, Target
from scheduling.models.job import DeclaredIn
from scheduling.policies import CatchUp

__all__ = [
    "BY",
    "Changes",
    "changed_since",
    "copy_settings",
    "enable_row",
    "follow_solar_rows",
    "has_ephem",
    "record_fires",
    "resume_after_stock",
    "solar_names",
    "sync_rows",
]

logger = logging.getLogger(__name__)

CHUNK = 500
WRITE_CHUNK = 100


def changed_since(last_seen: datetime | None, *, now: datetime) -> datetime | None:
    """Follow what was edited past our receivers (bulk updates); give what to pass next time.

    One query, unless django-celery-beat says that something has changed.
    """
    last_change: datetime | None = PeriodicTasks.last_change()
    if last_change != last_seen:
        sync_rows(None, now=now)
    return last_change


def resume_after_stock(*, now: datetime) -> datetime | None:
    """Begin to follow the rows; for the start of a beat. Gives what `changed_since` wants first.

    django-celery-beat's own scheduler may have been in charge: a row that has run since our cursor
    moves it behind that run. Nothing is repeated, and what was missed after that run is caught up
    by the job's policy.
    """
    last_change: datetime | None = PeriodicTasks.last_change()
    sync_rows(None, now=now)
    return last_change


def follow_solar_rows(*, now: datetime) -> None:
    """Go on to the next event where stock beat has run one; for shadow mode.

    A solar job knows one event at a time, and here no claim moves it on.
    """
    solar = PeriodicTask.objects.filter(enabled=True, solar__isnull=False)
    sync_rows(solar.values_list("pk", flat=True), now=now)


def sync_rows(pks: Iterable[int] | None, *, now: datetime) -> Changes:
    """Create, update and retire jobs so that they say what the rows say; None: all rows.

    Compares without locks, in chunks; each row that differs has its own transaction, and one that
    cannot be followed stops no other.
    """
    changes = Changes()
    wanted = None if pks is None else set(pks)
    for followed in _followed(wanted):
        if row_jobs.may_be_ahead_of_stock(followed):
            with short_transaction():
                row_jobs.go_back_behind_stock(followed)
        if followed.job is not None and row_jobs.is_in_step(followed):
            changes.unchanged.append(followed.job.name)
            if followed.job.schedule_error:  # as long as it stands, not only when it is new
                changes.problems.append(
                    f"Periodic task {followed.row.name!r}: {followed.job.schedule_error}"
                )
            continue
        name = followed.row.name
        try:
            with short_transaction():
                row_jobs.follow(followed, changes, now=now)
        except IntegrityError as error:
            # Another process has just made the same job, as two beats do after a bulk edit.
            logger.info("Periodic task %r was followed elsewhere: %s", name, error)
        except (SchedulingError, DataError) as error:
            logger.exception("Periodic task %r cannot be followed", name)
            changes.problems.append(f"Periodic task {name!r}: {error}")
    _retire_orphans(wanted, changes, now=now)
    return changes


def _followed(pks: set[int] | None) -> Iterator[Followed]:
    if pks is not None:
        yield from _with_jobs(list(row_jobs.rows().filter(pk__in=pks).order_by("pk")))
        return
    last = 0
    while chunk := list(row_jobs.rows().filter(pk__gt=last).order_by("pk")[:CHUNK]):
        last = chunk[-1].pk
        yield from _with_jobs(chunk)


def _with_jobs(chunk: Sequence[PeriodicTask]) -> Iterator[Followed]:
    # Read after the rows: a claim in between moves the cursor beyond the `last_run_at` read.
    jobs = {
        job.periodic_task_id: job
        for job in Job.objects.filter(periodic_task_id__in=[row.pk for row in chunk])
    }
    present = ScheduleStretch.objects.filter(target=OuterRef("pk"), until=None).values("since")
    targets = {
        target.job_id: target
        for target in Target.objects.filter(job__in=jobs.values(), key="").annotate(
            followed_since=Subquery(present[:1])
        )
    }
    for row in chunk:
        job = jobs.get(row.pk)
        target = targets.get(job.pk) if job else None
        since = getattr(target, "followed_since", None)
        yield Followed(row=row, job=job, target=target, since=since)


def _retire_orphans(pks: set[int] | None, changes: Changes, *, now: datetime) -> None:
    orphans = Job.objects.filter(periodic_task_id__isnull=False).exclude(
        periodic_task_id__in=PeriodicTask.objects.values("pk")
    )
    if pks is not None:
        orphans = orphans.filter(periodic_task_id__in=pks)
    for job in orphans:
        with short_transaction():
            if job.declared_in == DeclaredIn.SETTINGS:
                row_jobs.let_go(job, now=now)
                changes.updated.append(job.name)
            else:
                runs.retire(job, now=now)
                Job.objects.filter(pk=job.pk).update(periodic_task_id=None)
                changes.retired.append(job.name)


def solar_names() -> list[str]:
    """Names of the enabled rows that need `ephem`."""
    enabled = PeriodicTask.objects.filter(enabled=True, solar__isnull=False)
    return list(enabled.order_by("name").values_list("name", flat=True))


def has_ephem() -> bool:
    return find_spec("ephem") is not None


def copy_settings(name: str) -> None:
    """Write a settings entry into the row of its name, as django-celery-beat's scheduler does."""
    # Its module is that of a beat, which most processes are not.
    from django_celery_beat.schedulers import ModelEntry

    ModelEntry.from_entry(name, app=current_app, **entries()[name])


def enable_row(job: Job, *, by: str, now: datetime, missed: CatchUp = CatchUp.NONE) -> bool:
    """Enable the row of a job and resume the job. False: it has no disabled row.

    Resuming the job alone would last until the next look at the row.
    """
    if job.periodic_task_id is None:
        return False
    with short_transaction():
        disabled = PeriodicTask.objects.filter(pk=job.periodic_task_id, enabled=False)
        if not disabled.update(enabled=True):
            return False
        PeriodicTasks.update_changed()
        runs.resume(job, by=by, missed=missed, now=now)
        sync_rows([job.periodic_task_id], now=now)
    return True


def record_fires(fires: Sequence[runs.ClaimedFire]) -> None:
    """Write what was claimed into the rows, inside the claim's transaction.

    Stock beat can take over at any time and finds when each row last ran. Updates, not saves:
    nothing is told of a change, so no beat scans.
    """
    for start in range(0, len(fires), WRITE_CHUNK):
        _record(fires[start : start + WRITE_CHUNK])
    finished = [fire.periodic_task_id for fire in fires if fire.finished]
    if finished:
        # As stock beat does; counting from 0 lets the row be enabled for another single run.
        PeriodicTask.objects.filter(pk__in=finished, one_off=True).update(
            enabled=False, total_run_count=0
        )
    solar = PeriodicTask.objects.filter(
        pk__in=[fire.periodic_task_id for fire in fires], solar__isnull=False
    )
    for pk, fired_at in list(solar.values_list("pk", "last_run_at")):
        # A solar job knows one event at a time: now the one after this.
        sync_rows([pk], now=fired_at)


def _record(fires: Sequence[runs.ClaimedFire]) -> None:
    newest = [When(pk=each.periodic_task_id, then=Value(each.scheduled_at)) for each in fires]
    started = [When(pk=each.periodic_task_id, then=Value(each.started)) for each in fires]
    PeriodicTask.objects.filter(pk__in=[each.periodic_task_id for each in fires]).update(
        last_run_at=Case(*newest, default=F("last_run_at")),
        total_run_count=F("total_run_count") + Case(*started, default=Value(0)),
    )
