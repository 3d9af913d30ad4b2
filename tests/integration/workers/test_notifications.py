from __future__ import annotations

import smtplib
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from django.core import mail

from scheduling import clock
from scheduling.models import Circuit, Event, Job, Notification, Resource
from tests.factories import NOW, make_job
from tests.integration.workers.receiver import failed_run, notify
from workers import notifications
from workers.notifications import delivery, sending

pytestmark = pytest.mark.django_db


@pytest.fixture(autouse=True)
def addresses(settings: Any) -> Iterator[None]:
    settings.JOBS_NOTIFY = ["ops@example.org"]
    yield
    sending.forget()


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
    notify(failed_run("books\r\nBcc: eve@example.org", key="a\nCc: eve@example.org"))
    notifications.deliver_due(NOW)
    [sent] = mail.outbox
    assert sent.subject.startswith("[Beatkeeper] Failing: books Bcc: eve@example.org [a Cc:")
    headers = sent.message()
    assert [headers["Bcc"], headers["Cc"]] == [None, None]
    assert sent.recipients() == ["ops@example.org"]


def test_a_recipient_with_a_line_break_is_no_recipient_and_the_alert_is_not_lost() -> None:
    run = failed_run()
    Job.objects.update(recipients=["books@example.org\nBcc: eve@example.org"])
    row = notify(run)
    assert notifications.deliver_due(NOW) == 1
    assert [sent.recipients() for sent in mail.outbox] == [["ops@example.org"]]
    row.refresh_from_db()
    assert row.delivered_at == NOW
    assert "eve@example.org' is not an e-mail address" in row.error


def test_a_mail_has_a_text_and_the_same_as_html() -> None:
    notify(failed_run(output="<script>alert(1)</script>\n"))
    notifications.deliver_due(NOW)
    [sent] = mail.outbox
    assert isinstance(sent, mail.EmailMultiAlternatives)
    [(content, kind)] = sent.alternatives
    html = str(content)
    assert kind == "text/html"
    assert "&lt;script&gt;alert(1)" in html
    assert "<script>" not in html
    assert "<script>alert(1)" in sent.body


def test_a_broken_template_loses_no_alert(
    settings: Any, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    broken = tmp_path / "workers" / "mail"
    broken.mkdir(parents=True)
    for kind in ("txt", "html"):
        (broken / f"message.{kind}").write_text("{% nonsense %}", encoding="utf-8")
    settings.TEMPLATES = [{**settings.TEMPLATES[0], "DIRS": [str(tmp_path)]}]
    notify(failed_run())
    assert notifications.deliver_due(NOW) == 1
    [sent] = mail.outbox
    assert isinstance(sent, mail.EmailMultiAlternatives)
    assert "KeyError: 'gone'" in sent.body
    assert sent.alternatives == []
    assert "cannot be used" in caplog.text


def test_a_team_has_templates_of_its_own(settings: Any, tmp_path: Path) -> None:
    own = tmp_path / "workers" / "mail"
    own.mkdir(parents=True)
    (own / "message.txt").write_text("{{ title }} at ACME", encoding="utf-8")
    settings.TEMPLATES = [{**settings.TEMPLATES[0], "DIRS": [str(tmp_path)]}]
    notify(failed_run())
    notifications.deliver_due(NOW)
    assert mail.outbox[0].body == "Failing: books at ACME\n"


def test_those_of_job_resource_and_circuit_are_told_together_each_once() -> None:
    run = failed_run(key="north", resource="north")
    assert run.job is not None
    circuit = Circuit.objects.create(name="ledger", recipients=["c@example.org", "A@example.org"])
    Job.objects.update(recipients=["a@example.org"], circuit=circuit)
    Resource.objects.update(recipients=["r@example.org", "a@example.org"])
    row = notify(run)
    notifications.deliver_due(NOW)
    told = ["a@example.org", "r@example.org", "c@example.org"]
    assert [sent.to for sent in mail.outbox] == [told]
    row.refresh_from_db()
    assert row.delivered_to == told


def test_an_open_circuit_tells_those_of_the_circuit() -> None:
    circuit = Circuit.objects.create(
        name="ledger", recipients=["c@example.org"], opened_at=NOW, opened_by="books"
    )
    notify(circuit=circuit, name="ledger", event=Event.CIRCUIT_OPENED, detail="books has failed")
    notifications.deliver_due(NOW)
    [sent] = mail.outbox
    assert (sent.subject, sent.to) == ("[Beatkeeper] Circuit open: ledger", ["c@example.org"])
    assert "books has failed" in sent.body


def test_many_rows_are_delivered_in_one_go() -> None:
    run = failed_run()
    Notification.objects.bulk_create(
        Notification(
            name="books",
            event=Event.SCHEDULE_ERROR,
            detail=str(number),
            created_at=NOW,
            deliver_at=NOW,
        )
        for number in range(delivery.BATCH + 5)
    )
    notify(run)
    assert notifications.deliver_due(NOW) == delivery.BATCH + 6


def test_a_mail_server_that_is_away_holds_up_one_mail_and_not_every_one(
    settings: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    tried = []

    def refuse(self: Any) -> None:
        tried.append(self)
        raise ConnectionRefusedError(111, "Connection refused")

    monkeypatch.setattr(mail.EmailMultiAlternatives, "send", refuse)
    rows = [notify(failed_run(name)) for name in ("one", "two", "three")]
    assert notifications.deliver_due(NOW) == 0
    assert len(tried) == 1
    for row in rows:
        row.refresh_from_db()
        assert (row.attempts, row.deliver_at) == (1, NOW + timedelta(minutes=1))
        assert "ConnectionRefusedError" in row.error


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
        sending.forget()
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

    monkeypatch.setattr(delivery, "deliver_due", explode)
    notifications.deliver_of(failed_run().pk)
    assert "not delivered yet" in caplog.text


def test_what_nobody_was_asked_to_deliver_is_delivered_after_a_while(settings: Any) -> None:
    settings.JOBS_LATE_EVERY = timedelta(seconds=15)
    now = clock.now()
    notify(failed_run("fresh"), deliver_at=now)
    notify(failed_run("left"), deliver_at=now - timedelta(seconds=16))
    assert notifications.deliver_left() == 1
    assert [sent.subject for sent in mail.outbox] == ["[Beatkeeper] Failing: left"]
