"""The pages of jobs: what is shown, what is saved, who may do what."""

from __future__ import annotations

import re
from datetime import timedelta
from pathlib import Path

import pytest
from django.test import Client
from pytest_django import Settings

from scheduling import clock, runs, sync
from scheduling.admin import choices
from scheduling.models import FollowUp, Job, Run, Target
from scheduling.models.job import DeclaredIn
from scheduling.policies import Overlap
from tests.factories import make_job
from tests.integration.admin_pages import declared, errors_of, log_in, page, saved, text_of

pytestmark = pytest.mark.django_db

EDIT = ("view_job", "change_job", "add_job", "view_run")


@pytest.fixture
def editor() -> Client:
    return log_in(*EDIT)


# --- the form


def test_the_page_of_a_job_shows_its_schedule_and_next_fires(editor: Client) -> None:
    job = declared(schedule="cron 0 3 * * * tz Europe/Berlin")
    shown = text_of(editor.get(page("scheduling_job_change", job.pk)))
    assert "At 03:00 every day (Europe/Berlin)" in shown
    assert "cron 0 3 * * * tz Europe/Berlin" in shown
    overview = editor.get(page("scheduling_job_change", job.pk)).context["overview"]
    assert len(overview.fires) == 5


def test_a_schedule_that_cannot_be_read_is_an_error_at_its_field(editor: Client) -> None:
    job = declared()
    found = errors_of(saved(editor, job, schedule="every blue moon"))
    assert "blue moon" in found["schedule"][0]
    job.refresh_from_db()
    assert job.schedule == "every 5m"


def test_a_schedule_that_is_over_is_refused(editor: Client) -> None:
    found = errors_of(saved(editor, declared(), schedule="once 2001-01-01T00:00:00+00:00"))
    assert "no fire time after now" in found["schedule"][0]


def test_a_saved_field_of_a_declared_job_is_an_override(editor: Client) -> None:
    job = declared()
    response = saved(editor, job, schedule="every   15m", hard_limit="1h30m")
    assert response.status_code == 302
    job.refresh_from_db()
    assert job.schedule == "every 15m"
    assert job.hard_limit == timedelta(minutes=90)
    assert job.overrides.keys() == {"schedule", "hard_limit"}
    assert job.overrides["schedule"]["code"] == "every 5m"
    assert job.overrides["schedule"]["by"] == "alice"
    target = Target.objects.get(job=job)
    assert target.next_fire_at is not None
    assert target.next_fire_at.minute % 15 == 0


def test_saving_an_unchanged_form_overrides_nothing(editor: Client) -> None:
    job = declared(catch_up_window=timedelta(hours=2), locks=["a", "b"], recipients=["a@b.example"])
    before = Target.objects.get(job=job).next_fire_at
    assert saved(editor, job).status_code == 302
    job.refresh_from_db()
    assert job.overrides == {}
    assert Target.objects.get(job=job).next_fire_at == before


def test_an_overridden_field_says_who_set_it_and_what_the_code_says(editor: Client) -> None:
    job = declared()
    sync.set_override(job, "schedule", "every 7m", by="bob", now=clock.now())
    form = editor.get(page("scheduling_job_change", job.pk)).context["adminform"].form
    note = str(form.fields["schedule"].help_text)
    assert "Set here by bob" in note
    assert "every 5m" in note


def test_what_a_declared_job_runs_is_the_codes_to_say(editor: Client) -> None:
    job = declared()
    saved(editor, job, task="tests.testapp.jobs.hold", name="another")
    job.refresh_from_db()
    assert (job.name, job.task) == ("close_books", "tests.testapp.jobs.note")


def test_a_job_made_in_the_admin_has_a_first_fire_at_once(editor: Client) -> None:
    response = saved(
        editor, None, name="tidy", kind="command", command="clearsessions", schedule="every 10m"
    )
    assert response.status_code == 302, errors_of(response)
    job = Job.objects.get(name="tidy")
    assert job.declared_in == DeclaredIn.ADMIN
    assert Target.objects.get(job=job).next_fire_at is not None


def test_a_job_made_in_the_admin_is_edited_without_overrides(editor: Client) -> None:
    saved(editor, None, name="tidy", kind="command", command="clearsessions", schedule="every 10m")
    job = Job.objects.get(name="tidy")
    response = saved(
        editor, job, kind="task", task="tests.testapp.jobs.note", schedule="every 20m", retries="2"
    )
    assert response.status_code == 302, errors_of(response)
    job.refresh_from_db()
    assert (job.kind, job.task, job.command) == ("task", "tests.testapp.jobs.note", "")
    assert (job.schedule, job.retries, job.overrides) == ("every 20m", 2, {})


@pytest.mark.parametrize(
    ("changes", "field"),
    [
        ({"hard_limit": "5 minutes"}, "hard_limit"),
        ({"soft_limit": "10m", "hard_limit": "5m"}, "soft_limit"),
        ({"args": "{}"}, "args"),
        ({"kwargs": "[]"}, "kwargs"),
        ({"options": '{"colour": "red"}'}, "options"),
        ({"recipients": "not an address"}, "recipients"),
        ({"retry_delay": ""}, "retry_delay"),
    ],
)
def test_a_value_that_makes_no_sense_is_an_error_at_its_field(
    changes: dict[str, str], field: str, editor: Client
) -> None:
    assert field in errors_of(saved(editor, declared(), **changes))


