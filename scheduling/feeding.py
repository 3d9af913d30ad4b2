"""What a beat does to keep fed jobs fed, on each tick."""

from __future__ import annotations

import logging
from datetime import datetime

from celery import Celery
from django.db import OperationalError

from scheduling import broker, clock, runs
from scheduling.conf import conf
from scheduling.db import is_conflict
from scheduling.models import Job
from scheduling.runs import Fed, Lengths
from scheduling.runs.pool import feed_of
from scheduling.services import queue_of

logger = logging.getLogger(__name__)


def feed_all(app: Celery, *, now: datetime, until: datetime) -> int:
    """Feed the jobs that are due, a round each in turn, until then at the latest; give how many
    runs that let out. Who has had no turn is the first at the next tick.
    """
    # Half of the time: a million may have cooled down at once, and slots are free meanwhile.
    began = clock.now()
    halfway = began + (until - began) / 2
    while clock.now() < halfway and runs.thaw(now=now, limit=conf.FEED_BATCH) == conf.FEED_BATCH:
        pass
    out, jobs = 0, runs.jobs_to_feed(now)
    while jobs:
        full = []
        for job in jobs:
            if clock.now() >= until:
                return out
            fed = _feed(app, job)
            if fed is not None:
                out += fed.released + sum(fed.picked.values())
                full += [job] if fed.is_full else []
        jobs = full
    return out


def _feed(app: Celery, job: Job) -> Fed | None:
    try:
        return runs.feed(job, lengths_of(app, job), now=clock.now())
    except OperationalError as error:
        if not is_conflict(error):
            raise  # The database is away: the tick's to handle.
        logger.warning("Job %s is fed at the next tick: %s", job.name, error)
        return None


def lengths_of(app: Celery, job: Job) -> Lengths:
    """How many messages the broker holds where runs of the job go."""
    if not broker.can_be_asked(app):
        return Lengths()
    feed = feed_of(job)
    express = feed.express if feed is not None else None
    return Lengths(
        normal=broker.length(app, queue_of(job) or str(app.conf.task_default_queue)),
        express=0 if express is None else broker.length(app, express.queue),
    )
