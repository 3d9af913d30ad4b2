"""Runs that are given out to executors that are not our workers.

A run that is given out is reserved: `publish_at` is the moment until which it is left alone. Its
executor starts it before that; else it is ready again, for the next claim or for our workers.
Runs of the queue OUTSIDE are never sent to our workers: they wait until somebody claims them.
"""

from __future__ import annotations

from datetime import datetime

from django.db.models import F, Q

from scheduling.db import short_transaction, skip_locked
from scheduling.models import Job, Run
from scheduling.models.run import OUTSIDE, RunQuerySet

BATCH = 1000


def ready(job: Job, *, at: datetime) -> RunQuerySet:
    """Runs of a job that may start at `at` and that nobody has: strict lanes, then due time."""
    waits_for_slot = Q(feed_at__lte=at)
    unpublished = Q(publish_at__lte=at, published_at__isnull=True)
    waits_for_claim = Q(queue=OUTSIDE, published_at__isnull=False)
    free = waits_for_slot | unpublished | waits_for_claim
    rows = Run.objects.queued().filter(free, job=job, waiting_on=None)
    return rows.order_by(F("priority").asc(nulls_last=True), "ready_at", "created_at", "pk")


def take(rows: RunQuerySet, *, limit: int, until: datetime) -> list[Run]:
    """Reserve the first of these runs until then, those that nobody else is taking."""
    # A peek first: on SQLite a transaction takes the write lock of the whole database.
    if not rows.exists():
        return []
    taken: list[Run] = []
    while len(taken) < limit:
        with short_transaction():
            # Without this lock two claimers would be given the same runs.
            free = rows.select_for_update(skip_locked=skip_locked(), no_key=True, of=("self",))
            batch = list(free.defer("output", "error")[: min(BATCH, limit - len(taken))])
            Run.objects.filter(pk__in=[run.pk for run in batch]).update(
                feed_at=None, published_at=None, publish_at=until
            )
        for run in batch:
            run.feed_at, run.published_at, run.publish_at = None, None, until
        taken += batch
        if len(batch) < BATCH:
            break
    return taken
