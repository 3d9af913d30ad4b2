"""The page of a run while it runs and is tried again: output so far, attempts, stopping it."""

from __future__ import annotations

from collections.abc import Callable
from datetime import timedelta

import pytest
from django.contrib.admin.models import LogEntry
from django.test import Client

from scheduling import clock, runs
from scheduling.models import Attempt, Reason, Run, State
from scheduling.runs import Result
from tests.factories import make_job, make_run, make_target
from tests.integration.admin_pages import log_in, messages_of, page, text_of

pytestmark = pytest.mark.django_db

LOOK = ("view_run", "view_run_output")
AGAIN = timedelta(minutes=1)


@pytest.fixture
def reader() -> Client:
    return log_in(*LOOK)


def queued(**fields: object) -> Run:
    return make_run(make_target(make_job("mails", retries=3)), **fields)


def running(output: str = "") -> Run:
    run = queued(created_at=clock.now())
    assert runs.start(run.pk, 1, worker="w@north/1", now=clock.now()) is not None
    write(run, output)
    return Run.objects.get(pk=run.pk)


def write(run: Run, output: str) -> None:
    """As the heartbeat stores what has been written so far."""
    Run.objects.filter(pk=run.pk).update(output=output, output_bytes=len(output))


def retrying() -> Run:
    run = running()
    failed = Result(
        state=State.FAILED,
        reason=Reason.ERROR,
        output="half of it\n",
        output_bytes=99_999,
        error="ValueError: no such region",
        retry_after=AGAIN,
    )
    assert runs.finish(run.pk, 1, token=run.token, result=failed, now=clock.now())
    return Run.objects.get(pk=run.pk)


def waiting() -> Run:
    before = running()
    return make_run(before.target, waiting_on=before)


def fragment(client: Client, run: Run, seen: str = "") -> str:
    return client.get(page("scheduling_run_fragment", run.pk, seen=seen)).content.decode()


# --- output


def test_the_output_so_far_of_a_running_run_is_shown(reader: Client) -> None:
    run = running("half of it\n")
    shown = text_of(reader.get(page("scheduling_run_change", run.pk)))
    assert "Output so far half of it" in shown
    write(run, "half of it\nall of it\n")
    assert "all of it" in fragment(reader, run)
    Run.objects.filter(pk=run.pk).update(state=State.SUCCEEDED, ended_at=clock.now())
    shown = text_of(reader.get(page("scheduling_run_change", run.pk)))
    assert "Output half of it all of it" in shown


def test_output_that_the_browser_has_is_not_sent_again(reader: Client) -> None:
    run = running("half of it\n")
    seen = reader.get(page("scheduling_run_change", run.pk)).context["page"].mark
    again = fragment(reader, run, seen)
    assert "half of it" not in again
    assert f'data-mark="{seen}"' in again
    write(run, "half of it\nall of it\n")
    assert "all of it" in fragment(reader, run, seen)
    write(run, "half of it\n")
    Run.objects.filter(pk=run.pk).update(state=State.SUCCEEDED)
    assert "half of it" in fragment(reader, run, seen), "it is no longer 'so far'"


def test_a_long_output_so_far_says_what_is_kept(reader: Client) -> None:
    run = running("beginning ... end")
    Run.objects.filter(pk=run.pk).update(output_bytes=5_000_000)
    assert "The job has written 5,000,000 bytes; the beginning and the end are kept." in text_of(
        reader.get(page("scheduling_run_change", run.pk))
    )


def test_output_so_far_and_of_attempts_needs_its_permission() -> None:
    run = retrying()
    write(run, "secret so far")
    Attempt.objects.update(output="secret output", error="secret error")
    looking = log_in("view_run")
    for name in ("scheduling_run_change", "scheduling_run_fragment"):
        told = looking.get(page(name, run.pk)).content.decode()
        assert "Earlier attempts" in told
        assert "secret" not in told


# --- attempts


def test_earlier_attempts_are_shown_with_why_and_what_they_wrote(reader: Client) -> None:
    run = retrying()
    shown = text_of(reader.get(page("scheduling_run_change", run.pk)))
    assert "Attempt 2 of 4 (1 failed)" in shown
    earlier = shown[shown.index("Earlier attempts") :]
    for words in (
        "w@north/1",
        Reason.RETRY.label,
        "ValueError: no such region",
        "half of it",
        "The end of its output is kept.",
    ):
        assert words in earlier


