"""The pool: which targets of fed jobs may be picked, and until when the others are left alone.

`eligible_at` set: it cools down, or is in flight, until strictly after then. `eligible_since` set:
it is in the pool. Neither: it is not picked at all. Whoever writes them holds the target's lock.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Iterator, Sequence
from datetime import datetime, timedelta
from functools import lru_cache
from typing import Any

from django.db import transaction
from django.db.models import Exists, OuterRef, Q, QuerySet

from scheduling.cadence import Ended
from scheduling.db import short_transaction, skip_locked
from scheduling.errors import InvalidDeclaration, InvalidSchedule
from scheduling.feeds import Feed
from scheduling.models import Feeder, Job, Outcome, Parked, Run, State, Target
from scheduling.runs import bulk
from scheduling.runs.cursors import (
    CURSOR_FIELDS,
    earliest,
    first_fire,
    park,
    schedule_of,
    set_cursor,
)
from scheduling.selection import eligible_from, is_eligible

POOL_FIELDS = ("eligible_at", "eligible_since")
BATCH = 1000
# A target with an open run is looked at again then, if the end of the run has not done it.
WHILE_BUSY = timedelta(days=7)


def feed_of(job: Job) -> Feed | None:
    """How the job is fed; None: it is not, or what was written by hand cannot be read.

    A target without fire times of its own is picked if `Job.is_picked` says so.
    """
    return None if job.feed is None else _read(json.dumps(job.feed))


@lru_cache(maxsize=256)
def _read(text: str) -> Feed | None:
    try:
        return Feed.read(json.loads(text))
    except InvalidDeclaration:
        return None


def place(
    target: Target,
    job: Job,
    *,
    now: datetime,
    is_busy: bool = False,
) -> None:
    """Set on the instance where it stands by what is known of it: in the pool, or until when not;
    the caller saves POOL_FIELDS. Its resource has to be loaded, if it has one.

    `is_busy`: a run of it is open, whose end gives it its next place; until then it is left alone.
    """
    target.eligible_at = target.eligible_since = None
    if target.retired_at is not None or job.retired_at is not None or _is_held(target):
        return
    feed = feed_of(job)
    if feed is None or not job.is_picked:
        return
    try:
        schedule = schedule_of(target, job)
    except InvalidSchedule:
        return
    if schedule.is_anchored:
        return  # it has fire times of its own
    not_before = target.not_before
    if target.observed_at is not None:
        # A pause after a result, of its schedule's own, is a least distance here.
        pause = schedule.after_end(target.observed_at)
        not_before = max(filter(None, (pause, not_before)), default=None)
    moment = eligible_from(feed.cooldowns, not_before=not_before, **facts_of(target))
    if is_busy:
        moment = max(now + WHILE_BUSY, moment or now)
    if is_eligible(moment, now):
        target.eligible_since = now
    else:
        target.eligible_at = moment


def after_result(target: Target, job: Job, *, now: datetime, is_busy: bool | None = None) -> None:
    """Set on the instance of a target whose run has ended when it may be picked again.

    `is_busy`: whether another run of it is open; None: the caller does not know.
    """
    if job.feed is None:
        return
    if is_busy is None:
        is_busy = Run.objects.open().filter(target=target).exists()
    place(target, job, now=now, is_busy=is_busy)


def facts_of(target: Target) -> dict[str, Any]:
    """What the cooldowns look at."""
    return {
        "scheduled_at": target.last_scheduled_at,
        "observed_at": target.observed_at,
        "ended": ended_of(target.last_state, target.last_outcome),
        "over_at": max(filter(None, (target.last_ended_at, target.last_skipped_at)), default=None),
    }


def ended_of(last_state: str, last_outcome: str) -> Ended | None:
    """How the newest result is known here; None: there is none."""
    if not last_state:
        return None
    if last_state == State.FAILED:
        return Ended.FAILED
    return Ended.MISSING if last_outcome == Outcome.MISSING else Ended.FOUND


def _is_held(target: Target) -> bool:
    """Whether it or its resource is paused; the end of the pause brings it back."""
    resource = target.resource
    return target.paused_at is not None or (resource is not None and resource.paused_at is not None)


def moving(job: Job) -> QuerySet[Target]:
    """The targets of a job that a retirement has to move: those with fire times, with a reason why
    they have none, or with an open run. A million others are simply picked no more.
    """
    targets = Target.objects.filter(job=job)
    if not job.is_picked:
        return targets
    open_run = Exists(Run.objects.open().filter(target=OuterRef("pk")))
    return targets.filter(Q(next_fire_at__isnull=False) | ~Q(parked="") | open_run)


# --- in bulk --------------------------------------------------------------------------------------


def thaw(*, now: datetime, limit: int) -> int:
    """Move up to `limit` targets whose cooldown is over into the pool; give how many.

    Rows that somebody holds are left for the next time.
    """
    over = Target.objects.filter(eligible_at__lt=now)
    if not over.exists():
        return 0
    with short_transaction():
        rows = over.order_by("eligible_at").select_for_update(
            skip_locked=skip_locked(), no_key=True, of=("self",)
        )
        found = list(rows.values_list("pk", "job_id")[:limit])
        moved = Target.objects.filter(pk__in=[pk for pk, _ in found])
        thawed = moved.update(eligible_at=None, eligible_since=now)
    wake_feeders({job_id for _, job_id in found})
    return thawed


def place_again(job: Job) -> None:
    """Have all targets of a job placed anew, a batch at each tick."""
    Feeder.objects.filter(job=job).update(cooldowns={}, next_at=None)


def wake_feeders(job_ids: Iterable[int]) -> None:
    """Have jobs fed at the next tick: they have got something to pick."""
    Feeder.objects.filter(job__in=job_ids, next_at__isnull=False).update(next_at=None)


def wake_feeders_of(targets: Iterable[Target]) -> None:
    """Have the jobs of those that have come into the pool fed, once the transaction is through: a
    feeder that is at work holds its row, and may want our targets.
    """
    job_ids = {target.job_id for target in targets if target.eligible_since is not None}
    if job_ids:
        transaction.on_commit(lambda: wake_feeders(job_ids))


def take_out(targets: QuerySet[Target]) -> int:
    """Take targets out of the pool, in batches, for a pause or a retirement; give how many."""
    pooled = targets.filter(Q(eligible_at__isnull=False) | Q(eligible_since__isnull=False))
    taken = 0
    for ids in _batches(pooled):
        with short_transaction():
            locked = _locked(ids).values_list("pk", flat=True)
            taken += Target.objects.filter(pk__in=list(locked)).update(
                eligible_at=None, eligible_since=None
            )
    return taken


def put_back(targets: QuerySet[Target], *, now: datetime) -> int:
    """Let targets that are in no pool have their place again, as far as they are picked."""
    outside = targets.filter(
        eligible_at=None, eligible_since=None, retired_at=None, job__feed__isnull=False
    )
    return sum(len(place_all(ids, now=now)) for ids in _batches(outside))


def reckon_anew(job: Job, *, after: int, now: datetime, limit: int = BATCH) -> int | None:
    """Let up to `limit` targets of a job above the id `after` follow its feed, which has changed;
    give the last id, None at the end.
    """
    targets = Target.objects.filter(job=job, retired_at=None, pk__gt=after).order_by("pk")
    ids = list(targets.values_list("pk", flat=True)[:limit])
    place_all(ids, now=now)
    return ids[-1] if len(ids) == limit else None


def place_all(ids: Sequence[int], *, now: datetime) -> list[Target]:
    """Give the targets with these ids the place that is theirs by now, in the pool or by a cursor,
    whatever their job's feed was before; give those it changed.
    """
    with short_transaction():
        targets = list(_locked(ids).select_related("resource"))
        jobs = Job.objects.select_related("calendar").in_bulk({each.job_id for each in targets})
        busy = set(
            Run.objects.open().filter(target__in=targets).values_list("target_id", flat=True)
        )
        changed = []
        for target in targets:
            target.job = jobs[target.job_id]
            before = _place_of(target)
            since = target.eligible_since
            place(target, target.job, now=now, is_busy=target.pk in busy)
            if target.eligible_since is not None and since is not None:
                target.eligible_since = since
            _follow_feed(target, now=now, is_busy=target.pk in busy)
            if _place_of(target) != before:
                changed.append(target)
        bulk.write(changed, (*POOL_FIELDS, *CURSOR_FIELDS))
    wake_feeders({target.job_id for target in changed if target.eligible_since is not None})
    return changed


def _place_of(target: Target) -> tuple[object, ...]:
    return tuple(getattr(target, field) for field in (*POOL_FIELDS, *CURSOR_FIELDS))


def _follow_feed(target: Target, *, now: datetime, is_busy: bool) -> None:
    """A pause after each run moves a cursor, or it is a least distance between picks: not both."""
    try:
        schedule = schedule_of(target, target.job)
    except InvalidSchedule:
        return
    if schedule.is_anchored or target.retired_at is not None:
        return
    if target.job.is_picked:
        if target.next_fire_at is not None or target.parked == Parked.OPEN:
            set_cursor(target, None)
    elif target.next_fire_at is None and not target.parked:
        following = first_fire(
            schedule,
            target.job,
            after=now,
            name=target.name,
            not_before=earliest(target, target.job),
        )
        set_cursor(target, following)
        if following is not None and is_busy:
            park(target, Parked.OPEN)


def _locked(ids: Sequence[int]) -> QuerySet[Target]:
    """Lock targets in the one order in which everybody locks many."""
    return (
        Target.objects.filter(pk__in=ids)
        .order_by("pk")
        .select_for_update(no_key=True, of=("self",))
    )


def _batches(targets: QuerySet[Target]) -> Iterator[list[int]]:
    ids = list(targets.order_by("pk").values_list("pk", flat=True))
    for begin in range(0, len(ids), BATCH):
        yield ids[begin : begin + BATCH]