@pytest.mark.parametrize("command", ["shell", "flush", "dbshell", "runserver", "migrate"])
def test_commands_that_run_code_cannot_be_scheduled_from_the_admin(
    command: str, editor: Client
) -> None:
    response = saved(editor, None, name="x", kind="command", command=command, schedule="every 1h")
    assert "command" in errors_of(response)
    assert command not in choices.schedulable_commands()


def test_a_job_without_anything_to_run_is_refused(editor: Client) -> None:
    response = saved(editor, None, name="x", kind="task", task="", schedule="every 1h")
    assert "Choose the task to run" in errors_of(response)["task"]


def test_a_follow_up_is_made_in_the_form_of_its_job(editor: Client) -> None:
    job, follower = declared(), declared("mail_report")
    rule = {"follow_ups-TOTAL_FORMS": "1", "follow_ups-0-follower": follower.pk}
    response = saved(editor, job, **rule, **{"follow_ups-0-on": "any"})
    assert response.status_code == 302
    made = FollowUp.objects.get(job=job)
    assert (made.follower, made.on, made.declared) == (follower, "any", False)


def test_a_follow_up_that_leads_back_to_its_job_is_refused(editor: Client) -> None:
    job, follower = declared(), declared("mail_report")
    FollowUp.objects.create(job=follower, follower=job)
    rule = {"follow_ups-TOTAL_FORMS": "1", "follow_ups-0-follower": follower.pk}
    response = saved(editor, job, **rule, **{"follow_ups-0-on": "any"})
    assert "would follow itself" in text_of(response)
    assert not FollowUp.objects.filter(job=job).exists()


def test_the_preview_says_what_a_text_means(editor: Client) -> None:
    shown = text_of(editor.get(page("scheduling_job_preview", text="every 2h")))
    assert "Every 2 hours" in shown
    shown = text_of(editor.get(page("scheduling_job_preview", text="cron * *")))
    assert "cron" in shown.lower()


def test_times_are_shown_in_the_projects_zone(editor: Client, settings: Settings) -> None:
    settings.TIME_ZONE = "Asia/Tokyo"
    job = declared(schedule="cron 0 3 * * * tz Asia/Tokyo")
    overview = editor.get(page("scheduling_job_change", job.pk)).context["overview"]
    assert all(" 03:00 " in fire for fire in overview.fires)


# --- what it runs, and the first time


@pytest.fixture
def script(tmp_path: Path, settings: Settings) -> str:
    file = tmp_path / "report"
    file.write_text("#!/bin/sh\n")
    file.chmod(0o755)
    settings.JOBS_PROGRAMS = (str(file),)
    return str(file)


def test_programs_are_offered_only_if_some_are_allowed(editor: Client, settings: Settings) -> None:
    def kinds() -> list[str]:
        form = editor.get(page("scheduling_job_add")).context["adminform"].form
        return [value for value, _ in form.fields["kind"].choices]

    settings.JOBS_PROGRAMS = ()
    assert kinds() == ["task", "command"]
    settings.JOBS_PROGRAMS = ("/opt/reports/*",)
    assert kinds() == ["task", "command", "argv"]


def test_a_program_is_scheduled_and_edited_in_the_admin(editor: Client, script: str) -> None:
    response = saved(editor, None, name="r", kind="argv", program=script, schedule="every 1h")
    assert response.status_code == 302, errors_of(response)
    job = Job.objects.get(name="r")
    assert (job.kind, job.command, job.task) == ("argv", script, "")
    response = saved(editor, job, args='["--day", "1"]')
    assert response.status_code == 302, errors_of(response)
    job.refresh_from_db()
    assert (job.kind, job.command, job.args) == ("argv", script, ["--day", "1"])
    saved(editor, job, kind="command", command="clearsessions")
    job.refresh_from_db()
    assert (job.kind, job.command) == ("command", "clearsessions")


@pytest.mark.parametrize(
    ("changes", "field", "said"),
    [
        ({"program": "/bin/sh"}, "program", "JOBS_PROGRAMS"),
        ({"program": "reports/x"}, "program", "absolute path"),
        ({"program": ""}, "program", "Choose the program"),
        ({"args": "[1]"}, "args", "takes texts"),
    ],
)
def test_a_program_that_may_not_run_is_an_error_at_its_field(
    changes: dict[str, str], field: str, said: str, script: str, editor: Client
) -> None:
    given = {"name": "r", "kind": "argv", "program": script, "schedule": "every 1h"}
    assert said in errors_of(saved(editor, None, **given | changes))[field][0]
    assert not Job.objects.filter(name="r").exists()


