"""One attempt of a run, from the message to the recorded end.

1. The gate in Redis, then the accepting transaction in the database; refused: drop the message.
2. `should_run`.
3. The body, with leases and locks kept by the heartbeat.
4. The end, written until the database takes or refuses it; then mails.

A late end, of an attempt that somebody has declared lost meanwhile, is refused quietly.
"""

from __future__ import annotations

import logging
import time
from collections.abc import Callable
from contextvars import ContextVar
from dataclasses import replace
from datetime import timedelta
from typing import Any, TypeVar
from uuid import UUID

from billiard import common as pool_process
from celery import Task
from celery.exceptions import Ignore, Retry, SoftTimeLimitExceeded, WorkerShutdown, WorkerTerminate
from django.db import InterfaceError, OperationalError, close_old_connections, connection

from scheduling import clock, runs
from scheduling.conf import conf
from scheduling.context import running
from scheduling.models import Outcome, Reason, Run, State
from scheduling.registry import registry
from scheduling.runs import Result, Started
from workers import lease, locks, notifications, results
from workers.ticket import Ticket

logger = logging.getLogger(__name__)

T = TypeVar("T")

# Longer than a lease on purpose: after an outage nobody ends our runs for one full lease, so an
# end that was kept for so long is still taken.
PATIENCE = timedelta(minutes=10)

_executing: ContextVar[tuple[Started, lease.OpenRun]] = ContextVar("executing")


def executing() -> tuple[Started, lease.OpenRun]:
    """The run that executes here, for bodies of ours. Raises LookupError outside of one."""
    return _executing.get()


def execute(task: Task[Any, Any], ticket: Ticket, body: Callable[..., Any]) -> Any:
    """Run `body` as the run that `ticket` names, and record how it ended.

    What it raises is for Celery's eyes only (its log, Flower, the task's own hooks): Ignore if
    there is nothing to run, Retry if the run is queued again, the error of a failure.
    """
    worker = lease.worker_name(task.request.hostname or "direct")
    begun = until_answered(lambda: begin(ticket, worker=worker), f"start of run {ticket.run_id}")
    if begun is None:
        raise Ignore
    started, open_run = begun
    run, token = started.run, started.token
    with lease.heartbeat(worker).keep(open_run):
        try:
            if not wants_to_run(started):
                until_answered(
                    lambda: runs.decline(
                        run.pk, run.attempt, token=token, detail="", now=clock.now()
                    ),
                    f"end of run {run.pk}",
                )
                raise Ignore
            # Bodies see the run's arguments and failures, whatever the message said.
            task.request.update(args=started.args, kwargs=started.kwargs, retries=run.failures)
            result, answer = perform(started, open_run, body)

            def end() -> bool:
                # First, so that who is woken by the end finds the gate open.
                open_run.give_up_locks()
                return runs.finish(run.pk, run.attempt, token=token, result=result, now=clock.now())

            until_answered(end, f"end of run {run.pk}")
        finally:
            open_run.give_up_locks()
    notifications.deliver_of(run.pk)
    if isinstance(answer, BaseException):
        raise answer
    return answer


def begin(ticket: Ticket, *, worker: str) -> tuple[Started, lease.OpenRun] | None:
    """Pass the gate and have the attempt accepted; None: the message is to be dropped."""
    run = (
        Run.objects.select_related("job", "target__resource")
        .filter(pk=ticket.run_id, attempt=ticket.attempt, state=State.QUEUED)
        .first()
    )
    if run is None or run.job is None or run.target is None:
        return None
    keys = runs.seat_keys(run.job, run.target)
    open_run = lease.OpenRun(run.pk, run.attempt, keys, is_external=run.job.is_external)
    busy = locks.acquire(keys, open_run.holder, lease=conf.lease)
    if busy is not None:
        if is_running(busy.holder):
            runs.wait_for_seat(run.pk, run.attempt, key=busy.key, now=clock.sample())
            return None
        locks.seize(keys, open_run.holder, lease=conf.lease)
    # Sampled: a process that was idle while its machine slept would find every run too early.
    started = runs.start(run.pk, run.attempt, worker=worker, now=clock.sample())
    if started is None:
        locks.release(keys, open_run.holder)
        return None
    return started, open_run


def is_running(holder: str) -> bool:
    """Whether the database knows the holder of a lock as running."""
    run_id, _, attempt = holder.partition("/")
    try:
        found = Run.objects.filter(pk=UUID(run_id), attempt=int(attempt), state=State.RUNNING)
    except ValueError:
        return False  # written by somebody else; the database decides
    return found.exists()


def wants_to_run(started: Started) -> bool:
    """Ask the job's `should_run`. An error in it is logged and counts as yes: work is not lost."""
    declaration = registry.get(started.job.name)
    if declaration is None or declaration.should_run is None:
        return True
    try:
        with running(started.current(lambda: False)):
            return bool(declaration.should_run())
    except Exception:
        logger.exception("should_run of job %s failed; it runs", started.job.name)
        return True


def perform(
    started: Started, open_run: lease.OpenRun, body: Callable[..., Any]
) -> tuple[Result, object]:
    """Give how the body ended, and what Celery is to be given or to see raised."""
    before = _executing.set((started, open_run))
    try:
        with running(started.current(open_run.should_stop)):
            value = body(*started.args, **started.kwargs)
    except (WorkerShutdown, WorkerTerminate):
        raise
    except Retry as error:
        return results.from_retry(error, now=clock.now()), error
    except Ignore as error:
        return Result(state=State.SUCCEEDED), error
    except SystemExit as error:
        if is_process_ending():
            raise
        result = results.from_error(error)
        return result, None if result.state == State.SUCCEEDED else failure(result)
    except Exception as error:
        result = results.from_error(error)
        if open_run.was_told:
            result = replace(result, reason=Reason.CANCELLED)
        return result, error
    finally:
        _executing.reset(before)
    result = results.from_return(value)
    if open_run.was_told and result.reason != Reason.TERMINATED:
        result = replace(result, state=State.FAILED, reason=Reason.CANCELLED)
    if result.state == State.FAILED:
        return result, failure(result)
    return result, value if not isinstance(value, Result | Outcome) else None


def is_process_ending() -> bool:
    """Whether a SystemExit comes from the pool's signal handler: somebody ends this process.

    Then whoever does so records why, and the exit must not be held up.
    """
    return bool(pool_process.terminate_handler_fired())  # type: ignore[attr-defined]  # newer


def failure(result: Result) -> results.JobFailed:
    return results.JobFailed(results.failure_message(result))


def until_answered(ask: Callable[[], T], what: str) -> T | None:
    """Ask the database until it answers, each time on a fresh connection; None if it never does.

    The connection may have died while the job ran, and a soft time limit may strike in here.
    Without the database there is nothing else to do: what starts could not be recorded.
    """
    give_up = time.monotonic() + PATIENCE.total_seconds()
    delay = 0.1
    while True:
        close_old_connections()
        try:
            return ask()
        except (OperationalError, InterfaceError, SoftTimeLimitExceeded) as error:
            if time.monotonic() > give_up:
                logger.exception("Not recorded, a lapsed lease will tell: %s", what)
                return None
            logger.warning("Not recorded yet: %s: %s", what, error)
        except Exception:
            logger.exception("Not recorded, a lapsed lease will tell: %s", what)
            return None
        if not connection.in_atomic_block:
            connection.close()
        time.sleep(delay)
        delay = min(2 * delay, 2.0)
