"""Other people's tasks, as Celery's signals tell of them: what becomes history, and as what.

| signal | the row |
|---|---|
| prerun | running |
| success, or `Ignore` raised | succeeded |
| failure | failed: `error`, `soft_limit`, `hard_limit`, or `lost` with its process |
| `Reject` raised | failed as `error`; queued if its message is to be delivered again |
| retry | queued as `retry`, then the next attempt |
| revoked while it ran | failed as `terminated` |
| revoked before, expired | skipped as `cancelled`, as `late` |

Arguments are never written down; an error's own text is.
"""

from __future__ import annotations

from datetime import datetime
from fnmatch import fnmatchcase
from typing import Any

from billiard.exceptions import TimeLimitExceeded
from celery import Task, states
from celery.exceptions import Retry
from celery.worker.request import Request

from scheduling import clock, runs
from scheduling.conf import conf
from scheduling.models import Reason, State
from workers import lease, results, stock
from workers.child import signal_name
from workers.ticket import ticket_of

# Celery keeps the history of its workers' own house out of ours.
OWN = ("workers.", "celery.")


def is_wanted(name: object) -> bool:
    """Whether the team asks for the history of the task with this name."""
    return (
        isinstance(name, str)
        and not name.startswith(OWN)
        and any(fnmatchcase(name, pattern) for pattern in conf.RECORD_FOREIGN_TASKS)
    )


def is_foreign(task: Task[Any, Any]) -> bool:
    """Whether the present call comes from a message, stands for no run, and has a history."""
    if task.request.is_eager or ticket_of(task.request) is not None:
        return False
    wanted = conf.SHADOW and stock.fire_of(task.request) is not None
    return is_wanted(task.name) or (wanted and not task.name.startswith(OWN))


def began(task_id: str, task: Task[Any, Any]) -> None:
    now = clock.now()
    # Kept where only the present call finds it: on threads, its own retry may begin beside it.
    task.request.update(jobs_began=now)
    # In shadow mode alone, the row that its arrival has left does.
    if is_wanted(task.name):
        runs.begin_foreign(
            task_id=task_id,
            name=task.name,
            worker=worker_of(task),
            now=now,
            **_fire(task),
        )


def ended(task_id: str, task: Task[Any, Any], state: str | None, retval: object) -> None:
    """Failures, retries and ends from outside have signals of their own."""
    if state in (states.SUCCESS, states.IGNORED):
        _end(task_id, task, State.SUCCEEDED)
    elif state == states.REJECTED and getattr(retval, "requeue", False):
        runs.put_back_foreign(
            task_id=task_id,
            error=str(retval),
            detail="rejected, and to be delivered again",
            ready_at=clock.now(),
            began=began_at(task),
        )
    elif state == states.REJECTED:
        _end(task_id, task, State.FAILED, Reason.ERROR, f"It rejected its message: {retval}")


def failed(task_id: str, task: Task[Any, Any], error: BaseException) -> None:
    found = results.from_error(error)
    _end(task_id, task, State.FAILED, found.reason or "", found.error)


def retried(task: Task[Any, Any], reason: object, worker: str) -> None:
    """`worker` ran the attempt that is to be followed by another."""
    now = ready_at = clock.now()
    error = ""
    if isinstance(reason, Retry):
        ready_at += results.wait_of(reason, now=now)
        error = results.traceback_of(reason.exc) if reason.exc is not None else ""
    runs.put_back_foreign(
        task_id=task.request.id or "",
        error=error,
        detail="",
        ready_at=ready_at,
        began=began_at(task),
        worker=worker,
    )


def gone(request: Request, error: BaseException) -> None:
    """Its process was killed at the hard limit, or died."""
    is_limit = isinstance(error, TimeLimitExceeded)
    runs.end_foreign(
        task_id=request.id,
        name=request.task.name,
        state=State.FAILED,
        reason=Reason.HARD_LIMIT if is_limit else Reason.LOST,
        error=f"Killed at its hard limit of {error.args[0]:g} s"
        if is_limit
        else f"Its process is gone: {error}",
        began=None,
        now=clock.now(),
        worker=f"{request.hostname}/{request.worker_pid}",
    )


def revoked(request: Any, *, terminated: bool, signum: Any, expired: bool) -> None:
    if terminated:
        by = signal_name(signum) if isinstance(signum, int) else signum
        state, reason, error = State.FAILED, Reason.TERMINATED, f"Terminated by {by}"
    else:
        reason = Reason.LATE if expired else Reason.CANCELLED
        state, error = State.SKIPPED, ""
    detail = "" if terminated else "it had expired" if expired else "revoked through Celery"
    runs.end_foreign(
        task_id=str(request.get("id")),
        name=str(request.get("task")),
        state=state,
        reason=reason,
        error=error,
        detail=detail,
        began=None,
        now=clock.now(),
    )


def began_at(task: Task[Any, Any]) -> datetime | None:
    """When the present call began; None in the main process, which sees only ends."""
    return getattr(task.request, "jobs_began", None)


def worker_of(task: Task[Any, Any]) -> str:
    return lease.worker_name(task.request.hostname or "direct")


def _end(
    task_id: str, task: Task[Any, Any], state: State, reason: str = "", error: str = ""
) -> None:
    runs.end_foreign(
        task_id=task_id,
        name=task.name,
        state=state,
        reason=reason,
        error=error,
        began=began_at(task),
        now=clock.now(),
        worker=worker_of(task),
        **_fire(task),
    )


def _fire(task: Task[Any, Any]) -> dict[str, Any]:
    fire = stock.fire_of(task.request)
    return {"key": fire.periodic_task, "sent_at": fire.sent_at} if fire is not None else {}
