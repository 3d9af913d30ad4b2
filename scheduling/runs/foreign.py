"""History of tasks that are not jobs, for teams that ask for it."""

from __future__ import annotations

from datetime import datetime
from uuid import NAMESPACE_OID, UUID, uuid5

from scheduling.models import Cause, Run, State


def record_foreign(
    *,
    task_id: str,
    name: str,
    state: State,
    started_at: datetime,
    ended_at: datetime | None,
    error: str = "",
    worker: str = "",
) -> None:
    """Write down a task as its worker saw it; saying it twice changes nothing.

    The row's id is the task's, or derived from it where that is no UUID.
    """
    try:
        pk = UUID(task_id)
    except ValueError:
        pk = uuid5(NAMESPACE_OID, task_id)
    Run.objects.update_or_create(
        pk=pk,
        cause=Cause.FOREIGN,
        defaults={"state": state, "ended_at": ended_at, "error": error},
        create_defaults={
            "name": name[:200],
            "scheduled_at": started_at,
            "created_at": started_at,
            "started_at": started_at,
            "ended_at": ended_at,
            "state": state,
            "error": error,
            "worker": worker,
        },
    )
