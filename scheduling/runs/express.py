"""The express lane: first looks at what sources have found, with a queue and a cap of their own."""

from __future__ import annotations

from collections import Counter
from datetime import datetime

from django.db.models import F, Q, QuerySet

from scheduling.conf import conf
from scheduling.db import read_in_index_order
from scheduling.feeds import EXPRESS, Feed
from scheduling.models import Job, Source, Target
from scheduling.runs import lanes, rounds
from scheduling.runs.rounds import Fed
from scheduling.runs.selecting import select


def look_first(
    fed: Fed, job: Job, how: Feed, *, own: int, length: int | None, now: datetime
) -> bool:
    """First looks at what sources have found, once their listing has come to its end; give whether
    there may be more of them than there were slots in their lane.
    """
    if how.express is None:
        return False
    slots = lanes.free(how.express.limit, own=own, length=length)
    waiting = waiting_for_express(job)
    if waiting and slots > 0:
        read_in_index_order()
    for source in waiting:
        if slots <= 0:
            break
        count = rounds.spend(job, min(slots, conf.FEED_BATCH))
        picks = select(job, EXPRESS, count, source=source, now=now)
        rounds.give_back(job, count - len(picks))
        fed.picked += Counter({EXPRESS: len(picks)})
        slots -= len(picks)
        if slots > 0 and not _unseen(source).exists():
            Source.objects.filter(pk=source.pk, listing_ended_at=source.listing_ended_at).update(
                express_done_at=now
            )
    return bool(waiting) and slots <= 0


def waiting_for_express(job: Job) -> list[Source]:
    """The sources of the job that want express first looks, and have named something since."""
    undone = Q(express_done_at=None) | Q(express_done_at__lt=F("listing_ended_at"))
    return list(
        job.sources.filter(
            undone, is_express=True, is_trial=False, retired_at=None, listing_ended_at__isnull=False
        ).order_by("listing_ended_at")
    )


def _unseen(source: Source) -> QuerySet[Target]:
    """What still waits for a first look through the express lane, of any job of the source."""
    jobs = source.jobs.filter(retired_at=None, feed__express__queue__isnull=False)
    return Target.objects.filter(
        job__in=jobs, source=source, eligible_since__isnull=False, last_scheduled_at=None
    )