def test_a_first_attempt_has_no_earlier_ones(reader: Client) -> None:
    shown = text_of(reader.get(page("scheduling_run_change", queued().pk)))
    assert "Attempt 1 of 4" in shown
    assert "Earlier attempts" not in shown


@pytest.mark.parametrize(
    ("fields", "shown"),
    [
        ({}, "1 of 4"),
        ({"attempt": 2, "failures": 1}, "2 of 4 (1 failed)"),
        ({"attempt": 2, "losses": 1}, "2 of 5 (1 lost)"),
        ({"attempt": 3, "failures": 1, "losses": 1}, "3 of 5 (1 failed, 1 lost)"),
        ({"attempt": 5, "failures": 4}, "5 of 5 (4 failed)"),
    ],
)
def test_lists_say_which_attempt_of_how_many(
    fields: dict[str, int], shown: str, reader: Client
) -> None:
    queued(**fields)
    assert shown in text_of(reader.get(page("scheduling_run_changelist")))


def test_an_attempt_without_retries_is_a_number(reader: Client) -> None:
    make_run(state=State.SUCCEEDED, attempt=1)
    assert " of 1" not in text_of(reader.get(page("scheduling_run_changelist")))


# --- stop


@pytest.mark.parametrize("at_once", [False, True])
@pytest.mark.parametrize(
    ("made", "told"),
    [
        (queued, "The run is cancelled and will not start"),
        (waiting, "The run is cancelled and will not start"),
        (retrying, "The run is cancelled and will not start again, as attempt 2"),
    ],
)
def test_what_has_not_begun_is_cancelled_for_good(
    made: Callable[[], Run], told: str, at_once: bool
) -> None:
    client, run = log_in(*LOOK, "cancel_run"), made()
    answer = {"at_once": "1"} if at_once else {}
    response = client.post(page("scheduling_run_cancel", run.pk), answer, follow=True)
    assert messages_of(response) == [told]
    run.refresh_from_db()
    assert (run.state, run.reason) == (State.SKIPPED, Reason.CANCELLED)
    assert LogEntry.objects.get().object_id == str(run.pk)


def test_a_running_run_is_asked_first_and_killed_if_it_must_be() -> None:
    client, run = log_in(*LOOK, "cancel_run"), running()
    shown = text_of(client.get(page("scheduling_run_change", run.pk)))
    assert "Stop" in shown
    assert "Kill" in shown
    address = page("scheduling_run_cancel", run.pk)
    response = client.post(address, follow=True)
    assert messages_of(response) == ["The run was asked to stop; its worker ends it"]
    assert runs.stop_requests([run.pk]) == {run.pk: False}
    response = client.post(address, {"at_once": "1"}, follow=True)
    assert messages_of(response) == ["The run is to be killed; its worker does it within seconds"]
    assert runs.stop_requests([run.pk]) == {run.pk: True}
    assert "alice asked it to stop" in text_of(response)


def test_what_has_ended_stays_and_says_so() -> None:
    client = log_in(*LOOK, "cancel_run")
    run = queued(state=State.SUCCEEDED, ended_at=clock.now())
    response = client.post(page("scheduling_run_cancel", run.pk), follow=True)
    assert messages_of(response) == ["The run had ended already"]
    assert not LogEntry.objects.exists()
    assert "Stop" not in text_of(client.get(page("scheduling_run_change", run.pk)))


@pytest.mark.parametrize(
    ("permissions", "sees", "stops"),
    [
        ((), 403, 403),
        (("cancel_run",), 403, 403),
        (("view_run",), 200, 403),
        (("view_run", "trigger_job", "break_lock", "view_run_output"), 200, 403),
        (("view_run", "cancel_run"), 200, 302),
    ],
)
def test_stopping_has_a_permission_of_its_own(
    permissions: tuple[str, ...], sees: int, stops: int
) -> None:
    client, run = log_in(*permissions), running()
    assert client.get(page("scheduling_run_change", run.pk)).status_code == sees
    for answer in ({}, {"at_once": "1"}):
        assert client.post(page("scheduling_run_cancel", run.pk), answer).status_code == stops
    run.refresh_from_db()
    assert run.stop_at_once is (stops == 302)
