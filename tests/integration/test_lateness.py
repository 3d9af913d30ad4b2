"""Late alerts: who is late, since when, why; and that each is told about once."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import pytest
from celery import current_app
from django.core import mail
from django.test import Client

from scheduling import lateness
from scheduling.explanations import surroundings_of
from scheduling.lateness import count_late, evaluate
from scheduling.models import (
    Cause,
    Circuit,
    Installation,
    Notification,
    Seat,
    State,
    Target,
)
from scheduling.runs.late_fires import MOST_OF_A_JOB
from tests.factories import NOW, make_job, make_run, make_target
from tests.integration.admin_pages import log_in, page, text_of
from tests.integration.late_rows import (
    MINUTE,
    make_process,
    overdue,
    pause,
    queued,
    the_alert,
)
from workers import notifications

pytestmark = pytest.mark.django_db

# --- fires that nobody claims ---------------------------------------------------------------------


@pytest.mark.parametrize(
    ("schedule", "minutes", "is_late"),
    [
        ("every 1m", 4.9, False),
        ("every 1m", 5, False),
        ("every 1m", 5.1, True),
        ("every 50m", 5.1, True),
        ("every 2h", 11, False),
        ("every 2h", 13, True),
        ("cron 0 3 * * *", 143, False),
        ("cron 0 3 * * *", 145, True),
        ("once 2026-01-05T11:54:00+00:00", 6, True),
    ],
)
def test_a_fire_is_late_after_five_minutes_or_a_tenth_of_the_period(
    schedule: str, minutes: float, is_late: bool
) -> None:
    overdue(minutes, schedule=schedule)
    assert evaluate(NOW) == is_late


def test_the_floor_can_be_set(settings: Any) -> None:
    overdue(1)
    settings.JOBS_LATE_AFTER = timedelta(seconds=50)
    assert evaluate(NOW) == 1


def test_an_alert_says_since_when_and_that_no_beat_is_alive() -> None:
    target = overdue(6)
    make_process("beat@old/1", "beat", seen_at=NOW - 9 * MINUTE)
    evaluate(NOW)
    row = the_alert()
    assert (row.target, row.late_since, row.name) == (target, NOW - 6 * MINUTE, target.job.name)
    assert (row.created_at, row.deliver_at) == (NOW, NOW)
    assert "beat@old/1 was alive until 2026-01-05 11:51:00 UTC" in row.detail
    assert "celery -A config beat" in row.detail


def test_a_beat_that_is_alive_and_does_not_claim_is_named() -> None:
    overdue()
    make_process("beat@here/7", "beat")
    evaluate(NOW)
    assert "although beat@here/7 is alive" in the_alert().detail


def test_a_lateness_is_told_about_once() -> None:
    target = overdue()
    assert evaluate(NOW) == 1
    assert evaluate(NOW + MINUTE) == 0
    # A beat came and went; nothing has started.
    Target.objects.filter(pk=target.pk).update(next_fire_at=NOW)
    assert evaluate(NOW + 10 * MINUTE) == 0
    assert Notification.objects.count() == 1


def test_of_several_that_look_at_once_one_alert_comes(monkeypatch: pytest.MonkeyPatch) -> None:
    overdue()
    look = surroundings_of

    def meanwhile(*args: Any) -> Any:
        monkeypatch.setattr("scheduling.lateness.surroundings_of", look)
        assert evaluate(NOW) == 1
        return look(*args)

    monkeypatch.setattr("scheduling.lateness.surroundings_of", meanwhile)
    evaluate(NOW)
    assert Notification.objects.count() == 1


def test_who_has_started_and_is_late_again_is_told_about_again() -> None:
    target = overdue()
    evaluate(NOW)
    later = NOW + timedelta(days=1)
    Target.objects.filter(pk=target.pk).update(
        last_started_at=NOW + MINUTE, next_fire_at=later - 6 * MINUTE
    )
    assert evaluate(later) == 1
    assert Notification.objects.count() == 2


def test_who_is_catching_up_is_not_late() -> None:
    overdue(60, last_started_at=NOW - MINUTE)
    assert evaluate(NOW) == 0


SCOPES = ("everything", "circuit", "job", "resource", "target")


@pytest.mark.parametrize("scope", SCOPES)
def test_nothing_that_is_paused_is_late(scope: str) -> None:
    circuit = Circuit.objects.create(name="ledger")
    target = overdue(job=make_job(schedule="every 1m", circuit=circuit), resource="host")
    queued(target=target, scheduled_at=NOW - 10 * MINUTE)
    pause(target, scope)
    assert evaluate(NOW) == 0
    pause(target, scope, until=NOW)
    assert evaluate(NOW) == 1


@pytest.mark.parametrize("retired", ["job", "target"])
def test_nothing_that_is_retired_is_late(retired: str) -> None:
    target = overdue()
    queued(target=target)
    row: Any = target.job if retired == "job" else target
    type(row).objects.filter(pk=row.pk).update(retired_at=NOW)
    assert evaluate(NOW) == 0


def test_a_schedule_that_cannot_be_read_is_told_by_the_claim_not_here() -> None:
    overdue(schedule="every now and then")
    assert evaluate(NOW) == 0


def test_while_another_scheduler_fires_nothing_of_ours_is_late(
    settings: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    overdue()
    settings.JOBS_SHADOW = True
    assert evaluate(NOW) == 0
    settings.JOBS_SHADOW = False
    stock = "django_celery_beat.schedulers:DatabaseScheduler"
    monkeypatch.setitem(current_app.conf, "beat_scheduler", stock)
    assert evaluate(NOW) == 0


def test_a_job_with_many_late_targets_writes_some_alerts_an_hour() -> None:
    job = make_job(schedule="every 1m")
    for number in range(MOST_OF_A_JOB + 5):
        overdue(job=job, key=str(number))
    other = overdue()
    evaluate(NOW)
    assert Notification.objects.filter(name=job.name).count() == MOST_OF_A_JOB
    assert Notification.objects.filter(target=other).count() == 1
    assert evaluate(NOW + MINUTE) == 0
    assert evaluate(NOW + timedelta(hours=1)) == 5


def test_looking_costs_the_same_whatever_is_late(django_assert_max_num_queries: Any) -> None:
    job = make_job(schedule="every 1m")
    for number in range(10):
        overdue(job=job, key=str(number))
        queued(target=make_target(job, f"queued {number}"))
    with django_assert_max_num_queries(20):
        assert evaluate(NOW) == 20


# --- claimed fires that no worker begins ----------------------------------------------------------


def test_a_run_that_no_worker_begins_is_late() -> None:
    run = queued(published_at=NOW - 5 * MINUTE, queue="slow")
    make_process("w@x", "worker", queues=["celery"], concurrency=2)
    assert evaluate(NOW) == 1
    row = the_alert()
    assert (row.target, row.late_since) == (run.target, run.scheduled_at)
    assert "no worker consumes queue 'slow'" in row.detail


def test_a_run_that_waits_for_a_lock_says_who_holds_it() -> None:
    holder = make_run(
        make_target(make_job("archive")), state=State.RUNNING, worker="w@far/3", started_at=NOW
    )
    Seat.objects.create(key="ledger", run=holder, attempt=1, taken_at=NOW - timedelta(hours=2))
    queued(waiting_for="ledger", waiting_since=NOW - 6 * MINUTE)
    evaluate(NOW)
    detail = the_alert().detail
    for said in ("'ledger'", "'archive'", "w@far/3", f"jobs cancel {holder.pk}"):
        assert said in detail


@pytest.mark.parametrize(
    "fields",
    [
        pytest.param({"cause": Cause.MANUAL}, id="asked for by hand"),
        pytest.param({"cause": Cause.CATCH_UP}, id="caught up"),
        pytest.param({"started_at": NOW - 5 * MINUTE, "attempt": 2}, id="to be tried again"),
        pytest.param({"ready_at": NOW - MINUTE}, id="its predecessor ended a minute ago"),
    ],
)
def test_other_runs_that_wait_are_not_late(fields: dict[str, Any]) -> None:
    queued(**fields)
    assert evaluate(NOW) == 0


def test_a_run_that_waits_for_its_own_predecessor_is_not_late() -> None:
    before = queued(60, state=State.RUNNING, started_at=NOW - timedelta(hours=1))
    queued(target=before.target, waiting_on=before)
    assert evaluate(NOW) == 0


def test_a_target_is_late_since_its_oldest_fire() -> None:
    run = queued(8)
    queued(7, target=run.target, exclusive=False)
    evaluate(NOW)
    assert the_alert().late_since == run.scheduled_at


# --- telling --------------------------------------------------------------------------------------


def test_a_mail_says_who_is_late_since_when_and_why(settings: Any) -> None:
    settings.JOBS_NOTIFY = ["ops@example.org"]
    settings.JOBS_SITE_URL = "https://jobs.example.org"
    target = overdue(job=make_job("books", schedule="every 1m"), key="north")
    evaluate(NOW)
    assert notifications.deliver_due(NOW) == 1
    [sent] = mail.outbox
    assert sent.subject == "[Beatkeeper] Late: books [north]"
    for said in (
        "books, north",
        "Late since 2026-01-05 11:54:00 UTC",
        "no beat is alive",
        f"https://jobs.example.org/admin/scheduling/job/{target.job_id}/change/",
    ):
        assert said in sent.body


def test_it_counts_as_late_until_it_starts() -> None:
    target = overdue()
    evaluate(NOW)
    assert count_late(NOW) == 1
    notifications.deliver_due(NOW)
    assert count_late(NOW) == 1
    pause(target, "job", until=NOW + MINUTE)
    assert count_late(NOW) == 0
    Target.objects.update(last_started_at=NOW)
    assert count_late(NOW + MINUTE) == 0


def test_a_beat_looks_first_when_others_had_a_chance_and_then_now_and_then() -> None:
    overdue()
    watch = lateness.Watch()
    for seconds, found in ((0, 0), (14, 0), (15, 1)):
        watch.look(NOW + timedelta(seconds=seconds))
        assert Notification.objects.count() == found
    Notification.objects.all().delete()
    watch.look(NOW + timedelta(seconds=29))
    assert not Notification.objects.exists()


def test_everything_paused_is_read_from_the_installation() -> None:
    overdue()
    Installation.objects.update_or_create(pk=1, defaults={"paused_at": NOW})
    assert evaluate(NOW) == 0


def test_the_page_of_an_alert_says_whether_it_has_started_again() -> None:
    admin = log_in(superuser=True, name="root")
    target = overdue(job=make_job("books", schedule="every 1m"), key="north")
    evaluate(NOW)
    address = page("scheduling_notification_change", the_alert().pk)
    told = text_of(admin.get(address))
    assert "north: since" in told
    assert "started again" not in told
    Target.objects.filter(pk=target.pk).update(last_started_at=NOW)
    assert "started again" in text_of(admin.get(address))


def test_the_number_of_late_targets_is_a_metric(client: Client) -> None:
    overdue()
    evaluate(NOW)
    assert "jobs_late_targets 1.0" in client.get("/metrics").content.decode()
