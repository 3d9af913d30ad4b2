"""The pages of runs, targets, resources and notifications."""

from __future__ import annotations

from datetime import timedelta

import pytest
from django.test import Client

from scheduling import clock, runs
from scheduling.admin import home
from scheduling.models import (
    Cause,
    Job,
    Notification,
    Reason,
    Resource,
    Run,
    State,
    Target,
)
from tests.factories import make_job, make_run, make_target
from tests.integration.admin_pages import log_in, messages_of, page, text_of

pytestmark = pytest.mark.django_db


@pytest.fixture
def admin() -> Client:
    return log_in(superuser=True, name="root")


# --- runs


def test_nobody_adds_changes_or_deletes_history(admin: Client) -> None:
    run = make_run()
    assert admin.get(page("scheduling_run_add")).status_code == 403
    assert admin.post(page("scheduling_run_delete", run.pk), {"post": "yes"}).status_code == 403
    admin.post(page("scheduling_run_change", run.pk), {"state": State.SUCCEEDED})
    run.refresh_from_db()
    assert run.state == State.QUEUED


def test_the_page_of_a_run_tells_its_story(admin: Client) -> None:
    now = clock.now()
    parent = make_run(make_target(make_job("close_books")), state=State.SUCCEEDED)
    run = make_run(
        make_target(make_job("mail_report"), "north"),
        scheduled_at=now - timedelta(minutes=10),
        published_at=now - timedelta(minutes=10),
        started_at=now - timedelta(minutes=9),
        ended_at=now - timedelta(minutes=8),
        cause=Cause.FOLLOW_UP,
        parent=parent,
        state=State.FAILED,
        reason=Reason.ERROR,
        attempt=2,
        failures=1,
        worker="celery@north",
        token=7,
        output="half of it\n",
        error="Traceback ...\nValueError: no such region",
    )
    make_run(run.target, parent=run, name="clean_up")
    shown = text_of(admin.get(page("scheduling_run_change", run.pk)))
    for words in (
        "failed raised an error",
        "Scheduled", "Published", "Started", "1 min late", "Ended", "after 1 min",
        "north", "follow-up", "2 of 2 (1 failed)", "celery@north", "Fencing token 7",
        "Follows close_books", "Follow-ups clean_up",
        "half of it", "ValueError: no such region",
    ):  # fmt: skip
        assert words in shown


def test_a_queued_run_says_what_it_waits_for(admin: Client) -> None:
    first = make_run(state=State.RUNNING)
    run = make_run(first.target, waiting_on=first)
    response = admin.get(page("scheduling_run_change", run.pk))
    assert "waits for the end of run" in text_of(response)
    assert page("scheduling_run_change", first.pk) in response.content.decode()


def test_output_and_error_need_a_permission_of_their_own() -> None:
    run = make_run(
        state=State.FAILED,
        reason=Reason.ERROR,
        output="secret output",
        error="secret error",
        kwargs={"password": "secret argument"},
    )
    looking = log_in("view_job", "view_run")
    for name in ("scheduling_run_change", "scheduling_run_fragment"):
        assert "secret" not in text_of(looking.get(page(name, run.pk)))
    Target.objects.update(failing_since=clock.now())
    assert "secret" not in text_of(looking.get(page("index")))
    assert run.job_id is not None
    assert "secret" not in text_of(looking.get(page("scheduling_job_change", run.job_id)))
    reading = log_in("view_run", "view_run_output", name="bob")
    shown = text_of(reading.get(page("scheduling_run_change", run.pk)))
    for words in ("secret output", "secret error", "secret argument"):
        assert words in shown


def test_the_fragment_says_whether_to_ask_again(admin: Client) -> None:
    run = make_run()
    fragment = page("scheduling_run_fragment", run.pk)
    assert 'data-open="true"' in admin.get(fragment).content.decode()
    Run.objects.filter(pk=run.pk).update(state=State.SUCCEEDED)
    assert 'data-open="false"' in admin.get(fragment).content.decode()


def test_stop_cancels_a_queued_run() -> None:
    client, run = log_in("view_run", "cancel_run"), make_run()
    assert "Stop" in text_of(client.get(page("scheduling_run_change", run.pk)))
    response = client.post(page("scheduling_run_cancel", run.pk), follow=True)
    run.refresh_from_db()
    assert (run.state, run.reason) == (State.SKIPPED, Reason.CANCELLED)
    assert messages_of(response) == ["The run is cancelled and will not start"]


def test_stop_asks_a_running_run() -> None:
    client, run = log_in("view_run", "cancel_run"), make_run(state=State.RUNNING)
    client.post(page("scheduling_run_cancel", run.pk))
    run.refresh_from_db()
    assert run.stop_requested_by == "alice"


