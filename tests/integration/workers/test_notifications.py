from __future__ import annotations

import smtplib
from datetime import timedelta
from typing import Any

import pytest
from django.core import mail

from scheduling import clock
from scheduling.models import Notification, Run, State
from scheduling.models.system import Event
from tests.factories import NOW, make_job, make_run, make_target
from workers import notifications

pytestmark = pytest.mark.django_db


@pytest.fixture(autouse=True)
def addresses(settings: Any) -> None:
    settings.JOBS_NOTIFY = ["ops@example.org"]


def failed_run(name: str = "books", key: str = "", **fields: Any) -> Run:
    target = make_target(make_job(name), key, failing_since=NOW - timedelta(hours=1))
    values: dict[str, Any] = {
        "state": State.FAILED,
        "reason": "error",
        "ended_at": NOW,
        "error": "Traceback\n  ...\nKeyError: 'gone'\n",
        "output": "".join(f"line {n}\n" for n in range(30)),
    }
    return make_run(target, **values | fields)


def notify(run: Run | None = None, **fields: Any) -> Notification:
    values: dict[str, Any] = {
        "run": run,
        "name": run.name if run else "books",
        "event": Event.FAILING,
        "created_at": NOW,
        "deliver_at": NOW,
    }
    return Notification.objects.create(**values | fields)


def test_a_mail_says_what_failed_since_when_and_how(settings: Any) -> None:
    settings.JOBS_SITE_URL = "https://jobs.example.org/"
    row = notify(failed_run(key="north"))
    assert notifications.deliver_due(NOW) == 1
    [sent] = mail.outbox
    assert sent.subject == "[Beatkeeper] Failing: books [north]"
    assert sent.to == ["ops@example.org"]
    for said in ("books, north", "Error: KeyError: 'gone'", "Failing since 2026-01-05 11:00"):
        assert said in sent.body
    assert "line 29" in sent.body
    assert "line 9\n" not in sent.body
    row.refresh_from_db()
    assert (row.delivered_at, row.deliver_at, row.attempts) == (NOW, None, 1)


def test_it_is_sent_once() -> None:
    notify(failed_run())
    notifications.deliver_due(NOW)
    assert notifications.deliver_due(NOW + timedelta(days=1)) == 0
    assert len(mail.outbox) == 1


def test_of_two_processes_with_the_same_row_one_sends_it() -> None:
    row = notify(failed_run())
    assert notifications.deliver_one(row, now=NOW)
    assert not notifications.deliver_one(row, now=NOW)
    assert len(mail.outbox) == 1


def test_the_jobs_own_recipients_come_first() -> None:
    run = failed_run()
    assert run.job is not None
    type(run.job).objects.update(recipients=["books@example.org"])
    notify(run)
    notifications.deliver_due(NOW)
    assert mail.outbox[0].to == ["books@example.org"]


def test_with_nobody_to_tell_the_row_says_so(settings: Any) -> None:
    settings.JOBS_NOTIFY = ()
    row = notify(failed_run())
    assert notifications.deliver_due(NOW) == 0
    row.refresh_from_db()
    assert (row.deliver_at, row.delivered_at) == (None, None)
    assert "JOBS_NOTIFY" in row.error


def test_a_name_cannot_break_the_header() -> None:
    notify(failed_run("books\r\nBcc: eve@example.org"))
    notifications.deliver_due(NOW)
    assert mail.outbox[0].subject == "[Beatkeeper] Failing: books Bcc: eve@example.org"
    assert list(mail.outbox[0].recipients()) == ["ops@example.org"]


def test_a_failed_delivery_is_tried_again_later_and_at_last_given_up(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    def refuse(self: Any) -> None:
        raise smtplib.SMTPServerDisconnected("bye")

    monkeypatch.setattr(mail.EmailMultiAlternatives, "send", refuse)
    row = notify(failed_run())
    at, waits = NOW, []
    while row.deliver_at is not None:
        at = row.deliver_at
        assert notifications.deliver_due(at) == 0
        row.refresh_from_db()
        if row.deliver_at is not None:
            waits.append((row.deliver_at - at).total_seconds())
    assert waits == [60 * 2**n for n in range(9)]
    assert (row.attempts, row.delivered_at) == (10, None)
    assert "bye" in row.error


def test_a_notification_without_a_run_is_delivered() -> None:
    make_job("books")
    notify(event=Event.SCHEDULE_ERROR, detail="cron 0 3 * * is too short")
    notifications.deliver_due(NOW)
    [sent] = mail.outbox
    assert sent.subject == "[Beatkeeper] Schedule cannot be read: books"
    assert "too short" in sent.body


def test_only_what_is_due_is_delivered() -> None:
    notify(failed_run(), deliver_at=NOW + timedelta(minutes=1))
    assert notifications.deliver_due(NOW) == 0


def test_after_a_run_only_its_own_are_delivered() -> None:
    mine, other = failed_run("mine"), failed_run("other")
    notify(mine)
    notify(other)
    notifications.deliver_of(mine.pk)
    assert [sent.subject for sent in mail.outbox] == ["[Beatkeeper] Failing: mine"]


def test_a_failure_to_deliver_never_fails_the_run(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    def explode(*args: Any, **kwargs: Any) -> int:
        raise RuntimeError("template")

    monkeypatch.setattr(notifications, "deliver_due", explode)
    notifications.deliver_of(failed_run().pk)
    assert "not delivered yet" in caplog.text


def test_what_nobody_was_asked_to_deliver_is_delivered_after_a_while(settings: Any) -> None:
    settings.JOBS_LATE_EVERY = timedelta(seconds=15)
    now = clock.now()
    notify(failed_run("fresh"), deliver_at=now)
    notify(failed_run("left"), deliver_at=now - timedelta(seconds=16))
    assert notifications.deliver_left() == 1
    assert [sent.subject for sent in mail.outbox] == ["[Beatkeeper] Failing: left"]
