"""Pausing and resuming, in every scope."""

from __future__ import annotations

from datetime import datetime, timedelta

from django.db.models import Q

from scheduling import redis
from scheduling.db import short_transaction
from scheduling.errors import InvalidSchedule
from scheduling.models import Job, Parked, Resource, Run, Target
from scheduling.policies import CatchUp
from scheduling.runs import bulk, coverage, edits, log, observing, pool
from scheduling.runs.coverage import Change
from scheduling.runs.cursors import (
    CURSOR_FIELDS,
    earliest,
    first_fire,
    job_of,
    lock_counted_jobs,
    lock_target,
    park,
    schedule_of,
    set_cursor,
)
from scheduling.runs.scopes import (
    Scope,
    counted,
    hold,
    installation,
    name_of,
    pause_of,
    targets_of,
    told,
)
from scheduling.runs.settle import settle_up_to

RESUME_BATCH = 500
# A scope that is not paused, but has a `paused_until`, was resumed and is to be looked at again
# then: later if whoever resumes it has not come to the end.
UNFINISHED = timedelta(minutes=5)
SETTLED = timedelta(seconds=5)


def pause(
    scope: Scope, *, by: str, reason: str, now: datetime, until: datetime | None = None
) -> bool:
    """Keep what `scope` holds from firing. False: it was paused already.

    Open runs go on. Cursors are parked when a beat meets them, so this is one UPDATE.
    """
    changed = hold(scope, by=by, reason=reason, until=until, now=now)
    scope.refresh_from_db()
    return changed


def resume(scope: Scope, *, by: str, now: datetime, missed: CatchUp = CatchUp.NONE) -> bool:
    """Let it fire again; `missed` says which of the fires of the pause are run after all.

    The others are recorded as skipped. False: it was not paused.
    """
    scope.refresh_from_db()
    held = told(name_of(scope), scope)
    if isinstance(scope, Job | Target):
        _forgive(scope)
    paused = type(scope).objects.filter(pk=scope.pk, paused_at__isnull=False)
    with short_transaction(), counted(scope):
        changed: int = paused.update(
            paused_at=None, paused_by="", pause_reason="", paused_until=now + UNFINISHED
        )
    scope.refresh_from_db()
    if not changed:
        return False
    log.pausing(str(scope), "resumed", by, missed.value)
    affected = targets_of(scope).filter(
        Q(parked=Parked.PAUSED) | Q(next_fire_at__lte=now) | edits.is_behind(), retired_at=None
    )
    ids = list(affected.order_by("pk").values_list("pk", flat=True))
    for begin in range(0, len(ids), RESUME_BATCH):
        _resume_targets(ids[begin : begin + RESUME_BATCH], missed, held, now)
    _put_back(scope, now)
    type(scope).objects.filter(pk=scope.pk, paused_at=None).update(paused_until=now + SETTLED)
    redis.ring()
    return True


def _put_back(scope: Scope, now: datetime) -> None:
    """Targets that strategies pick leave the pool with their own pause or their resource's only."""
    if isinstance(scope, Resource | Target):
        pool.put_back(targets_of(scope), now=now)


def _forgive(scope: Job | Target) -> None:
    """Give what pauses itself after some failures as many chances again."""
    job = scope if isinstance(scope, Job) else scope.job
    if job.pause_after is None and job.feed is None:
        return
    failing = targets_of(scope).filter(Q(failures_in_a_row__gt=0) | Q(misses__gt=0))
    ids = list(failing.order_by("pk").values_list("pk", flat=True))
    for begin in range(0, len(ids), RESUME_BATCH):
        with short_transaction():
            batch = Target.objects.filter(pk__in=ids[begin : begin + RESUME_BATCH]).order_by("pk")
            targets = list(batch.select_for_update(no_key=True, of=("self",)))
            before = [coverage.facts_of(target) for target in targets]
            for target in targets:
                observing.new_chances(target)
            bulk.write(targets, observing.CHANCE_FIELDS)
            coverage.note_many(
                Change(
                    job_id=target.job_id,
                    source_id=target.source_id,
                    before=facts,
                    after=coverage.facts_of(target),
                )
                for target, facts in zip(targets, before, strict=True)
            )


def look_again(scope: Scope, *, now: datetime) -> int:
    """Resume who is still parked a while after `scope` was resumed; give how many.

    Whoever resumed it may have died halfway, and a claim may have parked a target by the pause
    that was being lifted. What they missed is skipped.
    """
    parked = targets_of(scope).parked_for(Parked.PAUSED)
    left = parked.filter(retired_at=None)
    ids = list(left.order_by("pk").values_list("pk", flat=True))
    held = f"{name_of(scope)} was paused"
    for begin in range(0, len(ids), RESUME_BATCH):
        _resume_targets(ids[begin : begin + RESUME_BATCH], CatchUp.NONE, held, now)
    _put_back(scope, now)
    type(scope).objects.filter(pk=scope.pk, paused_at=None).update(paused_until=None)
    return len(ids)


def _resume_targets(target_ids: list[int], missed: CatchUp, held: str, now: datetime) -> None:
    everything = installation()
    with short_transaction():
        targets = [lock_target(target_id) for target_id in target_ids]
        lock_counted_jobs(targets)
        edits.bring_up(targets, now=now)
        for target in targets:
            job = job_of(target)
            still = pause_of(job, target, now, everything=everything)
            if still is None and job.retired_at is None:
                _resume_target(target, job, missed, held, now)
                target.save(update_fields=CURSOR_FIELDS)


def _resume_target(target: Target, job: Job, missed: CatchUp, held: str, now: datetime) -> None:
    cursor = target.parked_cursor or target.next_fire_at
    try:
        schedule = schedule_of(target, job)
    except InvalidSchedule:
        # Due at once: the claim puts it aside with an error.
        set_cursor(target, now)
        return
    if not schedule.is_anchored:
        # A pause counted from the last end is simply counted anew.
        if Run.objects.open().filter(target=target).exists():
            park(target, Parked.OPEN)
        else:
            not_before = earliest(target, job)
            set_cursor(
                target,
                first_fire(schedule, job, after=now, name=target.name, not_before=not_before),
            )
        return
    set_cursor(target, cursor or first_fire(schedule, job, after=now, name=target.name))
    if cursor is not None and cursor <= now:
        settle_up_to(target, job, now=now, held=held, missed=missed)
