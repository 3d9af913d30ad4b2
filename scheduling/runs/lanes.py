"""Lanes: how many slots of a fed job are free, and what waits for one."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime

from django.db.models import Count, F, Min, Q

from scheduling.conf import conf
from scheduling.db import update_free
from scheduling.feeds import EXPRESS
from scheduling.models import Job, Run
from scheduling.selection import free_slots


@dataclass(frozen=True, slots=True)
class Open:
    """How many runs of a job are open; what waits for a slot is not."""

    normal: int
    express: int


def open_runs(job: Job) -> Open:
    """Express first looks are told by their strategy: both kinds may share a queue."""
    rows = Run.objects.open().filter(job=job, feed_at=None).order_by()
    by_kind = rows.annotate(is_express=Q(strategy=EXPRESS)).values_list("is_express")
    number = dict(by_kind.annotate(number=Count("pk")))
    return Open(number.get(False, 0), number.get(True, 0))


def supposed(length: int | None) -> int | None:
    """The length of a queue, or what is supposed while nobody knows it: nothing, or that it is
    empty.
    """
    return 0 if length is None and conf.FEED_WHEN_UNKNOWN == "open" else length


def free(limit: int, *, own: int, length: int | None) -> int:
    """How many runs may be let out beside `own` open ones; `length`: what the broker holds.

    While nobody knows, never more than a trickle ahead of the workers.
    """
    return free_slots(
        limit,
        None if length is None else max(own, length),
        trickle=max(0, conf.FEED_TRICKLE - own),
    )


def release(job: Job, slots: int, *, lane: Q, now: datetime) -> int:
    """Let out up to `slots` runs that wait in lanes; give how many."""
    if slots <= 0:
        return 0
    waiting = Run.objects.queued().filter(lane, job=job, feed_at__lte=now)
    in_order = waiting.order_by(F("priority").asc(nulls_last=True), "feed_at", "created_at")
    ids = list(in_order.values_list("pk", flat=True)[:slots])
    if not ids:
        return 0
    return update_free(
        Run.objects.queued().filter(pk__in=ids, feed_at__isnull=False), feed_at=None, publish_at=now
    )


def next_due(job: Job) -> datetime | None:
    """When the next run of its lanes is due."""
    waiting = Run.objects.queued().filter(job=job, feed_at__isnull=False)
    first: datetime | None = waiting.aggregate(first=Min("feed_at"))["first"]
    return first
