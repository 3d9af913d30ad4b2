"""Rows of django-celery-beat that the stock scheduler fires, seen in shadow mode."""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import Any
from uuid import uuid4

from django_celery_beat.models import PeriodicTask

from scheduling import runs
from scheduling.shadow import Report, report
from scheduling.shadow_report import Comparison
from tests.integration.periodic_rows import cron, cursor, make_row

SECOND, MINUTE = timedelta(seconds=1), timedelta(minutes=1)


def stock_fires(row: PeriodicTask, at: datetime) -> None:
    """Put down what a worker does when it receives a message that was sent then."""
    runs.record_stock_fire(
        task_id=str(uuid4()),
        name=row.task,
        key=row.name,
        sent_at=at,
        received_at=at,
        worker="w@x",
    )


def hour_row(name: str = "mail", **fields: Any) -> tuple[PeriodicTask, datetime]:
    """Make a row that fires at every full hour; give it with its first fire time."""
    row = make_row(name, **cron(hour="*"), **fields)
    first = cursor(name)
    assert first is not None
    return row, first


def compared(after: datetime, until: datetime, *, now: datetime | None = None) -> Report:
    now = now or until + timedelta(days=1)
    return report(after=after, until=until, tolerance=10 * SECOND, now=now)


def only(found: Report) -> Comparison:
    (comparison,) = found.jobs
    return comparison
