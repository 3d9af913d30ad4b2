"""What runs write, at the command line, as it comes and attempt by attempt; and stopping them."""

from __future__ import annotations

import time
import uuid
from collections.abc import Callable
from datetime import timedelta
from typing import Any

import pytest

from scheduling import clock, runs
from scheduling.models import Attempt, Reason, Run, State
from scheduling.runs import Result
from tests.factories import NOW, make_job, make_run, make_target
from tests.integration.cli import jobs

pytestmark = pytest.mark.django_db

Step = Callable[[], object]
AGAIN = timedelta(minutes=1)


@pytest.fixture
def follow(monkeypatch: pytest.MonkeyPatch) -> Callable[..., list[str]]:
    """Follow `mails` while these steps are taken, one between two looks; give what is said."""

    def follow(*steps: Step) -> list[str]:
        rest = iter(steps)

        def nap(seconds: float) -> None:
            step = next(rest, None)
            if step is None:
                raise KeyboardInterrupt
            step()

        monkeypatch.setattr(time, "sleep", nap)
        return jobs("history", "mails", "--follow").stdout.splitlines()

    return follow


def mails(key: str = "", **fields: Any) -> Run:
    return make_run(make_target(make_job("mails", retries=2), key), **fields)


def start(run: Run, attempt: int = 1) -> None:
    assert runs.start(run.pk, attempt, worker="w@north/1", now=clock.now()) is not None


def wrote(run: Run, text: str) -> None:
    """As the heartbeat stores what has been written so far."""
    assert Run.objects.filter(pk=run.pk, state=State.RUNNING).update(
        output=text, output_bytes=len(text)
    )


def end(run: Run, text: str, *, retry: timedelta | None = None, attempt: int = 1) -> None:
    result = Result(
        state=State.FAILED if retry is not None else State.SUCCEEDED,
        reason=Reason.ERROR if retry is not None else None,
        output=text,
        output_bytes=len(text),
        error="oh" if retry is not None else "",
        retry_after=retry,
    )
    token = Run.objects.get(pk=run.pk).token
    assert runs.finish(run.pk, attempt, token=token, result=result, now=clock.now())


def test_the_output_of_a_running_run_is_said_as_it_comes(follow) -> None:
    run = mails()
    queued, started, *written, ended = follow(
        lambda: start(run),
        lambda: wrote(run, "one\ntw"),
        lambda: wrote(run, "one\ntwo\nthree"),
        lambda: end(run, "one\ntwo\nthree\nfour"),
    )
    assert "queued" in queued
    assert "has been running" in started
    assert written == ["one", "two", "three", "four"]
    assert "succeeded" in ended


def test_what_ended_before_is_left_to_the_history(follow) -> None:
    mails(state=State.SUCCEEDED, started_at=NOW, ended_at=NOW, output="old\n", output_bytes=4)
    (ended,) = follow(lambda: None)
    assert "succeeded" in ended


def test_what_began_and_ended_between_two_looks_is_said_whole(follow) -> None:
    before = mails(state=State.SUCCEEDED, started_at=NOW, ended_at=NOW)

    def come_and_go() -> None:
        run = make_run(before.target, created_at=clock.now())
        start(run)
        end(run, "quick\n")

    assert follow(come_and_go)[1] == "quick"


def test_each_attempt_is_said_from_its_own_beginning(follow) -> None:
    run = mails()
    start(run)
    wrote(run, "first\n")

    def again() -> None:
        Run.objects.filter(pk=run.pk).update(ready_at=clock.now())
        start(run, 2)
        wrote(run, "second\n")

    said = follow(
        lambda: end(run, "first\nto the end", retry=AGAIN),
        again,
        lambda: end(run, "second\n", attempt=2),
    )
    assert [line for line in said if "mails" not in line and " was " not in line] == [
        "first",
        "to the end",
        "second",
    ]


def test_lines_of_a_target_carry_its_key(follow) -> None:
    run = mails("north")
    assert "north | hello" in follow(lambda: start(run), lambda: wrote(run, "hello\n"))


# --- attempts


def test_attempts_tell_each_one_and_what_it_wrote() -> None:
    run = mails()
    start(run)
    end(run, "first\n", retry=timedelta(0))
    start(run, 2)
    wrote(run, "second\n")
    told = jobs("attempts", str(run.pk), "--json")
    assert told.code == 0
    rows = told.document()
    assert [(row["attempt"], row["state"], row["reason"], row["output"]) for row in rows] == [
        (1, "ended", "retry", "first\n"),
        (2, "running", None, "second\n"),
    ]
    assert (rows[0]["worker"], rows[0]["error"], rows[1]["ended_at"]) == ("w@north/1", "oh", None)
    assert list(rows[0]) == list(rows[1])
    people = jobs("attempts", str(run.pk)).stdout.splitlines()
    assert [line.split()[0] for line in people] == ["ATTEMPT", "1", "2"]


def test_attempts_of_no_run_are_bad_input() -> None:
    for word in (str(uuid.uuid4()), "nonsense"):
        told = jobs("attempts", word, "--json")
        assert told.code == 2
        assert word in told.document()["error"]


# --- cancel


def waiting() -> Run:
    """It waits for the end of another run of its target."""
    before = mails(state=State.RUNNING, started_at=NOW, lease_until=clock.now() + AGAIN)
    return make_run(before.target, waiting_on=before)


def in_line() -> Run:
    """It waits for a lock."""
    holder = make_run(make_target(make_job("close_books", locks=["ledger"])))
    start(holder)
    run = make_run(make_target(make_job("mails", locks=["ledger"])))
    assert runs.start(run.pk, 1, worker="w", now=clock.now()) is None
    return run


def retrying() -> Run:
    run = mails()
    start(run)
    end(run, "first\n", retry=AGAIN)
    return run


@pytest.mark.parametrize("words", [(), ("--kill",)], ids=["stop", "kill"])
@pytest.mark.parametrize("made", [mails, waiting, in_line, retrying])
def test_what_has_not_begun_is_cancelled(made: Callable[[], Run], words: tuple[str, ...]) -> None:
    run = made()
    told = jobs("cancel", str(run.pk), *words)
    assert told.code == 0
    assert "cancelled" in told.stdout
    run.refresh_from_db()
    assert (run.state, run.reason) == (State.SKIPPED, Reason.CANCELLED)
    assert run.publish_at is None
    assert not run.tickets.exists()
    assert runs.start(run.pk, run.attempt, worker="w", now=clock.now() + 2 * AGAIN) is None


def test_a_running_run_is_asked_and_then_killed() -> None:
    run = mails()
    start(run)
    assert "asked to stop" in jobs("cancel", str(run.pk)).stdout
    assert runs.stop_requests([run.pk]) == {run.pk: False}
    assert "is to be killed" in jobs("cancel", str(run.pk), "--kill").stdout
    assert runs.stop_requests([run.pk]) == {run.pk: True}


def test_an_end_stays_as_it_was() -> None:
    run = mails(state=State.SUCCEEDED, started_at=NOW, ended_at=NOW)
    told = jobs("cancel", str(run.pk), "--json")
    assert (told.code, told.document()["state"]) == (0, "succeeded")
    assert not Attempt.objects.exists()
