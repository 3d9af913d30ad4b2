"""History of tasks that are no jobs: one row for each message, whatever becomes of it."""

from __future__ import annotations

from collections.abc import Callable
from datetime import timedelta
from types import SimpleNamespace
from typing import Any
from uuid import uuid4

import pytest
from billiard.exceptions import TimeLimitExceeded, WorkerLostError
from celery.app.task import Context
from celery.exceptions import Ignore, Reject, SoftTimeLimitExceeded
from celery.worker.request import Request

from config.celery import app
from scheduling import clock, runs
from scheduling.models import Process, ProcessKind, Reason, Run, State
from tests.integration.workers import tasks
from tests.integration.workers.conftest import HOST, send
from workers import foreign, handlers, lease

pytestmark = pytest.mark.django_db(transaction=True)

NAME = f"{tasks.PATH}.remember"
CHILD = 4711
LOST = WorkerLostError("signal 9 (SIGKILL)")


@pytest.fixture(autouse=True)
def asked_for(settings: Any) -> None:
    settings.JOBS_RECORD_FOREIGN_TASKS = (f"{tasks.PATH}.re*",)
    tasks.act[:] = []


def raise_(error: BaseException) -> Callable[[], Any]:
    def act() -> Any:
        raise error

    return act


def row() -> tuple[str, str, int]:
    run = Run.objects.get()
    return run.state, run.reason, run.attempt


def started(**fields: Any) -> tuple[Run, Request]:
    """A task that a child of the worker has begun, and its request in the main process."""
    task_id = str(uuid4())
    now = clock.now()
    runs.begin_foreign(task_id=task_id, name=NAME, worker=f"w@x/{CHILD}", now=now)
    return Run.objects.get(pk=task_id), receive(task_id)


