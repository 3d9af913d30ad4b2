"""Jobs in a given state, and what `why` says about them."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from datetime import datetime, timedelta
from typing import Any

from django.db import connection
from django.test.utils import CaptureQueriesContext

from scheduling import runs
from scheduling.models import (
    Job,
    Process,
    ProcessKind,
    Run,
    State,
    Target,
)
from scheduling.why import Account, Finding, why
from tests.factories import NOW, make_job

SECOND = timedelta(seconds=1)
MINUTE = timedelta(minutes=1)
HOUR = timedelta(hours=1)
DAY = timedelta(days=1)


def adopted(name: str = "mails", *, since: datetime = NOW, **fields: Any) -> Job:
    """Make a job whose first fire lies after `since`."""
    job = make_job(name, **{"schedule": "every 10m", **fields})
    runs.adopt(job, now=since)
    Target.objects.filter(job=job).update(created_at=since)
    return Job.objects.get(pk=job.pk)


def claimed(now: datetime) -> list[Run]:
    claim = runs.claim(now=now, limit=100)
    return [*claim.runs, *claim.skips]


def ended(run: Run, at: datetime) -> None:
    """Let a worker take the run at its time and end it."""
    started = runs.start(run.pk, run.attempt, worker="w@here/1", now=at)
    assert started is not None
    result = runs.Result(state=State.SUCCEEDED)
    assert runs.finish(run.pk, run.attempt, token=started.token, result=result, now=at)


def told(job: Job, *, now: datetime, limit: int = 10, **asked: Any) -> Account:
    return why(Job.objects.get(pk=job.pk), now=now, limit=limit, **asked)


def one(job: Job, *, now: datetime, **asked: Any) -> Finding:
    (finding,) = told(job, now=now, **asked).findings
    return finding


def comes(job: Job, *, now: datetime) -> str:
    following = told(job, now=now).next
    assert following is not None
    return following.explanation


def worker(name: str = "w@here", *, queues: tuple[str, ...] = ("celery",), **fields: Any) -> None:
    fields = {"seen_at": NOW, "started_at": NOW, "host": "here", "pid": 1, **fields}
    detail = {"queues": list(queues), "concurrency": fields.pop("places", 1)}
    Process.objects.create(kind=ProcessKind.WORKER, name=name, detail=detail, **fields)


@contextmanager
def at_most(queries: int) -> Iterator[None]:
    with CaptureQueriesContext(connection) as asked:
        yield
    assert len(asked) <= queries, "\n".join(each["sql"][:200] for each in asked.captured_queries)
