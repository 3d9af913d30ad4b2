"""Claiming: due fire times become runs and skips, and cursors move on, in one transaction."""

from __future__ import annotations

import logging
from datetime import datetime

from django.db.models import Q

from scheduling.conf import conf
from scheduling.db import short_transaction, skip_locked
from scheduling.models import Installation, Job, Notification, Parked, Run, Target
from scheduling.models.system import Event
from scheduling.policies import CatchUp, Overlap
from scheduling.runs import circuits, edits, make
from scheduling.runs.cursors import park, schedule_of
from scheduling.runs.scopes import scopes_of
from scheduling.runs.settle import Claim, open_runs_of, plan_for, settle, write

logger = logging.getLogger(__name__)


def claim(
    *,
    now: datetime,
    limit: int,
    catch_up_budget: int | None = None,
) -> Claim:
    """Take the due fire times of up to `limit` targets.

    1. Lock the earliest due targets that nobody else is claiming.
    2. Plan each: which fires are started, which are skipped and why.
    3. Insert the runs (unique per fire time), move the cursors.
    Nothing is published: that comes after the commit.
    """
    result = Claim()
    # A peek first: on SQLite a transaction takes the write lock of the whole database.
    if not Target.objects.due(now).exists():
        return result
    with short_transaction():
        targets = _lock_due(now, limit=limit, catch_up_budget=catch_up_budget)
        if not targets:
            return result
        # Read after the locks are held, so that an edit is seen whole or not at all.
        known = Job.objects.select_related("circuit", "calendar")
        jobs = known.in_bulk({target.job_id for target in targets})
        # Two beats with different targets of one job must not both spend its last run.
        counted = known.filter(pk__in=jobs, runs_left__isnull=False).order_by("pk")
        jobs |= {job.pk: job for job in counted.select_for_update(no_key=True, of=("self",))}
        result.targets = len(targets)
        # Who has an edit yet to follow is claimed by what he follows then, by the next claim.
        moved = edits.bring_up(targets, now=now, jobs=jobs)
        targets = [target for target in targets if target.pk not in moved]
        # Without a row nothing has ever been paused; asked once, not for each target.
        everything = Installation.objects.filter(pk=1).first() or Installation(pk=1)
        open_runs = open_runs_of(target.pk for target in targets)
        budget = catch_up_budget
        for target in targets:
            target.job = jobs[target.job_id]
            taken = _claim_target(
                target,
                target.job,
                open_runs[target.pk],
                everything=everything,
                now=now,
                budget=budget,
                claim=result,
            )
            if budget is not None:
                budget = max(0, budget - taken)
        for run in result.runs:
            if run.waiting_on is None:
                run.publish_at = now + make.CLAIMER_GOES_FIRST
        write(result, targets)
    return result


def metered(now: datetime) -> Q:
    """Targets that catch up one by one, at the shared rate."""
    return Q(job__catch_up=CatchUp.ALL.value, next_fire_at__lt=now - conf.GRACE)


def _lock_due(now: datetime, *, limit: int, catch_up_budget: int | None) -> list[Target]:
    """Lock the earliest due targets; of the metered ones no more than there is budget for.

    Those stay due until they are through, and would fill every batch: all others would wait.
    """
    # Without this lock two beats would plan the same fires and one would lose its batch.
    due = (
        Target.objects.due(now)
        .select_related("resource")
        .select_for_update(skip_locked=skip_locked(), no_key=True, of=("self",))
    )
    if catch_up_budget is None:
        return list(due[:limit])
    behind = list(due.filter(metered(now))[:catch_up_budget]) if catch_up_budget else []
    return [*behind, *due.exclude(metered(now))[:limit]]


def _claim_target(
    target: Target,
    job: Job,
    open_runs: list[Run],
    *,
    everything: Installation,
    now: datetime,
    budget: int | None,
    claim: Claim,
) -> int:
    """Plan one target and put its rows into `claim`; give the catch-up runs it took."""
    assert target.next_fire_at is not None
    if job.retired_at is not None or target.retired_at is not None:
        park(target, Parked.RETIRED)
        return 0
    # Also of a pause whose end has passed: its fires are accounted for by the resume, soon.
    if any(scope.paused_at for _, scope in scopes_of(job, target, everything=everything)):
        park(target, Parked.PAUSED)
        return 0
    if circuits.held_by(job) is not None:
        park(target, Parked.CIRCUIT)
        return 0
    try:
        schedule = schedule_of(target, job)
        Overlap(job.overlap), CatchUp(job.catch_up)
    except ValueError as error:  # InvalidSchedule is one
        _park_unreadable(target, job, error, now)
        return 0
    if not schedule.is_anchored and open_runs:
        # The pause between runs begins when the open run ends: finishing it sets the cursor.
        park(target, Parked.OPEN)
        return 0
    plan = plan_for(target, job, schedule, now=now, budget=budget)
    return settle(target, job, schedule, plan, open_runs, now=now, claim=claim)


def _park_unreadable(target: Target, job: Job, error: ValueError, now: datetime) -> None:
    """A row that cannot be read stops nothing else: it is put aside, marked and told about."""
    park(target, Parked.ERROR)
    logger.error("Job %s has a schedule that cannot be read: %s", job.name, error)
    Job.objects.filter(pk=job.pk).update(schedule_error=str(error))
    Notification.objects.create(
        name=job.name,
        event=Event.SCHEDULE_ERROR,
        detail=str(error),
        created_at=now,
        deliver_at=now,
    )
