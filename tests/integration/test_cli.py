"""list, show, history, why, trigger, cancel, pause, resume, unscheduled: answers and exit codes."""

from __future__ import annotations

import time
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from pytest_django import DjangoAssertNumQueries, Settings

from scheduling import clock, runs
from scheduling.models import Cause, FollowUp, Installation, Job, Reason, Run, State, Target
from tests.factories import NOW, make_job, make_run, make_target
from tests.integration.cli import Told, jobs

pytestmark = pytest.mark.django_db

HISTORY = (
    *("id", "job", "key", "scheduled_at", "cause", "fires", "state", "reason", "attempt"),
    *("published_at", "started_at", "ended_at", "outcome", "output"),
)
LIST = (
    *("name", "schedule", "sentence", "declared_in", "state", "paused", "next_fire_at"),
    *("last_run", "targets"),
)


@pytest.fixture(autouse=True)
def no_jobs(db: None) -> None:
    """Begin without the jobs that the code declares, which the migration has synced."""
    Job.objects.all().delete()


def document(*words: str, code: int = 0) -> Any:
    told = jobs(*words, "--json")
    assert told.code == code, told
    return told.document()


def refused(*words: str) -> str:
    told = jobs(*words, "--json")
    assert told.code == 2, told
    answer = told.document()
    assert list(answer) == ["error"]
    assert answer["error"] in told.stderr
    return str(answer["error"])


# --- list, show -----------------------------------------------------------------------------------


def test_list_gives_every_job_in_one_shape() -> None:
    job = make_job("mails", schedule="every 5m")
    target = make_target(job, next_fire_at=NOW, last_started_at=NOW)
    make_target(job, "second", next_fire_at=NOW + timedelta(hours=1))
    run = make_run(target, state=State.SUCCEEDED, started_at=NOW, ended_at=NOW)
    make_run(target, state=State.SKIPPED, reason=Reason.OVERLAP, created_at=NOW + timedelta(1))
    make_job("gone", retired_at=NOW)
    (row,) = document("list")
    assert tuple(row) == LIST
    last = row.pop("last_run")
    assert row == {
        "name": "mails",
        "schedule": "every 5m",
        "sentence": "every 5 minutes",
        "declared_in": "admin",
        "state": "Running",
        "paused": False,
        "next_fire_at": "2026-01-05T12:00:00+00:00",
        "targets": 2,
    }
    assert tuple(last) == HISTORY[:-1]
    assert last["id"] == str(run.pk)
    assert [each["name"] for each in document("list", "--retired")] == ["gone", "mails"]


def test_list_asks_the_database_as_often_for_a_hundred_jobs_as_for_one(
    django_assert_max_num_queries: DjangoAssertNumQueries,
) -> None:
    for _ in range(100):
        make_run(make_target())
    with django_assert_max_num_queries(8):
        assert len(document("list")) == 100


def test_list_shows_a_job_whose_schedule_cannot_be_read() -> None:
    make_job(schedule="now and then", schedule_error="what?")
    (row,) = document("list")
    assert row["state"] == "Failed"
    assert "now and then" in row["sentence"]


def test_list_without_jobs_is_an_empty_array() -> None:
    assert document("list") == []
    assert "jobs sync" in jobs("list").stdout


def test_list_for_people_is_a_table() -> None:
    make_job("mails", schedule="every 5m")
    head, line = jobs("list").stdout.splitlines()
    assert head.split() == ["JOB", "STATE", "NEXT", "FIRE", "LAST", "RUN", "TARGETS", "SCHEDULE"]
    assert line.startswith("mails  Initializing")
    assert line.endswith("every 5m")


def test_show_gives_one_job() -> None:
    job = make_job("mails", schedule="every 5m", overrides={"schedule": {"code": "every 1h"}})
    FollowUp.objects.create(job=job, follower=make_job("report"))
    assert tuple(document("show", "mails")) == LIST
    text = jobs("show", "mails").stdout
    assert "every 5m (every 5 minutes)" in text
    assert "report on success" in text
    assert "set by hand: schedule" in text


def test_a_misspelt_job_is_answered_with_the_nearest_name() -> None:
    make_job("send_mails")
    assert "'send_mail'; did you mean 'send_mails'?" in refused("show", "send_mail")
    assert "jobs list" in refused("show", "zzz")


# --- history, why ---------------------------------------------------------------------------------


def test_history_is_newest_first_and_narrowed_by_key_and_limit() -> None:
    job = make_job("mails")
    first, second = make_target(job, "a"), make_target(job, "b")
    made = [
        make_run(target, scheduled_at=NOW + timedelta(minutes=minute))
        for minute, target in enumerate([first, second, first])
    ]
    rows = document("history", "mails")
    assert [row["id"] for row in rows] == [str(run.pk) for run in reversed(made)]
    assert tuple(rows[0]) == HISTORY
    assert [row["key"] for row in document("history", "mails", "--key", "b")] == ["b"]
    assert len(document("history", "mails", "--limit", "2")) == 2


