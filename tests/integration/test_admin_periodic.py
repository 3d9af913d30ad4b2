"""django-celery-beat's pages: as they were, and safe."""

from __future__ import annotations

import pytest
from django.test import Client
from django_celery_beat.models import CrontabSchedule, IntervalSchedule, PeriodicTask

from scheduling.models import Cause, Job, Run, Target
from tests.integration.admin_pages import log_in, page, text_of

pytestmark = pytest.mark.django_db

LIST = "django_celery_beat_periodictask_changelist"


@pytest.fixture
def row() -> PeriodicTask:
    every = IntervalSchedule.objects.create(every=10, period="minutes")
    made: PeriodicTask = PeriodicTask.objects.create(
        name="Refresh cache", task="tests.testapp.jobs.note", interval=every
    )
    return made


def act(client: Client, action: str, row: PeriodicTask) -> None:
    client.post(page(LIST), {"action": action, "_selected_action": [row.pk]})
    row.refresh_from_db()


def test_a_row_leads_to_its_job_and_shows_its_next_fire(row: PeriodicTask) -> None:
    client = log_in(superuser=True)
    job = Job.objects.get(periodic_task_id=row.pk)
    for address in (page(LIST), page("django_celery_beat_periodictask_change", row.pk)):
        response = client.get(address)
        assert page("scheduling_job_change", job.pk) in response.content.decode()
        assert "in 9 min" in text_of(response) or "in 10 min" in text_of(response)


def test_a_disabled_row_has_no_next_fire(row: PeriodicTask) -> None:
    row.enabled = False
    row.save()
    shown = log_in(superuser=True).get(page("django_celery_beat_periodictask_change", row.pk))
    assert "Next fire: none, its job is paused" in text_of(shown)


@pytest.mark.parametrize(
    ("permissions", "is_shown"),
    [((), False), (("view_run_output",), True), (("change_periodictask",), True)],
)
def test_arguments_and_headers_of_a_row_are_for_who_may_see_arguments_or_change_it(
    row: PeriodicTask, permissions: tuple[str, ...], is_shown: bool
) -> None:
    row.kwargs, row.headers = '{"day": "word one"}', '{"from": "word two"}'
    row.save()
    client = log_in("view_periodictask", "view_intervalschedule", *permissions)
    own = client.get(page("django_celery_beat_periodictask_change", row.pk)).text
    assert ("word one" in own, "word two" in own) == (is_shown, is_shown)
    assert "Refresh cache" in own
    shared = client.get(page("django_celery_beat_intervalschedule_change", row.interval_id)).text
    assert "Refresh cache" in shared
    assert ("word one" in shared) == is_shown


def test_who_may_only_add_rows_may_give_arguments() -> None:
    form = log_in("add_periodictask").get(page("django_celery_beat_periodictask_add")).text
    assert 'name="kwargs"' in form


def test_a_row_is_made_in_the_form_with_a_registered_task() -> None:
    client = log_in(superuser=True)
    crontab = CrontabSchedule.objects.create(minute="15", hour="4")
    address = page("django_celery_beat_periodictask_add")
    assert "tests.testapp.jobs.note" in client.get(address).content.decode()
    response = client.post(
        address,
        {
            "name": "Nightly",
            "regtask": "tests.testapp.jobs.note",
            "task": "",
            "enabled": "on",
            "crontab": crontab.pk,
            "args": "[]",
            "kwargs": "{}",
            "headers": "{}",
        },
    )
    assert response.status_code == 302, response.context["adminform"].form.errors
    made = PeriodicTask.objects.get(name="Nightly")
    assert made.task == "tests.testapp.jobs.note"
    target = Target.objects.get(job__periodic_task_id=made.pk)
    assert target.next_fire_at is not None
    assert (target.next_fire_at.hour, target.next_fire_at.minute) == (4, 15)


def test_run_goes_by_way_of_the_job(row: PeriodicTask) -> None:
    act(log_in("view_periodictask", "trigger_job"), "run_tasks", row)
    run = Run.objects.get()
    assert (run.cause, run.requested_by, run.name) == (Cause.MANUAL, "alice", "Refresh cache")


def test_enable_disable_and_toggle_work_as_before(row: PeriodicTask) -> None:
    client = log_in("view_periodictask", "change_periodictask")
    act(client, "disable_tasks", row)
    assert not row.enabled
    act(client, "toggle_tasks", row)
    assert row.enabled
    act(client, "disable_tasks", row)
    act(client, "enable_tasks", row)
    assert row.enabled


@pytest.mark.parametrize("action", ["run_tasks", "disable_tasks", "toggle_tasks", "enable_tasks"])
def test_who_may_only_look_has_no_actions(action: str, row: PeriodicTask) -> None:
    PeriodicTask.objects.filter(pk=row.pk).update(enabled=action != "enable_tasks")
    row.refresh_from_db()
    before = row.enabled
    act(log_in("view_periodictask"), action, row)
    assert row.enabled == before
    assert not Run.objects.exists()


def test_the_form_opens_for_who_may_only_look(row: PeriodicTask) -> None:
    client = log_in("view_periodictask")
    address = page("django_celery_beat_periodictask_change", row.pk)
    assert client.get(address).status_code == 200
    assert client.post(address, {"name": "other"}).status_code == 403


def test_what_the_row_says_is_not_edited_at_its_job(row: PeriodicTask) -> None:
    job = Job.objects.get(periodic_task_id=row.pk)
    response = log_in(superuser=True).get(page("scheduling_job_change", job.pk))
    form = response.context["adminform"].form
    assert not {"schedule", "task", "args", "kwargs", "options", "starts_at"} & set(form.fields)
    assert {"retries", "hard_limit", "catch_up"} <= set(form.fields)
    assert "edit them there" in text_of(response)


def test_a_disabled_row_is_not_resumed_at_its_job(row: PeriodicTask) -> None:
    row.enabled = False
    row.save()
    job = Job.objects.get(periodic_task_id=row.pk)
    assert job.paused_at is not None
    client = log_in("view_job", "view_periodictask", "pause_job")
    shown = text_of(client.get(page("scheduling_job_change", job.pk)))
    assert "Enable its periodic task" in shown
    client.post(page("scheduling_job_resume"), {"id": job.pk, "missed": "none"})
    job.refresh_from_db()
    assert job.paused_at is not None


def test_a_shared_schedule_shows_who_uses_it(row: PeriodicTask) -> None:
    address = page("django_celery_beat_intervalschedule_change", row.interval_id)
    assert "Refresh cache" in log_in(superuser=True).get(address).content.decode()
