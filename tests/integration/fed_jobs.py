"""Jobs that are fed, with targets in their pool, for tests."""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import Any

from scheduling import runs
from scheduling.feeds import OLDEST_SCHEDULED, Feed
from scheduling.models import Job, Run, Target
from scheduling.runs import Fed, Lengths
from tests.factories import NOW, make_job, make_run, make_target

DAY = timedelta(days=1)


def fed_job(name: str = "", **how: Any) -> Job:
    options: dict[str, Any] = {"shares": {OLDEST_SCHEDULED: 1.0}, "threshold": 0.0} | how
    return make_job(name, feed=Feed(**options).as_json())


def pooled(job: Job, number: int, **fields: Any) -> list[Target]:
    have = Target.objects.filter(job=job).count()
    return [
        make_target(job, f"{have + each:03}", **{"eligible_since": NOW - DAY, **fields})
        for each in range(number)
    ]


def waiting(job: Job, key: str, priority: int | None = None, since: datetime = NOW) -> Run:
    return make_run(make_target(job, key), priority=priority, feed_at=since, publish_at=None)


def feed(job: Job, lengths: Lengths | None = None, *, now: datetime = NOW) -> Fed:
    job.refresh_from_db()
    runs.jobs_to_feed(now)
    fed = runs.feed(job, lengths or Lengths(), now=now)
    assert fed is not None
    return fed


def let_out() -> list[str]:
    return list(Run.objects.exclude(publish_at=None).order_by("pk").values_list("key", flat=True))
