"""The pages of jobs: what is shown, what is saved, who may do what."""

from __future__ import annotations

from datetime import timedelta

import pytest
from django.test import Client
from pytest_django import Settings

from scheduling import clock, sync
from scheduling.admin import choices
from scheduling.models import FollowUp, Job, Target
from scheduling.models.job import DeclaredIn
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
