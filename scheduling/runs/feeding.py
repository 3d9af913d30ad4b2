"""Feeding: a job gets runs as there are free slots. One at a time feeds a job.

Each round, in one transaction under the lock of the job's feeder:

1. what waits for a slot is let out, lane by lane: the lowest number first, the normal lane last;
2. what a source has named for the first time goes through the express lane, which has its own cap;
3. the strategies pick their shares; what one cannot spend, the others get.
"""

from __future__ import annotations

import logging
from collections import Counter
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

from django.db import InterfaceError, OperationalError
from django.db.models import Count, F, Min, Q, QuerySet

from scheduling.conf import conf
from scheduling.db import short_transaction, skip_locked, update_free
from scheduling.errors import SchedulingError
from scheduling.feeds import EXPRESS, Feed
from scheduling.models import Feeder, Installation, Job, Run, Source, Target
from scheduling.runs import circuits, pool
from scheduling.runs.scopes import pause_of, told
from scheduling.runs.selecting import select
from scheduling.selection import (
    after_shortfall,
    free_slots,
    is_worth_it,
    next_look,
    shares_of,
)

logger = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True, kw_only=True)
class Lengths:
    """How many messages the broker holds for a job's queue and its express lane.

    0 for a broker that cannot be asked: then only our own open runs count. None: it should have
    answered and did not.
    """

    normal: int | None = 0
    express: int | None = 0


@dataclass(slots=True)
class Fed:
    """What became of one round: runs let out of their lanes, and picks by strategy."""

    slots: int = 0
    released: int = 0
    picked: Counter[str] = field(default_factory=Counter)
    # Why there was nothing, or what is wrong
    why: str = ""
    # Whether another round may find more at once
    is_full: bool = False

    def as_json(self) -> dict[str, Any]:
        return {
            "slots": self.slots,
            "released": self.released,
            "picked": dict(self.picked),
            "why": self.why,
        }


def due_jobs(now: datetime) -> list[Job]:
    """The jobs that are to be fed now. Each that has a feed gets a feeder; one that has lost its
    feed keeps it until its targets have followed.
    """
    jobs = Job.objects.active()
    new = jobs.filter(feed__isnull=False, feeder=None).values_list("pk", flat=True)
    Feeder.objects.bulk_create([Feeder(job_id=pk) for pk in new], ignore_conflicts=True)
    due = Q(feeder__next_at=None) | Q(feeder__next_at__lte=now)
    return list(jobs.filter(due, feeder__isnull=False).order_by("name"))


def feed(job: Job, lengths: Lengths, *, now: datetime) -> Fed | None:
    """Feed one job; None: somebody else does, or it is not due.

    What is wrong with it (a feed that cannot be read, a strategy that is not there, or a team's own
    that raises) is told by its name, and looked at again later; it stops no other job.
    """
    try:
        with short_transaction(durable=False):
            feeder = _lock(job.pk, now)
            if feeder is None:
                return None
            if feeder.job.feed is None:
                return _unwind(feeder, now=now)
            fed = _round(feeder, Feed.read(feeder.job.feed), lengths, now=now)
            _save(feeder, fed, now=now)
            return fed
    except (OperationalError, InterfaceError):
        raise  # The database is away, or somebody else was first: the tick's to handle.
    except Exception as error:
        is_ours = isinstance(error, SchedulingError)
        why = str(error) if is_ours else f"{type(error).__name__}: {error}"
        logger.error("Job %s cannot be fed: %s", job.name, why, exc_info=not is_ours)
        fed = Fed(why=why)
        Feeder.objects.filter(job=job).update(
            next_at=now + conf.FEED_IDLE, last_round=fed.as_json(), last_round_at=now
        )
        return fed


def _lock(job_id: int, now: datetime) -> Feeder | None:
    rows = Feeder.objects.filter(job_id=job_id)
    rows = rows.select_for_update(skip_locked=skip_locked(), no_key=True, of=("self",))
    feeder = rows.first()
    if feeder is None or not feeder.is_due(now):
        return None
    feeder.job = Job.objects.select_related("circuit", "calendar").get(pk=job_id)
    return feeder


def _save(feeder: Feeder, fed: Fed, *, now: datetime) -> None:
    feeder.last_round, feeder.last_round_at = fed.as_json(), now
    if feeder.cooldowns.get("after") is not None:
        feeder.next_at = None  # an edit has not reached all targets
    # Not `position`: the selection has moved that.
    feeder.save(update_fields=("credits", "cooldowns", "next_at", "last_round", "last_round_at"))


