"""Edits of django-celery-beat's rows are followed in the saving process, in its transaction."""

from __future__ import annotations

import logging
from collections.abc import Iterable
from typing import Any

from django.db import OperationalError, transaction
from django.db.models.signals import post_delete, post_save
from django_celery_beat.models import (
    ClockedSchedule,
    CrontabSchedule,
    IntervalSchedule,
    PeriodicTask,
    PeriodicTasks,
    SolarSchedule,
)

from scheduling import clock, redis, runs
from scheduling.db import patience
from scheduling.declarations import periodic

logger = logging.getLogger(__name__)

BUSY_FOR_MS = 300

# Schedule model -> the field of PeriodicTask that refers to it
SCHEDULES = {
    IntervalSchedule: "interval",
    CrontabSchedule: "crontab",
    ClockedSchedule: "clocked",
    SolarSchedule: "solar",
}


def connect() -> None:
    if periodic.record_fires not in runs.fire_listeners:
        runs.fire_listeners.append(periodic.record_fires)
    post_save.connect(row_saved, sender=PeriodicTask, dispatch_uid="scheduling.row_saved")
    post_delete.connect(row_deleted, sender=PeriodicTask, dispatch_uid="scheduling.row_deleted")
    post_save.connect(rows_changed, sender=PeriodicTasks, dispatch_uid="scheduling.rows_changed")
    for model, field in SCHEDULES.items():
        post_save.connect(schedule_saved, sender=model, dispatch_uid=f"scheduling.{field}_saved")


def row_saved(instance: PeriodicTask, raw: bool = False, **kwargs: Any) -> None:
    # `no_changes`: django-celery-beat's scheduler notes that it has fired. Raw: a fixture, whose
    # schedule may not be there yet; a beat sees it by the row's mark of change.
    if not raw and not instance.no_changes:
        _follow([instance.pk])


def row_deleted(instance: PeriodicTask, **kwargs: Any) -> None:
    _follow([instance.pk])


def rows_changed(**kwargs: Any) -> None:
    """Rows were edited in bulk, past their own signals: a beat is to look now, not at its tick."""
    redis.ring_on_commit()


def schedule_saved(sender: type, instance: Any, raw: bool = False, **kwargs: Any) -> None:
    if not raw:
        users = PeriodicTask.objects.filter(**{SCHEDULES[sender]: instance.pk})
        _follow(list(users.values_list("pk", flat=True)))


def _follow(pks: Iterable[int]) -> None:
    """Whatever fails here, the user's save stands; beats look again soon.

    The save holds the row, which a claim of its target is about to write: the claim goes first.
    """
    try:
        with transaction.atomic(), patience(BUSY_FOR_MS):
            periodic.sync_rows(pks, now=clock.now())
    except OperationalError as error:
        logger.info("Edited periodic tasks %s are left to the beats: %s", pks, error)
    except Exception:
        logger.exception("Edited periodic tasks %s could not be followed yet", pks)
