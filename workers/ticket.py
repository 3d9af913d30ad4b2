"""Which runs a message stands for, as its headers say."""

from __future__ import annotations

from typing import Any, NamedTuple
from uuid import UUID

from celery.app.task import Context

from scheduling.message_headers import BATCH_HEADER, RUN_HEADER


class Ticket(NamedTuple):
    """What a message says about the run that it stands for."""

    run_id: UUID
    attempt: int


def ticket_of(headers: Any) -> Ticket | None:
    """Read the header from a request or a mapping of headers; None if it is not (well) there.

    Of a message for several runs this is the first.
    """
    return _read(_found(headers, RUN_HEADER))


def tickets_of(headers: Any) -> list[Ticket]:
    """All runs that a message stands for, in its order; none if it does not say so (well)."""
    first = ticket_of(headers)
    if first is None:
        return []
    others = _found(headers, BATCH_HEADER)
    if not others:
        return [first]
    if not isinstance(others, list | tuple):
        return []
    tickets = [ticket for ticket in map(_read, others) if ticket is not None]
    return tickets if len(tickets) == len(others) else []


def _found(headers: Any, name: str) -> Any:
    if isinstance(headers, Context):
        return getattr(headers, name, None) or (headers.headers or {}).get(name)
    return (headers or {}).get(name)


def _read(found: Any) -> Ticket | None:
    if not found:
        return None
    try:
        run_id, attempt = found
        return Ticket(UUID(run_id), int(attempt))
    except (TypeError, ValueError, AttributeError):
        return None
