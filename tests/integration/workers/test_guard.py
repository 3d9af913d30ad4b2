from __future__ import annotations

from collections.abc import Iterator
from datetime import timedelta
from typing import Any

import pytest
from celery.exceptions import SoftTimeLimitExceeded
from django.db import OperationalError, connection, transaction

from config.celery import app
from scheduling import clock, redis, runs
from scheduling.models import Outcome, Reason, Run, State
from scheduling.registry import Declaration, registry
from scheduling.schedules import Manual
from tests import services
from tests.factories import make_job, make_run, make_target
from tests.integration.workers import tasks
from tests.integration.workers.conftest import Deliver, send
from workers import locks, task

pytestmark = pytest.mark.django_db(transaction=True)


@pytest.fixture(autouse=True)
def fresh() -> Iterator[None]:
    tasks.seen.clear()
    tasks.act.clear()
    declared = list(registry)
    yield
    registry.clear()
    for declaration in declared:
        registry.add(declaration)


def queued(name: str = "remember", *, key: str = "", resource: str = "", **fields: Any) -> Run:
    job = make_job(task=f"{tasks.PATH}.{name}", **fields)
    return make_run(make_target(job, key, resource=resource))


def declare(run: Run, should_run: Any) -> None:
    assert run.job is not None
    registry.add(
        Declaration(
            name=run.job.name,
            kind="task",
            declared_in="function",
            schedule=Manual(),
            task=run.job.task,
            should_run=should_run,
        )
    )


def test_a_run_is_executed_with_its_own_arguments_and_recorded(
    deliver: Deliver, worker: str
) -> None:
    run = queued(key="north", args=[1], kwargs={"a": 2}, resource="db")
    after = deliver(run)
    assert (after.state, after.reason, after.attempt, after.worker) == (
        State.SUCCEEDED,
        "",
        1,
        worker,
    )
    [(args, kwargs, current)] = tasks.seen
    assert (args, kwargs) == ((1,), {"a": 2})
    assert (current.id, current.key, current.resource, current.token) == (
        run.pk,
        "north",
        "db",
        after.token,
    )


def test_arguments_in_the_message_are_not_believed() -> None:
    run = queued(kwargs={"path": "mine"})
    send(f"{tasks.PATH}.remember", "forged", task_id=str(run.pk), jobs_run=[str(run.pk), 1])
    assert tasks.seen[0][:2] == ((), {"path": "mine"})


def test_a_second_delivery_is_dropped(deliver: Deliver) -> None:
    run = queued()
    deliver(run)
    deliver(run)
    assert len(tasks.seen) == 1


def test_a_message_of_an_earlier_attempt_is_dropped(deliver: Deliver) -> None:
    run = queued()
    Run.objects.filter(pk=run.pk).update(attempt=2)
    assert deliver(run, attempt=1).state == State.QUEUED
    assert tasks.seen == []


def test_a_task_without_the_header_is_an_ordinary_task() -> None:
    send(f"{tasks.PATH}.remember", 5, task_id="x")
    assert tasks.seen == [((5,), {}, None)]
    assert not Run.objects.exists()


def test_a_guarded_task_can_still_be_called_as_a_function() -> None:
    task.install(app)
    tasks.remember(3)
    assert tasks.seen == [((3,), {}, None)]


@pytest.mark.parametrize("header", [["no uuid", 1], ["x"], "junk", 7, [None, None]])
def test_a_header_that_cannot_be_read_makes_no_run(header: Any) -> None:
    send(f"{tasks.PATH}.remember", task_id="x", jobs_run=header)
    assert tasks.seen == [((), {}, None)]


def test_installing_the_guard_twice_changes_nothing() -> None:
    task.install(app)
    classes = {name: type(found) for name, found in app.tasks.items()}
    task.install(app)
    assert classes == {name: type(found) for name, found in app.tasks.items()}
    assert all(issubclass(own, task.JobTask) for own in classes.values())


def test_a_custom_base_class_keeps_its_call(deliver: Deliver) -> None:
    run = queued("counted")
    assert deliver(run).state == State.SUCCEEDED
    assert tasks.seen == ["called", run.pk]


def test_a_task_that_calls_itself_stays_inside_its_run(deliver: Deliver) -> None:
    assert deliver(queued("recursive")).state == State.SUCCEEDED
    assert tasks.seen == [2, 1, 0]


def test_a_bound_task_sees_the_runs_arguments_and_failures(deliver: Deliver) -> None:
    run = queued("bound")
    Run.objects.filter(pk=run.pk).update(failures=3)
    deliver(run)
    assert tasks.seen == [(3, [], {})]


