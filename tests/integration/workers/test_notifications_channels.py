"""Channels: services that apprise knows, and webhooks; each gets a message once, and keeps quiet
about its address."""

from __future__ import annotations

import logging
import time
from collections.abc import Iterator
from datetime import timedelta
from typing import Any

import pytest
from django.core import mail

from scheduling.models import Event, Notification, Resource
from tests.factories import NOW
from tests.integration.workers.receiver import SECRET, Receiver, failed_run, notify, receiving
from workers import notifications
from workers.notifications import sending

pytestmark = pytest.mark.django_db

MINUTE = timedelta(minutes=1)


@pytest.fixture
def receiver() -> Iterator[Receiver]:
    with receiving() as found:
        yield found


@pytest.fixture(autouse=True)
def nothing_rests() -> Iterator[None]:
    yield
    sending.forget()


def use(settings: Any, channel: object, *, notify: tuple[str, ...] = ("hook",)) -> None:
    settings.JOBS_CHANNELS = {"hook": channel}
    settings.JOBS_NOTIFY = notify


def refreshed(row: Notification) -> Notification:
    row.refresh_from_db()
    return row


# --- what a webhook is told -----------------------------------------------------------------------


def test_a_webhook_gets_json_with_stable_keys(settings: Any, receiver: Receiver) -> None:
    settings.JOBS_SITE_URL = "https://jobs.example.org"
    use(settings, {"url": receiver.url, "fields": {"team": "books", "event": "mine"}})
    run = failed_run(key="north", scheduled_at=NOW - MINUTE, exit_code=3)
    row = notify(run, detail="Before: it had never succeeded")
    assert notifications.deliver_due(NOW) == 1
    [(path, kind, _)] = receiver.requests
    assert (path, kind) == (f"/hook/{SECRET}", "application/json")
    assert receiver.documents() == [
        {
            "team": "books",
            "event": "failing",
            "job": "books",
            "circuit": None,
            "key": "north",
            "run": str(run.pk),
            "attempt": 1,
            "state": "failed",
            "reason": "error",
            "scheduled_at": "2026-01-05T11:59:00+00:00",
            "ended_at": "2026-01-05T12:00:00+00:00",
            "failing_since": "2026-01-05T11:00:00+00:00",
            "late_since": None,
            "error": "KeyError: 'gone'",
            "detail": "Before: it had never succeeded",
            "url": f"https://jobs.example.org/admin/scheduling/run/{run.pk}/change/",
        }
    ]
    assert refreshed(row).delivered_to == ["hook"]
    assert mail.outbox == []


def test_a_webhook_gets_form_fields_the_users_first_and_ours_win(
    settings: Any, receiver: Receiver
) -> None:
    use(
        settings,
        {"url": receiver.url, "body": "form", "fields": {"team": "ä & ö", "job": "mine"}},
    )
    notify(failed_run("a&b=c"))
    assert notifications.deliver_due(NOW) == 1
    [(_, kind, body)] = receiver.requests
    assert kind == "application/x-www-form-urlencoded"
    assert body.startswith(b"team=")
    [form] = receiver.forms()
    assert (form["team"], form["job"], form["key"]) == (["ä & ö"], ["a&b=c"], [""])


def test_a_service_is_told_through_apprise(settings: Any, receiver: Receiver) -> None:
    use(settings, receiver.apprise_url)
    notify(failed_run())
    assert notifications.deliver_due(NOW) == 1
    [told] = receiver.documents()
    assert (told["title"], told["type"]) == ("Failing: books", "failure")
    assert "KeyError: 'gone'" in told["message"]


# --- what can go wrong ----------------------------------------------------------------------------


@pytest.mark.parametrize("kind", ["webhook", "apprise"])
@pytest.mark.parametrize("status", [302, 307, 404, 500])
def test_any_other_answer_than_success_is_a_failure(
    kind: str, status: int, settings: Any, receiver: Receiver
) -> None:
    receiver.status, receiver.location = status, receiver.url + "/elsewhere"
    use(settings, {"url": receiver.url} if kind == "webhook" else receiver.apprise_url)
    row = notify(failed_run())
    assert notifications.deliver_due(NOW) == 0
    assert len(receiver.requests) == 1  # and nobody was led elsewhere
    assert refreshed(row).error == f"hook: HTTP {status}"
    assert (row.deliver_at, row.delivered_at, row.attempts) == (NOW + MINUTE, None, 1)


