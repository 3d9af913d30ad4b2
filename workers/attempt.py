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

from scheduling import Found, clock, runs
from scheduling.conf import conf
from scheduling.context import running
from scheduling.limits import limits_of
from scheduling.models import Job, Outcome, Reason, Run, State
from scheduling.outbox import task_of
from scheduling.runs import Result, Started
from scheduling.services import is_service
from workers import hooks, lease, locks, notifications, politeness, pools, results, stopping
from workers.open_run import OpenRun, Stop
from workers.ticket import Ticket

logger = logging.getLogger(__name__)

T = TypeVar("T")

# Longer than a lease on purpose: after an outage nobody ends our runs for one full lease, so an
# end that was kept for so long is still taken.
PATIENCE = timedelta(minutes=10)

# What becomes of an attempt whose body ended after it had heard that it is to stop.
REASONS = {
    Stop.WORKER_STOPS: Reason.HANDED_BACK,
    Stop.ASKED: Reason.CANCELLED,
    Stop.CUT_OFF: Reason.LOST,
    Stop.SUPERSEDED: Reason.LOST,
}
CUT_OFF = "It was ended because its worker could not renew its lease"

_executing: ContextVar[tuple[Started, OpenRun]] = ContextVar("executing")


def executing() -> tuple[Started, OpenRun]:
    """The run that executes here, for bodies of ours. Raises LookupError outside of one."""
    return _executing.get()


def execute(task: Task[Any, Any], ticket: Ticket, body: Callable[..., Any]) -> Any:
    """Run `body` as the run that `ticket` names, and record how it ended.

    What it raises is for Celery's eyes only (its log, Flower, the task's own hooks): Ignore if
    there is nothing to run, Retry if the run is queued again, the error of a failure.
    """
    worker = lease.worker_name(task.request.hostname or "direct")
    begun = until_answered(
        lambda: begin(ticket, worker=worker, task=task.name),
        f"start of run {ticket.run_id}",
        # Nothing has begun. Dropped, its message is missed, and somebody else may get another.
        patience=conf.lease,
    )
    if begun is None:
        raise Ignore
    started, open_run = begun
    run = started.run
    with lease.heartbeat(worker).keep(open_run):
        try:
            if not wants_to_run(started):
                open_run.is_over = True
                until_answered(lambda: decline(started), f"end of run {run.pk}")
                raise Ignore
            # Bodies see the run's arguments and failures, whatever the message said.
            task.request.update(args=started.args, kwargs=started.kwargs, retries=run.failures)
            result, answer = perform(started, open_run, body)
            # From here on nobody ends this process because of what the database says of the run.
            open_run.is_over = True
            until_answered(lambda: record(started, open_run, result), f"end of run {run.pk}")
        finally:
            open_run.give_up_locks()
            if open_run.turn is not None:
                open_run.turn.call_next()
    notifications.deliver_of(run.pk)
    if isinstance(answer, BaseException):
        raise answer
    return answer


def begin(ticket: Ticket, *, worker: str, task: str) -> tuple[Started, OpenRun] | None:
    """Pass the gate and have the attempt accepted; None: the message is to be dropped.

    A message that names another task than the run's job is forged, or older than an edit of the
    job: it must not be executed as that run, which is published again.
    """
    run = (
        Run.objects.select_related("job", "target__resource")
        .filter(pk=ticket.run_id, attempt=ticket.attempt, state=State.QUEUED)
        .first()
    )
    if run is None or run.job is None or run.target is None:
        return None
    if task != task_of(run.job):
        logger.warning("Dropped a message that names %r for run %s", task, run.pk)
        return None
    if not may_begin_here(run, run.job):
        return None
    turn = politeness.turn_of(run)
    if turn is not None and not turn.begins():
        return None
    keys = runs.seat_keys(run.job, run.target)
    seats = runs.capacities(keys) if keys else {}
    open_run = OpenRun(
        run.pk,
        run.attempt,
        keys,
        seats=seats,
        is_external=run.job.is_external,
        is_service=is_service(run.job, run.target),
        turn=turn,
    )
    while busy := locks.acquire(keys, open_run.holder, lease=conf.lease, seats=seats):
        gone = [holder for holder in busy.holders if not is_running(holder)]
        if not gone:
            if turn is not None:
                turn.undo()
            runs.wait_for_seat(run.pk, run.attempt, key=busy.key, now=clock.sample())
            return None
        locks.release([busy.key], *gone)
    # Sampled: a process that was idle while its machine slept would find every run too early.
    started = runs.start(run.pk, run.attempt, worker=worker, now=clock.sample())
    if started is None:
        locks.release(keys, open_run.holder)
        # A message that came twice, or late: the place is the other attempt's that runs.
        if turn is not None and not is_running(open_run.holder):
            turn.undo()
        return None
    open_run.token = started.token
    return started, open_run


