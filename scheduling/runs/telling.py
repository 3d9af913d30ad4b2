"""What people are told of the end of a run: rows, written with the end, delivered afterwards."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime, timedelta

from scheduling.db import short_transaction
from scheduling.explanations import stamp
from scheduling.models import (
    Circuit,
    Event,
    Job,
    Notification,
    Reason,
    Resource,
    Run,
    State,
    Target,
)
from scheduling.runs import log

# Without `notify_still_failing`, a job that goes on failing says so once a day.
DIGEST = timedelta(days=1)
LONGEST_REASON = 100  # of a mute, beside who asked for it
ALERTS = frozenset({Event.FAILING, Event.STILL_FAILING, Event.LOST})
# What may well go on when a mute ends, and must be told then.
LASTING = ALERTS | {Event.LATE, Event.SCHEDULE_ERROR, Event.CIRCUIT_OPENED}

MUTED = "Muted"  # how the error of a row begins that was kept quiet

Tellable = Job | Circuit | Resource


def tells_of_each(job: Job) -> bool:
    """Whether the end of each target is told. In an inventory some always fail, and nobody reads a
    mail for each of a million: coverage counts them. `notify_still_failing` asks for all of it.
    """
    return not job.is_picked or job.notify_still_failing


def event_of(run: Run, target: Target, job: Job, now: datetime) -> Event | None:
    """What to tell of an end, seen from the target's state before it: one thing of each run."""
    if not tells_of_each(job):
        return Event.LOST if run.reason in (Reason.LOST, Reason.POISON) else None
    if run.state == State.SUCCEEDED:
        if target.failing_since is not None:
            return Event.FIXED
        # As cron does: mail only if there is something to read.
        return Event.SUCCEEDED if job.notify_on_success and run.output.strip() else None
    if run.reason in (Reason.LOST, Reason.POISON):
        # Nobody knows what it has done: each one is to be looked at.
        return Event.LOST
    if target.failing_since is None:
        return Event.FAILING
    told = target.last_alerted_at
    if job.notify_still_failing or told is None or now - told >= DIGEST:
        return Event.STILL_FAILING
    return None


def standing_before(target: Target) -> str:
    """Say how a target stood before the end that is being recorded."""
    if target.failing_since is not None:
        times = f"{target.failures_in_a_row} in a row"
        return f"Before: failing since {stamp(target.failing_since)}, {times}"
    if target.last_succeeded_at is not None:
        return f"Before: succeeded, the last time at {stamp(target.last_succeeded_at)}"
    return "Before: it had never succeeded"


def insert(run: Run, job: Job, events: Mapping[Event, str], *, now: datetime) -> None:
    """Write what is to be told of a run, each event once, with its detail."""
    Notification.objects.bulk_create(
        [
            Notification(
                run=run, name=job.name, event=event, detail=detail, created_at=now, deliver_at=now
            )
            for event, detail in events.items()
        ],
        ignore_conflicts=True,
    )


def is_muted(row: Notification) -> bool:
    """Whether it was kept quiet, and still is or never will be told."""
    return row.delivered_at is None and row.error.startswith(MUTED)


def mute(scope: Tellable, *, by: str, reason: str, until: datetime, now: datetime) -> bool:
    """Tell nothing of a job, a circuit or a resource until then. False: `until` has passed."""
    if until <= now:
        return False
    said = f"{by}: {reason}" if reason else by
    _set_mute(scope, until=until, by=said[:150], now=now)
    log.pausing(str(scope), "muted", by, reason)
    return True


def unmute(scope: Tellable, *, by: str, now: datetime) -> bool:
    """Tell again from now on. False: it was not muted."""
    was_muted = _set_mute(scope, until=None, by="", now=now)
    if was_muted:
        log.pausing(str(scope), "unmuted", by, "")
    return was_muted


def _set_mute(scope: Tellable, *, until: datetime | None, by: str, now: datetime) -> bool:
    """Set or end a mute; what waits for the end of the one before is looked at anew."""
    mine = type(scope).objects.filter(pk=scope.pk)
    with short_transaction():
        before = mine.values_list("muted_until", flat=True).get()
        mine.update(muted_until=until, muted_by=by)
        if before is None or before <= now:
            return False
        # Those that wait until then for another scope's sake are put back when they are met.
        kept = Notification.objects.filter(error__startswith=MUTED, deliver_at=before)
        kept.update(deliver_at=now)
    return True


def send_again(pk: int, *, now: datetime) -> bool:
    """Deliver what was given up to those who do not have it. False: it was delivered, or waits."""
    given_up = Notification.objects.filter(pk=pk, deliver_at=None, delivered_at=None)
    return bool(given_up.update(deliver_at=now, attempts=0))