def test_a_job_from_a_crontab_stays_one_when_it_is_edited(editor: Client) -> None:
    options = {"crontab": "abc123 host", "queue": "slow"}
    job = make_job("tidy", kind="command", command="clearsessions", options=options)
    form = editor.get(page("scheduling_job_change", job.pk)).context["adminform"].form
    assert form["options"].value() == '{"queue": "slow"}'
    response = saved(editor, job, options='{"queue": "fast"}', retries="2")
    assert response.status_code == 302, errors_of(response)
    job.refresh_from_db()
    assert (job.retries, job.options) == (2, {"crontab": "abc123 host", "queue": "fast"})
    forged = saved(editor, job, options='{"crontab": "another"}')
    assert "no such option" in errors_of(forged)["options"][0]


@pytest.mark.parametrize("first", ["next", "now", "at"])
def test_a_new_job_runs_first_when_it_was_asked_to(first: str, editor: Client) -> None:
    response = saved(
        editor,
        None,
        name="tidy",
        kind="command",
        command="clearsessions",
        schedule="every 1h",
        first_run=first,
        first_run_at="2099-01-01T00:00:00",
    )
    assert response.status_code == 302, errors_of(response)
    job = Job.objects.get(name="tidy")
    runs_made = [run.scheduled_at.year for run in Run.objects.all()]
    if first == "at":
        assert job.first_run == "2099-01-01T00:00:00+00:00"
        assert runs_made == [2099]
    else:
        assert job.first_run == first
        assert len(runs_made) == (first == "now")
    form = editor.get(page("scheduling_job_change", job.pk)).context["adminform"].form
    assert "first_run" not in form.fields


@pytest.mark.parametrize("at", ["", "2001-01-01T00:00:00"])
def test_the_first_run_lies_ahead(at: str, editor: Client) -> None:
    given = {"name": "tidy", "kind": "command", "command": "clearsessions"}
    refused = saved(editor, None, **given, first_run="at", first_run_at=at)
    assert "in the future" in errors_of(refused)["first_run_at"][0]


# --- the address that is told of runs

SECRET = "https://monitor.example/ping/4711"


def test_a_ping_url_is_shown_to_nobody_but_its_editors(editor: Client) -> None:
    job = declared(ping_url=SECRET)
    address = page("scheduling_job_change", job.pk)
    looker = log_in("view_job", name="bob")
    assert SECRET not in looker.get(address).content.decode()
    shown = editor.get(address).content.decode()
    assert re.search(r'<input type="password"[^>]*name="ping_url"', shown)
    assert saved(editor, job, retries="3").status_code == 302
    job.refresh_from_db()
    assert (job.ping_url, [*job.overrides]) == (SECRET, ["retries"])


@pytest.mark.parametrize(
    ("permissions", "is_shown"),
    [(("view_job",), False), (("view_job", "view_run_output"), True), (EDIT, True)],
)
def test_arguments_are_for_who_may_see_arguments_or_change_the_job(
    permissions: tuple[str, ...], is_shown: bool
) -> None:
    headers = {"headers": {"from": "word three"}}
    job = make_job(args=["word one"], kwargs={"day": "word two"}, options=headers)
    shown = log_in(*permissions).get(page("scheduling_job_change", job.pk)).text
    words = ("word one", "word two", "word three")
    assert [word in shown for word in words] == [is_shown] * 3


def test_an_overridden_ping_url_is_written_into_no_note(editor: Client) -> None:
    job = declared(ping_url=SECRET)
    response = saved(editor, job, ping_url="https://monitor.example/ping/4712")
    assert response.status_code == 302, errors_of(response)
    form = editor.get(page("scheduling_job_change", job.pk)).context["adminform"].form
    note = str(form.fields["ping_url"].help_text)
    assert "***" in note
    assert SECRET not in note
    assert (
        "monitor.example" not in editor.get(page("scheduling_job_reset", job.pk)).content.decode()
    )


def test_an_address_that_is_none_is_refused_without_being_repeated(editor: Client) -> None:
    found = errors_of(saved(editor, declared(), ping_url="ftp://monitor.example/4711"))
    assert "no web address" in found["ping_url"][0]
    assert "4711" not in found["ping_url"][0]


def test_a_retired_job_shows_its_ping_url_to_nobody(editor: Client) -> None:
    job = declared(ping_url=SECRET)
    runs.retire(job, now=clock.now())
    assert SECRET not in editor.get(page("scheduling_job_change", job.pk)).content.decode()


@pytest.mark.parametrize("overlap", [*Overlap])
def test_every_overlap_can_be_chosen_and_is_explained(overlap: Overlap, editor: Client) -> None:
    job = declared(overlap="wait" if overlap is Overlap.SKIP else "skip")
    response = saved(editor, job, overlap=overlap.value, queue_limit="7", pause_after="3")
    assert response.status_code == 302, errors_of(response)
    job.refresh_from_db()
    assert (job.overlap, job.queue_limit, job.pause_after) == (overlap.value, 7, 3)
    form = editor.get(page("scheduling_job_change", job.pk)).context["adminform"].form
    assert f"<b>{overlap.value}</b>" in str(form.fields["overlap"].help_text)
