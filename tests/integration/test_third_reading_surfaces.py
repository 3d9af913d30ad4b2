"""What a third reading of the surfaces found: who may do what, and what strangers may write."""

from __future__ import annotations

import sys
from datetime import timedelta
from typing import Any

import pytest
from django.contrib.auth.models import User
from django.core import mail
from django.db import connection
from django.test import Client, RequestFactory
from django.test.utils import CaptureQueriesContext
from django.utils.module_loading import import_string
from django.views.debug import ExceptionReporter

from config import settings as project
from scheduling import channels, clock, runs
from scheduling.admin.fields import ReasonField
from scheduling.models import Circuit, DeadLetter, Job, Notification, Run, State
from scheduling.recipients import is_address
from tests.factories import make_job, make_run, make_target
from tests.integration.admin_pages import log_in, page, text_of
from tests.integration.cli import jobs
from workers import notifications, programs
from workers.notifications import sending

pytestmark = pytest.mark.django_db

LOOK = (
    *("view_job", "view_run", "view_circuit", "view_seat"),
    *("view_notification", "view_resource", "view_deadletter", "view_target"),
)
FORGED = "moved\r\n2027-01-01T00:00:00+0000 INFO scheduling.runs: all is well"


@pytest.fixture
def run() -> Run:
    """A running run that holds the lock `ledger`, of a job in the circuit `edge`."""
    now = clock.now()
    job = make_job("close_books", locks=["ledger"], circuit=Circuit.objects.create(name="edge"))
    started = make_run(make_target(job), scheduled_at=now)
    assert runs.start(started.pk, 1, worker="celery@north/7", now=now) is not None
    return Run.objects.get(pk=started.pk)


# --- permissions


def door(what: str, run: Run) -> tuple[str, dict[str, Any]]:
    """Give where it is done and what is posted there."""
    job, circuit = run.job, Circuit.objects.get()
    assert job is not None
    until = {"until_0": "2099-01-01", "until_1": "10:00:00", "reason": "moved"}
    match what:
        case "break":
            return page("scheduling_seat_break", key="ledger"), {"reason": "hangs"}
        case "stop":
            return page("scheduling_run_cancel", run.pk), {}
        case "kill":
            return page("scheduling_run_cancel", run.pk), {"at_once": "1"}
        case "open":
            return page("scheduling_circuit_open", circuit.pk), {"reason": "moved"}
        case "leave out":
            return page("scheduling_circuit_leave_out", circuit.pk), {"job": job.pk}
        case "mute a job":
            return page("scheduling_job_mute"), {"id": job.pk, **until}
        case "mute a circuit":
            return page("scheduling_circuit_mute"), {"id": circuit.pk, **until}
    told = Notification.objects.get()
    chosen = {"action": "send_again", "_selected_action": told.pk}
    return page("scheduling_notification_changelist"), chosen


def standing() -> list[object]:
    return [
        *Run.objects.values_list("state", "stop_requested_at", "stop_at_once"),
        *Circuit.objects.values_list("opened_at", "muted_until"),
        *Job.objects.values_list("left_out", "muted_until"),
        *Notification.objects.values_list("deliver_at"),
    ]


@pytest.mark.parametrize(
    ("what", "permission"),
    [
        ("break", "break_lock"),
        ("stop", "cancel_run"),
        ("kill", "cancel_run"),
        ("open", "pause_job"),
        ("leave out", "pause_job"),
        ("mute a job", "change_job"),
        ("mute a circuit", "change_circuit"),
        ("send again", "change_notification"),
    ],
)
def test_a_deed_takes_its_permission_a_post_and_a_token(
    what: str, permission: str, run: Run
) -> None:
    Notification.objects.create(
        name="close_books", event="failing", created_at=clock.now(), run=run
    )
    before = standing()
    address, data = door(what, run)
    root = log_in(superuser=True, name="root")
    without_token = Client(enforce_csrf_checks=True)
    without_token.force_login(User.objects.get(username="root"))

    assert "/login/" in Client().post(address, data)["Location"]
    log_in(*LOOK, name="looker").post(address, data)
    root.get(address)
    assert without_token.post(address, data).status_code == 403
    assert standing() == before

    log_in(*LOOK, permission).post(address, data)
    assert standing() != before


# --- reasons


