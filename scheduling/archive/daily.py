"""The pass of our own scheduled job: as much as there is time for, the rest tomorrow."""

from __future__ import annotations

import logging
from collections.abc import Callable
from time import monotonic

from scheduling import clock, runs
from scheduling.archive import JOB
from scheduling.archive.passes import Report, prune
from scheduling.archive.progress import ADVICE, Progress, progress
from scheduling.archive.rules import rule_of
from scheduling.limits import limits_of
from scheduling.models import Job, State

logger = logging.getLogger(__name__)

# Of the soft limit; a file that is begun is still written to its end, and checked.
SHARE = 0.5
MOST_SECONDS = 3600.0  # without a limit


def run(*, should_stop: Callable[[], bool]) -> runs.Result:
    """Do a pass, from where the last one broke off. Writes something only if it did not end."""
    until = monotonic() + _seconds()
    before = progress()
    report = prune(
        rule_of(now=clock.now()),
        token=before.token,
        go_on=lambda: monotonic() < until and not should_stop(),
    )
    after = Progress(
        token=report.token, unfinished=0 if report.is_through else before.unfinished + 1
    )
    output = in_words(report, after)
    if after.is_behind:
        logger.warning(output)
    value = {
        "deleted": report.deleted,
        "archived": report.archived,
        "files": [file.name for file in report.files[-10:]],
        "left": report.left,
        "others": report.others,
        "through": report.is_through,
        "unfinished": after.unfinished,
        "next": after.token,
    }
    return runs.Result(
        state=State.SUCCEEDED, value=value, output=output, output_bytes=len(output.encode())
    )


def in_words(report: Report, after: Progress) -> str:
    """Say that there was too little time; "" if there was enough."""
    if report.is_through:
        return ""
    told = (
        f"There was no time for all that is old: {report.deleted:,} runs have left the table, and "
        "the next pass goes on there."
    )
    if after.is_behind:
        told += f" That is so for {after.unfinished} passes in a row: {ADVICE}."
    return told


def _seconds() -> float:
    job = Job.objects.filter(name=JOB).first()
    limit = limits_of(job).soft if job is not None else None
    return MOST_SECONDS if limit is None else limit.total_seconds() * SHARE
