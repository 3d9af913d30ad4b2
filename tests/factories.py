"""Rows for tests: say only what matters, the rest is made up.

They write rows as they are, past `scheduling.runs`, so that a test can begin anywhere.
"""

from __future__ import annotations

from datetime import UTC, datetime
from itertools import count
from typing import Any

from scheduling.models import Cause, Job, Resource, Run, State, Target

# A Monday.
NOW = datetime(2026, 1, 5, 12, 0, tzinfo=UTC)

_number = count(1)


def make_job(name: str = "", **fields: Any) -> Job:
    """Make a job without targets; by default it has no schedule and calls `note`."""
    fields.setdefault("kind", "task")
    if fields["kind"] == "task":
        fields.setdefault("task", "tests.testapp.jobs.note")
    else:
        fields.setdefault("command", "scribble")
    return Job.objects.create(name=name or f"job {next(_number)}", **fields)


def make_target(
    job: Job | None = None, key: str = "", *, resource: str = "", **fields: Any
) -> Target:
    """Make a target; `resource` is the key of a resource, made if there is none."""
    if resource:
        fields["resource"], _ = Resource.objects.get_or_create(key=resource)
    return Target.objects.create(job=job or make_job(), key=key, **fields)


def make_run(target: Target | None = None, **fields: Any) -> Run:
    """Make a run; a queued manual one unless told otherwise."""
    target = target or make_target()
    fields.setdefault("scheduled_at", NOW)
    fields.setdefault("created_at", fields["scheduled_at"])
    fields.setdefault("cause", Cause.MANUAL)
    fields.setdefault("state", State.QUEUED)
    fields.setdefault("name", target.job.name)
    fields.setdefault("key", target.key)
    fields.setdefault("queue", target.job.queue)
    return Run.objects.create(job=target.job, target=target, **fields)