def test_stop_needs_its_permission_and_a_post() -> None:
    client, run = log_in("view_run", "trigger_job"), make_run()
    assert "Stop" not in text_of(client.get(page("scheduling_run_change", run.pk)))
    assert client.post(page("scheduling_run_cancel", run.pk)).status_code == 403
    allowed = log_in("view_run", "cancel_run", name="bob")
    assert allowed.get(page("scheduling_run_cancel", run.pk)).status_code == 405
    run.refresh_from_db()
    assert run.state == State.QUEUED


def test_a_run_that_is_not_there_is_not_found(admin: Client) -> None:
    run = make_run()
    address = page("scheduling_run_change", run.pk)
    run.delete()
    assert admin.get(address).status_code == 404
    assert admin.get(page("scheduling_run_change", "nonsense")).status_code == 404


def test_runs_are_hidden_from_who_may_not_look() -> None:
    client, run = log_in("view_job"), make_run()
    for name in ("scheduling_run_change", "scheduling_run_fragment"):
        assert client.get(page(name, run.pk)).status_code == 403


def test_foreign_history_is_shown_without_a_job(admin: Client) -> None:
    now = clock.now()
    run = Run.objects.create(
        name="shop.tasks.sell",
        cause=Cause.FOREIGN,
        state=State.SUCCEEDED,
        scheduled_at=now,
        created_at=now,
    )
    assert "shop.tasks.sell" in text_of(admin.get(page("scheduling_run_change", run.pk)))
    assert admin.get(page("scheduling_run_changelist")).status_code == 200


# --- targets and resources


def test_a_target_made_in_the_form_fires_at_once(admin: Client) -> None:
    job = make_job("check", schedule="every 1m")
    resource = Resource.objects.create(key="https://example.org/")
    admin.post(
        page("scheduling_target_add"),
        {
            "job": job.pk,
            "key": "shop",
            "resource": resource.pk,
            "schedule": "every 30s",
            "kwargs": '{"depth": 1}',
        },
    )
    target = Target.objects.get(job=job, key="shop")
    assert (target.resource, target.schedule, target.kwargs) == (
        resource,
        "every 30s",
        {"depth": 1},
    )
    assert target.next_fire_at is not None
    assert target.next_fire_at - clock.now() <= timedelta(seconds=30)


def test_an_edited_target_moves_its_cursor(admin: Client) -> None:
    job = make_job("check", schedule="every 1m")
    target = runs.add_target(job, "shop", now=clock.now())
    admin.post(
        page("scheduling_target_change", target.pk),
        {"resource": "", "schedule": "once 2099-01-01T00:00:00+00:00", "kwargs": "{}"},
    )
    target.refresh_from_db()
    assert target.next_fire_at is not None
    assert target.next_fire_at.year == 2099
    admin.post(
        page("scheduling_target_change", target.pk),
        {"resource": "", "schedule": "", "kwargs": '{"a": 1}'},
    )
    target.refresh_from_db()
    assert (target.schedule, target.kwargs) == ("", {"a": 1})
    assert target.next_fire_at is not None
    assert target.next_fire_at.year < 2099


def test_the_same_key_twice_is_an_error_in_the_form(admin: Client) -> None:
    target = make_target(make_job("check"), "shop")
    data = {"job": target.job_id, "key": "shop", "kwargs": "{}"}
    response = admin.post(page("scheduling_target_add"), data)
    assert response.status_code == 200
    assert Target.objects.filter(key="shop").count() == 1


def test_a_target_runs_pauses_and_resumes_by_its_buttons() -> None:
    client = log_in("view_target", "view_job", "trigger_job", "pause_job")
    target = runs.add_target(make_job("check", schedule="every 1h"), "shop", now=clock.now())
    client.post(page("scheduling_target_run", target.pk))
    assert Run.objects.get().key == "shop"
    client.post(page("scheduling_target_pause"), {"id": target.pk, "reason": "closed"})
    target.refresh_from_db()
    assert target.pause_reason == "closed"
    client.post(page("scheduling_target_resume"), {"id": target.pk, "missed": "none"})
    target.refresh_from_db()
    assert target.paused_at is None


def test_a_target_is_retired_and_taken_up_again(admin: Client) -> None:
    target = runs.add_target(make_job("check", schedule="every 1h"), "shop", now=clock.now())
    admin.post(page("scheduling_target_retire", target.pk))
    target.refresh_from_db()
    assert target.retired_at is not None
    admin.post(page("scheduling_target_retire", target.pk))
    target.refresh_from_db()
    assert target.retired_at is None


