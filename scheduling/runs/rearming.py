"""What the end of a run gives back to its target: the next cursor, a fire that did not count."""

from __future__ import annotations

from datetime import datetime

from django.db.models import F

from scheduling.errors import InvalidSchedule
from scheduling.models import Job, Parked, Run, Target
from scheduling.runs import restarts
from scheduling.runs.cursors import (
    CURSOR_FIELDS,
    earliest,
    first_fire,
    schedule_of,
    set_cursor,
    within_life,
)
from scheduling.services import is_service


def rearm_after_end(
    target: Target, job: Job, *, ended: datetime, is_busy: bool | None = None
) -> None:
    """Give a target that counts from the end of its runs its next cursor, on the instance.

    Only if it still waits for that: a pause, an edit or a retirement since then has its own say.
    `is_busy`: whether another run of it is open; None: the caller does not know.
    """
    if target.parked != Parked.OPEN:
        return
    if is_busy is None:
        is_busy = Run.objects.open().filter(target=target).exists()
    if is_busy:
        return
    try:
        schedule = schedule_of(target, job)
    except InvalidSchedule:
        # Due at once: the claim puts it aside with an error.
        set_cursor(target, ended)
        return
    # A strategy picks it: what its schedule says is a least distance there.
    following = None if job.is_picked else schedule.after_end(ended)
    if following is not None and is_service(job, target):
        following += restarts.delay(target)
    elif following is not None:
        following = max(following, earliest(target, job) or following)
    set_cursor(target, within_life(job, following))


def give_back(run: Run, target: Target, *, now: datetime) -> None:
    """Let a skipped fire not count against its job's number of runs."""
    job = run.job
    if job is None or job.runs_left is None:
        return
    Job.objects.filter(pk=job.pk, runs_left__isnull=False).update(runs_left=F("runs_left") + 1)
    job.runs_left += 1
    if target.next_fire_at is not None or target.parked:
        return
    # It had come to its end.
    try:
        schedule = schedule_of(target, job)
    except InvalidSchedule:
        return
    not_before = earliest(target, job)
    fire = first_fire(schedule, job, after=now, name=target.name, not_before=not_before)
    set_cursor(target, fire)
    target.save(update_fields=CURSOR_FIELDS)