@pytest.mark.parametrize("what", ["break", "open", "mute a job"])
def test_a_reason_of_several_lines_becomes_one(
    what: str, run: Run, caplog: pytest.LogCaptureFixture
) -> None:
    address, data = door(what, run)
    with caplog.at_level("INFO", "scheduling"):
        log_in(superuser=True).post(address, {**data, "reason": FORGED})
    told = [record.getMessage() for record in caplog.records if "moved" in record.getMessage()]
    assert told
    assert not [line for line in told if "\n" in line]


@pytest.mark.parametrize("odd", ["\x1b[31mred", "turned \u202e around"])
def test_a_reason_has_only_characters_that_can_be_seen(odd: str, run: Run) -> None:
    address, data = door("open", run)
    response = log_in(superuser=True).post(address, {**data, "reason": odd})
    assert "cannot be seen" in text_of(response)
    assert not Circuit.objects.get().is_open


def test_a_reason_of_blanks_is_none() -> None:
    assert ReasonField(required=False).clean(" \n ") == ""


@pytest.mark.parametrize(
    "words",
    [
        ("circuits", "open", "edge", "--reason", FORGED),
        ("circuits", "open", "edge", "--reason", "   "),
        ("circuits", "open", "edge", "--reason", "x" * 301),
        ("circuits", "leave-out", "edge", "close_books", "--reason", "moved"),
        ("circuits", "--reason", "moved"),
        ("locks", "break", "ledger", "--reason", FORGED),
        ("locks", "break", "ledger", "--reason", "x" * 301),
        ("mute", "--job", "close_books", "--until", "2099-01-01T00:00Z", "--reason", FORGED),
        ("mute", "--job", "close_books", "--until", "2099-01-01T00:00Z", "--reason", "x" * 101),
        ("pause", "--job", "close_books", "--reason", FORGED),
    ],
)
def test_a_reason_that_is_none_is_bad_input(words: tuple[str, ...], run: Run) -> None:
    before = standing()
    told = jobs(*words, "--json")
    assert told.code == 2
    assert "reason" in told.document()["error"]
    assert standing() == before


# --- what strangers name


def test_what_a_stranger_has_named_stays_in_its_cell_of_a_table() -> None:
    DeadLetter.objects.create(
        kind="task", received_at=clock.now(), task="a\nFORGED LINE", queue="\x1b[2Jgone"
    )
    told = jobs("dead-letters").stdout
    assert "\x1b" not in told
    assert len(told.splitlines()) == 2


def test_a_long_task_of_a_dead_letter_is_cut_in_the_list_and_whole_on_its_page() -> None:
    task = "shop." + "x" * 290
    letter = DeadLetter.objects.create(kind="task", received_at=clock.now(), task=task)
    client = log_in("view_deadletter")
    shown = client.get(page("scheduling_deadletter_changelist")).content.decode()
    assert f'<span class="bk-line bk-cut" title="{task}">{task}</span>' in shown
    assert task in text_of(client.get(page("scheduling_deadletter_change", letter.pk)))


# --- the page of a run


def test_attempts_that_the_browser_has_are_not_sent_again(run: Run) -> None:
    result = runs.Result(state=State.FAILED, retry_after=timedelta(0))
    runs.finish(run.pk, 1, token=run.token, result=result, now=clock.now())
    client = log_in(superuser=True)
    address = page("scheduling_run_fragment", run.pk)
    first = client.get(address)
    assert "Earlier attempts" in text_of(first)
    seen = first.context["page"].mark
    Run.objects.filter(pk=run.pk).update(output="more", output_bytes=4)
    again = client.get(address, {"seen": seen})
    assert "more" in text_of(again)
    assert "Earlier attempts" not in text_of(again)
    Run.objects.filter(pk=run.pk).update(attempt=3)
    assert "Earlier attempts" in text_of(client.get(address, {"seen": seen}))


def test_the_page_of_a_run_does_not_read_what_its_parent_wrote(run: Run) -> None:
    child = make_run(run.target, parent=run, waiting_on=run, scheduled_at=clock.now())
    client = log_in(superuser=True)
    with CaptureQueriesContext(connection) as seen:
        assert client.get(page("scheduling_run_change", child.pk)).status_code == 200
    own = [query["sql"] for query in seen.captured_queries if '"output"' in query["sql"]]
    assert own
    assert not [sql for sql in own if sql.count('"output"') > 1]


# --- the home page