@pytest.mark.parametrize("drips", [False, True], ids=["silent", "dripping"])
@pytest.mark.parametrize("kind", ["webhook", "apprise"])
def test_a_channel_that_hangs_holds_up_nobody_for_longer_than_the_limit(
    kind: str, drips: bool, settings: Any, receiver: Receiver
) -> None:
    receiver.drips = drips
    settings.JOBS_SEND_LIMIT = timedelta(milliseconds=300)
    receiver.answers.clear()
    use(
        settings,
        {"url": receiver.url} if kind == "webhook" else receiver.apprise_url,
        notify=("hook", "ops@example.org"),
    )
    rows = [notify(failed_run(name)) for name in ("one", "two", "three")]
    began = time.monotonic()
    notifications.deliver_due(NOW)
    assert time.monotonic() - began < 2
    assert len(receiver.requests) == 1
    assert [len(mail.outbox), *(refreshed(row).delivered_at for row in rows)] == [3, *[None] * 3]
    assert all(row.error.startswith("hook: ") for row in rows)
    receiver.answers.set()
    receiver.drips = False
    sending.forget()
    assert notifications.deliver_due(NOW + MINUTE) == 3
    assert len(mail.outbox) == 3
    assert len(receiver.requests) == 4


def test_who_has_it_does_not_get_it_again_because_another_has_not(
    settings: Any, receiver: Receiver
) -> None:
    receiver.status = 500
    use(settings, {"url": receiver.url}, notify=("ops@example.org", "hook"))
    row = notify(failed_run())
    at = NOW
    for _ in range(3):
        notifications.deliver_due(at)
        assert refreshed(row).delivered_to == ["ops@example.org"]
        assert row.deliver_at is not None
        at = row.deliver_at
    receiver.status = 204
    assert notifications.deliver_due(at) == 1
    assert refreshed(row).delivered_to == ["ops@example.org", "hook"]
    assert (row.delivered_at, row.error) == (at, "")
    assert (len(mail.outbox), len(receiver.requests)) == (1, 4)


def test_a_process_that_dies_between_two_recipients_leaves_the_rest_to_the_next(
    settings: Any, receiver: Receiver, monkeypatch: pytest.MonkeyPatch
) -> None:
    def die(*args: Any, **kwargs: Any) -> None:
        raise SystemExit

    use(settings, {"url": receiver.url}, notify=("ops@example.org", "hook"))
    row = notify(failed_run())
    with monkeypatch.context() as patched:
        patched.setattr(sending, "_post", die)
        with pytest.raises(SystemExit):
            notifications.deliver_due(NOW)
    assert refreshed(row).delivered_to == ["ops@example.org"]
    assert row.deliver_at is not None
    assert notifications.deliver_due(row.deliver_at) == 1
    assert (len(mail.outbox), len(receiver.requests)) == (1, 1)


def test_a_recipient_that_can_never_work_does_not_stop_the_others(
    settings: Any, receiver: Receiver
) -> None:
    settings.JOBS_CHANNELS = {"hook": {"url": receiver.url}, "odd": f"nonsense://{SECRET}"}
    settings.JOBS_NOTIFY = ("gone", "odd", "hook")
    row = notify(failed_run())
    notifications.deliver_due(NOW)
    assert refreshed(row).delivered_to == ["hook"]
    assert "There is no channel 'gone' in JOBS_CHANNELS; known: hook, odd" in row.error
    assert "odd: Channel 'odd' is no address that apprise can read" in row.error


def test_a_job_whose_recipients_nobody_can_tell_falls_back_to_the_default(settings: Any) -> None:
    settings.JOBS_NOTIFY = ("ops@example.org",)
    run = failed_run(job={"recipients": ["gone"]})
    notify(run)
    assert notifications.deliver_due(NOW) == 1
    assert mail.outbox[0].to == ["ops@example.org"]


def test_a_resource_has_a_channel_of_its_own(settings: Any, receiver: Receiver) -> None:
    use(settings, {"url": receiver.url}, notify=("ops@example.org",))
    run = failed_run(key="north", resource="north")
    Resource.objects.update(recipients=["hook"])
    notify(run)
    assert notifications.deliver_due(NOW) == 1
    assert (len(receiver.requests), mail.outbox) == (1, [])


# --- secrets --------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", ["webhook", "apprise", "unreadable", "away"])
def test_no_row_and_no_log_has_the_address(
    kind: str, settings: Any, receiver: Receiver, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.DEBUG)
    receiver.status = 500
    channel: object = {
        "webhook": {"url": receiver.url},
        "apprise": receiver.apprise_url,
        "unreadable": f"nonsense://{SECRET}/{SECRET}",
        "away": {"url": f"http://127.0.0.1:1/{SECRET}"},
    }[kind]
    use(settings, channel)
    row = notify(failed_run())
    notifications.deliver_due(NOW)
    assert refreshed(row).error
    assert SECRET not in row.error
    assert SECRET not in caplog.text


def test_an_event_that_is_no_run_is_told_with_the_same_keys(
    settings: Any, receiver: Receiver
) -> None:
    use(settings, {"url": receiver.url})
    notify(event=Event.SCHEDULE_ERROR, name="rates", detail="'cron 0' is too short")
    notifications.deliver_due(NOW)
    [told] = receiver.documents()
    assert (told["event"], told["job"], told["run"]) == ("schedule_error", "rates", None)
    assert told["detail"] == "'cron 0' is too short"
