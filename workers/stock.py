"""Shadow mode: which messages the stock scheduler has sent, seen by those who receive them."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any, NamedTuple

from celery.app.task import Context

from scheduling import clock, runs
from scheduling.conf import conf
from workers import lease

# django-celery-beat puts the first into what it sends, its "run now" in the admin as well; Celery's
# beats put the second into what is due.
NAME = "periodic_task_name"
FROM_BEAT = "celery_beat_task"
SENT_AT = "jobs_sent_at"


class Fire(NamedTuple):
    """What a message of a beat says: which periodic task is due, and when it was sent."""

    periodic_task: str
    sent_at: datetime | None


def stamp(headers: Any = None, **_: Any) -> None:
    """Note in a message of stock beat when it is sent: busy workers receive it much later.

    By the clock of the host, as stock beat itself; nothing is asked of the database here. What
    `Task.retry()` sends again keeps its first time.
    """
    if conf.SHADOW and fire_of(headers) is not None:
        headers.setdefault(SENT_AT, datetime.now(UTC).isoformat())


def fire_of(headers: Any) -> Fire | None:
    """Read a request or a mapping of headers; None if the message does not come from a beat."""
    if not isinstance(headers, dict | Context):
        return None
    name = headers.get(NAME)
    if not isinstance(name, str) or not name or not headers.get(FROM_BEAT):
        return None
    try:
        sent_at = datetime.fromisoformat(str(headers.get(SENT_AT)))
    except ValueError:
        sent_at = None
    return Fire(name, sent_at if sent_at is not None and sent_at.tzinfo else None)


def record(fire: Fire, headers: Any, *, hostname: str) -> None:
    """Write down that a message of stock beat is here."""
    now = clock.now()
    runs.record_stock_fire(
        task_id=str(headers.get("id")),
        name=str(headers.get("task")),
        key=fire.periodic_task,
        sent_at=fire.sent_at or now,
        received_at=now,
        worker=lease.worker_name(hostname),
    )
