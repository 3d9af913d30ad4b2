"""What only Celery's signals tell: a lost process, a hard limit, a revocation, an unknown task.

For runs, each is a compare-and-set on (run, attempt), so a signal that fires twice or late changes
nothing; and nothing is lost when one does not fire: the run's lease lapses. For other tasks, see
`foreign`; for messages that nobody can work on, `dead_letters`.
"""

from __future__ import annotations

import logging
from collections.abc import Callable
from functools import wraps
from typing import Any
from weakref import WeakSet, WeakValueDictionary

from billiard.exceptions import TimeLimitExceeded, WorkerLostError
from celery import Task, signals, states
from celery.exceptions import Reject
from celery.worker.request import Request
from django.db import connection
from kombu.exceptions import ContentDisallowed

from scheduling import clock, runs
from scheduling.conf import conf
from scheduling.models import Reason, Run, Spoilt, State
from scheduling.runs import Result
from workers import dead_letters, failures, foreign, lease, stock
from workers.child import signal_name
from workers.ticket import Ticket, ticket_of, tickets_of

logger = logging.getLogger(__name__)


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


def connect() -> None:
    signals.before_task_publish.connect(stock.stamp)
    signals.task_received.connect(received)
    signals.task_failure.connect(failed)
    signals.task_retry.connect(retried)
    signals.task_revoked.connect(revoked)
    signals.task_rejected.connect(rejected)
    signals.task_unknown.connect(unknown)
    signals.task_prerun.connect(foreign_began)
    signals.task_postrun.connect(foreign_ended)
    signals.task_postrun.connect(forget)


def tolerant(handler: Callable[..., None]) -> Callable[..., None]:
    """Let no error out, and leave no connection in a process that may fork its pool."""

    @wraps(handler)
    def handle(*args: Any, **kwargs: Any) -> None:
        try:
            handler(*args, **kwargs)
        except Exception:
            logger.exception("Signal handler %s failed", handler.__name__)
        finally:
            if not (connection.in_atomic_block or lease.is_pool_child()):
                connection.close()

    return handle


def received(request: Request, **_: Any) -> None:
    is_run = ticket_of(request.request_dict) is not None
    if is_run or foreign.is_wanted(request.task.name):
        requests.add(request)
    if not is_run:
        stock_fired(request.request_dict, request.hostname)


def stock_fired(headers: Any, hostname: str | None) -> None:
    fire = stock.fire_of(headers) if conf.SHADOW else None
    if fire is not None:
        record_stock_fire(fire, headers, hostname or "unknown")


@tolerant
def record_stock_fire(fire: stock.Fire, headers: Any, hostname: str) -> None:
    stock.record(fire, headers, hostname=hostname)


def failed(task_id: str, exception: BaseException, sender: Any = None, **_: Any) -> None:
    """In a child, the guard has recorded the failure of a run; this is for those that it cannot
    see, and for other tasks.
    """
    if isinstance(exception, WorkerLostError | TimeLimitExceeded):
        request = requests.only(task_id)
        if request is not None:
            child_gone(request, exception)
    # The end of a task that has rejected its message is told by its postrun.
    elif sender is not None and not isinstance(exception, Reject) and foreign.is_foreign(sender):
        tolerant(foreign.failed)(task_id, sender, exception)


@tolerant
def child_gone(request: Request, exception: BaseException) -> None:
    tickets = tickets_of(request.request_dict)
    if not tickets:
        foreign.gone(request, exception)
        return
    # A message whose attempt was refused may die with its process, too; the attempt did not.
    running = dict(
        Run.objects.filter(
            pk__in=[ticket.run_id for ticket in tickets],
            worker=f"{request.hostname}/{request.worker_pid}",
            state=State.RUNNING,
        ).values_list("pk", "attempt")
    )
    gone = [ticket for ticket in tickets if running.get(ticket.run_id) == ticket.attempt]
    if not isinstance(exception, TimeLimitExceeded):
        for ticket in gone:
            runs.lose(*ticket, detail=f"Its process is gone: {exception}", now=clock.now())
        return
    result = Result(
        state=State.FAILED,
        reason=Reason.HARD_LIMIT,
        error=f"Killed at its hard limit of {exception.args[0]:g} s",
    )
    # Of several they were executed in order, and those before it have been recorded since.
    for ticket in gone[:1]:
        runs.finish(*ticket, token=None, result=result, now=clock.now())
    for ticket in gone[1:]:
        runs.hand_back(*ticket, token=None, now=clock.now())