def test_the_plain_target_is_retired_with_its_job_only(admin: Client) -> None:
    target = runs.adopt(make_job("check"), now=clock.now())
    assert admin.post(page("scheduling_target_retire", target.pk)).status_code == 404


def test_a_resource_is_added_and_its_key_stays(admin: Client) -> None:
    data = {"key": "https://example.org/", "description": "", "labels": "{}"}
    admin.post(page("scheduling_resource_add"), data)
    resource = Resource.objects.get(key="https://example.org/")
    data |= {"key": "another", "description": "the shop"}
    admin.post(page("scheduling_resource_change", resource.pk), data)
    resource.refresh_from_db()
    assert (resource.key, resource.description) == ("https://example.org/", "the shop")


# --- notifications and the home page


def test_notifications_are_for_looking_at(admin: Client) -> None:
    note = Notification.objects.create(name="x", event="failing", created_at=clock.now())
    assert admin.get(page("scheduling_notification_change", note.pk)).status_code == 200
    assert admin.get(page("scheduling_notification_add")).status_code == 403
    assert admin.post(page("scheduling_notification_delete", note.pk)).status_code == 403


def test_the_home_page_helps_a_newcomer(admin: Client) -> None:
    Job.objects.all().delete()
    shown = text_of(admin.get(page("index")))
    assert "No jobs yet" in shown
    assert "Nothing has run yet" in shown
    assert "start one with" in shown


def test_the_home_page_shows_what_fails_and_what_comes(admin: Client) -> None:
    now = clock.now()
    target = runs.adopt(make_job("close_books", schedule="every 5m"), now=now)
    make_run(target, state=State.FAILED, error="Traceback\nLedgerClosed: 2026-10", created_at=now)
    Target.objects.filter(pk=target.pk).update(failing_since=now, failures_in_a_row=3)
    runs.pause(runs.installation(), by="bob", reason="moving house", now=now)
    response = admin.get(page("index"))
    shown = text_of(response)
    assert "LedgerClosed: 2026-10" in shown
    assert "3 in a row" in shown
    assert "moving house" in shown
    assert [row["name"] for row in response.context["upcoming"]].count("close_books") == 1
    counted = {state: number for state, _tone, number in response.context["totals"]}
    assert counted == {"succeeded": 0, "failed": 1, "skipped": 0}


def test_the_bars_of_the_home_page_count_no_more_runs_than_they_can(
    admin: Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(home, "MOST_DRAWN", 2)
    now = clock.now()
    for minutes, state in ((1, State.SUCCEEDED), (2, State.FAILED), (3, State.FAILED)):
        make_run(state=state, created_at=now - timedelta(minutes=minutes), ended_at=now)
    response = admin.get(page("index"))
    assert "Last 24 hours: the newest 2 runs" in text_of(response)
    counted = {state: number for state, _tone, number in response.context["totals"]}
    assert counted == {"succeeded": 1, "failed": 1, "skipped": 0}
    monkeypatch.setattr(home, "MOST_DRAWN", 3)
    response = admin.get(page("index"))
    assert "the newest" not in text_of(response)
    counted = {state: number for state, _tone, number in response.context["totals"]}
    assert counted == {"succeeded": 1, "failed": 2, "skipped": 0}


def test_the_home_page_shows_what_is_late(admin: Client) -> None:
    now = clock.now()
    unclaimed = runs.adopt(make_job("no beat", schedule="every 5m"), now=now)
    Target.objects.filter(pk=unclaimed.pk).update(next_fire_at=now - timedelta(minutes=5))
    long_ago = now - timedelta(minutes=5)
    make_run(
        make_target(make_job("no worker")),
        ready_at=long_ago,
        publish_at=long_ago,
        published_at=long_ago,
    )
    make_run(make_target(make_job("waits for a seat")), ready_at=long_ago, waiting_for="a lock")
    late = {row["name"]: row["why"] for row in admin.get(page("index")).context["late"]}
    assert late == {
        "no beat": "due, and no beat has claimed it",
        "no worker": "published, and no worker has started it",
    }


def test_who_may_see_nothing_is_told_so() -> None:
    shown = text_of(log_in().get(page("index")))
    assert "Nothing to see yet" in shown
    assert "What comes next" not in shown


def test_the_way_to_flower_is_shown_to_whom_flower_lets_in() -> None:
    assert "Flower" in text_of(log_in("view_run", "view_run_output").get("/admin/"))
    assert "Flower" not in text_of(log_in("view_run", name="bob").get("/admin/"))
