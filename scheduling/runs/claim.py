"""Claiming: due fire times become runs and skips, and cursors move on, in one transaction."""

from __future__ import annotations

import logging
from collections import defaultdict
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from uuid import UUID

from django.db.models import F

from scheduling.conf import conf
from scheduling.db import short_transaction, skip_locked
from scheduling.errors import InvalidSchedule
from scheduling.models import Cause, Installation, Job, Notification, Parked, Reason, Run, Target
from scheduling.models.system import Event
from scheduling.policies import CatchUp, Overlap, Plan, catch_up_window, on_overlap, plan_fires
from scheduling.runs import log, make
from scheduling.runs.cursors import (
    CURSOR_FIELDS,
    Ending,
    park,
    schedule_of,
    set_cursor,
    within_life,
)
from scheduling.schedules import Schedule

logger = logging.getLogger(__name__)

TARGET_FIELDS = (*CURSOR_FIELDS, "last_scheduled_at", "last_skipped_at", "skipped_for_overlap")


@dataclass(frozen=True, slots=True, kw_only=True)
class ClaimedFire:
    """What a claim did to one target of a django-celery-beat row."""

    periodic_task_id: int
    scheduled_at: datetime  # newest fire taken, started or skipped
    started: int
    finished: bool  # its last run has been claimed


@dataclass(slots=True)
class Claim:
    """What one batch came to: `runs` to publish now, in order; `targets` looked at."""

    runs: list[Run] = field(default_factory=list)
    skips: list[Run] = field(default_factory=list)
    fires: list[ClaimedFire] = field(default_factory=list)
    targets: int = 0


def claim(
    *,
    now: datetime,
    limit: int,
    catch_up_budget: int | None = None,
    on_fires: Callable[[Sequence[ClaimedFire]], None] = lambda fires: None,
) -> Claim:
    """Take the due fire times of up to `limit` targets.

    1. Lock the earliest due targets that nobody else is claiming.
    2. Plan each: which fires are started, which are skipped and why.
    3. Insert the runs (unique per fire time), move the cursors.
    `on_fires` runs inside the transaction. Nothing is published: that comes after the commit.
    """
    result = Claim()
    # A peek first: on SQLite a transaction takes the write lock of the whole database.
    if not Target.objects.due(now).exists():
        return result
    with short_transaction():
        due = Target.objects.due(now)
        # Without this lock two beats would plan the same fires and one would lose its batch.
        due = due.select_for_update(skip_locked=skip_locked(), no_key=True)
        targets = list(due[:limit])
        if not targets:
            return result
        # Read after the locks are held, so that an edit is seen whole or not at all.
        jobs = Job.objects.in_bulk({target.job_id for target in targets})
        # Two beats with different targets of one job must not both spend its last run.
        counted = Job.objects.filter(pk__in=jobs, runs_left__isnull=False).order_by("pk")
        jobs |= {job.pk: job for job in counted.select_for_update(no_key=True)}
        everything = Installation.objects.filter(pk=1).first()
        open_runs = _open_runs(target.pk for target in targets)
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
        result.targets = len(targets)
        for run in result.runs:
            if run.waiting_on is None:
                run.publish_at = now + make.CLAIMER_GOES_FIRST
        _write(result, targets, on_fires)
    return result


def _open_runs(target_ids: Iterable[int]) -> dict[int, list[Run]]:
    found: dict[int, list[Run]] = defaultdict(list)
    rows = Run.objects.open().filter(target_id__in=list(target_ids))
    for run in rows.only("target_id", "state", "created_at", "scheduled_at").order_by(
        "created_at", "scheduled_at"
    ):
        if run.target_id is not None:
            found[run.target_id].append(run)
    return found


def _claim_target(
    target: Target,
    job: Job,
    open_runs: list[Run],
    *,
    everything: Installation | None,
    now: datetime,
    budget: int | None,
    claim: Claim,
) -> int:
    """Plan one target and put its rows into `claim`; give the catch-up runs it took."""
    assert target.next_fire_at is not None
    if job.retired_at is not None or target.retired_at is not None:
        park(target, Parked.RETIRED)
        return 0
    if target.is_paused(now) or job.is_paused(now) or (everything and everything.is_paused(now)):
        park(target, Parked.PAUSED)
        return 0
    try:
        schedule = schedule_of(target, job)
    except InvalidSchedule as error:
        _park_unreadable(target, job, error, now)
        return 0
    if not schedule.is_anchored and open_runs:
        # The pause between runs begins when the open run ends: finishing it sets the cursor.
        park(target, Parked.OPEN)
        return 0
    plan = plan_for(target, job, schedule, now=now, budget=budget)
    return settle(target, job, schedule, plan, open_runs, now=now, claim=claim)