def test_an_error_fails_the_run_with_its_traceback(deliver: Deliver) -> None:
    tasks.act.append(lambda: 1 / 0)
    after = deliver(queued())
    assert (after.state, after.reason) == (State.FAILED, Reason.ERROR)
    assert after.error.endswith("ZeroDivisionError: division by zero\n")
    assert "workers/attempt.py" not in after.error


def test_a_soft_time_limit_has_its_own_reason(deliver: Deliver) -> None:
    def strike() -> None:
        raise SoftTimeLimitExceeded

    tasks.act.append(strike)
    assert deliver(queued()).reason == Reason.SOFT_LIMIT


@pytest.mark.parametrize(("code", "state", "stored"), [(0, "succeeded", None), (3, "failed", 3)])
def test_sys_exit_ends_the_run_and_not_the_worker(
    deliver: Deliver, code: int, state: str, stored: int | None
) -> None:
    after = deliver(queued("exiting", args=[code]))
    assert (after.state, after.exit_code) == (state, stored)


def test_ignore_is_a_success_and_reject_a_failure_that_is_not_delivered_again(
    deliver: Deliver,
) -> None:
    assert deliver(queued("ignoring")).state == State.SUCCEEDED
    after = deliver(queued("rejecting"))
    assert (after.state, after.reason) == (State.FAILED, Reason.ERROR)


def test_an_outcome_is_recorded(deliver: Deliver) -> None:
    assert deliver(queued("unchanged")).outcome == Outcome.UNCHANGED


def test_a_fingerprint_is_recorded_as_an_outcome_and_kept_with_the_target(
    deliver: Deliver,
) -> None:
    after = deliver(queued("fingerprinted"))
    assert after.target is not None
    assert (after.outcome, after.result) == (Outcome.CHANGED, None)
    assert after.target.fingerprint == "5e1d"
    assert deliver(make_run(after.target)).outcome == Outcome.UNCHANGED


def test_retries_of_the_job_wait_in_the_database(deliver: Deliver) -> None:
    tasks.act.append(lambda: 1 / 0)
    before = clock.now()
    after = deliver(queued(retries=1, retry_delay=timedelta(minutes=5)))
    assert (after.state, after.reason, after.attempt) == (State.QUEUED, Reason.RETRY, 2)
    assert after.ready_at is not None
    assert after.ready_at >= before + timedelta(minutes=4)


def test_a_tasks_own_retry_publishes_nothing_and_queues_the_run_again(deliver: Deliver) -> None:
    after = deliver(queued("retrying"))
    assert (after.state, after.reason, after.attempt, after.failures) == ("queued", "retry", 2, 1)
    assert after.ready_at is not None
    assert after.ready_at - clock.now() <= timedelta(seconds=7)
    assert "KeyError: 'gone'" in after.error
    assert services.valkey.messages() == []


def test_a_task_that_has_used_up_its_own_retries_fails(deliver: Deliver) -> None:
    run = queued("retrying")
    for _ in range(3):
        Run.objects.filter(pk=run.pk).update(ready_at=None)
        run.refresh_from_db()
        after = deliver(run)
    assert tasks.seen == [0, 1, 2]
    assert (after.state, after.reason) == (State.FAILED, Reason.ERROR)
    assert "KeyError: 'gone'" in after.error


def test_autoretry_comes_the_same_way(deliver: Deliver) -> None:
    run = queued("autoretrying")
    after = deliver(run)
    assert (after.state, after.attempt) == (State.QUEUED, 2)
    Run.objects.filter(pk=run.pk).update(ready_at=None)
    assert deliver(after).state == State.FAILED


@pytest.mark.parametrize("answer", [False, None, 0])
def test_a_job_that_declines_is_skipped(deliver: Deliver, answer: object) -> None:
    run = queued()
    declare(run, lambda: answer)
    after = deliver(run)
    assert (after.state, after.reason) == (State.SKIPPED, Reason.DECLINED)
    assert tasks.seen == []


def test_a_hook_that_raises_does_not_stop_the_job(
    deliver: Deliver, caplog: pytest.LogCaptureFixture
) -> None:
    run = queued()
    declare(run, lambda: 1 / 0)
    assert deliver(run).state == State.SUCCEEDED
    assert "runs although its should_run() raised ZeroDivisionError" in caplog.text


def test_jobs_run_outside_of_our_transactions(deliver: Deliver) -> None:
    tasks.act.append(lambda: tasks.seen.append(connection.in_atomic_block))
    deliver(queued())
    assert tasks.seen[1] is False