def receive(task_id: str) -> Request:
    message = SimpleNamespace(
        headers={"id": task_id, "task": NAME},
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


def test_a_task_runs_and_succeeds() -> None:
    task_id = str(uuid4())
    seen: list[tuple[str, str]] = []
    tasks.act[:] = [lambda: seen.extend(Run.objects.values_list("state", "worker"))]
    send(NAME, "secret", task_id=task_id)
    assert seen == [(State.RUNNING, lease.worker_name(HOST))]
    run = Run.objects.get()
    assert (str(run.pk), run.cause, run.name) == (task_id, "foreign", NAME)
    assert row() == (State.SUCCEEDED, "", 1)
    assert run.ended_at is not None
    assert (run.kwargs, run.error) == ({}, "")


@pytest.mark.parametrize(
    ("error", "state", "reason"),
    [
        (ZeroDivisionError("division by zero"), State.FAILED, Reason.ERROR),
        (SoftTimeLimitExceeded(9), State.FAILED, Reason.SOFT_LIMIT),
        (Reject("not mine", requeue=False), State.FAILED, Reason.ERROR),
        (Reject("not mine", requeue=True), State.QUEUED, Reason.RETRY),
        (Ignore(), State.SUCCEEDED, ""),
    ],
)
def test_what_a_task_raises_decides(error: BaseException, state: str, reason: str) -> None:
    tasks.act[:] = [raise_(error)]
    send(NAME, "secret", task_id=str(uuid4()))
    assert row() == (state, reason, 1)


def test_a_failure_keeps_the_end_of_its_traceback_and_no_arguments() -> None:
    tasks.act[:] = [lambda: 1 / 0]
    send(NAME, "secret", task_id=str(uuid4()))
    error = Run.objects.get().error
    assert error.endswith("ZeroDivisionError: division by zero\n")
    assert "in remember" in error
    assert "secret" not in error


def test_a_retry_is_another_attempt_of_the_same_row(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(app.tasks[f"{tasks.PATH}.retrying"], "apply_async", lambda *a, **k: None)
    monkeypatch.setattr("celery.canvas.Signature.apply_async", lambda *a, **k: None)
    task_id = str(uuid4())
    send(f"{tasks.PATH}.retrying", task_id=task_id)
    assert row() == (State.QUEUED, Reason.RETRY, 1)
    run = Run.objects.get()
    assert "KeyError" in run.error
    assert run.ready_at is not None
    send(f"{tasks.PATH}.retrying", task_id=task_id, retries=2)
    assert row() == (State.FAILED, Reason.ERROR, 2)


def test_a_second_delivery_is_another_attempt() -> None:
    task_id = str(uuid4())
    for _ in range(2):
        send(NAME, task_id=task_id)
    assert row() == (State.SUCCEEDED, "", 2)


def test_a_hard_limit_that_is_signalled_twice_leaves_one_row() -> None:
    run, request = started()
    for _ in range(2):
        handlers.failed(task_id=request.id, exception=TimeLimitExceeded(30.0), sender=request.task)
    assert row() == (State.FAILED, Reason.HARD_LIMIT, 1)
    run.refresh_from_db()
    assert "limit of 30 s" in run.error


def test_a_lost_child_fails_its_task() -> None:
    _, request = started()
    handlers.failed(task_id=request.id, exception=LOST, sender=request.task)
    assert row() == (State.FAILED, Reason.LOST, 1)


def test_a_child_that_is_lost_before_it_could_write_leaves_a_row_as_well() -> None:
    request = receive(str(uuid4()))
    handlers.failed(task_id=request.id, exception=LOST, sender=request.task)
    assert row() == (State.FAILED, Reason.LOST, 1)


def test_a_child_that_is_lost_after_the_end_changes_nothing() -> None:
    run, request = started()
    end: dict[str, Any] = {
        "name": NAME,
        "state": State.SUCCEEDED,
        "began": run.started_at,
        "now": clock.now(),
    }
    runs.end_foreign(task_id=request.id, **end)
    handlers.failed(task_id=request.id, exception=LOST, sender=request.task)
    assert row() == (State.SUCCEEDED, "", 1)


@pytest.mark.parametrize(
    ("how", "state", "reason"),
    [
        ({"terminated": False, "expired": False}, State.SKIPPED, Reason.CANCELLED),
        ({"terminated": False, "expired": True}, State.SKIPPED, Reason.LATE),
        ({"terminated": True, "expired": False, "signum": 15}, State.FAILED, Reason.TERMINATED),
    ],
)
def test_what_is_revoked_before_its_start_leaves_one_row(
    how: dict[str, Any], state: str, reason: str
) -> None:
    request = Context(id=str(uuid4()), task=NAME)
    for _ in range(2):
        handlers.revoked(request=request, **how)
    assert row() == (state, reason, 1)


def test_what_is_terminated_while_it_runs_is_failed() -> None:
    run, _ = started()
    request = Context(id=str(run.pk), task=NAME)
    handlers.revoked(request=request, terminated=True, signum="SIGTERM")
    assert row() == (State.FAILED, Reason.TERMINATED, 1)


def test_the_end_of_an_attempt_that_is_believed_lost_is_refused() -> None:
    run, _ = started()
    now = clock.now()
    assert runs.lose_foreign(silent_since=now + timedelta(seconds=1), now=now) == 1
    assert row() == (State.FAILED, Reason.LOST, 1)
    end: dict[str, Any] = {
        "name": NAME,
        "state": State.SUCCEEDED,
        "began": run.started_at,
        "now": now,
    }
    runs.end_foreign(task_id=str(run.pk), **end)
    assert row() == (State.FAILED, Reason.LOST, 1)


def test_on_threads_a_retry_may_begin_before_its_predecessor_has_ended() -> None:
    run, _ = started()
    again = clock.now()
    runs.begin_foreign(task_id=str(run.pk), name=NAME, worker=run.worker, now=again)
    runs.put_back_foreign(
        task_id=str(run.pk), error="", detail="", ready_at=again, began=run.started_at
    )
    assert row() == (State.RUNNING, "", 2)
    runs.end_foreign(
        task_id=str(run.pk), name=NAME, state=State.SUCCEEDED, began=again, now=clock.now()
    )
    assert row() == (State.SUCCEEDED, "", 2)


@pytest.mark.parametrize(
    ("worker", "begun", "is_lost"),
    [
        pytest.param("w@x", -60, False, id="its worker is older than it"),
        pytest.param("w@x", 60, True, id="its worker was started since"),
        pytest.param("other@x", -60, False, id="no worker yet has said that it is there"),
    ],
)
def test_what_ran_in_a_worker_that_is_gone_is_lost(worker: str, begun: int, is_lost: bool) -> None:
    started()
    now = clock.now()
    Process.objects.create(
        kind=ProcessKind.WORKER,
        name=worker,
        host="x",
        pid=1,
        started_at=now + timedelta(seconds=begun),
        seen_at=now,
    )
    lost = runs.lose_foreign(silent_since=now - timedelta(seconds=12), now=now)
    assert lost == is_lost
    assert row()[0] == (State.FAILED if is_lost else State.RUNNING)


def test_a_retry_that_never_comes_is_given_up() -> None:
    run, _ = started()
    now = clock.now()
    runs.put_back_foreign(
        task_id=str(run.pk), error="", detail="", ready_at=now, began=run.started_at
    )
    lose = runs.lose_foreign
    assert lose(silent_since=now, now=now + timedelta(hours=23)) == 0
    assert lose(silent_since=now, now=now + timedelta(hours=25)) == 1
    assert row() == (State.FAILED, Reason.LOST, 1)


@pytest.mark.parametrize(
    ("patterns", "is_asked_for"),
    [((), False), (("*",), True), ([NAME], True), (("tests.*",), True), (("shop.*",), False)],
)
def test_patterns_say_which_tasks(settings: Any, patterns: Any, is_asked_for: bool) -> None:
    settings.JOBS_RECORD_FOREIGN_TASKS = patterns
    send(NAME, task_id=str(uuid4()))
    assert Run.objects.exists() == is_asked_for


def test_celerys_own_and_what_a_team_calls_itself_have_none(settings: Any) -> None:
    settings.JOBS_RECORD_FOREIGN_TASKS = ("*",)
    assert not foreign.is_wanted("celery.backend_cleanup")
    app.tasks[NAME].apply()
    assert not Run.objects.exists()
