"""The pass of our own scheduled job: as much as there is time for, the rest tomorrow."""

from __future__ import annotations

from collections.abc import Callable
from time import monotonic
from typing import Any

from scheduling import clock
from scheduling.archive.passes import prune
from scheduling.archive.rules import rule_of
from scheduling.limits import limits_of
from scheduling.models import Job, Run, State

# Of the time limit; a file that is begun is still written to its end, and checked.
SHARE = 0.5
MOST_SECONDS = 3600.0


def run(job_name: str, *, should_stop: Callable[[], bool]) -> dict[str, Any]:
    """Do a pass, from where the last one broke off; what is returned is the run's result."""
    until = monotonic() + _seconds(job_name)
    report = prune(
        rule_of(now=clock.now()),
        token=_token(job_name),
        go_on=lambda: monotonic() < until and not should_stop(),
    )
    return {
        "deleted": report.deleted,
        "archived": report.archived,
        "files": [file.name for file in report.files[-10:]],
        "left": report.left,
        "others": report.others,
        "next": report.token,
    }


def _seconds(job_name: str) -> float:
    job = Job.objects.filter(name=job_name).first()
    limit = limits_of(job).soft if job is not None else None
    return MOST_SECONDS if limit is None else limit.total_seconds() * SHARE


def _token(job_name: str) -> str:
    """What the last good run returned, so that a long pass does not begin anew each day."""
    ended = Run.objects.filter(job__name=job_name, state=State.SUCCEEDED).newest_first()
    result = ended.values_list("result", flat=True).first()
    token = result.get("next") if isinstance(result, dict) else ""
    return token if isinstance(token, str) else ""
