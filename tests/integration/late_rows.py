"""Rows that are late, or nearly, for the tests of late alerts."""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import Any

from scheduling import runs
from scheduling.models import Cause, Job, Notification, Process, Run, Target
from tests.factories import NOW, make_job, make_run, make_target

MINUTE = timedelta(minutes=1)


def overdue(
    minutes: float = 6, *, schedule: str = "every 1m", job: Job | None = None, **fields: Any
) -> Target:
    job = job or make_job(schedule=schedule)
    return make_target(job, next_fire_at=NOW - timedelta(minutes=minutes), **fields)


def queued(minutes: float = 6, *, target: Target | None = None, **fields: Any) -> Run:
    target = target or make_target(make_job("books", schedule="every 30m"))
    at = NOW - timedelta(minutes=minutes)
    values: dict[str, Any] = {"scheduled_at": at, "ready_at": at, "cause": Cause.SCHEDULE}
    return make_run(target, **values | fields)


def make_process(name: str, kind: str, *, seen_at: datetime = NOW, **detail: Any) -> Process:
    values = {"host": "here", "pid": 1, "started_at": NOW - timedelta(days=1)}
    return Process.objects.create(name=name, kind=kind, seen_at=seen_at, detail=detail, **values)


def the_alert() -> Notification:
    row = Notification.objects.get()
    assert row.event == "late"
    return row


def pause(target: Target, scope: str, until: datetime | None = None) -> None:
    scopes: dict[str, Any] = {
        "everything": runs.installation(),
        "circuit": target.job.circuit,
        "job": target.job,
        "resource": target.resource,
        "target": target,
    }
    type(scopes[scope]).objects.filter(pk=scopes[scope].pk).update(
        paused_at=NOW - timedelta(hours=1), paused_until=until
    )
