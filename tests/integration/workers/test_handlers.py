"""What Celery's signals lead to; the requests are Celery's own."""

from __future__ import annotations

import gc
from types import SimpleNamespace
from typing import Any
from uuid import uuid4

import pytest
from billiard.exceptions import TimeLimitExceeded, WorkerLostError
from celery.app.task import Context
from celery.worker.request import Request

from config.celery import app
from scheduling import clock
from scheduling.models import Reason, Run, State
from tests.factories import make_job, make_run, make_target
from workers import handlers

pytestmark = pytest.mark.django_db(transaction=True)

CHILD = 4711


def running(*, worker: str = f"w@x/{CHILD}", **job: Any) -> Run:
    return make_run(
        make_target(make_job(**job)), state=State.RUNNING, worker=worker, started_at=clock.now()
    )


def receive(run: Run, *, attempt: int = 1) -> Request:
    message = SimpleNamespace(
        headers={
            "id": str(run.pk),
            "task": "workers.commands.run_command",
            "jobs_run": [str(run.pk), attempt],
        },
        body=b"",
        payload=([], {}, {}),
        content_type="application/json",
        content_encoding="utf-8",
        delivery_info={},
        properties={},
    )
    request = Request(message, app=app, hostname="w@x")
    vars(request)["worker_pid"] = CHILD
    handlers.received(request=request)
    return request


def after(run: Run) -> tuple[str, str, int]:
    run.refresh_from_db()
    return run.state, run.reason, run.attempt


LOST = WorkerLostError("signal 9 (SIGKILL)")


def test_a_lost_process_fails_its_run() -> None:
    run = running()
    request = receive(run)
    handlers.failed(task_id=request.id, exception=LOST)
    assert after(run) == (State.FAILED, Reason.LOST, 1)
    assert "SIGKILL" in run.error


def test_a_lost_process_puts_an_idempotent_run_back() -> None:
    run = running(rerun_if_lost=True)
    request = receive(run)
    handlers.failed(task_id=request.id, exception=LOST)
    assert after(run) == (State.QUEUED, Reason.LOST, 2)


def test_a_hard_limit_that_is_signalled_twice_counts_once() -> None:
    run = running(retries=5)
    request = receive(run)
    for _ in range(2):
        handlers.failed(task_id=request.id, exception=TimeLimitExceeded(30.0))
    assert after(run) == (State.QUEUED, Reason.RETRY, 2)
    assert "limit of 30 s" in run.error


def test_a_dropped_message_that_dies_does_not_end_the_attempt_of_another_process() -> None:
    run = running(worker="w@x/1")
    request = receive(run)
    handlers.failed(task_id=request.id, exception=LOST)
    assert after(run) == (State.RUNNING, "", 1)


def test_with_two_messages_of_one_run_the_lease_decides() -> None:
    run = running()
    first, second = receive(run), receive(run, attempt=2)
    handlers.failed(task_id=str(run.pk), exception=LOST)
    assert after(run) == (State.RUNNING, "", 1)
    assert first is not second


def test_requests_are_forgotten_with_celery() -> None:
    run = running()
    receive(run)
    gc.collect()
    assert handlers.requests.only(str(run.pk)) is None


def test_an_ordinary_failure_is_left_to_the_guard() -> None:
    run = running()
    request = receive(run)
    handlers.failed(task_id=request.id, exception=ValueError())
    assert after(run) == (State.RUNNING, "", 1)


def test_a_terminated_run_is_failed_and_not_tried_again() -> None:
    run = running(retries=3)
    context = Context(jobs_run=[str(run.pk), 1], id=str(run.pk))
    handlers.revoked(request=context, terminated=True, signum="SIGTERM", expired=False)
    assert after(run) == (State.FAILED, Reason.TERMINATED, 1)


def test_a_run_that_is_revoked_before_it_starts_is_cancelled() -> None:
    run = make_run()
    context = Context(jobs_run=[str(run.pk), 1], id=str(run.pk))
    handlers.revoked(request=context, terminated=False, signum=None, expired=False)
    assert after(run) == (State.SKIPPED, Reason.CANCELLED, 1)


def test_a_task_that_no_worker_knows_fails_its_run() -> None:
    run = make_run()
    message = SimpleNamespace(headers={"jobs_run": [str(run.pk), 1]})
    handlers.unknown(message=message, name="nope", id=str(run.pk), exc=KeyError("nope"))
    assert after(run) == (State.FAILED, Reason.UNKNOWN_TASK, 1)


def test_messages_that_are_no_runs_change_nothing() -> None:
    handlers.unknown(message=SimpleNamespace(headers={}), name="nope", id="x", exc=KeyError())
    handlers.revoked(request=Context(id="x"), terminated=True)
    handlers.failed(task_id="x", exception=LOST)
    assert not Run.objects.exists()


def test_an_error_in_a_handler_is_logged_and_goes_no_further(
    caplog: pytest.LogCaptureFixture,
) -> None:
    context = Context(jobs_run=[str(uuid4()), 1])
    handlers.revoked(request=context, terminated=False, signum=None, expired=False)
    assert "revoked failed" in caplog.text
