"""What is done with jobs in the admin, and who may do it."""

from __future__ import annotations

from datetime import timedelta

import pytest
from django.contrib.admin.models import LogEntry
from django.test import Client

from scheduling import clock, runs, sync
from scheduling.models import Cause, Installation, Job, Reason, Run, State, Target
from scheduling.models.job import DeclaredIn
from tests.factories import make_job, make_target
from tests.integration.admin_pages import declared, log_in, messages_of, page, text_of

pytestmark = pytest.mark.django_db

EDIT = ("view_job", "change_job", "add_job", "view_run")


@pytest.fixture
def editor() -> Client:
    return log_in(*EDIT)


# --- run now


def test_run_now_makes_a_manual_run_and_leads_to_it() -> None:
    client, job = log_in("view_job", "view_run", "trigger_job"), declared()
    response = client.post(page("scheduling_job_run", job.pk), follow=True)
    run = Run.objects.get(job=job)
    assert (run.cause, run.requested_by, run.state) == (Cause.MANUAL, "alice", State.QUEUED)
    assert response.redirect_chain[-1][0] == page("scheduling_run_change", run.pk)
    assert page("scheduling_run_change", run.pk) in messages_of(response)[0]
    assert LogEntry.objects.filter(object_id=str(job.pk)).exists()


def test_run_now_on_ticked_rows_tells_of_each(editor: Client) -> None:
    client = log_in("view_job", "trigger_job", name="bob")
    jobs = [declared("one"), declared("two"), make_job("without a plain target")]
    make_target(jobs[2], "a key")
    data = {"action": "run_selected", "_selected_action": [str(job.pk) for job in jobs]}
    response = client.post(page("scheduling_job_changelist"), data, follow=True)
    assert Run.objects.count() == 2
    told = messages_of(response)
    assert len(told) == 3
    assert any("has no target ''" in message for message in told)


def test_nothing_runs_by_following_a_link() -> None:
    client, job = log_in("view_job", "trigger_job", superuser=True), declared()
    assert client.get(page("scheduling_job_run", job.pk)).status_code == 405
    assert not Run.objects.exists()


def test_buttons_need_the_token_of_their_form() -> None:
    client, job = log_in(superuser=True), declared()
    strict = Client(enforce_csrf_checks=True)
    strict.cookies = client.cookies
    for name in ("job_run", "job_retire", "job_reset"):
        assert strict.post(page(f"scheduling_{name}", job.pk)).status_code == 403
    assert strict.post(page("scheduling_job_pause"), {"id": job.pk}).status_code == 403
    assert not Run.objects.exists()


# --- pause and resume


def test_pause_asks_for_a_reason_and_pauses() -> None:
    client, job = log_in("view_job", "pause_job"), declared()
    address = page("scheduling_job_pause", id=str(job.pk))
    assert "Reason" in text_of(client.get(address))
    job.refresh_from_db()
    assert job.paused_at is None
    assert client.post(page("scheduling_job_pause"), {"id": job.pk}).status_code == 200
    response = client.post(
        page("scheduling_job_pause"),
        {"id": job.pk, "reason": "new server", "until_0": "2099-01-01", "until_1": "12:00"},
        follow=True,
    )
    assert messages_of(response) == ["close_books is paused"]
    job.refresh_from_db()
    assert (job.paused_by, job.pause_reason) == ("alice", "new server")
    assert job.paused_until is not None
    assert job.paused_until.year == 2099


def test_a_pause_cannot_end_in_the_past() -> None:
    client, job = log_in("view_job", "pause_job"), declared()
    data = {"id": job.pk, "reason": "x", "until_0": "2001-01-01", "until_1": "12:00"}
    response = client.post(page("scheduling_job_pause"), data)
    assert "Choose a time in the future" in text_of(response)
    job.refresh_from_db()
    assert job.paused_at is None


@pytest.mark.parametrize(("missed", "caught_up"), [("none", 0), ("latest", 1), ("all", 3)])
def test_resume_does_with_the_missed_fires_what_was_chosen(missed: str, caught_up: int) -> None:
    client, job = log_in("view_job", "pause_job"), declared(schedule="every 1h", overlap="allow")
    now = clock.now()
    missed_from = now.replace(minute=0, second=0, microsecond=0) - timedelta(hours=2)
    Target.objects.filter(job=job).update(next_fire_at=missed_from)
    runs.pause(job, by="bob", reason="x", now=now)
    client.post(page("scheduling_job_resume"), {"id": job.pk, "missed": missed})
    job.refresh_from_db()
    assert job.paused_at is None
    assert Run.objects.filter(job=job, state=State.QUEUED).count() == caught_up
    skips = Run.objects.filter(job=job, state=State.SKIPPED)
    assert sum(run.fires for run in skips) == 3 - caught_up
    assert {run.reason for run in skips} <= {Reason.PAUSED}


