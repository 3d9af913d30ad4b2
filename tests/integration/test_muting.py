"""Mute and unmute, tell, and sending again: on the command line and in the admin."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import timedelta
from typing import Any

import pytest
from django.contrib.admin.models import LogEntry
from django.core import mail

from scheduling import clock, telling_checks
from scheduling.models import Circuit, Event, Job, Notification, Resource
from scheduling.runs import telling
from tests.factories import make_job
from tests.integration.admin_pages import errors_of, log_in, messages_of, page, saved, text_of
from tests.integration.cli import jobs
from tests.integration.workers.receiver import SECRET, Receiver, receiving
from workers.notifications import sending

pytestmark = pytest.mark.django_db

HOUR = timedelta(hours=1)


@pytest.fixture
def receiver() -> Iterator[Receiver]:
    with receiving() as found:
        yield found
    sending.forget()


def subject_of(kind: str) -> Job | Circuit | Resource:
    if kind == "job":
        return make_job("books")
    if kind == "circuit":
        return Circuit.objects.create(name="books")
    return Resource.objects.create(key="books")


KINDS = ["job", "circuit", "resource"]


# --- command line ---------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", [*KINDS, "key"])
def test_mute_and_unmute_say_what_they_changed(kind: str) -> None:
    subject = subject_of(kind)
    until = clock.now() + HOUR
    words = ("--until", until.isoformat(), "--reason", "we move", "--json")
    assert jobs("mute", f"--{kind}", "books", *words).document() == {"changed": 1}
    subject.refresh_from_db()
    assert subject.muted_until == until
    assert subject.muted_by.endswith("(command line): we move")
    assert jobs("unmute", f"--{kind}", "books", "--json").document() == {"changed": 1}
    assert jobs("unmute", f"--{kind}", "books", "--json").document() == {"changed": 0}
    subject.refresh_from_db()
    assert not subject.is_muted(clock.now())


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("--job", "book"), "did you mean 'books'"),
        (("--circuit", "x"), "no circuit 'x'"),
        (("--resource", "x"), "no resource 'x'"),
        (("--job", "books", "--until", "2020-01-01T00:00:00Z"), "has passed"),
        (("--job", "books", "--reason", "x" * 101), "101 characters"),
    ],
)
def test_a_mute_that_cannot_be_meant_is_refused(words: tuple[str, ...], said: str) -> None:
    make_job("books")
    until = () if "--until" in words else ("--until", (clock.now() + HOUR).isoformat())
    told = jobs("mute", *words, *until, "--json")
    assert told.code == 2
    assert said in told.document()["error"]
    assert Job.objects.filter(muted_until__isnull=False).count() == 0


def test_tell_tries_a_channel(settings: Any, receiver: Receiver) -> None:
    settings.JOBS_CHANNELS = {"hook": {"url": receiver.url}}
    assert jobs("tell", "hook").code == 0
    [told] = receiver.documents()
    assert (told["event"], told["job"], told["run"]) == ("test", None, None)
    receiver.status = 403
    answer = jobs("tell", "hook", "--json")
    assert (answer.code, answer.document()["error"]) == (1, "HTTP 403")
    assert SECRET not in answer.stdout + answer.stderr


def test_tell_tries_an_address_and_knows_its_channels(settings: Any) -> None:
    settings.JOBS_CHANNELS = {"hook": {"url": "https://example.org"}}
    assert jobs("tell", "ann@example.org").code == 0
    assert [sent.to for sent in mail.outbox] == [["ann@example.org"]]
    answer = jobs("tell", "hok")
    assert answer.code == 2
    assert "There is no channel 'hok' in JOBS_CHANNELS; known: hook" in answer.stderr


def test_a_recipient_in_the_database_that_no_channel_has_is_found(settings: Any) -> None:
    settings.JOBS_CHANNELS = {"slack": {"url": "https://example.org"}}
    Circuit.objects.create(name="ledger", recipients=["slack", "slak"])
    Resource.objects.create(key="north", recipients=["ops@example.org"])
    make_job("code", recipients=["gone"])  # its declaration is checked, where it can be corrected
    make_job("own", recipients=["gone"], overrides={"recipients": {"code": []}})
    found = telling_checks.check_stored_recipients(None, databases=["default"])
    assert [(each.id, each.msg.partition(" is to tell")[0]) for each in found] == [
        ("scheduling.W021", "The job 'own'"),
        ("scheduling.W021", "The circuit 'ledger'"),
    ]
    assert telling_checks.check_stored_recipients(None) == []


# --- admin ----------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", KINDS)
def test_who_may_change_it_may_mute_it_and_that_is_recorded(kind: str) -> None:
    subject = subject_of(kind)
    client = log_in(f"view_{kind}", f"change_{kind}")
    own = page(f"scheduling_{kind}_change", subject.pk)
    assert "Mute …" in text_of(client.get(own))
    address = page(f"scheduling_{kind}_mute")
    asked: dict[str, str] = {"id": str(subject.pk), "next": own}
    assert "Mute books" in text_of(client.get(address, asked))
    day = clock.now().date() + timedelta(days=2)
    answers = {"until_0": day.isoformat(), "until_1": "06:00", "reason": "we move"}
    data = {"id": subject.pk, "next": own} | answers
    response = client.post(address, data, follow=True)
    assert messages_of(response) == ["books is muted"]
    shown = text_of(response)
    assert "Muted by alice: we move: nobody is told of it until" in shown
    assert "Unmute …" in shown
    data = {"id": subject.pk, "next": own}
    response = client.post(page(f"scheduling_{kind}_unmute"), data, follow=True)
    assert messages_of(response) == ["books is unmuted"]
    subject.refresh_from_db()
    assert not subject.is_muted(clock.now())
    said = [entry.change_message for entry in LogEntry.objects.order_by("pk")]
    assert [each.partition(" ")[0] for each in said] == ["Muted", "Unmuted"]


@pytest.mark.parametrize("verb", ["mute", "unmute"])
@pytest.mark.parametrize("kind", KINDS)
def test_who_may_only_look_mutes_nothing(kind: str, verb: str) -> None:
    subject = subject_of(kind)
    client = log_in(f"view_{kind}", "pause_job")
    address = page(f"scheduling_{kind}_{verb}")
    assert client.post(address, {"id": subject.pk}).status_code == 403
    assert "Mute …" not in text_of(client.get(page(f"scheduling_{kind}_change", subject.pk)))


def test_a_mute_needs_a_time_to_come() -> None:
    job = make_job("books")
    client = log_in("view_job", "change_job")
    data = {"id": job.pk, "until_0": "2020-01-01", "until_1": "06:00"}
    response = client.post(page("scheduling_job_mute"), data)
    assert "Choose a time in the future" in text_of(response)
    job.refresh_from_db()
    assert job.muted_until is None


def test_ticked_jobs_are_asked_for_together() -> None:
    rows = [make_job("books"), make_job("rates")]
    client = log_in("view_job", "change_job")
    data = {"action": "mute_selected", "_selected_action": [row.pk for row in rows]}
    assert "Mute 2 jobs" in text_of(client.post(page("scheduling_job_changelist"), data))


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("invalid", "no channel 'invalid'"),
        ("null", "no channel 'null'"),
        ('{"email": "a@example.org"}', "is not an e-mail address"),
        ("slack a@example.org", "is not an e-mail address"),
    ],
)
def test_g17_what_is_no_recipient_is_refused_in_the_form(
    text: str, said: str, settings: Any
) -> None:
    settings.JOBS_CHANNELS = {"slack": {"url": "https://example.org"}}
    job = make_job("books")
    client = log_in("view_job", "change_job")
    [error] = errors_of(saved(client, job, recipients=f"ann@example.org\n{text}"))["recipients"]
    assert said in error
    assert saved(client, job, recipients="ann@example.org\nslack").status_code == 302
    job.refresh_from_db()
    assert job.recipients == ["ann@example.org", "slack"]


def given_up(**fields: Any) -> Notification:
    values = {"name": "books", "event": Event.FAILING, "created_at": clock.now(), "attempts": 10}
    return Notification.objects.create(**values | {"error": "hook: HTTP 500"} | fields)


def test_what_was_given_up_is_sent_again_by_who_may() -> None:
    rows = [given_up(), given_up(delivered_at=clock.now(), delivered_to=["a@example.org"])]
    data = {"action": "send_again", "_selected_action": [row.pk for row in rows]}
    address = page("scheduling_notification_changelist")
    log_in("view_notification", name="bob").post(address, data)
    assert Notification.objects.filter(deliver_at__isnull=False).count() == 0
    response = log_in("view_notification", "change_notification").post(address, data, follow=True)
    assert messages_of(response) == [
        "To be sent again: 1",
        "Delivered already, or still waiting: 1",
    ]
    [row] = Notification.objects.filter(deliver_at__isnull=False)
    assert (row.pk, row.attempts) == (rows[0].pk, 0)
    assert LogEntry.objects.get().change_message == "Sent again"


def test_the_list_says_to_whom_when_and_what_went_wrong() -> None:
    given_up()
    given_up(error=f"{telling.MUTED} by anna until tomorrow")
    given_up(delivered_at=clock.now(), delivered_to=[f"{n}@example.org" for n in range(5)])
    client = log_in("view_notification")
    shown = text_of(client.get(page("scheduling_notification_changelist")))
    for words in ("given up", "muted", "not to all", "2@example.org and 2 more"):
        assert words in shown
    left = client.get(page("scheduling_notification_changelist", delivery="given_up"))
    assert "example.org" not in text_of(left)
