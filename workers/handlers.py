"""What only Celery's signals tell: a lost process, a hard limit, a revocation, an unknown task.

Each is a compare-and-set on (run, attempt), so a signal that fires twice or late changes nothing;
and nothing is lost when one does not fire: the run's lease lapses.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from datetime import datetime
from functools import wraps
from typing import Any
from weakref import WeakSet, WeakValueDictionary

from billiard.exceptions import TimeLimitExceeded, WorkerLostError
from celery import Task, signals, states
from celery.worker.request import Request
from django.db import connection

from scheduling import clock, runs
from scheduling.conf import conf
from scheduling.models import Reason, Run, State
from scheduling.runs import Result
from workers import lease, stock
from workers.child import signal_name
from workers.ticket import ticket_of

logger = logging.getLogger(__name__)

# Celery keeps the history of its workers' own house out of ours.
OWN = ("workers.", "celery.")


class Requests:
    """The requests that this worker's main process has received and not yet let go, by task id.

    A failure in the main process comes without its headers, which alone name the attempt.
    """

    def __init__(self) -> None:
        self._by_id: WeakValueDictionary[str, WeakSet[Request]] = WeakValueDictionary()

    def add(self, request: Request) -> None:
        known = self._by_id.setdefault(request.id, WeakSet())
        known.add(request)
        # The requests keep their set alive, and nothing else does.
        vars(request)["jobs_siblings"] = known

    def only(self, task_id: str) -> Request | None:
        """The request with this id; None if there are several, since the signal means only one."""
        known = list(self._by_id.get(task_id, ()))
        return known[0] if len(known) == 1 else None


requests = Requests()
_began: dict[str, datetime] = {}


def connect() -> None:
    signals.before_task_publish.connect(stock.stamp)
    signals.task_received.connect(received)
    signals.task_failure.connect(failed)
    signals.task_revoked.connect(revoked)
    signals.task_unknown.connect(unknown)
    signals.task_prerun.connect(foreign_began)
    signals.task_postrun.connect(foreign_ended)


def tolerant(handler: Callable[..., None]) -> Callable[..., None]:
    """Let no error out, and leave no connection in a process that forks its pool."""

    @wraps(handler)
    def handle(*args: Any, **kwargs: Any) -> None:
        try:
            handler(*args, **kwargs)
        except Exception:
            logger.exception("Signal handler %s failed", handler.__name__)
        finally:
            if not connection.in_atomic_block:
                connection.close()

    return handle


def received(request: Request, **_: Any) -> None:
    if ticket_of(request.request_dict) is not None:
        requests.add(request)
    else:
        stock_fired(request.request_dict, request.hostname)


def stock_fired(headers: Any, hostname: str | None) -> None:
    fire = stock.fire_of(headers) if conf.SHADOW else None
    if fire is not None:
        record_stock_fire(fire, headers, hostname or "unknown")


@tolerant
def record_stock_fire(fire: stock.Fire, headers: Any, hostname: str) -> None:
    stock.record(fire, headers, hostname=hostname)


def failed(task_id: str, exception: BaseException, **_: Any) -> None:
    """In a child, the guard has recorded the failure; this is for those that it cannot see."""
    if isinstance(exception, WorkerLostError | TimeLimitExceeded):
        request = requests.only(task_id)
        if request is not None:
            child_gone(request, exception)


@tolerant
def child_gone(request: Request, exception: BaseException) -> None:
    ticket = ticket_of(request.request_dict)
    if ticket is None:
        return
    # A message whose attempt was refused may die with its process, too; the attempt did not.
    child = f"{request.hostname}/{request.worker_pid}"
    if not Run.objects.filter(
        pk=ticket.run_id, attempt=ticket.attempt, worker=child, state=State.RUNNING
    ).exists():
        return
    if isinstance(exception, TimeLimitExceeded):
        limit = exception.args[0]
        result = Result(
            state=State.FAILED,
            reason=Reason.HARD_LIMIT,
            error=f"Killed at its hard limit of {limit:g} s",
        )
        runs.finish(*ticket, token=None, result=result, now=clock.now())
    else:
        runs.lose(*ticket, detail=f"Its process is gone: {exception}", now=clock.now())


@tolerant
def revoked(
    request: Any, terminated: bool = False, signum: Any = None, expired: bool = False, **_: Any
) -> None:
    ticket = ticket_of(request)
    if ticket is None:
        stock_fired(request, request.hostname)
    if ticket is None or expired:
        return
    if terminated:
        by = signal_name(signum) if isinstance(signum, int) else signum
        result = Result(state=State.FAILED, reason=Reason.TERMINATED, error=f"Terminated by {by}")
        runs.finish(*ticket, token=None, result=result, now=clock.now())
    else:
        runs.cancel(ticket.run_id, by="revoked through Celery", now=clock.now())


@tolerant
def unknown(message: Any, **_: Any) -> None:
    ticket = ticket_of(message.headers)
    if ticket is None:
        stock_fired(message.headers, None)
    else:
        runs.refuse(
            *ticket,
            reason=Reason.UNKNOWN_TASK,
            error=f"No worker that got it knows task {message.headers.get('task')!r}; "
            "deploy the code there, or correct the job",
            now=clock.now(),
        )


def is_foreign(task: Task[Any, Any]) -> bool:
    wanted = conf.RECORD_FOREIGN_TASKS or (conf.SHADOW and stock.fire_of(task.request) is not None)
    return bool(wanted) and ticket_of(task.request) is None and not task.name.startswith(OWN)


def foreign_began(task_id: str, task: Task[Any, Any], **_: Any) -> None:
    if is_foreign(task):
        _began[task_id] = clock.now()


def foreign_ended(
    task_id: str, task: Task[Any, Any], state: str | None = None, retval: Any = None, **_: Any
) -> None:
    began = _began.pop(task_id, None)
    if began is not None and state in (states.SUCCESS, states.FAILURE):
        error = retval if state == states.FAILURE else None
        record_foreign(task_id, task, began, error)


@tolerant
def record_foreign(task_id: str, task: Task[Any, Any], began: datetime, error: object) -> None:
    fire = stock.fire_of(task.request)
    runs.record_foreign(
        task_id=task_id,
        name=task.name,
        state=State.SUCCEEDED if error is None else State.FAILED,
        started_at=began,
        ended_at=clock.now(),
        error="" if error is None else f"{type(error).__name__}: {error}",
        worker=lease.worker_name(task.request.hostname or "direct"),
        key=fire.periodic_task if fire else "",
        sent_at=fire.sent_at if fire else None,
    )