def _unwind(feeder: Feeder, *, now: datetime) -> Fed:
    """Let what waits for slots go, and the targets out of the pool, a batch each round."""
    fed = Fed(why="it has no feed any more")
    waiting = Run.objects.queued().filter(job=feeder.job, feed_at__isnull=False)
    ids = list(waiting.values_list("pk", flat=True)[: conf.FEED_BATCH])
    # From their due time on they wait in the outbox, as those of other jobs do.
    fed.released = update_free(waiting.filter(pk__in=ids), publish_at=F("feed_at"), feed_at=None)
    _follow(feeder, None, now=now)
    if feeder.cooldowns["after"] is None and not ids:
        feeder.delete()
    else:
        feeder.save(update_fields=("cooldowns",))
    return fed


def _round(feeder: Feeder, how: Feed, lengths: Lengths, *, now: datetime) -> Fed:
    """Raises UnknownStrategy."""
    job = feeder.job
    if held := _why_not(job, now):
        feeder.next_at = now + conf.FEED_EVERY
        return Fed(why=held)
    _follow(feeder, how, now=now)
    over = _why_over(job, now)
    fed = Fed()
    express = how.express.queue if how.express is not None else None
    own = _open_runs(job, express)
    fed.slots = slots = free_slots(
        how.max_queue_length,
        None if lengths.normal is None else max(own.normal, lengths.normal),
        trickle=_trickle(own.normal),
        open_when_unknown=conf.FEED_WHEN_UNKNOWN == "open",
    )
    slots -= _release(fed, job, slots, lane=Q(priority__isnull=False), now=now)
    is_express_waiting = not over and _express(fed, job, how, own, lengths, now=now)
    if not is_worth_it(slots, how.max_queue_length, how.threshold):
        fed.why = "no free slots" if slots <= 0 else "few free slots"
        feeder.next_at = None if fed.released else now + conf.FEED_EVERY
        return fed
    slots -= _release(fed, job, slots, lane=Q(priority=None), now=now)
    if over:
        fed.why, feeder.next_at = over, now + conf.FEED_EVERY
        return fed
    wanted = min(slots, conf.FEED_BATCH)
    picked = _pick(fed, feeder, how, wanted, now=now)
    feeder.next_at = next_look(now, picked=picked, wanted=wanted, idle=conf.FEED_IDLE)
    if feeder.next_at is not None:
        feeder.next_at = min(feeder.next_at, _next_of_lanes(job) or feeder.next_at)
        if is_express_waiting:
            feeder.next_at = min(feeder.next_at, now + conf.FEED_EVERY)
    fed.is_full = picked == wanted and slots > wanted
    if picked < wanted:
        fed.why = "nothing else is eligible"
    return fed


def _why_not(job: Job, now: datetime) -> str:
    """What keeps a job from being fed, in words; "": nothing."""
    everything = Installation.objects.filter(pk=1).first()
    held = pause_of(job, None, now, everything=everything)
    if held is not None:
        return told(*held)
    if (circuit := circuits.held_by(job)) is not None:
        return circuits.told(circuit)
    return "it is retired" if job.retired_at is not None else ""


def _why_over(job: Job, now: datetime) -> str:
    """Why nothing of a job is picked now, in words; "": it is. What was asked for by hand is let
    out nevertheless.
    """
    if job.starts_at is not None and now < job.starts_at:
        return f"it starts at {job.starts_at:%Y-%m-%d %H:%M:%S} UTC"
    if job.ends_at is not None and now > job.ends_at:
        return f"it ended at {job.ends_at:%Y-%m-%d %H:%M:%S} UTC"
    return "it has had all its runs" if job.runs_left == 0 else ""


def _follow(feeder: Feeder, how: Feed | None, *, now: datetime) -> None:
    """Let targets follow an edited feed, a batch each round: `eligible_at` was reckoned by the
    cooldowns of then.
    """
    cooldowns = {} if how is None else how.cooldowns.as_json()
    wanted = {**cooldowns, "picks": feeder.job.is_picked}
    known = feeder.cooldowns
    if known.get("by") != wanted:
        known = {"by": wanted, "after": 0}
    if known.get("after") is not None:
        last = pool.reckon_anew(feeder.job, after=known["after"], now=now)
        feeder.cooldowns = {"by": wanted, "after": last}


# --- slots ----------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class _Open:
    normal: int
    express: int


def _open_runs(job: Job, express: str | None) -> _Open:
    """How many runs of the job are open, in its queue and in the express lane; what waits for a
    slot is not.
    """
    rows = Run.objects.open().filter(job=job, feed_at=None).order_by()
    by_queue = dict(rows.values_list("queue").annotate(number=Count("pk")))
    in_lane = by_queue.pop(express, 0) if express else 0
    return _Open(sum(by_queue.values()), in_lane)