def test_the_home_page_names_open_circuits_and_leaves_out_what_they_stop(run: Run) -> None:
    soon = clock.now() + timedelta(minutes=5)
    circuit = Circuit.objects.get()
    make_target(make_job("stopped", schedule="every 1h", circuit=circuit), next_fire_at=soon)
    aside = make_job("aside", schedule="every 1h", circuit=circuit, left_out=True)
    make_target(aside, next_fire_at=soon)
    runs.open_circuit(circuit, by="alice", reason="<b>moved</b>", now=clock.now())

    response = log_in("view_job", "view_circuit").get(page("index"))

    assert "The circuit 'edge' was opened by alice: <b>moved</b>" in text_of(response)
    assert page("scheduling_circuit_change", circuit.pk) in response.content.decode()
    names = [row["name"] for row in response.context["upcoming"]]
    assert "aside" in names
    assert "stopped" not in names
    unknowing = log_in("view_job", name="bob").get(page("index"))
    assert page("scheduling_circuit_change", circuit.pk) not in unknowing.content.decode()


# --- one wrong recipient


@pytest.mark.parametrize("wrong", ["\u00e4@.example", "\u00e4@b.", "\u00e4@" + "x" * 64])
def test_an_address_that_no_mail_can_have_does_not_break_the_mail_of_the_others(
    wrong: str, run: Run
) -> None:
    Job.objects.filter(name="close_books").update(recipients=[wrong, "ops@example.org"])
    row = Notification.objects.create(
        name="close_books", event="failing", created_at=clock.now(), deliver_at=clock.now(), run=run
    )
    assert notifications.deliver_one(row, now=clock.now())
    (sent,) = mail.outbox
    assert sent.to == ["ops@example.org"]
    row.refresh_from_db()
    assert wrong in row.error


@pytest.mark.parametrize("good", ["root@localhost", "b\u00fccher@b\u00fccher.example"])
def test_an_unusual_address_is_one(good: str) -> None:
    assert is_address(good)


# --- secrets of channels


def test_a_test_message_that_fails_oddly_is_a_document(
    settings: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    def answer_nonsense(*args: Any) -> None:
        raise ValueError("https://hooks.example.org/s3cret")

    settings.JOBS_CHANNELS = {"hook": {"url": "https://hooks.example.org/s3cret"}}
    monkeypatch.setattr(sending, "_post", answer_nonsense)
    told = jobs("tell", "hook", "--json")
    assert told.code == 1
    assert told.document() == {"recipient": "hook", "ok": False, "error": "ValueError"}
    assert "s3cret" not in told.stderr


@pytest.mark.parametrize("host", ["a..example", "x" * 64 + ".example"])
def test_a_host_that_can_be_none_is_found_before_anything_is_sent(host: str, settings: Any) -> None:
    settings.JOBS_CHANNELS = {"hook": {"url": f"https://{host}/s3cret"}}
    with pytest.raises(channels.UnusableChannel, match="no web address"):
        channels.find("hook")


def test_no_pattern_gives_a_program_the_addresses_of_channels(settings: Any) -> None:
    settings.JOBS_PROGRAM_ENVIRONMENT = ("JOBS_*",)
    worker = {"JOBS_CHANNELS": "slack=slack://a/s3cret/c", "JOBS_SITE_URL": "https://example.org"}
    assert programs.visible(worker) == {"JOBS_SITE_URL": "https://example.org"}


def test_a_report_of_an_error_shows_no_address_with_a_secret(settings: Any) -> None:
    settings.JOBS_CHANNELS = {"slack": "slack://a/s3cret/c"}
    settings.REDIS_URL = settings.CELERY_BROKER_URL = "redis://:s3cret@host/0"
    settings.DEFAULT_EXCEPTION_REPORTER_FILTER = project.DEFAULT_EXCEPTION_REPORTER_FILTER
    request = RequestFactory().get("/", DATABASE_URL="postgres://u:s3cret@host/n")
    request.exception_reporter_filter = import_string(project.DEFAULT_EXCEPTION_REPORTER_FILTER)()
    try:
        raise ZeroDivisionError
    except ZeroDivisionError:
        kind, error, traceback = sys.exc_info()
        report = ExceptionReporter(request, kind, error, traceback, True).get_traceback_text()
    assert "JOBS_CHANNELS" in report
    assert "s3cret" not in report
