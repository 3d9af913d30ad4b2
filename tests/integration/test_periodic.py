"""django-celery-beat's rows are jobs: every kind of schedule, every field, every way to edit."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from django.contrib import admin
from django.contrib.messages.storage.fallback import FallbackStorage
from django.db import transaction
from django.test import RequestFactory
from django_celery_beat.admin import PeriodicTaskAdmin
from django_celery_beat.models import (
    ClockedSchedule,
    IntervalSchedule,
    PeriodicTask,
    PeriodicTasks,
)

from scheduling import clock, runs
from scheduling.declarations import periodic
from scheduling.models import Job
from tests.factories import make_job
from tests.integration.periodic_rows import claim, cron, cursor, every, job, make_row

pytestmark = pytest.mark.django_db

MINUTE = timedelta(minutes=1)
SECOND = timedelta(seconds=1)


def test_a_crontab_keeps_celerys_dialect_and_its_zone():
    make_row(**cron(day_of_week="mon-fri", day_of_month="1-7", timezone="Europe/Berlin"))
    assert job().schedule == "cron 0 3 1-7 * MON-FRI tz Europe/Berlin and"
    assert (job().declared_in, job().kind, job().task) == ("periodic_task", "task", "mail.send")


def test_an_interval_is_counted_from_the_last_run():
    row = make_row(**every(10))
    PeriodicTask.objects.filter(pk=row.pk).update(
        last_run_at=datetime(2026, 1, 5, 12, 3, 7, 900_000, tzinfo=UTC)
    )
    periodic.sync_rows([row.pk], now=clock.now())
    assert job().schedule == "every 10m phase 3m7s"


def test_an_interval_without_a_run_is_counted_from_the_last_edit():
    row = make_row(**every(1, "hours"))
    since_epoch = timedelta(seconds=int(row.date_changed.timestamp()))
    first = cursor()
    assert first is not None
    assert first == datetime(1970, 1, 1, tzinfo=UTC) + since_epoch + timedelta(hours=1)


def test_writing_the_fire_time_back_leaves_the_interval_as_it_is():
    row = make_row(**every(10, "seconds"))
    text, first = job().schedule, cursor()
    assert first is not None
    assert len(claim(first)) == 1
    row.refresh_from_db()
    assert (row.last_run_at, row.total_run_count) == (first, 1)
    changes = periodic.sync_rows(None, now=first)
    assert (changes.updated, changes.unchanged) == ([], ["mail"])
    assert (job().schedule, cursor()) == (text, first + 10 * SECOND)


def test_a_claim_tells_no_beat_of_a_change():
    row = make_row(**every(10, "seconds"))
    before = PeriodicTasks.last_change()
    claim(cursor() or clock.now())
    row.refresh_from_db()
    assert row.total_run_count == 1
    assert PeriodicTasks.last_change() == before


def test_many_rows_are_written_back_at_once(django_assert_max_num_queries):
    interval = IntervalSchedule.objects.create(every=10, period="seconds")
    rows = [make_row(f"mail {number}", interval=interval) for number in range(250)]
    at = datetime(2026, 1, 5, tzinfo=UTC)
    fires = [
        runs.ClaimedFire(periodic_task_id=row.pk, scheduled_at=at, started=1, finished=False)
        for row in rows
    ]
    with django_assert_max_num_queries(6):
        periodic.record_fires(fires)
    assert PeriodicTask.objects.filter(last_run_at=at, total_run_count=1).count() == 250


def test_a_clocked_row_fires_once_and_is_disabled():
    at = clock.now() + timedelta(hours=1)
    row = make_row(clocked=ClockedSchedule.objects.create(clocked_time=at), one_off=True)
    assert cursor() == at
    assert len(claim(at)) == 1
    row.refresh_from_db()
    assert (row.enabled, row.total_run_count, row.last_run_at) == (False, 0, at)
    periodic.sync_rows(None, now=at + SECOND)
    assert claim(at + timedelta(hours=1)) == []


def test_a_clocked_time_that_has_just_passed_still_fires():
    at = clock.now() - SECOND
    make_row(clocked=ClockedSchedule.objects.create(clocked_time=at), one_off=True)
    assert [run.scheduled_at for run in claim(clock.now())] == [at]


def test_a_one_off_interval_fires_once_and_again_when_it_is_enabled_again():
    row = make_row(**every(10, "seconds"), one_off=True)
    Job.objects.filter(name="mail").update(overlap="allow")
    first = cursor()
    assert first is not None
    assert len(claim(first)) == 1
    assert claim(first + MINUTE) == []
    row.refresh_from_db()
    assert not row.enabled
    PeriodicTask.objects.filter(pk=row.pk).update(enabled=True)
    periodic.sync_rows(None, now=first + MINUTE)
    again = cursor()
    assert again is not None
    assert again > first + MINUTE
    assert len(claim(again)) == 1
    assert cursor() is None


def test_fields_are_passed_on():
    start, end = datetime(2030, 1, 1, tzinfo=UTC), datetime(2031, 1, 1, tzinfo=UTC)
    make_row(
        **cron(),
        args='["a"]',
        kwargs='{"to": "b"}',
        queue="slow",
        routing_key="slow.mail",
        priority=3,
        headers='{"team": "red"}',
        start_time=start,
        expires=end,
        description="Send the mail\nand more",
    )
    found = job()
    assert (found.args, found.kwargs) == (["a"], {"to": "b"})
    assert found.options == {
        "queue": "slow",
        "routing_key": "slow.mail",
        "priority": 3,
        "headers": {"team": "red", "periodic_task_name": "mail"},
    }
    assert (found.starts_at, found.ends_at, found.description) == (start, end, "Send the mail")
    assert cursor() == start + timedelta(hours=3)


def test_expire_seconds_limit_how_late_a_run_may_start():
    make_row(**cron(), expire_seconds=90)
    assert job().start_within == timedelta(seconds=90)


def test_an_interval_with_a_start_fires_at_the_start():
    start = clock.now().replace(microsecond=0) + timedelta(days=3, seconds=17)
    make_row(**every(10), start_time=start)
    assert cursor() == start
    claim(start)
    periodic.sync_rows(None, now=start)
    assert cursor() == start + 10 * MINUTE


def test_operators_settings_of_a_rows_job_stay():
    row = make_row(**every(10))
    Job.objects.filter(name="mail").update(overlap="wait", retries=3)
    row.args = '["x"]'
    row.save()
    assert (job().overlap, job().retries, job().args) == ("wait", 3, ["x"])


# --- ways to edit ---------------------------------------------------------------------------------


def test_disabling_pauses_and_enabling_resumes():
    row = make_row(**every(10))
    row.enabled = False
    row.save()
    assert job().paused_by == "django-celery-beat"
    row.enabled = True
    row.save()
    assert job().paused_at is None


def test_a_pause_by_a_person_is_not_ended_by_an_edit_of_the_row():
    row = make_row(**every(10))
    runs.pause(job(), by="ann", reason="audit", now=clock.now())
    row.args = '["x"]'
    row.save()
    assert job().paused_by == "ann"


def test_a_disabled_row_stays_still_when_a_persons_pause_ends():
    row = make_row(**every(10))
    now = clock.now()
    runs.pause(job(), by="ann", reason="audit", until=now + MINUTE, now=now)
    row.enabled = False
    row.save()
    assert job().is_paused(now + 2 * MINUTE)


def test_a_paused_job_can_be_resumed_together_with_its_row():
    row = make_row(**every(10), enabled=False)
    assert periodic.enable_row(job(), by="ann", now=clock.now())
    row.refresh_from_db()
    assert row.enabled
    assert job().paused_at is None
    assert not periodic.enable_row(make_job(), by="ann", now=clock.now())


def test_an_edited_shared_crontab_moves_every_row_that_uses_it():
    shared = cron()
    make_row("one", **shared)
    make_row("two", **shared)
    make_row("three", **cron(minute="7"))
    shared["crontab"].hour = "4"
    shared["crontab"].save()
    assert [job(name).schedule.split()[2] for name in ("one", "two", "three")] == ["4", "4", "3"]
    assert [getattr(cursor(name), "hour", None) for name in ("one", "two", "three")] == [4, 4, 3]


def test_a_deleted_row_retires_its_job_and_the_name_can_be_used_again():
    make_row(**every(10)).delete()
    assert job().retired_at is not None
    assert cursor() is None
    make_row(**every(5))
    assert job().retired_at is None
    assert cursor() is not None
    assert Job.objects.filter(name="mail").count() == 1


def test_deleting_an_interval_retires_the_jobs_of_its_rows():
    interval = every(10)
    make_row(**interval)
    interval["interval"].delete()
    assert job().retired_at is not None


def test_a_renamed_row_renames_its_job():
    row = make_row(**every(10))
    before = job().pk
    row.name = "letter"
    row.save()
    assert job("letter").pk == before


def admin_action(name: str) -> None:
    model_admin = PeriodicTaskAdmin(PeriodicTask, admin.site)
    request: Any = RequestFactory().post("/")
    request.session = {}
    request._messages = FallbackStorage(request)
    getattr(model_admin, name)(request, PeriodicTask.objects.all())


def test_bulk_actions_of_the_admin_are_noticed_by_the_next_tick():
    make_row("one", **every(10))
    make_row("two", **cron())
    seen = periodic.changed_since(None, now=clock.now())
    admin_action("disable_tasks")
    assert job("one").paused_at is None
    seen = periodic.changed_since(seen, now=clock.now())
    assert {job("one").paused_by, job("two").paused_by} == {"django-celery-beat"}
    admin_action("enable_tasks")
    periodic.changed_since(seen, now=clock.now())
    assert (job("one").paused_at, job("two").paused_at) == (None, None)
    assert cursor("one") is not None


def test_a_tick_without_changes_costs_one_query(django_assert_num_queries):
    make_row(**every(10))
    seen = periodic.changed_since(None, now=clock.now())
    with django_assert_num_queries(1):
        assert periodic.changed_since(seen, now=clock.now()) == seen


def test_a_scan_of_rows_in_step_costs_few_queries(django_assert_max_num_queries):
    interval = IntervalSchedule.objects.create(every=10, period="seconds")
    for number in range(20):
        make_row(f"mail {number}", interval=interval)
    with django_assert_max_num_queries(5):
        changes = periodic.sync_rows(None, now=clock.now())
    assert len(changes.unchanged) == 20


def test_a_save_that_is_rolled_back_leaves_no_job():
    with transaction.atomic():
        make_row(**every(10))
        transaction.set_rollback(True)
    assert not Job.objects.filter(name="mail").exists()
