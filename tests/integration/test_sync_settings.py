"""CELERY_BEAT_SCHEDULE, alone and beside a django-celery-beat row of the same name."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import pytest
from celery import current_app
from celery.schedules import crontab
from django.test import override_settings
from django_celery_beat.models import CrontabSchedule, IntervalSchedule, PeriodicTask
from django_celery_beat.schedulers import ModelEntry

from scheduling import sync
from scheduling.models import Job
from tests.factories import NOW

pytestmark = pytest.mark.django_db

ENTRY = {"task": "mail.send", "schedule": crontab(minute=0, hour=3), "args": ["a"]}


def deploy(**entries: Any) -> sync.SyncResult:
    with override_settings(CELERY_BEAT_SCHEDULE=entries):
        return sync.sync(now=NOW)


def mail() -> Job:
    return Job.objects.get(name="mail")


def test_an_entry_is_a_job():
    assert "mail" in deploy(mail=ENTRY).created
    assert (mail().declared_in, mail().args) == ("settings", ["a"])
    assert mail().targets.get().next_fire_at == NOW.replace(hour=3) + timedelta(days=1)


def test_an_entry_that_cannot_be_read_retires_nothing():
    deploy(mail=ENTRY)
    result = deploy(mail={**ENTRY, "schedule": "often"})
    assert result.retired == []
    assert any("'mail'" in problem for problem in result.problems)
    assert mail().retired_at is None


def test_the_result_backends_cleanup_is_not_made():
    deploy(**{"celery.backend_cleanup": ENTRY})
    assert not Job.objects.filter(name="celery.backend_cleanup").exists()


def row(**fields) -> PeriodicTask:
    fields.setdefault("crontab", CrontabSchedule.objects.get_or_create(minute="0", hour="3")[0])
    return PeriodicTask.objects.create(name="mail", task="mail.send", **{"args": '["a"]', **fields})


def test_an_entry_and_its_row_are_one_job_and_the_row_overrides():
    deploy(mail=ENTRY)
    row(crontab=CrontabSchedule.objects.create(minute="30", hour="5"))
    assert Job.objects.filter(name__startswith="mail").count() == 1
    assert mail().schedule == "cron 30 5 * * * tz UTC and"
    override = mail().overrides["schedule"]
    assert (override["code"], override["by"]) == (
        "cron 0 3 * * * tz UTC and",
        "django-celery-beat",
    )
    deploy(mail={**ENTRY, "schedule": crontab(minute=0, hour=4)})
    assert mail().schedule == "cron 30 5 * * * tz UTC and"
    assert mail().overrides["schedule"]["code"] == "cron 0 4 * * * tz UTC and"


def test_the_row_may_be_there_before_the_entry():
    row()
    assert mail().declared_in == "periodic_task"
    deploy(mail=ENTRY)
    assert (mail().declared_in, mail().overrides) == ("settings", {})
    assert mail().targets.count() == 1


def test_without_its_row_an_entry_is_itself_again():
    deploy(mail=ENTRY)
    other = row(args='["b"]', enabled=False)
    assert (mail().args, mail().paused_by) == (["b"], "django-celery-beat")
    other.delete()
    assert (mail().args, mail().overrides, mail().paused_at) == (["a"], {}, None)
    assert mail().retired_at is None


def test_without_its_entry_a_row_goes_on():
    deploy(mail=ENTRY)
    row()
    result = deploy()
    assert "mail" not in result.retired
    assert (mail().declared_in, mail().retired_at) == ("periodic_task", None)


def test_a_copy_that_stock_beat_made_follows_the_settings():
    ModelEntry.from_entry("mail", app=current_app, **ENTRY)  # as at its start
    deploy(mail=ENTRY)
    assert mail().overrides == {}
    deploy(mail={**ENTRY, "schedule": crontab(minute=0, hour=4)})
    assert mail().schedule == "cron 0 4 * * * tz UTC and"
    assert PeriodicTask.objects.get(name="mail").crontab.hour == "4"
    assert deploy(mail={**ENTRY, "schedule": crontab(minute=0, hour=4)}).updated == []


def test_an_interval_is_no_override_for_having_another_phase():
    every = {"task": "mail.send", "schedule": 600}
    deploy(mail=every)
    interval = IntervalSchedule.objects.create(every=10, period="minutes")
    row(crontab=None, interval=interval, args="[]", last_run_at=NOW - timedelta(seconds=7))
    assert (mail().schedule, mail().overrides) == ("every 10m", {})
    assert deploy(mail=every).updated == []