@tolerant
def revoked(
    request: Any, terminated: bool = False, signum: Any = None, expired: bool = False, **_: Any
) -> None:
    tickets = tickets_of(request)
    if not tickets:
        stock_fired(request, request.hostname)
        if foreign.is_wanted(request.get("task")):
            foreign.revoked(request, terminated=terminated, signum=signum, expired=expired)
    if expired:
        return
    by = signal_name(signum) if isinstance(signum, int) else signum
    result = Result(state=State.FAILED, reason=Reason.TERMINATED, error=f"Terminated by {by}")
    for ticket in tickets:
        if terminated:
            runs.finish(*ticket, token=None, result=result, now=clock.now())
        else:
            runs.cancel(ticket.run_id, by="revoked through Celery", now=clock.now())


@tolerant
def unknown(message: Any, sender: Any = None, **_: Any) -> None:
    tickets = tickets_of(message.headers)
    if not tickets:
        stock_fired(message.headers, None)
    if not Run.objects.filter(pk__in=[ticket.run_id for ticket in tickets]).exists():
        worker = dead_letters.name_of(sender)
        dead_letters.post_message(Spoilt.TASK, message, worker=worker, detail="No such task here")
    for ticket in tickets:
        runs.refuse(
            *ticket,
            reason=Reason.UNKNOWN_TASK,
            error=f"No worker that got it knows task {message.headers.get('task')!r}; "
            "deploy the code there, or correct the job",
            now=clock.now(),
        )


def foreign_began(task_id: str, task: Task[Any, Any], **_: Any) -> None:
    if foreign.is_foreign(task):
        tolerant(foreign.began)(task_id, task)


def foreign_ended(
    task_id: str, task: Task[Any, Any], state: str | None = None, retval: Any = None, **_: Any
) -> None:
    if foreign.is_foreign(task):
        tolerant(foreign.ended)(task_id, task, state, retval)
    elif state == states.IGNORED and (ticket := ticket_of(task.request)) is not None:
        tell_of_unknown_run(ticket, task)


@tolerant
def tell_of_unknown_run(ticket: Ticket, task: Task[Any, Any]) -> None:
    """A second delivery is nothing to tell; a run that there never was is."""
    if Run.objects.filter(pk=ticket.run_id).exists():
        return
    request = task.request
    dead_letters.post(
        Spoilt.RUN,
        worker=request.hostname or "direct",
        queue=(request.delivery_info or {}).get("routing_key"),
        task=task.name,
        message_id=request.id,
        detail=f"It names the run {ticket.run_id}, which does not exist; nothing was executed",
    )


def forget(task: Task[Any, Any], state: str | None = None, retval: Any = None, **_: Any) -> None:
    """The last of a task in its process: everybody has seen its error, if it ended with one.

    Not so where the task was called as a function, by one that goes on.
    """
    if state in (states.FAILURE, states.RETRY) and not task.request.is_eager:
        failures.let_go(retval)


def retried(sender: Any, request: Any, reason: Any = None, **_: Any) -> None:
    if sender is not None and foreign.is_foreign(sender):
        # In the main process, the request knows whose child it was.
        known = requests.only(request.id)
        pid = known.worker_pid if known is not None else None
        worker = f"{request.hostname}/{pid}" if pid else foreign.worker_of(sender)
        tolerant(foreign.retried)(sender, reason, worker)


def rejected(message: Any, exc: BaseException | None = None, sender: Any = None, **_: Any) -> None:
    if exc is None:
        kind, detail = Spoilt.ENVELOPE, "It is no task"
    elif isinstance(exc, ContentDisallowed):
        kind, detail = Spoilt.CONTENT, f"{type(exc).__name__}: {exc}"
    else:
        kind, detail = Spoilt.BODY, f"{type(exc).__name__}: {exc}"
    dead_letters.post_message(kind, message, worker=dead_letters.name_of(sender), detail=detail)
