"""Shares: the strategies of a fed job pick targets together, each its part of the slots."""

from __future__ import annotations

import logging
from collections import Counter
from datetime import datetime

from django.db import connection

from scheduling.conf import conf
from scheduling.db import is_conflict, is_lost, read_in_index_order
from scheduling.errors import SchedulingError
from scheduling.feeds import Feed
from scheduling.models import Feeder, Job
from scheduling.runs import rounds
from scheduling.runs.rounds import Failed, Fed
from scheduling.runs.selecting import select
from scheduling.selection import after_shortfall, shares_of

logger = logging.getLogger(__name__)


def pick(fed: Fed, feeder: Feeder, how: Feed, slots: int, *, now: datetime) -> int:
    """Let the strategies pick `slots` targets together; give how many they found.

    One that fails leaves its part to the others, and is asked again after the idle time.
    """
    job = feeder.job
    left = rounds.spend(job, slots)
    fed.failed = {name: each for name, each in fed.failed.items() if name in how.shares}
    weights = {name: 0.0 if name in fed.failed else each for name, each in how.shares.items()}
    credits: dict[str, float] = feeder.credits
    picked = 0
    read_in_index_order()
    while left > 0 and any(weights.values()):
        wanted, credits = shares_of(left, weights, credits)
        found = {
            name: _ask(fed, job, name, count, sample=how.sample, now=now)
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
    rounds.give_back(job, left)
    fed.why = "; ".join(each.why for each in fed.failed.values())
    return picked


def _ask(fed: Fed, job: Job, name: str, count: int, *, sample: float | None, now: datetime) -> int:
    """Let one strategy pick; give how many it found. What it breaks is undone, and noted."""
    try:
        return len(select(job, name, count, sample=sample, now=now))
    except Exception as error:
        # Without a savepoint to go back to, all of the transaction is lost.
        if connection.needs_rollback or is_conflict(error) or is_lost(error):
            raise
        is_ours = isinstance(error, SchedulingError)
        why = str(error) if is_ours else f"{name}: {type(error).__name__}: {error}"
        logger.error("Job %s is fed without a strategy: %s", job.name, why, exc_info=not is_ours)
        fed.failed[name] = Failed(why, until=now + conf.FEED_IDLE)
        return 0
