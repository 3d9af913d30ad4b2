"""Switching to django-celery-beat's own scheduler and back repeats nothing and loses nothing."""

from __future__ import annotations

from datetime import datetime, timedelta

import pytest
import time_machine
from django_celery_beat.models import (
    PeriodicTask,
)

from scheduling import clock
from scheduling.declarations import periodic
from scheduling.models import Job
from tests.integration.periodic_rows import claim, cron, cursor, every, make_row

pytestmark = pytest.mark.django_db

MINUTE = timedelta(minutes=1)
SECOND = timedelta(seconds=1)


def stock_fires(row: PeriodicTask, at: datetime) -> None:
    """Do what its ModelEntry does: save with `no_changes`."""
    stored = PeriodicTask.objects.get(pk=row.pk)
    stored.last_run_at, stored.no_changes = at, True
    stored.total_run_count += 1
    stored.save()


@pytest.mark.parametrize("schedule", [every, cron], ids=["interval", "crontab"])
def test_what_stock_beat_has_run_is_not_repeated(schedule):
    row = make_row(**schedule())
    first = cursor()
    assert first is not None
    period = timedelta(minutes=10) if row.interval_id else timedelta(days=1)
    late = timedelta(milliseconds=300)
    stock_fires(row, first + late)
    stock_fires(row, first + period + late)
    now = first + period + MINUTE
    periodic.resume_after_stock(now=now)
    assert claim(now) == []
    assert cursor() == first + 2 * period


def test_what_stock_beat_missed_is_caught_up():
    row = make_row(**cron(hour="*"))
    first = cursor()
    assert first is not None
    stock_fires(row, first + SECOND)
    back = first + timedelta(hours=2, minutes=5)
    periodic.resume_after_stock(now=back)
    caught_up = claim(back)
    assert [(run.scheduled_at, run.cause) for run in caught_up] == [
        (first + timedelta(hours=2), "catch_up")
    ]


def test_a_row_that_ran_under_stock_beat_begins_behind_its_last_run():
    row = make_row(**cron(hour="*"))
    Job.objects.all().delete()
    last = clock.now().replace(minute=0, second=0, microsecond=0) - timedelta(hours=3)
    PeriodicTask.objects.filter(pk=row.pk).update(last_run_at=last + SECOND)
    periodic.resume_after_stock(now=clock.now())
    assert cursor() == last + timedelta(hours=1)


def test_a_one_off_that_stock_beat_has_run_does_not_run_again():
    row = make_row(**every(10, "seconds"), one_off=True)
    first = cursor()
    assert first is not None
    stock_fires(row, first + SECOND)
    periodic.resume_after_stock(now=first + MINUTE)
    assert claim(first + 2 * MINUTE) == []
    row.refresh_from_db()
    assert (row.enabled, row.total_run_count) == (False, 0)


def test_stock_beat_finds_nothing_due_that_we_have_run():
    row = make_row(**every(10))
    first = cursor()
    assert first is not None
    claim(first)
    row.refresh_from_db()
    with time_machine.travel(first + SECOND, tick=False):
        is_due, _ = row.schedule.is_due(row.last_run_at)
    assert not is_due
