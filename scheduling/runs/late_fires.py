"""Fires that were given up before they started, and the alert that a target is late.

A target is told about once: with an alert since its last start there is no second one.
"""

from __future__ import annotations

from collections import Counter
from copy import copy
from datetime import UTC, datetime, timedelta

from django.db.models import DateTimeField, Exists, OuterRef, Q, Value
from django.db.models.functions import Coalesce

from scheduling.conf import conf
from scheduling.errors import InvalidSchedule
from scheduling.explanations import Surroundings, stamp, surroundings_of
from scheduling.explanations.waiting import why_queued
from scheduling.models import Cause, Job, Notification, Reason, Run, State, Target
from scheduling.models.system import Event
from scheduling.policies import late_after
from scheduling.runs import circuits
from scheduling.runs.cursors import schedule_of
from scheduling.runs.scopes import pause_of

# Nobody reads a million mails that say the same: so many alerts of one job in an hour.
MOST_OF_A_JOB = 20
REMEMBERED = timedelta(hours=1)
NEWEST = 1000
NEVER = datetime(1970, 1, 1, tzinfo=UTC)


def patience(target: Target, job: Job, at: datetime) -> timedelta:
    """How late a fire of this target may be. Raises InvalidSchedule."""
    return late_after(schedule_of(target, job), at, target.name, floor=conf.LATE_AFTER)


def alert(
    target: Target, job: Job, *, since: datetime, detail: str, due: datetime, now: datetime
) -> Notification:
    """A late alert, to be delivered when `due`; not saved."""
    return Notification(
        target=target,
        late_since=since,
        name=job.name,
        event=Event.LATE,
        detail=detail,
        created_at=now,
        deliver_at=due,
    )


def is_told(target: str, last_started_at: str) -> Exists:
    """Whether a target has an alert since its last start; both are paths from the outer query."""
    since = Coalesce(OuterRef(last_started_at), Value(NEVER, output_field=DateTimeField()))
    return Exists(Notification.objects.filter(target=OuterRef(target), late_since__gt=since))


def told_lately(now: datetime) -> Counter[str]:
    """job name -> its alerts of the last hour, among the newest notifications."""
    newest = Notification.objects.order_by("-pk").values_list("event", "created_at", "name")
    return Counter(
        name
        for event, created_at, name in newest[:NEWEST]
        if event == Event.LATE and created_at > now - REMEMBERED
    )


def given_up(run: Run, target: Target, job: Job, *, now: datetime) -> None:
    """Take note that a claimed fire was skipped, as it did not start in time or a newer one came.

    Its alert is for the moment when the first such fire since the last start is late.
    `lateness.evaluate` withdraws it if the target starts until then.
    """
    if run.cause != Cause.SCHEDULE or run.reason not in (Reason.LATE, Reason.OVERLAP):
        return
    waited_for_predecessor = run.waiting_on_id is not None
    if run.started_at is not None or waited_for_predecessor:
        return
    if pause_of(job, target, now) or circuits.held_by(job):
        return
    first = _first_given_up(target) or run.scheduled_at
    told = Notification.objects.filter(
        target=target, late_since__gt=target.last_started_at or NEVER
    ).exists()
    if told or told_lately(now)[job.name] >= MOST_OF_A_JOB:
        return
    try:
        due = first + patience(target, job, first)
    except InvalidSchedule:
        return
    as_it_was = copy(run)
    as_it_was.state, as_it_was.reason = State.QUEUED, ""
    why = why_unstarted(as_it_was, now, surroundings_of([as_it_was], now))
    detail = f"No fire since {stamp(first)} has started; that of {stamp(run.scheduled_at)}: {why}."
    row = alert(target, job, since=first, detail=detail, due=max(due, now), now=now)
    Notification.objects.bulk_create([row], ignore_conflicts=True)


def why_unstarted(run: Run, now: datetime, around: Surroundings) -> str:
    """Why a queued run has not begun, and what to do about it."""
    seat = around.seats.get(run.waiting_for)
    if seat is not None and seat.run_id is not None:
        step = f"wait for that run, or end it with `manage.py jobs cancel {seat.run_id}`"
    else:
        step = "`manage.py jobs health` says what does not work"
    return f"{why_queued(run, now, around)}; {step}"


def _first_given_up(target: Target) -> datetime | None:
    """The first fire since the target's last start, and since that ended, that was given up."""
    # A fire that its predecessor kept from starting was skipped before that one ended.
    return (
        Run.objects.filter(
            # Skipped on the spot for an open run, a fire has never been ready.
            Q(reason=Reason.LATE) | Q(reason=Reason.OVERLAP, ready_at__isnull=False),
            target=target,
            cause=Cause.SCHEDULE,
            state=State.SKIPPED,
            scheduled_at__gt=target.last_started_at or NEVER,
            ended_at__gt=target.last_ended_at or NEVER,
        )
        .order_by("scheduled_at")
        .values_list("scheduled_at", flat=True)
        .first()
    )
