"""What grows besides the runs, and goes at the same age.

Attempts, pings and notifications of a run go with it. Elsewhere it is seen to that dead letters,
changes of coverage and beats that are gone do not pile up.
"""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime

from django.db.models import Exists, F, Model, OuterRef, Q, QuerySet

from scheduling.db import short_transaction
from scheduling.models import Notification, Process, Run, ScheduleStretch

BATCH = 500


def prune_others(before: datetime, *, go_on: Callable[[], bool]) -> dict[str, int]:
    """Delete what is older than that; give how many rows of each kind."""
    kinds: dict[str, QuerySet[Model]] = {
        # Of circuits, schedules and late targets: they belong to no run.
        "notifications": Notification.objects.filter(
            ~_still_late(), run=None, deliver_at=None, created_at__lt=before
        ),
        "schedules": ScheduleStretch.objects.filter(until__lt=before),
        "processes": Process.objects.filter(seen_at__lt=before),
    }
    return {name: _delete(rows, go_on) for name, rows in kinds.items()}


def _still_late() -> Q:
    """The row keeps others from telling the same lateness again."""
    waits = Run.objects.open().filter(
        target=OuterRef("target"), scheduled_at__lte=OuterRef("late_since")
    )
    return Q(late_since__isnull=False) & (
        Q(target__next_fire_at__lte=F("late_since")) | Q(Exists(waits))
    )


def _delete(rows: QuerySet[Model], go_on: Callable[[], bool]) -> int:
    number = 0
    while go_on():
        ids = list(rows.order_by("pk").values_list("pk", flat=True)[:BATCH])
        if not ids:
            break
        with short_transaction():
            number += rows.model._base_manager.filter(pk__in=ids).delete()[0]
    return number