def _trickle(own: int) -> int:
    """What may be let out while nobody knows how long the queue is: never more than a trickle
    ahead of the workers.
    """
    return max(0, conf.FEED_TRICKLE - own)


def _release(fed: Fed, job: Job, slots: int, *, lane: Q, now: datetime) -> int:
    """Let out up to `slots` runs that wait in lanes; give how many."""
    if slots <= 0:
        return 0
    waiting = Run.objects.queued().filter(lane, job=job, feed_at__lte=now)
    in_order = waiting.order_by(F("priority").asc(nulls_last=True), "feed_at", "created_at")
    ids = list(in_order.values_list("pk", flat=True)[:slots])
    if not ids:
        return 0
    released = update_free(
        Run.objects.queued().filter(pk__in=ids, feed_at__isnull=False), feed_at=None, publish_at=now
    )
    fed.released += released
    return released


def _next_of_lanes(job: Job) -> datetime | None:
    """When the next run of its lanes is due."""
    waiting = Run.objects.queued().filter(job=job, feed_at__isnull=False)
    first: datetime | None = waiting.aggregate(first=Min("feed_at"))["first"]
    return first


def _express(fed: Fed, job: Job, how: Feed, own: _Open, lengths: Lengths, *, now: datetime) -> bool:
    """First looks at what sources have found, once their listing has come to its end; give whether
    there may be more of them than there were slots in their lane.
    """
    if how.express is None:
        return False
    slots = free_slots(
        how.express.limit,
        None if lengths.express is None else max(own.express, lengths.express),
        trickle=_trickle(own.express),
        open_when_unknown=conf.FEED_WHEN_UNKNOWN == "open",
    )
    waiting = waiting_for_express(job)
    for source in waiting:
        if slots <= 0:
            break
        count = min(slots, conf.FEED_BATCH)
        count = count if job.runs_left is None else _spend(job, count)
        picks = select(job, EXPRESS, count, source=source, now=now)
        _give_back(job, count - len(picks))
        fed.picked += Counter({EXPRESS: len(picks)})
        slots -= len(picks)
        if slots > 0 and not _unseen(source).exists():
            Source.objects.filter(pk=source.pk, listing_ended_at=source.listing_ended_at).update(
                express_done_at=now
            )
    return bool(waiting) and slots <= 0


def _unseen(source: Source) -> QuerySet[Target]:
    """What still waits for a first look through the express lane, of any job of the source."""
    jobs = source.jobs.filter(retired_at=None, feed__express__queue__isnull=False)
    return Target.objects.filter(
        job__in=jobs, source=source, eligible_since__isnull=False, last_scheduled_at=None
    )


def waiting_for_express(job: Job) -> list[Source]:
    """The sources of the job that want express first looks, and have named something since."""
    undone = Q(express_done_at=None) | Q(express_done_at__lt=F("listing_ended_at"))
    return list(
        job.sources.filter(
            undone, is_express=True, is_trial=False, retired_at=None, listing_ended_at__isnull=False
        ).order_by("listing_ended_at")
    )


# --- shares ---------------------------------------------------------------------------------------


def _pick(fed: Fed, feeder: Feeder, how: Feed, slots: int, *, now: datetime) -> int:
    """Let the strategies pick `slots` targets together; give how many they found."""
    job = feeder.job
    left = slots if job.runs_left is None else _spend(job, slots)
    weights = dict(how.shares)
    credits: dict[str, float] = feeder.credits
    picked = 0
    while left > 0 and any(weights.values()):
        wanted, credits = shares_of(left, weights, credits)
        found = {
            name: len(select(job, name, count, sample=how.sample, now=now))
            for name, count in wanted.items()
            if count
        }
        fed.picked += Counter(found)
        credits = after_shortfall(credits, wanted, found)
        # Who had fewer than its share has no more: what is left is the others'.
        weights = {
            name: weight if found.get(name, 0) == wanted[name] else 0.0
            for name, weight in weights.items()
        }
        picked += sum(found.values())
        left -= sum(found.values())
    feeder.credits = {name: owed for name, owed in credits.items() if how.shares.get(name)}
    _give_back(job, left)
    return picked


def _spend(job: Job, slots: int) -> int:
    """Take up to `slots` of the job's number of runs; give how many there were."""
    locked = Job.objects.select_for_update(no_key=True).get(pk=job.pk)
    count = min(slots, locked.runs_left or 0)
    Job.objects.filter(pk=job.pk).update(runs_left=F("runs_left") - count)
    return count


def _give_back(job: Job, count: int) -> None:
    if count > 0:
        counted = Job.objects.filter(pk=job.pk, runs_left__isnull=False)
        counted.update(runs_left=F("runs_left") + count)
