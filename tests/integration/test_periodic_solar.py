"""Solar rows: Celery's own class names the events, one at a time."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest
from django_celery_beat.models import PeriodicTask, SolarSchedule

from scheduling import clock
from scheduling.declarations import periodic
from tests.integration.periodic_rows import claim, cursor, job, make_row

pytest.importorskip("ephem", reason="solar rows need celery[solar]")

pytestmark = pytest.mark.django_db


def sunrise_in_munich() -> dict[str, SolarSchedule]:
    solar, _ = SolarSchedule.objects.get_or_create(event="sunrise", latitude=48.1, longitude=11.6)
    return {"solar": solar}


def test_a_solar_row_fires_at_the_next_event_and_then_at_the_one_after():
    row = make_row(**sunrise_in_munich())
    first = cursor()
    assert first is not None
    assert clock.now() < first < clock.now() + timedelta(days=1, minutes=5)
    assert 3 <= first.hour <= 7
    assert [run.scheduled_at for run in claim(first)] == [first]
    second = cursor()
    assert second is not None
    assert timedelta(hours=23, minutes=50) < second - first < timedelta(hours=24, minutes=10)
    row.refresh_from_db()
    assert row.last_run_at == first
    assert periodic.sync_rows(None, now=first).updated == []


def test_events_missed_while_no_beat_ran_are_each_accounted_for():
    make_row(**sunrise_in_munich())
    first = cursor()
    assert first is not None
    back = first + timedelta(days=2, hours=1)
    seen = []
    while (due := cursor()) is not None and due <= back:
        claim(back)
        seen.append(due)
    assert len(seen) == 3


def test_a_solar_row_enabled_again_waits_for_the_next_event():
    row = make_row(**sunrise_in_munich())
    long_ago = datetime(2025, 6, 1, tzinfo=UTC)
    PeriodicTask.objects.filter(pk=row.pk).update(
        enabled=False, last_run_at=None, date_changed=long_ago
    )
    periodic.sync_rows(None, now=clock.now())
    PeriodicTask.objects.filter(pk=row.pk).update(enabled=True)
    periodic.sync_rows(None, now=clock.now())
    following = cursor()
    assert job().paused_at is None
    assert following is not None
    assert following > clock.now()