def plan_for(
    target: Target,
    job: Job,
    schedule: Schedule,
    *,
    now: datetime,
    budget: int | None = None,
    catch_up: CatchUp | None = None,
    grace: timedelta | None = None,
    window: timedelta | None = None,
) -> Plan:
    """Decide about the fires from the target's cursor, which must be set, up to now."""
    cursor = target.next_fire_at
    assert cursor is not None
    if job.ends_at is not None and job.ends_at < now:
        schedule = Ending(schedule, job.ends_at)
    return plan_fires(
        schedule,
        cursor=cursor,
        now=now,
        catch_up=catch_up or CatchUp(job.catch_up),
        window=catch_up_window(
            schedule, cursor, configured=window or job.catch_up_window, name=target.name
        ),
        grace=conf.GRACE if grace is None else grace,
        budget=budget,
        name=target.name,
    )


def settle(
    target: Target,
    job: Job,
    schedule: Schedule,
    plan: Plan,
    open_runs: list[Run],
    *,
    now: datetime,
    claim: Claim,
    resumed: bool = False,
) -> int:
    """Turn a plan into rows and move the cursor; give the catch-up runs among them.

    `resumed`: the fires were missed by somebody's will. The skipped ones say so, the others are
    caught up, one after another.
    """
    skips = [
        make.skipped(
            target,
            job,
            first=skip.first,
            last=skip.last,
            fires=skip.fires,
            reason=Reason.PAUSED if resumed else Reason(skip.reason),
            now=now,
        )
        for skip in plan.skips
    ]
    runs: list[Run] = []
    caught_up = 0
    for fire in plan.start:
        if job.runs_left is not None and len(runs) >= job.runs_left:
            break
        line = open_runs + runs
        waiting = sum(1 for run in line if run.state == "queued")
        cause = Cause.CATCH_UP if resumed else Cause(fire.cause)
        decision = on_overlap(
            Overlap(job.overlap), open_runs=len(line), waiting=waiting, cause=cause.value
        )
        if decision == "skip":
            skips.append(_overlapped(target, job, fire.at, line[-1], now))
            continue
        caught_up += cause == Cause.CATCH_UP
        runs.append(
            make.queued(
                target,
                job,
                scheduled_at=fire.at,
                cause=cause,
                now=now,
                schedule=schedule,
                waiting_on=line[-1] if decision == "wait" else None,
            )
        )
    if job.runs_left is not None:
        job.runs_left -= len(runs)
    set_cursor(target, within_life(job, plan.cursor))
    if not schedule.is_anchored and runs:
        park(target, Parked.OPEN)
    _remember(target, runs, skips, now)
    claim.runs += runs
    claim.skips += skips
    newest = max((row.scheduled_until or row.scheduled_at for row in (*runs, *skips)), default=None)
    if job.periodic_task_id is not None and newest is not None:
        claim.fires.append(
            ClaimedFire(
                periodic_task_id=job.periodic_task_id,
                scheduled_at=newest,
                started=len(runs),
                finished=job.runs_left == 0,
            )
        )
    return caught_up


def _overlapped(target: Target, job: Job, at: datetime, before: Run, now: datetime) -> Run:
    target.skipped_for_overlap += 1
    return make.skipped(
        target,
        job,
        first=at,
        reason=Reason.OVERLAP,
        now=now,
        detail=f"run {before.pk} of {before.scheduled_at:%Y-%m-%d %H:%M:%S} UTC was open",
    )


def _remember(target: Target, runs: list[Run], skips: list[Run], now: datetime) -> None:
    if runs:
        target.last_scheduled_at = max(run.scheduled_at for run in runs)
    if skips:
        target.last_skipped_at = now


def _park_unreadable(target: Target, job: Job, error: InvalidSchedule, now: datetime) -> None:
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


def insert(runs: list[Run], skips: list[Run]) -> tuple[list[Run], list[Run]]:
    """Insert rows and give those that are new.

    A fire time that has its row already (an older database was restored) keeps that row; who
    would have waited for the row that was refused need not wait.
    """
    rows = [*runs, *skips]
    if not rows:
        return [], []
    Run.objects.bulk_create(rows, ignore_conflicts=True)
    new = set(Run.objects.filter(pk__in=[row.pk for row in rows]).values_list("pk", flat=True))
    for run in runs:
        if run.pk in new and run.waiting_on_id and not _exists(run.waiting_on_id, new):
            Run.objects.filter(pk=run.pk).update(waiting_on=None, publish_at=run.ready_at)
            run.waiting_on, run.publish_at = None, run.ready_at
    return [run for run in runs if run.pk in new], [run for run in skips if run.pk in new]


def _exists(run_id: UUID, new: set[UUID]) -> bool:
    return run_id in new or Run.objects.filter(pk=run_id).exists()


def _write(
    result: Claim,
    targets: list[Target],
    on_fires: Callable[[Sequence[ClaimedFire]], None],
) -> None:
    result.runs, result.skips = insert(result.runs, result.skips)
    Target.objects.bulk_update(targets, TARGET_FIELDS)
    started: dict[int, int] = defaultdict(int)
    for run in result.runs:
        if run.job is not None and run.job.runs_left is not None:
            started[run.job.pk] += 1
    for job_id, count in sorted(started.items()):
        Job.objects.filter(pk=job_id).update(runs_left=F("runs_left") - count)
    if result.fires:
        on_fires(result.fires)
    for run in result.runs:
        log.changed(run, "queued")
    for run in result.skips:
        log.changed(run, "skipped")