def test_ticked_jobs_are_paused_together() -> None:
    client = log_in("view_job", "pause_job")
    jobs = [declared("one"), declared("two")]
    ids = [str(job.pk) for job in jobs]
    asked = client.post(
        page("scheduling_job_changelist"), {"action": "pause_selected", "_selected_action": ids}
    )
    assert [subject.pk for subject in asked.context["subjects"]] == [job.pk for job in jobs]
    client.post(page("scheduling_job_pause"), {"id": ids, "reason": "both"})
    assert Job.objects.filter(pause_reason="both").count() == 2


def test_a_pause_does_not_lead_to_another_site() -> None:
    client, job = log_in("view_job", "pause_job"), declared()
    data = {"id": job.pk, "reason": "x", "next": "https://evil.example.org/"}
    response = client.post(page("scheduling_job_pause"), data)
    assert response.headers["Location"] == page("scheduling_job_changelist")


def test_everything_is_paused_and_resumed_from_the_home_page() -> None:
    client = log_in("view_job", "pause_job")
    client.post(page("scheduling_pause_everything"), {"reason": "moving house"})
    assert Installation.objects.get().pause_reason == "moving house"
    assert "Everything is paused" in text_of(client.get(page("index")))
    client.post(page("scheduling_resume_everything"), {"missed": "none"})
    assert Installation.objects.get().paused_at is None


# --- reset and retire


def test_reset_puts_back_the_ticked_fields_only(editor: Client) -> None:
    job = declared()
    now = clock.now()
    sync.set_override(job, "schedule", "every 7m", by="bob", now=now)
    sync.set_override(job, "retries", 3, by="bob", now=now)
    shown = text_of(editor.get(page("scheduling_job_reset", job.pk)))
    assert "every 7m" in shown
    assert "every 5m" in shown
    editor.post(page("scheduling_job_reset", job.pk), {"field": ["schedule", "nonsense"]})
    job.refresh_from_db()
    assert (job.schedule, job.retries, list(job.overrides)) == ("every 5m", 3, ["retries"])


def test_a_job_made_here_is_retired_and_keeps_its_history(editor: Client) -> None:
    job = make_job("tidy", schedule="every 5m", declared_in=DeclaredIn.ADMIN)
    runs.adopt(job, now=clock.now())
    editor.post(page("scheduling_job_retire", job.pk))
    job.refresh_from_db()
    assert job.retired_at is not None
    editor.post(page("scheduling_job_retire", job.pk))
    job.refresh_from_db()
    assert job.retired_at is None


def test_a_declared_job_is_not_retired_by_hand(editor: Client) -> None:
    assert editor.post(page("scheduling_job_retire", declared().pk)).status_code == 404


def test_no_job_is_deleted() -> None:
    client, job = log_in(superuser=True), declared()
    assert client.post(page("scheduling_job_delete", job.pk), {"post": "yes"}).status_code == 403
    assert Job.objects.filter(pk=job.pk).exists()


# --- who may


@pytest.mark.parametrize(
    "name", ["job_run", "job_retire", "job_reset", "target_run", "target_retire"]
)
def test_who_may_only_look_is_refused_every_button(name: str) -> None:
    client = log_in("view_job", "view_run", "view_target")
    job = declared()
    pk = job.pk if name.startswith("job") else Target.objects.get(job=job).pk
    assert client.post(page(f"scheduling_{name}", pk), {"field": "schedule"}).status_code == 403
    assert not Run.objects.exists()


@pytest.mark.parametrize(
    "name", ["job_pause", "job_resume", "target_pause", "pause_everything", "resume_everything"]
)
def test_who_may_only_look_is_refused_every_pause(name: str) -> None:
    client, job = log_in("view_job", "view_target"), declared()
    data = {"id": str(job.pk), "reason": "x", "missed": "none"}
    assert client.post(page(f"scheduling_{name}"), data).status_code == 403
    assert client.get(page(f"scheduling_{name}"), data).status_code == 403
    assert not Job.objects.filter(paused_at__isnull=False).exists()


@pytest.mark.parametrize("action", ["run_selected", "pause_selected", "resume_selected"])
def test_who_may_only_look_has_no_actions(action: str) -> None:
    client, job = log_in("view_job"), declared()
    data = {"action": action, "_selected_action": [job.pk]}
    response = client.post(page("scheduling_job_changelist"), data, follow=True)
    assert response.context.get("subjects") is None
    assert not Run.objects.exists()
    assert "Run now" not in text_of(client.get(page("scheduling_job_changelist")))


def test_who_may_only_look_sees_no_buttons_and_saves_nothing() -> None:
    client, job = log_in("view_job"), declared()
    shown = text_of(client.get(page("scheduling_job_change", job.pk)))
    for button in ("Run now", "Pause …", "Reset to code"):
        assert button not in shown
    data = {"schedule": "every 1h"}
    assert client.post(page("scheduling_job_change", job.pk), data).status_code == 403


def test_triggering_does_not_allow_pausing_nor_editing() -> None:
    client, job = log_in("view_job", "trigger_job"), declared()
    assert client.post(page("scheduling_job_pause"), {"id": job.pk}).status_code == 403
    assert client.post(page("scheduling_job_change", job.pk), {}).status_code == 403
    assert client.post(page("scheduling_job_run", job.pk)).status_code == 302
