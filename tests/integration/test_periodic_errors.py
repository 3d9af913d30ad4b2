"""A row that cannot be followed harms nothing else, and says what is wrong."""

from __future__ import annotations

import pytest
from django_celery_beat.models import (
    PeriodicTask,
    SolarSchedule,
)

from scheduling import clock
from scheduling.declarations import periodic
from scheduling.models import Notification
from tests.factories import make_job
from tests.integration.periodic_rows import cron, cursor, every, job, make_row

pytestmark = pytest.mark.django_db


@pytest.mark.parametrize(
    ("schedule", "words"),
    [
        (lambda: cron(minute="61"), "61"),
        (lambda: cron(day_of_week="7"), "7"),
        (lambda: cron(minute="often"), "often"),
        (lambda: cron(day_of_month="30", month_of_year="2"), "never occurs"),
        (lambda: every(500_000, "microseconds"), "whole seconds"),
        (lambda: every(0), "whole seconds"),
        (lambda: every(2_000_000_000, "days"), "2000000000 days"),
    ],
)
def test_a_row_that_cannot_be_read_is_parked_with_its_error_and_told(schedule, words):
    make_row("good", **every(10))
    make_row(**schedule())
    assert words in job().schedule_error
    assert (job().schedule, cursor()) == ("manual", None)
    assert cursor("good") is not None
    assert words in Notification.objects.get(name="mail").detail
    (problem,) = periodic.sync_rows(None, now=clock.now()).problems
    assert "'mail'" in problem
    assert words in problem
    assert Notification.objects.filter(name="mail").count() == 1


def test_a_corrected_row_fires_again():
    bad = cron(minute="61")
    make_row(**bad)
    bad["crontab"].minute = "1"
    bad["crontab"].save()
    assert job().schedule_error == ""
    assert cursor() is not None


def test_a_row_that_goes_bad_stops_firing():
    shared = cron()
    make_row(**shared)
    shared["crontab"].hour = "25"
    shared["crontab"].save()
    assert "25" in job().schedule_error
    assert cursor() is None


@pytest.mark.parametrize(
    ("field", "value", "told"),
    [
        ("args", "[1", "no JSON from character 3 on (Expecting ',' delimiter); write a JSON list"),
        ("args", "[NaN]", "nothing that databases store"),
        ("args", "[1e999]", "nothing that databases store"),
        ("kwargs", "[]", "a JSON list; write a JSON object"),
        ("headers", "true", "true or false; write a JSON object"),
    ],
)
def test_arguments_that_are_not_json_are_named(field, value, told):
    make_row(**every(10), **{field: value})
    assert f"has as its {field} {told}" in job().schedule_error


def test_what_is_wrong_with_arguments_is_told_without_them():
    """Also those read it who may not see arguments."""
    make_row(**every(10), kwargs='{"password": "secret", }')
    assert "has as its kwargs no JSON from character 24 on" in job().schedule_error
    assert "secret" not in job().schedule_error


def test_without_ephem_a_solar_row_is_parked_and_says_what_to_type():
    if periodic.has_ephem():
        pytest.skip("ephem is installed")
    solar = SolarSchedule.objects.create(event="sunrise", latitude=48, longitude=11)
    make_row(solar=solar)
    assert "pip install 'celery[solar]'" in job().schedule_error
    assert cursor() is None


def test_a_row_with_the_name_of_another_job_fires_under_a_name_of_its_own():
    make_job("mail")
    row = make_row(**every(10))
    assert job("mail (periodic task)").periodic_task_id == row.pk
    assert cursor("mail (periodic task)") is not None
    assert periodic.sync_rows(None, now=clock.now()).updated == []


def test_what_fails_here_does_not_fail_the_users_save(monkeypatch):
    def fail(*args: object, **kwargs: object) -> None:
        raise RuntimeError("no such luck")

    monkeypatch.setattr(periodic, "sync_rows", fail)
    row = make_row(**every(10))
    assert PeriodicTask.objects.filter(pk=row.pk).exists()
