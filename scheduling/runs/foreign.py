"""History of tasks that are not jobs: for teams that ask for it, and for shadow mode.

A row follows what Celery does with one message id, whatever is signalled twice: a retry and a
second delivery are further attempts of the same row, the latter even after an end.
"""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import Any
from uuid import NAMESPACE_OID, UUID, uuid5

from django.db.models import Case, F, Q, QuerySet, When

from scheduling.models import Cause, Process, ProcessKind, Reason, Run, State

BY_STOCK = "sent by the stock scheduler"
UNKNOWN_END = f"{BY_STOCK}; what became of it is not known"
# A worker takes longer to start than its processes differ in what the time is.
START_UP = timedelta(milliseconds=200)
# A retry that nobody has begun so long after its time is not coming.
RETRY_PATIENCE = timedelta(days=1)


def begin_foreign(
    *,
    task_id: str,
    name: str,
    worker: str,
    now: datetime,
    key: str = "",
    sent_at: datetime | None = None,
) -> None:
    """Write down that a worker has begun a task.

    The row's id is the task's, or derived from it where that is no UUID. `key` is the periodic
    task that it was sent for, if it was.
    """
    values: dict[str, Any] = {
        "state": State.RUNNING,
        "reason": "",
        "detail": BY_STOCK if key else "",
        "error": "",
        "ready_at": None,
        "started_at": now,
        "ended_at": None,
        "worker": worker,
    }
    # The row that its arrival has left in shadow mode is this attempt's own.
    attempt = Case(When(detail=UNKNOWN_END, then=F("attempt")), default=F("attempt") + 1)
    if not _row(task_id).update(**values, attempt=attempt):
        create = {**_columns(name, key, now, sent_at or now), **values}
        Run.objects.get_or_create(pk=id_of(task_id), defaults=create)


def end_foreign(
    *,
    task_id: str,
    name: str,
    state: State,
    reason: str = "",
    error: str = "",
    detail: str = "",
    began: datetime | None,
    now: datetime,
    worker: str = "",
    key: str = "",
    sent_at: datetime | None = None,
) -> None:
    """Write down how a task ended; saying it twice changes nothing.

    Who has executed it knows when that `began`, and with that ends no other attempt: an end that
    comes after its loss was written down, or after another delivery, is refused. Who saw its
    process end names the `worker`. With neither, somebody has revoked it, whatever it does now.
    """
    values: dict[str, Any] = {
        "state": state,
        "reason": reason,
        "error": error,
        "detail": detail or (BY_STOCK if key else ""),
        "ready_at": None,
        "ended_at": now,
    }
    mine = _mine(began, worker) | Q(detail=UNKNOWN_END)
    if not _row(task_id).filter(mine).update(**values):
        seen = began or now
        create = {**_columns(name, key, seen, sent_at or seen), "started_at": began}
        defaults = {**create, "worker": worker, **values}
        Run.objects.get_or_create(pk=id_of(task_id), defaults=defaults)


def put_back_foreign(
    *,
    task_id: str,
    error: str,
    detail: str,
    ready_at: datetime,
    began: datetime | None,
    worker: str = "",
) -> None:
    """running -> queued: its message is sent, or will be delivered, again. See `end_foreign`."""
    _row(task_id).filter(_mine(began, worker), state=State.RUNNING).update(
        state=State.QUEUED,
        reason=Reason.RETRY,
        error=error,
        detail=detail,
        ready_at=ready_at,
    )


def lose_foreign(*, silent_since: datetime, now: datetime) -> int:
    """Fail what ran in a worker that is gone, silent, or was started anew since; give how many.

    And what was to be tried again, and was not.
    """
    open_rows = Run.objects.open().filter(cause=Cause.FOREIGN, target__isnull=True)
    running = list(open_rows.filter(state=State.RUNNING).values_list("pk", "worker", "started_at"))
    waiting = open_rows.filter(state=State.QUEUED, ready_at__lt=now - RETRY_PATIENCE)
    lost = waiting.update(**_lost("It was to be tried again, and nobody did", now))
    if not running:
        return lost
    alive = dict(
        Process.objects.filter(kind=ProcessKind.WORKER, seen_at__gte=silent_since).values_list(
            "name", "started_at"
        )
    )
    for pk, worker, started_at in running:
        since = alive.get(worker.rpartition("/")[0])
        gone_before = silent_since if since is None else since - START_UP
        if started_at is not None and started_at < gone_before:
            row = Run.objects.filter(pk=pk, state=State.RUNNING, started_at=started_at)
            lost += row.update(**_lost(f"Worker {worker} is gone", now))
    return lost


def record_stock_fire(
    *,
    task_id: str,
    name: str,
    key: str,
    sent_at: datetime,
    received_at: datetime,
    worker: str,
) -> None:
    """Write down that a message of the stock scheduler for the periodic task `key` has come.

    One row for each message, however often it is delivered or retried, and whatever becomes of it.
    Nobody is certain to tell its end, so the row is no open run that would wait for it.
    """
    Run.objects.get_or_create(
        pk=id_of(task_id),
        defaults={
            **_columns(name, key, received_at, sent_at),
            "started_at": received_at,
            "worker": worker,
            "ended_at": received_at,
            "state": State.SUCCEEDED,
            "detail": UNKNOWN_END,
        },
    )


def id_of(task_id: str) -> UUID:
    try:
        return UUID(task_id)
    except ValueError:
        return uuid5(NAMESPACE_OID, task_id)


def _row(task_id: str) -> QuerySet[Run]:
    return Run.objects.filter(pk=id_of(task_id), cause=Cause.FOREIGN)


def _mine(began: datetime | None, worker: str) -> Q:
    if began is not None:
        # Queued: its beginning could not be written down.
        return Q(state=State.RUNNING, started_at=began) | Q(state=State.QUEUED)
    if worker:
        return Q(state=State.RUNNING, worker=worker)
    return Q(state__in=(State.QUEUED, State.RUNNING))


def _lost(error: str, now: datetime) -> dict[str, Any]:
    return {
        "state": State.FAILED,
        "reason": Reason.LOST,
        "error": error,
        "detail": "",
        "ready_at": None,
        "ended_at": now,
    }


def _columns(name: str, key: str, seen_at: datetime, sent_at: datetime) -> dict[str, Any]:
    return {
        "cause": Cause.FOREIGN,
        "name": name[:200],
        "key": key[:300],
        "scheduled_at": sent_at,
        "created_at": seen_at,
    }