def test_a_job_that_breaks_its_connection_is_still_recorded(deliver: Deliver) -> None:
    def break_it() -> None:
        connection.ensure_connection()
        connection.connection.close()

    tasks.act.append(break_it)
    assert deliver(queued()).state == State.SUCCEEDED


def test_the_end_is_written_again_after_a_database_error(
    deliver: Deliver, monkeypatch: pytest.MonkeyPatch
) -> None:
    finish = runs.finish
    failing = [OperationalError("gone"), SoftTimeLimitExceeded()]

    def flaky(*args: Any, **kwargs: Any) -> bool:
        if failing:
            raise failing.pop()
        return finish(*args, **kwargs)

    monkeypatch.setattr(runs, "finish", flaky)
    assert deliver(queued()).state == State.SUCCEEDED
    assert failing == []


def test_a_start_waits_for_the_database(deliver: Deliver, monkeypatch: pytest.MonkeyPatch) -> None:
    start = runs.start
    failing = [OperationalError("gone"), OperationalError("gone")]

    def flaky(*args: Any, **kwargs: Any) -> Any:
        if failing:
            raise failing.pop()
        return start(*args, **kwargs)

    monkeypatch.setattr(runs, "start", flaky)
    assert deliver(queued(resource="db")).state == State.SUCCEEDED


def test_an_end_that_cannot_be_written_is_left_to_the_lease(
    deliver: Deliver, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """As when a team's receiver of `run_ended` raises."""
    monkeypatch.setattr(runs, "finish", lambda *args, **kwargs: 1 / 0)
    assert deliver(queued()).state == State.RUNNING
    assert "lapsed lease" in caplog.text


def test_a_late_result_is_refused(deliver: Deliver) -> None:
    run = queued(rerun_if_lost=True)
    tasks.act.append(lambda: runs.lose(run.pk, 1, detail="thought dead", now=clock.now()))
    after = deliver(run)
    assert (after.state, after.attempt) == (State.QUEUED, 2)


def test_a_run_whose_resource_is_held_waits_in_the_database(deliver: Deliver) -> None:
    first, second = queued(resource="db"), queued(resource="db")
    tasks.act.append(lambda: deliver(second))
    deliver(first)
    second.refresh_from_db()
    assert second.state == State.QUEUED
    assert len(tasks.seen) == 1
    # The end of the first has woken it, and left the gate open.
    assert second.publish_at is not None
    assert second.publish_at <= clock.now()
    assert deliver(second).state == State.SUCCEEDED


def test_without_redis_the_database_decides(
    deliver: Deliver, monkeypatch: pytest.MonkeyPatch
) -> None:
    def unreachable() -> None:
        raise redis.RedisError("refused")

    monkeypatch.setattr(redis, "client", unreachable)
    locks._script.cache_clear()
    first, second = queued(resource="db"), queued(resource="db")
    tasks.act.append(lambda: deliver(second))
    assert deliver(first).state == State.SUCCEEDED
    assert len(tasks.seen) == 1
    second.refresh_from_db()
    assert second.waiting_for == "db"


def test_a_lock_whose_holder_the_database_does_not_know_is_overwritten(deliver: Deliver) -> None:
    run = queued(resource="db")
    other = queued()
    locks.acquire(["db"], f"{other.pk}/1", lease=timedelta(minutes=1))
    assert deliver(run).state == State.SUCCEEDED


def test_a_lock_is_given_up_whatever_happens(deliver: Deliver) -> None:
    tasks.act.append(lambda: 1 / 0)
    deliver(queued(resource="db"))
    assert redis.client().keys(f"{locks.PREFIX}*") == []


def test_a_job_that_was_told_to_stop_ends_as_cancelled(deliver: Deliver) -> None:
    from scheduling import current_run
    from tests.waiting import wait_for

    run = queued()

    def heed() -> None:
        mine = current_run()
        runs.cancel(run.pk, by="eve", now=clock.now())
        wait_for(mine.should_stop, timeout=10)

    tasks.act.append(heed)
    after = deliver(run)
    assert (after.state, after.reason) == (State.FAILED, Reason.CANCELLED)


def test_a_job_that_leaves_a_transaction_broken_is_recorded(deliver: Deliver) -> None:
    def leave_it() -> None:
        with transaction.atomic():
            Run.objects.filter(pk="x" * 50).exists()

    tasks.act.append(leave_it)
    assert deliver(queued()).state == State.FAILED
