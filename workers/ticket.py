"""The header that makes a message stand for a run."""

from __future__ import annotations

from typing import Any, NamedTuple
from uuid import UUID

from celery.app.task import Context

HEADER = "jobs_run"


class Ticket(NamedTuple):
    """What a message says about the run that it stands for."""

    run_id: UUID
    attempt: int


def ticket_of(headers: Any) -> Ticket | None:
    """Read the header from a request or a mapping of headers; None if it is not (well) there."""
    if isinstance(headers, Context):
        found = getattr(headers, HEADER, None) or (headers.headers or {}).get(HEADER)
    else:
        found = (headers or {}).get(HEADER)
    if not found:
        return None
    try:
        run_id, attempt = found
        return Ticket(UUID(run_id), int(attempt))
    except (TypeError, ValueError, AttributeError):
        return None
