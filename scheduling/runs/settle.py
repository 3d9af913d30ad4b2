"""Settling: the fires of one target, once planned, become rows; the cursor moves past them."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from uuid import UUID

from django.db.models import F

from scheduling.conf import conf
from scheduling.models import Cause, Job, Parked, Reason, Run, Target
from scheduling.policies import CatchUp, Plan, catch_up_window, plan_fires
from scheduling.runs import bulk, log, make
from scheduling.runs.cursors import (
    CURSOR_FIELDS,
    Ending,
    first_fire,
    park,
    schedule_of,
    set_cursor,
    within_life,
)
from scheduling.runs.line import Line
from scheduling.schedules import Schedule

TARGET_FIELDS = (
    *CURSOR_FIELDS,
    "last_scheduled_at",
    "last_skipped_at",
    "skipped_for_overlap",
    "ended_for_overlap",
    "skipped_for_cap",
)


@dataclass(frozen=True, slots=True, kw_only=True)
class ClaimedFire:
    """What a claim did to one target of a django-celery-beat row."""

    periodic_task_id: int
    scheduled_at: datetime  # newest fire taken, started or skipped
    started: int
    finished: bool  # its last run has been claimed


# Told what was taken, inside the transaction that takes it.
fire_listeners: list[Callable[[Sequence[ClaimedFire]], None]] = []


@dataclass(slots=True)
class Claim:
    """What one batch came to: `runs` to publish now, in order; `targets` looked at."""

    runs: list[Run] = field(default_factory=list)
    skips: list[Run] = field(default_factory=list)
    fires: list[ClaimedFire] = field(default_factory=list)
    targets: int = 0


def open_runs_of(target_ids: Iterable[int]) -> dict[int, list[Run]]:
    """target -> its open runs, the last in line last; an empty list for targets without."""
    found: dict[int, list[Run]] = defaultdict(list)
    rows = Run.objects.open().filter(target_id__in=list(target_ids)).defer("output", "error")
    for run in rows.order_by("created_at", "scheduled_at"):
        if run.target_id is not None:
            found[run.target_id].append(run)
    return found


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
    held: str | None = None,
    reason: Reason = Reason.PAUSED,
) -> int:
    """Turn a plan into rows and move the cursor; give the catch-up runs among them.

    `held` says whose pause they were missed by, if by any; for an open circuit, `reason` says so.
    The skipped ones repeat it, the others are caught up, one after another. In shadow mode no fire
    is ours: only the skips of a pause, by which both schedulers can be compared, are put down.
    """
    skips = _skipped(target, job, plan, now=now, held=held, reason=reason)
    if conf.SHADOW:
        set_cursor(target, first_fire(schedule, job, after=now, name=target.name))
        claim.skips += [] if held is None else skips
        return 0
    line = Line(target, job, open_runs)
    for fire in plan.start:
        if job.runs_left is not None and len(line.joined) >= job.runs_left:
            break
        cause = Cause(fire.cause) if held is None else Cause.CATCH_UP
        line.meet(fire.at, cause, schedule=schedule, now=now)
    runs = line.joined
    skips += line.skips
    caught_up = sum(run.cause == Cause.CATCH_UP for run in runs)
    if job.runs_left is not None:
        job.runs_left -= len(runs)
    set_cursor(target, within_life(job, plan.cursor))
    if not schedule.is_anchored and runs:
        park(target, Parked.OPEN)
    _remember(target, runs, skips, now)
    claim.runs += runs
    claim.skips += skips
    if runs or held is None:
        claim.fires += _fires_of_row(job, runs, skips)
    return caught_up


def _skipped(
    target: Target, job: Job, plan: Plan, *, now: datetime, held: str | None, reason: Reason
) -> list[Run]:
    return [
        make.skipped(
            target,
            job,
            first=skip.first,
            last=skip.last,
            fires=skip.fires,
            reason=Reason(skip.reason) if held is None else reason,
            now=now,
            detail=held or "",
        )
        for skip in plan.skips
    ]


def _fires_of_row(job: Job, runs: list[Run], skips: list[Run]) -> list[ClaimedFire]:
    """What the listeners are told, if the job follows a django-celery-beat row."""
    taken = [row.scheduled_until or row.scheduled_at for row in (*runs, *skips)]
    if job.periodic_task_id is None or not taken:
        return []
    return [
        ClaimedFire(
            periodic_task_id=job.periodic_task_id,
            scheduled_at=max(taken),
            started=len(runs),
            finished=job.runs_left == 0,
        )
    ]


def settle_up_to(
    target: Target,
    job: Job,
    *,
    now: datetime,
    held: str | None = None,
    reason: Reason = Reason.PAUSED,
    missed: CatchUp = CatchUp.NONE,
) -> None:
    """Decide about every fire up to now, outside of a claim, and write what comes of it.

    The target is locked, has an anchored schedule and a cursor. `held` says whose pause the fires
    were missed by, if by any, `reason` that it was a circuit; `missed` is what then becomes of
    them. Raises InvalidSchedule.
    """
    open_runs, claim = open_runs_of([target.pk])[target.pk], Claim()
    decide_up_to(target, job, open_runs, claim, now=now, held=held, reason=reason, missed=missed)
    write(claim, [target])


def decide_up_to(
    target: Target,
    job: Job,
    open_runs: list[Run],
    claim: Claim,
    *,
    now: datetime,
    held: str | None = None,
    reason: Reason = Reason.PAUSED,
    missed: CatchUp = CatchUp.NONE,
) -> None:
    """Put into `claim` what comes of every fire up to now, as `settle_up_to` does; the caller
    writes it.
    """
    schedule = schedule_of(target, job)
    began, ahead = target.next_fire_at, list(open_runs)
    while target.next_fire_at is not None and target.next_fire_at <= now:
        assert began is not None
        plan = (
            plan_for(target, job, schedule, now=now)
            if held is None
            else plan_for(
                target,
                job,
                schedule,
                now=now,
                catch_up=missed,
                # A fire at this very moment belongs to the pause, too.
                grace=-timedelta.resolution,
                window=now - began,
            )
        )
        known = len(claim.runs)
        settle(target, job, schedule, plan, ahead, now=now, claim=claim, held=held, reason=reason)
        ahead += claim.runs[known:]


def _remember(target: Target, runs: list[Run], skips: list[Run], now: datetime) -> None:
    if runs:
        target.last_scheduled_at = max(run.scheduled_at for run in runs)
    if skips:
        target.last_skipped_at = now


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


def write(result: Claim, targets: list[Target]) -> None:
    """Insert the rows, save the cursors, and tell who listens; inside the caller's transaction."""
    result.runs, result.skips = insert(result.runs, result.skips)
    bulk.write(targets, TARGET_FIELDS)
    started: dict[int, int] = defaultdict(int)
    for run in result.runs:
        if run.job is not None and run.job.runs_left is not None:
            started[run.job.pk] += 1
    for job_id, count in sorted(started.items()):
        Job.objects.filter(pk=job_id).update(runs_left=F("runs_left") - count)
    if result.fires:
        for listener in fire_listeners:
            listener(result.fires)
    for run in result.runs:
        log.changed(run, "queued")
    for run in result.skips:
        log.changed(run, "skipped")
