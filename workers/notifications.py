"""Mails about runs. Each is a row, written with what it tells; here it is delivered.

A row is claimed by moving its `deliver_at` into the future, so that of several processes one
sends it; one that dies in between leaves it to be sent again then: at most one mail too many.
"""

from __future__ import annotations

import logging
from datetime import datetime, timedelta
from uuid import UUID

from celery import shared_task
from django.core.mail import EmailMultiAlternatives, get_connection
from django.urls import NoReverseMatch, reverse

from scheduling import clock
from scheduling.conf import conf
from scheduling.models import Job, Notification, Run
from scheduling.models.system import Event

logger = logging.getLogger(__name__)

BATCH = 100
ATTEMPTS = 10
FIRST_WAIT = timedelta(seconds=60)
OUTPUT_LINES = 20
# A mail server that does not answer must not hold a worker.
MAIL_TIMEOUT = 10


@shared_task(name="workers.notifications.deliver")
def deliver() -> int:
    """Deliver what is due; give how many mails were sent."""
    return deliver_due(clock.now())


def deliver_left() -> int:
    """Deliver what nobody was asked to deliver for a while: no beat or no broker is alive."""
    return deliver_due(clock.now(), overdue_by=conf.LATE_EVERY)


def deliver_due(
    now: datetime, *, run_id: UUID | None = None, overdue_by: timedelta = timedelta(0)
) -> int:
    """Deliver due notifications, of one run or of all; give how many mails were sent."""
    due = Notification.objects.filter(deliver_at__lte=now - overdue_by)
    if run_id is not None:
        due = due.filter(run=run_id)
    return sum(
        deliver_one(row, now=now)
        for row in due.select_related("target").order_by("deliver_at")[:BATCH]
    )


def deliver_of(run_id: UUID) -> None:
    """Deliver what the end of a run has to tell; whatever fails is left to the next beat."""
    try:
        deliver_due(clock.now(), run_id=run_id)
    except Exception:
        logger.exception("Notifications of run %s not delivered yet", run_id)


def deliver_one(row: Notification, *, now: datetime) -> bool:
    claimed = Notification.objects.filter(
        pk=row.pk, deliver_at=row.deliver_at, attempts=row.attempts
    ).update(deliver_at=now + FIRST_WAIT * 2**row.attempts, attempts=row.attempts + 1)
    if not claimed:
        return False
    job = Job.objects.filter(name=row.name).first()
    run = Run.objects.filter(pk=row.run_id).first() if row.run_id is not None else None
    recipients = list(job.recipients if job is not None and job.recipients else conf.NOTIFY)
    mine = Notification.objects.filter(pk=row.pk)
    if not recipients:
        mine.update(
            deliver_at=None, error="Nobody to tell: set the job's recipients or JOBS_NOTIFY"
        )
        return False
    key = run.key if run is not None else row.target.key if row.target is not None else ""
    try:
        EmailMultiAlternatives(
            subject=subject_of(row, key),
            body=body_of(row, run, job, key),
            from_email=conf.NOTIFY_FROM or None,
            to=recipients,
            connection=get_connection(timeout=MAIL_TIMEOUT),
        ).send()
    except Exception as error:
        # Mail back ends raise what they like, and the other rows must still be sent.
        is_last = row.attempts + 1 >= ATTEMPTS
        logger.warning("Mail about %s not sent: %s", one_line(row.name), error)
        mine.update(
            error=f"{type(error).__name__}: {error}", **({"deliver_at": None} if is_last else {})
        )
        return False
    mine.update(delivered_at=now, deliver_at=None, error="")
    return True


def one_line(text: str) -> str:
    """A name cannot break out of its header or its line."""
    return " ".join("".join(c if c.isprintable() else " " for c in text).split())


def subject_of(row: Notification, key: str) -> str:
    of_key = f" [{one_line(key)}]" if key else ""
    return f"[Beatkeeper] {Event(row.event).label}: {one_line(row.name)}{of_key}"


def body_of(row: Notification, run: Run | None, job: Job | None, key: str) -> str:
    """Plain text: what, since when, the last line of the error, the end of the output, a link."""
    lines = [one_line(row.name) + (f", {one_line(key)}" if key else "")]
    if run is not None:
        lines += facts_of(run)
    if row.late_since is not None:
        lines.append(f"Late since {row.late_since:%Y-%m-%d %H:%M:%S} UTC")
    if row.detail:
        lines += ["", row.detail]
    if run is not None and run.output.strip():
        last = run.output.rstrip().split("\n")[-OUTPUT_LINES:]
        lines += ["", "Last lines of its output:", *(f"  {line}" for line in last)]
    if link := link_to(run or job):
        lines += ["", link]
    return "\n".join(lines) + "\n"


def facts_of(run: Run) -> list[str]:
    facts = [f"Scheduled for {run.scheduled_at:%Y-%m-%d %H:%M:%S} UTC, attempt {run.attempt}"]
    if run.ended_at is not None:
        why = f": {run.get_reason_display()}" if run.reason else ""
        facts.append(f"{run.get_state_display()} at {run.ended_at:%Y-%m-%d %H:%M:%S} UTC{why}")
    since = run.target.failing_since if run.target is not None else None
    if since is not None:
        facts.append(f"Failing since {since:%Y-%m-%d %H:%M:%S} UTC")
    if run.error.strip():
        facts.append(f"Error: {run.error.strip().rpartition(chr(10))[2]}")
    return facts


def link_to(what: Run | Job | None) -> str:
    """Give the address of its page; empty without JOBS_SITE_URL or without the admin."""
    if not conf.SITE_URL or what is None:
        return ""
    page = f"admin:scheduling_{what._meta.model_name}_change"
    try:
        return conf.SITE_URL.rstrip("/") + reverse(page, args=[what.pk])
    except NoReverseMatch:
        return ""
