"""Attempts that did not end their run: which are made, what is kept of them."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import pytest

from scheduling import runs
from scheduling.models import Attempt, Reason, Run, State
from scheduling.runs import Result
from tests.factories import NOW, make_job, make_run, make_target

pytestmark = pytest.mark.django_db(transaction=True)

SECOND = timedelta(seconds=1)


def begun(attempt: int = 1, run: Run | None = None, **fields: Any) -> Run:
    run = run or make_run(make_target(make_job(**fields)))
    Run.objects.filter(pk=run.pk).update(ready_at=None)
    assert runs.start(run.pk, attempt, worker="celery@host/1", now=NOW) is not None
    run.refresh_from_db()
    return run


def fail(run: Run, **fields: Any) -> Run:
    fields.setdefault("reason", Reason.ERROR)
    result = Result(state=State.FAILED, **fields)
    assert runs.finish(run.pk, run.attempt, token=run.token, result=result, now=NOW + SECOND)
    run.refresh_from_db()
    return run


def test_what_is_known_of_an_earlier_attempt_is_kept() -> None:
    run = begun(retries=1)
    token = run.token
    fail(run, error="boom", output="x" * 20_000, output_bytes=20_000, exit_code=3)
    (attempt,) = Attempt.objects.filter(run=run)
    assert (attempt.number, attempt.worker, attempt.token) == (1, "celery@host/1", token)
    assert (attempt.started_at, attempt.ended_at) == (NOW, NOW + SECOND)
    assert (attempt.reason, attempt.error, attempt.exit_code) == ("retry", "boom", 3)
    assert (len(attempt.output), attempt.output_bytes) == (16 * 1024, 20_000)


def test_the_last_attempt_is_the_run_itself() -> None:
    run = fail(begun(2, fail(begun(retries=1))))
    assert run.state == State.FAILED
    assert run.earlier_attempts.count() == 1


def test_of_a_lost_attempt_the_output_that_was_shown_is_kept() -> None:
    run = begun(rerun_if_lost=True)
    assert run.token is not None
    assert runs.show_output(
        run.pk, 1, token=run.token, text="half of it", total=10, now=NOW + SECOND
    )
    assert runs.lose(run.pk, 1, detail="its process is gone", now=NOW + SECOND)
    (attempt,) = Attempt.objects.filter(run=run)
    assert (attempt.reason, attempt.output) == ("lost", "half of it")
    assert attempt.error == "its process is gone"


def test_output_is_shown_of_the_accepted_attempt_only() -> None:
    run = begun(rerun_if_lost=True)
    old = run.token
    assert old is not None
    runs.lose(run.pk, 1, detail="gone", now=NOW + SECOND)
    begun(2, run)
    assert not runs.show_output(run.pk, 1, token=old, text="late", total=4, now=NOW + SECOND)
    run.refresh_from_db()
    assert run.output == ""


def test_retries_and_losses_are_counted_apart(settings) -> None:
    settings.JOBS_LOSSES_TO_POISON = 2
    run = begun(retries=1, rerun_if_lost=True)
    runs.lose(run.pk, 1, detail="gone", now=NOW)
    fail(begun(2, run))
    assert (run.state, run.failures, run.losses) == (State.QUEUED, 1, 1)
    begun(3, run)
    runs.lose(run.pk, 3, detail="gone", now=NOW)
    run.refresh_from_db()
    assert (run.state, run.reason, run.losses) == (State.FAILED, Reason.POISON, 2)
    assert [each.reason for each in run.earlier_attempts.all()] == ["lost", "retry"]


@pytest.mark.parametrize(
    ("retry_on", "failure", "is_retried"),
    [
        ([], {}, True),
        (["ConnectionError"], {"error_types": ("ConnectionResetError", "ConnectionError")}, True),
        (["requests.Timeout"], {"error_types": ("requests.Timeout", "Timeout")}, True),
        (["ConnectionError"], {"error_types": ("ValueError", "Exception")}, False),
        ([75], {"reason": Reason.EXIT_CODE, "exit_code": 75}, True),
        ([75], {"reason": Reason.EXIT_CODE, "exit_code": 1}, False),
        (["hard_limit"], {"reason": Reason.HARD_LIMIT}, True),
        (["ConnectionError"], {"reason": Reason.HARD_LIMIT}, False),
    ],
)
def test_only_what_the_job_names_is_retried(
    retry_on: list[object], failure: dict[str, object], is_retried: bool
) -> None:
    run = fail(begun(retries=3, retry_on=retry_on), **failure)
    assert (run.state == State.QUEUED) is is_retried


def test_what_the_job_asks_for_itself_is_not_asked_about() -> None:
    run = fail(begun(retries=0, retry_on=["ValueError"]), retry_after=timedelta(seconds=5))
    assert (run.state, run.ready_at) == (State.QUEUED, NOW + SECOND + timedelta(seconds=5))


def test_a_small_result_is_kept() -> None:
    run = begun()
    result = Result(state=State.SUCCEEDED, value={"rows": 3})
    assert runs.finish(run.pk, 1, token=run.token, result=result, now=NOW)
    run.refresh_from_db()
    assert run.result == {"rows": 3}


def test_what_a_lost_attempt_had_written_is_kept_where_its_worker_knows_it() -> None:
    run = begun()
    written = Result(state=State.FAILED, reason=Reason.LOST, output="to the end", output_bytes=10)
    assert runs.lose(run.pk, 1, detail="its shepherd is gone", result=written, now=NOW)
    run.refresh_from_db()
    assert (run.reason, run.output, run.error) == ("lost", "to the end", "its shepherd is gone")
