"""Feeding: a job gets runs as there are free slots. One at a time feeds a job.

Each round, in one transaction under the lock of the job's feeder:

1. what waits for a slot is let out, lane by lane: the lowest number first, the normal lane last;
2. what a source has named for the first time goes through the express lane, which has its own cap;
3. the strategies pick their shares; what one cannot spend, the others get.
"""

from __future__ import annotations

import logging
from datetime import datetime

from django.db.models import F, Q

from scheduling.conf import conf
from scheduling.db import is_conflict, is_lost, short_transaction, skip_locked, update_free
from scheduling.errors import SchedulingError
from scheduling.feeds import Feed
from scheduling.models import Feeder, Installation, Job, Run
from scheduling.runs import circuits, lanes, pool, shares
from scheduling.runs.express import look_first
from scheduling.runs.rounds import Fed, Lengths, still_failed
from scheduling.runs.scopes import pause_of, told
from scheduling.selection import is_worth_it, next_look

logger = logging.getLogger(__name__)


def due_jobs(now: datetime) -> list[Job]:
    """The jobs that are to be fed now, first whose last round is longest ago.

    Each that has a feed gets a feeder; one that has lost its feed keeps it until its targets have
    followed.
    """
    jobs = Job.objects.active()
    new = jobs.filter(feed__isnull=False, feeder=None).values_list("pk", flat=True)
    Feeder.objects.bulk_create([Feeder(job_id=pk) for pk in new], ignore_conflicts=True)
    due = Q(feeder__next_at=None) | Q(feeder__next_at__lte=now)
    longest_ago = F("feeder__last_round_at").asc(nulls_first=True)
    return list(jobs.filter(due, feeder__isnull=False).order_by(longest_ago, "name"))


def feed(job: Job, lengths: Lengths, *, now: datetime) -> Fed | None:
    """Feed one job; None: somebody else does, or it is not due.

    What is wrong with it (a feed that cannot be read) is told by its name, and looked at again
    later; it stops no other job. Raises OperationalError where somebody else was first, or the
    database is away: then it is still due.
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
    except Exception as error:
        if is_conflict(error) or is_lost(error):
            raise
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
    fed = Fed(failed=still_failed(feeder.last_round, now=now))
    if held := _why_not(feeder.job, now):
        fed.why, feeder.next_at = held, now + conf.FEED_EVERY
        return fed
    _follow(feeder, how, now=now)
    feeder.next_at = _fill(fed, feeder, how, lengths, now=now)
    if feeder.cooldowns.get("after") is not None:
        feeder.next_at = None  # an edit has not reached all targets
    return fed


def _fill(
    fed: Fed, feeder: Feeder, how: Feed, lengths: Lengths, *, now: datetime
) -> datetime | None:
    """Fill the free slots of a job; give when it is looked at again, None: at the next tick."""
    job, soon = feeder.job, now + conf.FEED_EVERY
    over = _why_over(job, now)
    own = lanes.open_runs(job)
    length = lanes.supposed(lengths.normal)
    slots = lanes.free(how.max_queue_length, own=own.normal, length=length)
    fed.slots = slots
    fed.released = lanes.release(job, slots, lane=Q(priority__isnull=False), now=now)
    slots -= fed.released
    is_express_waiting = not over and look_first(
        fed, job, how, own=own.express, length=lanes.supposed(lengths.express), now=now
    )
    # A trickle never passes a threshold.
    threshold = 0.0 if length is None else how.threshold
    if not is_worth_it(slots, how.max_queue_length, threshold):
        fed.why = "no free slots" if slots <= 0 else "few free slots"
        return None if fed.released else soon
    released = lanes.release(job, slots, lane=Q(priority=None), now=now)
    fed.released += released
    slots -= released
    if over:
        fed.why = over
        return soon
    wanted = min(slots, conf.FEED_BATCH)
    picked = shares.pick(fed, feeder, how, wanted, now=now)
    fed.is_full = picked == wanted and slots > wanted
    following = next_look(now, picked=picked, wanted=wanted, idle=conf.FEED_IDLE)
    if following is None:
        return None
    fed.why = fed.why or "nothing else is eligible"
    others = (lanes.next_due(job), soon if is_express_waiting else None)
    return min(filter(None, (following, *others)))


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
