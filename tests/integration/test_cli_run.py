"""`jobs run`: a job in the foreground, by the way of a worker."""

from __future__ import annotations

from datetime import timedelta
from pathlib import Path

import pytest
from celery import shared_task

from scheduling import clock
from scheduling.management.verbs.acting import Lines
from scheduling.models import Job, Reason, Run, State
from tests.factories import make_job, make_run, make_target
from tests.integration.cli import jobs
from tests.testapp import oracle

# The heartbeat looks at the database from a thread of its own.
pytestmark = pytest.mark.django_db(transaction=True)


@pytest.fixture(autouse=True)
def no_jobs(transactional_db: None) -> None:
    """Begin without the jobs that the code declares, which the migration has synced."""
    Job.objects.all().delete()


@pytest.fixture
def told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    path = tmp_path / "oracle"
    monkeypatch.setenv(oracle.ENVIRONMENT, str(path))
    return path


def runnable(name: str, **fields: object) -> Job:
    job = make_job(name, **fields)
    make_target(job)
    return job


def test_a_task_runs_here_and_its_history_is_the_answer(told: Path) -> None:
    runnable("note")
    answer = jobs("run", "note", "--json")
    assert answer.code == 0, answer
    row = answer.document()
    assert (row["state"], row["cause"], row["attempt"]) == ("succeeded", "manual", 1)
    assert [line.event for line in oracle.read(told)] == ["start", "end"]
    assert {line.run for line in oracle.read(told)} == {row["id"]}
    run = Run.objects.get()
    assert run.token == 1
    assert run.published_at is None


def test_the_output_of_a_command_is_shown() -> None:
    runnable("say", kind="command", command="scribble", internal=False)
    answer = jobs("run", "say")
    run = Run.objects.get()
    assert run.state == State.SUCCEEDED, run.error
    said, *rest = answer.stdout.splitlines()
    assert said == "scribbled"
    assert str(run.pk) in rest[-1]
    assert jobs("run", "say", "--json").document()["output"] == "scribbled\n"


@shared_task(name="tests.chatty")
def chatty() -> None:
    print("noise")  # noqa: T201


def test_what_a_task_prints_stays_out_of_the_document() -> None:
    runnable("chatty", task="tests.chatty")
    answer = jobs("run", "chatty", "--json")
    assert answer.document()["state"] == "succeeded"
    assert "noise" in answer.stderr


def test_output_is_said_in_whole_lines_as_it_comes() -> None:
    said: list[str] = []
    lines = Lines(said.append)
    for piece in (b"one\ntw", b"o \xe2\x82", b"\xac\nthr"):
        lines.hear(piece)
    assert said == ["one", "two \N{EURO SIGN}"]
    lines.end()
    assert said[-1] == "thr"


def test_a_failing_job_exits_with_1(tmp_path: Path) -> None:
    broken = tmp_path / "broken"
    broken.touch()
    runnable("fails", task="tests.testapp.jobs.fail_while")
    answer = jobs("run", "fails", "--arg", f"broken={broken}", "--json")
    assert answer.code == 1
    assert answer.document()["reason"] == "error"
    assert "RuntimeError" in Run.objects.get().error


def test_a_run_that_has_to_wait_is_waited_for_no_longer_than_told() -> None:
    job = runnable("note")
    now = clock.now()
    make_run(
        job.targets.get(),
        state=State.RUNNING,
        started_at=now,
        lease_until=now + timedelta(minutes=1),
    )
    answer = jobs("run", "note", "--timeout", "1s", "--json")
    assert answer.code == 1
    assert answer.document()["state"] == "queued"
    assert Run.objects.get(state=State.QUEUED).waiting_on is not None


def test_ctrl_c_ends_the_run(monkeypatch: pytest.MonkeyPatch) -> None:
    runnable("note")

    def interrupt(*args: object, **kwargs: object) -> None:
        raise KeyboardInterrupt

    monkeypatch.setattr("tests.testapp.oracle.write", interrupt)
    answer = jobs("run", "note", "--json")
    assert answer.code == 1
    assert answer.document()["reason"] == "cancelled"
    run = Run.objects.get()
    assert (run.state, run.reason) == (State.FAILED, Reason.CANCELLED)


def test_a_task_that_is_not_known_here_is_refused_before_anything_is_written() -> None:
    runnable("foreign", task="other.tasks.pay")
    answer = jobs("run", "foreign", "--json")
    assert answer.code == 2
    assert "other.tasks.pay" in answer.document()["error"]
    assert not Run.objects.exists()
