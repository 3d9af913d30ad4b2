"""Jobs with more targets than follow an edit at once, for tests."""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import Any

import pytest

from scheduling import runs
from scheduling.models import Job, Target
from scheduling.runs import edits
from tests.factories import NOW, make_job

SECOND = timedelta(seconds=1)
MINUTE = timedelta(minutes=1)
HOUR = timedelta(hours=1)
BATCH = 3


def in_small_batches(monkeypatch: pytest.MonkeyPatch) -> None:
    """Let no more than BATCH targets follow an edit at once."""
    monkeypatch.setattr(edits, "AT_ONCE", BATCH)
    monkeypatch.setattr(edits, "BATCH", BATCH)


def job_of_many(number: int = 7, **fields: Any) -> Job:
    job = make_job(**{"schedule": "every 1m", "catch_up": "all"} | fields)
    for key in range(number):
        runs.add_target(job, f"{key}", now=NOW)
    return job


def follow_all(now: datetime) -> list[int]:
    """Let ticks do it; give the sizes of their batches."""
    sizes = []
    while moved := runs.follow_edits(now=now):
        sizes.append(moved)
    return sizes


def cursors(job: Job) -> set[datetime | None]:
    return set(Target.objects.filter(job=job).values_list("next_fire_at", flat=True))


def parked(job: Job) -> set[str]:
    return set(Target.objects.filter(job=job).values_list("parked", flat=True))


def one_of(job: Job) -> Target:
    return Target.objects.filter(job=job).order_by("-pk")[0]
