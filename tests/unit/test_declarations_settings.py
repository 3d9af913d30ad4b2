"""Entries of CELERY_BEAT_SCHEDULE."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from celery import schedules as celery
from django.test import override_settings

from scheduling.declarations.celery_schedules import cron_of
from scheduling.declarations.settings import declaration_of, read_settings
from scheduling.errors import SchedulingError
from scheduling.schedules import fires_between


def entry(**fields: Any) -> dict[str, Any]:
    return {"task": "mail.send", "schedule": 60, **fields}


@pytest.mark.parametrize(
    ("schedule", "text"),
    [
        (30, "every 30s"),
        (90.0, "every 90s"),
        (timedelta(hours=2), "every 2h"),
        (celery.schedule(timedelta(minutes=5)), "every 5m"),
        (celery.crontab(minute=0, hour="*/3"), "cron 0 */3 * * * tz UTC and"),
        (
            celery.crontab(minute=[0, 30], hour=4, day_of_week="mon-fri"),
            "cron 0,30 4 * * MON-FRI tz UTC and",
        ),
        (
            celery.crontab(minute=0, hour="22-2", day_of_month="1-7", day_of_week="sunday"),
            "cron 0 22-2 1-7 * SUNDAY tz UTC and",
        ),
    ],
)
def test_a_schedule_is_read(schedule: Any, text: str):
    assert str(declaration_of("mail", entry(schedule=schedule)).schedule) == text


def test_arguments_and_options_are_passed_on():
    declared = declaration_of(
        "mail",
        entry(
            args=("a", 1),
            kwargs={"to": "b"},
            options={"queue": "slow", "priority": 3, "expires": 90, "time_limit": 10},
        ),
    )
    assert (declared.task, declared.args, dict(declared.kwargs)) == (
        "mail.send",
        ("a", 1),
        {"to": "b"},
    )
    assert declared.options == {
        "queue": "slow",
        "priority": 3,
        "headers": {"periodic_task_name": "mail"},
    }
    assert declared.start_within == timedelta(seconds=90)
    assert declared.hard_limit == timedelta(seconds=10)


@pytest.mark.parametrize(
    ("wrong", "words"),
    [
        ({"task": "x"}, "no 'schedule'"),
        ({"schedule": 5}, "no 'task'"),
        (entry(shedule=3), "'shedule'; did you mean 'schedule'"),
        (entry(options={"que": "slow"}), "'que'; did you mean 'queue'"),
        (entry(schedule=0.5), "Interval of 0.5 s"),
        (entry(schedule=0), "Interval of 0 s"),
        (entry(schedule=float("nan")), "nan is not understood"),
        (entry(schedule=float("inf")), "inf is not understood"),
        (entry(task=5), "has the task 5"),
        (entry(options={"expires": float("nan")}), "has expires nan"),
        (entry(options={"headers": [1]}), "headers as a dict"),
        (entry(options=[1]), "has options"),
        (entry(options={"time_limit": 5, "soft_time_limit": 50}), "soft limit"),
        (entry(schedule="5 4 * * *"), "'5 4 \\* \\* \\*' is not understood"),
        (entry(args=[object()]), "has args"),
        (entry(args=[float("nan")]), "has args"),
        (entry(options={"expires": datetime(2030, 1, 1, tzinfo=UTC)}), "has expires"),
        ("mail.send", "give a dict"),
    ],
)
def test_a_wrong_entry_is_named(wrong: Any, words: str):
    with pytest.raises(SchedulingError, match=words):
        declaration_of("mail", wrong)


@pytest.mark.parametrize("name", [5, "", "x" * 201, "two\nlines"])
def test_a_wrong_name_is_told_and_hides_no_other(name: Any):
    with override_settings(CELERY_BEAT_SCHEDULE={name: entry(), "good": entry()}):
        declarations, (problem,) = read_settings()
    assert [declared.name for declared in declarations] == ["good"]
    assert repr(name) in str(problem)


def test_one_wrong_entry_does_not_hide_the_others():
    schedule = {"good": entry(), "bad": entry(schedule=None), "celery.backend_cleanup": entry()}
    with override_settings(CELERY_BEAT_SCHEDULE=schedule):
        declarations, problems = read_settings()
    assert [declared.name for declared in declarations] == ["good"]
    assert [(problem.name, problem.declared_in) for problem in problems] == [("bad", "settings")]
    assert "'bad'" in str(problems[0])


@pytest.mark.parametrize(
    "fields",
    [
        {},
        {"minute": "*/7", "hour": "8-17/2"},
        {"minute": "50-10", "hour": "22-2/2"},
        {"day_of_week": "fri-mon", "minute": 0, "hour": 12},
        {"day_of_week": "thursday,sun", "minute": 0, "hour": "*/12"},
        {"day_of_month": "*/10", "month_of_year": "nov-feb", "minute": 5, "hour": 5},
        {"minute": ",".join(str(n) for n in range(0, 60, 2)) + ",1,3,5,7,9,11,13,15,17"},
        {"minute": "*/90", "hour": "*/30"},
        {"minute": {1, 2, 3, 30}, "day_of_month": [1, 2, 15], "day_of_week": 3},
    ],
    ids=str,
)
def test_a_crontab_names_the_same_minutes_as_in_celery(fields: dict[str, Any]):
    crontab: Any = celery.crontab(**fields)
    since = datetime(2026, 1, 1, tzinfo=UTC)
    minutes = (since + timedelta(minutes=n) for n in range(1, 60 * 24 * 45))
    expected = [
        moment
        for moment in minutes
        if moment.minute in crontab.minute
        and moment.hour in crontab.hour
        and moment.day in crontab.day_of_month
        and moment.month in crontab.month_of_year
        and moment.isoweekday() % 7 in crontab.day_of_week
    ]
    until = since + timedelta(minutes=60 * 24 * 45 - 1)
    assert list(fires_between(cron_of(crontab, "UTC"), since, until)) == expected
