"""Rows of django-celery-beat for tests, and the jobs that follow them."""

from __future__ import annotations

from datetime import datetime
from typing import Any

from django_celery_beat.models import CrontabSchedule, IntervalSchedule, PeriodicTask

from scheduling import runs
from scheduling.models import Job, Run, Target


def every(number: int = 10, period: str = "minutes") -> dict[str, Any]:
    return {"interval": IntervalSchedule.objects.create(every=number, period=period)}


def cron(**fields: Any) -> dict[str, Any]:
    return {"crontab": CrontabSchedule.objects.create(**{"minute": "0", "hour": "3", **fields})}


def make_row(name: str = "mail", **fields: Any) -> PeriodicTask:
    return PeriodicTask.objects.create(name=name, **{"task": "mail.send", **fields})


def job(name: str = "mail") -> Job:
    return Job.objects.get(name=name)


def cursor(name: str = "mail") -> datetime | None:
    return Target.objects.get(job__name=name).next_fire_at


def claim(now: datetime) -> list[Run]:
    """Claim as a beat does; give the runs of rows."""
    claimed = runs.claim(now=now, limit=100).runs
    return [run for run in claimed if run.job is not None and run.job.periodic_task_id]