def test_a_row_of_history_tells_a_skipped_stretch() -> None:
    target = make_target(make_job("mails"))
    make_run(
        target,
        cause=Cause.SCHEDULE,
        state=State.SKIPPED,
        reason=Reason.PAUSED,
        fires=3,
        scheduled_until=NOW + timedelta(minutes=10),
        ended_at=NOW,
    )
    (row,) = document("history", "mails")
    assert {**row, "id": ""} == {
        "id": "",
        "job": "mails",
        "key": "",
        "scheduled_at": "2026-01-05T12:00:00+00:00",
        "cause": "schedule",
        "fires": 3,
        "state": "skipped",
        "reason": "paused",
        "attempt": 1,
        "published_at": None,
        "started_at": None,
        "ended_at": "2026-01-05T12:00:00+00:00",
        "outcome": None,
        "output": "",
    }
    assert "12:00:00Z x 3" in jobs("history", "mails").stdout


def test_history_of_a_task_that_is_no_job_is_found_by_its_name() -> None:
    Run.objects.create(
        name="shop.tasks.pay",
        cause=Cause.FOREIGN,
        state=State.SUCCEEDED,
        scheduled_at=NOW,
        created_at=NOW,
    )
    assert [row["job"] for row in document("history", "shop.tasks.pay")] == ["shop.tasks.pay"]


def test_history_followed_is_no_single_document() -> None:
    make_job("mails")
    assert "--follow" in refused("history", "mails", "--follow")


def test_history_followed_says_each_change_once(monkeypatch: pytest.MonkeyPatch) -> None:
    run = make_run(make_target(make_job("mails")))
    naps = iter(range(3))

    def nap(seconds: float) -> None:
        if next(naps) == 2:
            raise KeyboardInterrupt
        Run.objects.filter(pk=run.pk).update(state=State.SUCCEEDED, started_at=NOW, ended_at=NOW)

    monkeypatch.setattr(time, "sleep", nap)
    told = jobs("history", "mails", "--follow")
    assert told.code == 0
    queued, succeeded = told.stdout.splitlines()
    assert "queued" in queued
    assert "succeeded" in succeeded


def test_why_explains_the_newest_rows_and_has_the_shape_of_history() -> None:
    make_run(make_target(make_job("mails")), state=State.FAILED, reason=Reason.ERROR, error="oh")
    (row,) = document("why", "mails", code=1)
    assert tuple(row) == (*HISTORY, "explanation")
    assert "raised an error (oh)" in row["explanation"]


def test_why_finds_the_stretch_of_skips_around_a_time() -> None:
    target = make_target(make_job("mails", schedule="every 5m"))
    make_run(
        target,
        state=State.SKIPPED,
        reason=Reason.WINDOW,
        fires=3,
        scheduled_until=NOW + timedelta(minutes=10),
    )
    (row,) = document("why", "mails", "--at", "2026-01-05T12:05:00Z", code=1)
    assert "3 fires from 2026-01-05 12:00:00 UTC" in row["explanation"]
    assert "older than the catch-up window" in row["explanation"]


def test_why_says_when_the_schedule_names_no_such_fire() -> None:
    make_target(make_job("mails", schedule="every 5m"))
    (row,) = document("why", "mails", "--at", "2026-01-05T12:01:00Z")
    assert row["id"] is None
    assert row["scheduled_at"] == "2026-01-05T12:01:00+00:00"
    assert "the next one is 2026-01-05 12:05:00 UTC" in row["explanation"]


def test_why_puts_the_pause_before_the_past() -> None:
    job = make_job("mails", schedule="every 5m")
    make_run(make_target(job), state=State.SUCCEEDED, started_at=NOW, ended_at=NOW)
    assert "succeeded" in document("why", "mails")[0]["explanation"]
    runs.pause(job, by="anna", reason="audit", now=clock.now())
    present, past = document("why", "mails", code=1)
    assert "paused by anna" in present["explanation"]
    assert "audit" in present["explanation"]
    assert "succeeded" in past["explanation"]


def test_why_misses_a_beat_when_a_fire_is_due_and_not_claimed() -> None:
    make_target(make_job("mails", schedule="every 5m"), next_fire_at=NOW)
    assert "no beat is running" in document("why", "mails", code=1)[0]["explanation"]


def test_why_refuses_a_key_that_the_job_does_not_have() -> None:
    make_target(make_job("mails"))
    assert "'nope'" in refused("why", "mails", "--key", "nope")


# --- trigger, cancel ------------------------------------------------------------------------------


def test_trigger_answers_with_the_run() -> None:
    make_target(make_job("mails"))
    words = (
        "--arg",
        "n=3",
        "--arg",
        "who=anna",
        "--arg",
        'zip="01099"',
        "--arg",
        "x=NaN",
        "--delay",
        "1h",
    )
    row = document("trigger", "mails", *words)
    assert tuple(row) == HISTORY
    assert (row["state"], row["cause"]) == ("queued", "manual")
    run = Run.objects.get(pk=row["id"])
    assert run.kwargs == {"n": 3, "who": "anna", "zip": "01099", "x": "NaN"}
    assert run.ready_at is not None
    assert run.ready_at - run.created_at == timedelta(hours=1)


