"""Delivering rows: each claimed, sent to everybody who does not have it yet, and settled."""

from __future__ import annotations

import logging
import time
from collections.abc import Callable, Iterator
from datetime import datetime, timedelta
from functools import partial
from typing import Any
from uuid import UUID

from celery import shared_task
from django.db.models import QuerySet

from scheduling import clock
from scheduling.conf import conf
from scheduling.models import Event, Notification
from scheduling.models.base import Told
from scheduling.runs.telling import ALERTS, LASTING, MUTED, is_muted
from workers.notifications import sending
from workers.notifications.message import Message, failing_since, message_about, one_line
from workers.notifications.subject import Subject
from workers.notifications.whom import Recipients, mute_of, recipients_of

logger = logging.getLogger(__name__)

BATCH = 100
# So long a call takes up rows that are due; the next one goes on.
LONGEST_CALL = timedelta(seconds=20)
ATTEMPTS = 10
FIRST_WAIT = timedelta(seconds=60)
NOBODY = "Nobody to tell: set the job's recipients or JOBS_NOTIFY"

Way = tuple[str, list[str], Callable[[Message], None]]


@shared_task(name="workers.notifications.deliver")
def deliver() -> int:
    """Deliver what is due; give how many rows were delivered."""
    return deliver_due(clock.now())


def deliver_left() -> int:
    """Deliver what nobody was asked to deliver for a while: no beat or no broker is alive."""
    return deliver_due(clock.now(), overdue_by=conf.LATE_EVERY)


def deliver_of(run_id: UUID) -> None:
    """Deliver what the end of a run has to tell; whatever fails is left to the next beat."""
    try:
        deliver_due(clock.now(), run_id=run_id)
    except Exception:
        logger.exception("Notifications of run %s not delivered yet", run_id)


def deliver_due(
    now: datetime, *, run_id: UUID | None = None, overdue_by: timedelta = timedelta(0)
) -> int:
    """Deliver due notifications, of one run or of all; give how many were delivered."""
    due = Notification.objects.filter(deliver_at__lte=now - overdue_by).order_by("deliver_at", "pk")
    if run_id is not None:
        due = due.filter(run=run_id)
    return sum(deliver_one(row, now=now) for row in _each(due))


def _each(due: QuerySet[Notification]) -> Iterator[Notification]:
    """Yield due rows for as long as a call may take; those that were claimed are due no more."""
    until = time.monotonic() + LONGEST_CALL.total_seconds()
    while batch := list(due[:BATCH]):
        for row in batch:
            if time.monotonic() > until:
                return
            yield row


def deliver_one(row: Notification, *, now: datetime) -> bool:
    """Tell everybody who is not told yet. True: all who can be told have it.

    1. Claim the row for longer than the sending can take.
    2. Not while its subject is muted.
    3. Send: one mail to all addresses, then one channel after the other, each noted at once.
    4. Settle: delivered, to be tried again when the claim is over, or given up.
    """
    subject = Subject.of(row)
    whom = recipients_of(subject)
    number = row.attempts + 1
    longest = LONGEST_CALL + conf.SEND_LIMIT * (len(whom.channels) + 2)
    wait = max(FIRST_WAIT * 2 ** min(row.attempts, ATTEMPTS), longest)
    unclaimed = Notification.objects.filter(
        pk=row.pk, deliver_at=row.deliver_at, attempts=row.attempts
    )
    if not unclaimed.update(deliver_at=now + wait, attempts=number):
        return False
    mine = Notification.objects.filter(pk=row.pk, attempts=number)
    if _is_past(subject):
        mine.update(deliver_at=None, error=f"{row.error}; over since")
        return False
    if (mute := mute_of(subject, now)) is not None:
        mine.update(**_muted(row, mute))
        return False
    if not whom:
        mine.update(deliver_at=None, error="; ".join((NOBODY, *whom.errors)))
        return False
    told, errors = _send(subject, whom, mine)
    settled: dict[str, Any] = {"error": "; ".join((*errors, *whom.errors))}
    if not errors:
        settled |= {"delivered_at": now, "deliver_at": None}
    elif number >= ATTEMPTS:
        settled["deliver_at"] = None
    mine.update(delivered_to=told, **settled)
    return not errors


def _is_past(subject: Subject) -> bool:
    """Whether what was kept back by a mute is no longer so. Lost runs are told in any case."""
    row, target = subject.row, subject.target
    if not is_muted(row):
        return False
    newer = Notification.objects.filter(pk__gt=row.pk)
    match row.event:
        case Event.FAILING | Event.STILL_FAILING if target is not None:
            later = newer.filter(run__target=target, event__in=ALERTS)
            return failing_since(subject) is None or later.exists()
        case Event.LATE if target is not None and row.late_since is not None:
            started = target.last_started_at
            return started is not None and started >= row.late_since
        case Event.SCHEDULE_ERROR:
            return subject.job is not None and not subject.job.schedule_error
        case Event.CIRCUIT_OPENED if subject.circuit is not None:
            later = newer.filter(circuit=subject.circuit, event=Event.CIRCUIT_OPENED)
            return not subject.circuit.is_open or later.exists()
    return False


def _muted(row: Notification, mute: Told) -> dict[str, Any]:
    """What may go on is looked at again when the mute ends; the rest is over and told to nobody."""
    by = f" by {mute.muted_by}" if mute.muted_by else ""
    return {
        "deliver_at": mute.muted_until if row.event in LASTING else None,
        "error": f"{MUTED}{by} until {mute.muted_until:%Y-%m-%d %H:%M:%S} UTC",
    }


def _send(
    subject: Subject, whom: Recipients, mine: QuerySet[Notification]
) -> tuple[list[str], list[str]]:
    """Send to whom has it not yet; give who has it now, and what went wrong."""
    row = subject.row
    told: list[str] = list(row.delivered_to)
    errors: list[str] = []
    message: Message | None = None
    for name, receivers, act in _ways(whom, told):
        try:
            message = message or message_about(subject)
            act(message)
        except Exception as error:
            # Whatever it is, the others must still be told.
            why = str(error) if isinstance(error, sending.Unsent) else type(error).__name__
            errors.append(f"{name}: {why}")
            about = one_line(row.name)
            logger.warning("%s of %s not told by %s: %s", row.event, about, name, why)
        else:
            told += receivers
            # At once: who has it does not get it again if this process dies now.
            mine.update(delivered_to=told)
    return told, errors


def _ways(whom: Recipients, told: list[str]) -> Iterator[Way]:
    """Yield what is still to be done: its name, whom it reaches, and how."""
    if addresses := [each for each in whom.addresses if each not in told]:
        yield sending.MAIL, addresses, partial(sending.send_mail, addresses=addresses)
    for name in whom.channels:
        if name not in told:
            yield name, [name], partial(sending.send_to_channel, name=name)
