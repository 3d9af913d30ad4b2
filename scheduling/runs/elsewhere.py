"""Results from elsewhere: what others have seen of targets, in bulk."""

from __future__ import annotations

import logging
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime
from itertools import islice

from scheduling.cadence import Observation
from scheduling.conf import conf
from scheduling.db import short_transaction
from scheduling.errors import InvalidSchedule
from scheduling.models import Event, Job, Notification, Target
from scheduling.runs import bulk, coverage, log, observing, pool, scopes
from scheduling.runs.coverage import Change
from scheduling.runs.cursors import (
    CURSOR_FIELDS,
    earliest,
    schedule_of,
    set_cursor,
    within_life,
)
from scheduling.runs.together import busy_among

logger = logging.getLogger(__name__)

BATCH = 1000
PAUSE_FIELDS = ("paused_at", "paused_by", "pause_reason", "paused_until")
FIELDS = (*observing.STANDING_FIELDS, *pool.POOL_FIELDS, *CURSOR_FIELDS, *PAUSE_FIELDS)

Result = tuple[str, Observation]


@dataclass(frozen=True, slots=True, kw_only=True)
class Observed:
    """What became of results: told something new, did not, or are of a key without a target."""

    folded: int = 0
    ignored: int = 0
    unknown: int = 0

    def __add__(self, other: Observed) -> Observed:
        return Observed(
            folded=self.folded + other.folded,
            ignored=self.ignored + other.ignored,
            unknown=self.unknown + other.unknown,
        )


def observe(job: Job, results: Iterable[Result], *, now: datetime) -> Observed:
    """Fold results, as (key, Observation), into the targets of a job; in any order, repeated or
    not. Give how many there were of each kind.

    Each thousand is one transaction, which stays if a later one fails: fold all of them again.
    Runs are none of its business: no history, no alert for a failure, no follow-up. A target that
    has used up its chances is paused, and told about once for each thousand.
    """
    total = Observed()
    for batch in _batches(results):
        total += _observe(job, batch, now=now)
    return total


def _batches(results: Iterable[Result]) -> Iterator[list[Result]]:
    left = iter(results)
    while batch := list(islice(left, BATCH)):
        yield batch


def _observe(job: Job, batch: Sequence[Result], *, now: datetime) -> Observed:
    folded = ignored = unknown = 0
    with short_transaction():
        targets = _locked(job, {key for key, _ in batch})
        # Read after the locks are held, as a claim does.
        stored = Job.objects.select_related("calendar").get(pk=job.pk)
        clock = observing.clock_of(stored)
        before = {key: coverage.facts_of(target) for key, target in targets.items()}
        newest: dict[str, Target] = {}
        changed: dict[str, Target] = {}
        for key, observation in batch:
            target = targets.get(key)
            if target is None:
                unknown += 1
            elif _is_ahead(target, observation, now) or not observing.take_in(
                target, stored, observation, clock=clock
            ):
                ignored += 1
            else:
                folded += 1
                changed[key] = target
                if observation.at == target.observed_at:
                    newest[key] = target
        paused = [each for each in changed.values() if _pause(each, stored, now)]
        _place(list(newest.values()), stored, now=now)
        bulk.write(list(changed.values()), FIELDS)
        pool.wake_feeders_of(newest.values())
        coverage.note_many(
            Change(
                job_id=job.pk,
                source_id=target.source_id,
                before=before[key],
                after=coverage.facts_of(target),
            )
            for key, target in changed.items()
        )
        _tell(paused, stored, now)
    return Observed(folded=folded, ignored=ignored, unknown=unknown)


def _locked(job: Job, keys: set[str]) -> dict[str, Target]:
    """key -> target, in the one order in which everybody locks many: a claim that is on its way
    is waited for, and what it writes is read.
    """
    found = Target.objects.filter(job=job, key__in=keys).order_by("pk")
    rows = found.select_for_update(no_key=True, of=("self",)).select_related("resource")
    targets = {target.key: target for target in rows}
    for target in targets.values():
        target.job = job
    return targets


def _is_ahead(target: Target, observation: Observation, now: datetime) -> bool:
    """Whether a result is from the future; it would keep all others from counting until then."""
    if observation.at <= now + conf.CLOCK_SKEW:
        return False
    logger.warning("A result of %s is of %s, which is to come; ignored", target, observation.at)
    return True


def _pause(target: Target, job: Job, now: datetime) -> bool:
    """Pause, on the instance, a target that has used up its chances; of a plain job the job."""
    if not observing.has_run_out(target, job):
        return False
    why = observing.why_run_out(target)
    if not target.key:
        return scopes.hold(job, by=observing.BY, reason=why, now=now)
    if target.is_paused(now):
        return False
    target.paused_at, target.paused_by = now, observing.BY
    target.pause_reason, target.paused_until = why, None
    log.pausing(str(target), "paused", observing.BY, why)
    return True


def _place(newest: Sequence[Target], job: Job, *, now: datetime) -> None:
    """Set on the instances with a newer result when they are looked at again."""
    busy = busy_among(newest) if job.feed is not None else set()
    for target in newest:
        if job.feed is not None:
            since = target.eligible_since
            pool.place(target, job, now=now, is_busy=target.pk in busy)
            if since is not None and target.eligible_since is not None:
                target.eligible_since = since
        if target.next_fire_at is not None:
            _move_cursor(target, job, now)


def _move_cursor(target: Target, job: Job, now: datetime) -> None:
    """A result moves the cursor of a schedule that adapts to it; that of another pause between runs
    only as far as it asks to be left alone; fixed times never.
    """
    try:
        schedule = schedule_of(target, job)
    except InvalidSchedule:
        return
    if schedule.is_anchored:
        return
    is_adaptive = observing.adaptive_of(target, job) is not None
    following = schedule.after_end(target.observed_at or now) if is_adaptive else None
    following = following or target.next_fire_at
    not_before = earliest(target, job)
    set_cursor(target, within_life(job, max(filter(None, (following, not_before)), default=None)))


def _tell(paused: Sequence[Target], job: Job, now: datetime) -> None:
    if not paused:
        return
    others = f", and {len(paused) - 1} others like it" if len(paused) > 1 else ""
    detail = f"{paused[0]}: {observing.why_run_out(paused[0])}{others}; resume once mended"
    Notification.objects.create(
        name=job.name, event=Event.PAUSED, detail=detail, created_at=now, deliver_at=now
    )