@pytest.mark.parametrize(
    ("words", "named"),
    [
        (("trigger", "mails", "--arg", "n"), "'n'"),
        (("trigger", "mails", "--delay", "soon"), "'soon'"),
        (("trigger", "mails", "--key", "nope"), "'nope'"),
        (("cancel", "12"), "'12'"),
        (("cancel", "00000000-0000-0000-0000-000000000000"), "00000000-0000"),
        (("pause",), "--all"),
        (("pause", "--all", "--job", "mails"), "--all"),
        (("pause", "--job", "mails", "--until", "2020-01-01T00:00:00Z"), "2020-01-01"),
        (("pause", "--all", "--key", "a"), "--key"),
        (("pause", "--job", "mails", "--key", "nope"), "'nope'"),
        (("pause", "--job", "mails", "--job", "nope"), "'nope'"),
        (("pause", "--job", "mails", "--reason", "x" * 301), "301"),
        (("resume", "--job", "mails", "--missed", "some"), "'some'"),
        (("history", "mails", "--limit", "-1"), "'-1'"),
    ],
    ids=lambda value: " ".join(value)[:60] if isinstance(value, tuple) else "",
)
def test_bad_input_is_named_and_changes_nothing(words: tuple[str, ...], named: str) -> None:
    make_target(make_job("mails"))
    assert named in refused(*words)
    assert not Run.objects.exists()
    assert not Job.objects.filter(paused_at__isnull=False).exists()


def test_cancel_skips_a_queued_run() -> None:
    run = make_run(make_target(make_job("mails")))
    row = document("cancel", str(run.pk))
    assert (row["state"], row["reason"]) == ("skipped", "cancelled")


# --- pause, resume --------------------------------------------------------------------------------


def test_pause_and_resume_count_what_they_changed() -> None:
    make_target(make_job("mails"))
    make_target(make_job("report"))
    both = ("--job", "mails", "--job", "report")
    assert document("pause", *both, "--reason", "audit") == {"changed": 2}
    assert document("pause", *both) == {"changed": 0}
    assert {row["state"] for row in document("list")} == {"Stopped"}
    assert Job.objects.get(name="mails").pause_reason == "audit"
    assert document("resume", "--job", "mails") == {"changed": 1}
    assert [row["paused"] for row in document("list")] == [False, True]


def test_pausing_everything_stops_every_job() -> None:
    make_job("mails")
    until = datetime.now(UTC) + timedelta(days=1)
    assert document("pause", "--all", "--until", until.isoformat()) == {"changed": 1}
    assert Installation.objects.get().paused_until == until
    assert document("show", "mails")["paused"] is True
    assert document("resume", "--all") == {"changed": 1}


def test_one_target_is_paused_by_its_key() -> None:
    job = make_job("mails")
    make_target(job, "a")
    make_target(job, "b")
    assert document("pause", "--job", "mails", "--key", "a") == {"changed": 1}
    assert Target.objects.get(paused_at__isnull=False).key == "a"


# --- the code -------------------------------------------------------------------------------------


def test_sync_names_what_it_did_and_does_nothing_the_second_time() -> None:
    dry = document("sync", "--dry-run")
    assert set(dry) == {"created", "updated", "retired", "unchanged", "problems"}
    assert "note" in dry["created"]
    assert not Job.objects.exists()
    assert document("sync")["created"] == dry["created"]
    again = document("sync")
    assert (again["created"], again["unchanged"]) == ([], dry["created"])


def test_sync_shows_the_fields_that_change() -> None:
    document("sync")
    Job.objects.filter(name="note").update(retries=5)
    assert document("sync", "--dry-run", "--diff")["diff"] == {"note": ["retries: 5 -> 0"]}
    text = jobs("sync", "--diff").stdout
    assert "note: updated" in text
    assert "  retries: 5 -> 0" in text


def test_sync_exits_with_1_if_a_declaration_is_wrong(settings: Settings) -> None:
    settings.CELERY_BEAT_SCHEDULE = {"broken": {"task": "shop.pay", "schedule": "soon"}}
    assert "broken" in " ".join(document("sync", code=1)["problems"])


def test_unscheduled_lists_the_commands_that_no_job_runs_by_app() -> None:
    answer = document("unscheduled")
    assert "jobs" in answer["scheduling"]
    assert "check" not in {command for commands in answer.values() for command in commands}
    make_job("tidy", kind="command", command="jobs")
    assert "jobs" not in document("unscheduled").get("scheduling", [])


def test_a_database_without_tables_is_said_in_one_document(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def fail(*args: object, **kwargs: object) -> None:
        from django.db import OperationalError

        raise OperationalError("no such table: scheduling_job")

    monkeypatch.setattr("scheduling.management.verbs.jobs.jobs_as_dicts", fail)
    told: Told = jobs("list", "--json")
    assert told.code == 1
    assert "manage.py migrate" in told.document()["error"]
