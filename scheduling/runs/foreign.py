"""History of tasks that are not jobs: for teams that ask for it, and for shadow mode."""

from __future__ import annotations

from datetime import datetime
from typing import Any
from uuid import NAMESPACE_OID, UUID, uuid5

from scheduling.models import Cause, Run, State

BY_STOCK = "sent by the stock scheduler"
UNKNOWN_END = f"{BY_STOCK}; what became of it is not known"


def record_foreign(
    *,
    task_id: str,
    name: str,
    state: State,
    started_at: datetime,
    ended_at: datetime | None,
    error: str = "",
    worker: str = "",
    key: str = "",
    sent_at: datetime | None = None,
) -> None:
    """Write down a task as its worker saw it; saying it twice changes nothing.

    The row's id is the task's, or derived from it where that is no UUID. `key` is the periodic
    task that it was sent for, if it was.
    """
    detail = BY_STOCK if key else ""
    Run.objects.update_or_create(
        pk=id_of(task_id),
        cause=Cause.FOREIGN,
        defaults={"state": state, "ended_at": ended_at, "error": error, "detail": detail},
        create_defaults={
            **_columns(name, key, started_at, sent_at or started_at, worker),
            "ended_at": ended_at,
            "state": state,
            "error": error,
            "detail": detail,
        },
    )


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
            **_columns(name, key, received_at, sent_at, worker),
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


def _columns(
    name: str, key: str, seen_at: datetime, sent_at: datetime, worker: str
) -> dict[str, Any]:
    return {
        "cause": Cause.FOREIGN,
        "name": name[:200],
        "key": key[:300],
        "scheduled_at": sent_at,
        "created_at": seen_at,
        "started_at": seen_at,
        "worker": worker,
    }