def may_begin_here(run: Run, job: Job) -> bool:
    """Whether this worker takes a run on; if not, the run has been sent where it belongs."""
    if stopping.has_begun():
        stopping.hand_back(Ticket(run.pk, run.attempt))
        return False
    if error := pools.refusal(job):
        runs.refuse(run.pk, run.attempt, reason=Reason.PERMANENT, error=error, now=clock.sample())
        return False
    return hooks.is_ready(run, now=clock.sample())


def is_running(holder: str) -> bool:
    """Whether the database knows the holder of a lock as running."""
    run_id, _, attempt = holder.partition("/")
    try:
        found = Run.objects.filter(pk=UUID(run_id), attempt=int(attempt), state=State.RUNNING)
    except ValueError:
        return False  # written by somebody else; the database decides
    return found.exists()


def wants_to_run(started: Started) -> bool:
    """Ask the job's `should_run`. Only a no counts: an error or no answer in time loses no work."""
    with running(started.current(lambda: False)):
        answer = hooks.ask(started.job.name, "should_run")
    if answer is None or answer.is_yes:
        return True
    if answer.said is hooks.Said.NO:
        return False
    logger.warning("Job %s runs although its %s", started.job.name, answer.detail)
    return True


def decline(started: Started) -> bool:
    """Write down that the job did not want to run; False: it is no longer the accepted attempt."""
    run = started.run
    return runs.decline(run.pk, run.attempt, token=started.token, detail="", now=clock.now())


def perform(started: Started, open_run: OpenRun, body: Callable[..., Any]) -> tuple[Result, object]:
    """Give how the body ended, and what Celery is to be given or to see raised."""
    before = _executing.set((started, open_run))
    answer: object
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
        result = as_told(results.from_error(error), open_run.told)
        answer = None if result.state == State.SUCCEEDED else failure(result)
    except Exception as error:
        result, answer = as_told(results.from_error(error), open_run.told), error
    except BaseException as error:
        # gevent's are no Exceptions. Celery is to see that of its own.
        seconds = pools.timed_out(error)
        if seconds is None:
            raise
        result, answer = as_told(from_timeout(started, error, seconds), open_run.told), error
    else:
        result = as_told(results.from_return(value), open_run.told)
        answer = value if not isinstance(value, Result | Outcome | Found) else None
        if result.state == State.FAILED:
            answer = failure(result)
    finally:
        _executing.reset(before)
    return result, answer


def from_timeout(started: Started, error: BaseException, seconds: float) -> Result:
    """Tell the pool's hard limit from a timeout of the job's own that it has not caught."""
    result = results.from_error(error)
    hard = limits_of(started.job).hard
    if hard is None or seconds != hard.total_seconds():
        return result
    return replace(
        result, reason=Reason.HARD_LIMIT, error=f"Ended at its hard limit of {seconds:g} s"
    )


def as_told(result: Result, told: Stop) -> Result:
    """Say why it ended, if it had heard that it is to stop; killed is killed."""
    if told is Stop.NOT or result.reason == Reason.TERMINATED:
        return result
    reason = REASONS[told]
    error = CUT_OFF if reason == Reason.LOST else result.error
    return replace(result, state=State.FAILED, reason=reason, error=error)


def record(started: Started, open_run: OpenRun, result: Result) -> bool:
    """Write down how an attempt ended; False: it is no longer the accepted one."""
    run, now = started.run, clock.now()
    # First, so that who is woken by the end finds the gate open.
    open_run.give_up_locks()
    if result.reason == Reason.LOST:
        return runs.lose(run.pk, run.attempt, detail=result.error, result=result, now=now)
    if result.reason == Reason.HANDED_BACK:
        return runs.hand_back(run.pk, run.attempt, token=started.token, now=now)
    return runs.finish(run.pk, run.attempt, token=started.token, result=result, now=now)


def is_process_ending() -> bool:
    """Whether a SystemExit comes from the pool's signal handler: somebody ends this process.

    Then whoever does so records why, and the exit must not be held up.
    """
    return bool(pool_process.terminate_handler_fired())  # type: ignore[attr-defined]  # newer


def failure(result: Result) -> results.JobFailed:
    return results.JobFailed(results.failure_message(result))


def until_answered(ask: Callable[[], T], what: str, *, patience: timedelta = PATIENCE) -> T | None:
    """Ask the database until it answers, each time on a fresh connection; None if it never does.

    The connection may have died while the job ran, and a soft time limit may strike in here.
    Without the database there is nothing else to do: what starts could not be recorded.
    """
    give_up = time.monotonic() + patience.total_seconds()
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
