"""What failed bodies held is freed at once, not when the collector next looks at everything."""

from __future__ import annotations

import gc
import weakref
from collections.abc import Callable, Iterator
from typing import Any
from unittest.mock import Mock

import pytest
from celery import current_task

from scheduling import current_run
from scheduling.models import Reason, State
from tests.factories import make_job, make_run, make_target
from tests.integration.workers import tasks
from tests.integration.workers.conftest import Deliver, send
from workers import commands, failures
from workers.output import HeadTail

pytestmark = pytest.mark.django_db(transaction=True)


class Large:
    """Something that a job holds while it works."""


held: list[weakref.ref[Any]] = []


@pytest.fixture(autouse=True)
def no_collector() -> Iterator[None]:
    held.clear()
    tasks.act.clear()
    gc.collect()
    gc.disable()
    yield
    gc.enable()


def make_large() -> Large:
    large = Large()
    held.append(weakref.ref(large))
    return large


def fail() -> None:
    large = make_large()
    raise ValueError(f"with {type(large).__name__}")


def fail_twice() -> None:
    large = make_large()
    try:
        fail()
    except ValueError as error:
        raise KeyError(type(large)) from error


def fail_while_failing() -> None:
    try:
        fail()
    finally:
        fail()


def fail_in_a_group() -> None:
    errors = []
    for each in (fail, fail_twice):
        try:
            each()
        except Exception as error:
            errors.append(error)
    raise ExceptionGroup("several", errors)


def exit_with_code() -> None:
    large = make_large()
    raise SystemExit(type(large).__name__)


def ask_for_a_retry() -> None:
    try:
        fail()
    except ValueError as error:
        raise current_task.retry(exc=error, countdown=0) from error


@pytest.mark.parametrize(
    ("body", "number"),
    [
        (fail, 1),
        (fail_twice, 2),
        (fail_while_failing, 2),
        (fail_in_a_group, 3),
        (exit_with_code, 1),
        (ask_for_a_retry, 1),
    ],
)
def test_what_a_failed_body_held_is_freed(
    deliver: Deliver, body: Callable[[], None], number: int
) -> None:
    tasks.act.append(body)
    after = deliver(make_run(make_target(make_job(task=f"{tasks.PATH}.remember"))))
    assert after.reason is not None
    assert [each() for each in held] == [None] * number


def test_so_is_what_one_of_several_of_a_message_held() -> None:
    def fail_of_several() -> None:
        assert current_run()
        fail()

    job = make_job(task=f"{tasks.PATH}.remember", batch=10)
    rows = [make_run(make_target(job, f"key {at}")) for at in range(3)]
    tasks.act.extend([fail_of_several] * 3)
    names = [[str(run.pk), run.attempt] for run in rows]
    send(job.task, *names[0], task_id=str(rows[0].pk), jobs_run=names[0], jobs_batch=names)
    assert [each() for each in held] == [None] * 3


def test_so_is_what_a_task_of_somebody_else_held() -> None:
    tasks.act.append(fail)
    send(f"{tasks.PATH}.remember", task_id="not ours")
    assert [each() for each in held] == [None]


def test_so_is_the_output_of_a_failed_command(
    deliver: Deliver, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Kept(HeadTail):
        def __init__(self, limit: int, head: int) -> None:
            super().__init__(limit, head)
            held.append(weakref.ref(self))

    monkeypatch.setattr(commands, "HeadTail", Kept)
    job = make_job(kind="command", command="flood", internal=False)
    after = deliver(make_run(make_target(job)), name=commands.run_command.name)
    assert (after.state, after.reason) == (State.FAILED, Reason.EXIT_CODE)
    assert [each() for each in held] == [None]


def rows() -> Iterator[object]:
    """Give its own error to whoever reads it, and go on."""
    for number in range(5):
        try:
            if number == 1:
                raise ValueError("row 1")
            yield number
        except ValueError as error:
            yield error


def test_a_generator_that_goes_on_is_left_alone(deliver: Deliver) -> None:
    seen, source = [], rows()

    def fail_because_of_a_row() -> None:
        for row in source:
            seen.append(row)
            if isinstance(row, Exception):
                raise RuntimeError("a row is bad") from row

    tasks.act.append(fail_because_of_a_row)
    after = deliver(make_run(make_target(make_job(task=f"{tasks.PATH}.remember"))))
    assert (after.state, len(seen)) == (State.FAILED, 2)
    assert list(source) == [2, 3, 4]


def test_what_a_body_still_handles_is_left_alone_by_a_task_that_it_calls(deliver: Deliver) -> None:
    freed = []

    def call_while_handling() -> None:
        large = make_large()
        try:
            fail()
        except ValueError:
            tasks.act.append(fail)
            tasks.remember.apply()
        del large
        freed.append(held[0]() is None)

    tasks.act.append(call_while_handling)
    after = deliver(make_run(make_target(make_job(task=f"{tasks.PATH}.remember"))))
    assert (after.state, freed) == (State.SUCCEEDED, [True])


def test_an_error_that_is_a_result_is_left_alone(deliver: Deliver) -> None:
    def give_it() -> Exception:
        try:
            raise ValueError("as a value")
        except ValueError as error:
            return error

    tasks.act.append(give_it)
    assert (
        deliver(make_run(make_target(make_job(task=f"{tasks.PATH}.remember")))).state == "succeeded"
    )


def test_what_only_says_that_it_is_an_error_is_none() -> None:
    failures.let_go(Mock(spec=ValueError))


def test_one_of_several_that_is_executed_alone_is_freed_too() -> None:
    def fail_with_its_error() -> None:
        large = make_large()
        raise ValueError(type(large).__name__)

    job = make_job(task=f"{tasks.PATH}.remember", batch=10, locks=["ledger"])
    lines = [make_run(make_target(job, f"key {at}")) for at in range(2)]
    tasks.act.extend([fail_with_its_error] * 2)
    names = [[str(run.pk), run.attempt] for run in lines]
    send(job.task, *names[0], task_id=str(lines[0].pk), jobs_run=names[0], jobs_batch=names)
    assert [each() for each in held] == [None] * 2
