"""coverage: how much of what is known is looked at, and how well."""

from __future__ import annotations

from argparse import ArgumentParser, Namespace
from collections.abc import Iterator
from datetime import timedelta
from typing import Any

from scheduling import clock, runs
from scheduling.coverage import Coverage, coverage
from scheduling.explanations import rounded
from scheduling.management.verbs.base import Answer, BadInput, Say, Verb, find_job, table
from scheduling.models import Job, Source

COLUMNS = (
    *("JOB", "SOURCE", "KNOWN", "ACTIVE", "NEVER CHECKED", "STALE", "MISSED", "PAUSED"),
    *("LAG", "OLDEST NEVER CHECKED", "FIRST SUCCESS AFTER"),
)


def arguments(parser: ArgumentParser) -> None:
    parser.add_argument(
        "job", metavar="JOB", nargs="?", help="all that are not retired if left out"
    )
    parser.add_argument(
        "--source", metavar="NAME", help="of the targets that it named first; empty: of no source"
    )
    parser.add_argument(
        "--recount",
        action="store_true",
        help="count the targets themselves first, and tell what was wrong",
    )


def show(options: Namespace, say: Say) -> Answer:
    job = find_job(options.job) if options.job is not None else None
    drift: list[runs.Drift] | None = None
    if options.recount:
        if options.source is not None:
            raise BadInput("--recount counts whole jobs; leave --source out")
        drift = runs.recount_coverage(job)
        for line in in_words(drift):
            say(line)
    found = coverage(options.job, options.source, now=clock.now())
    return Answer(
        data=[as_dict(each, drift) for each in found],
        text=table(COLUMNS, [cells(row) for each in found for row in (each, *each.sources)])
        if found
        else "No target with a key, so nothing is counted.",
        ok=not drift,
    )


def as_dict(found: Coverage, drift: list[runs.Drift] | None) -> dict[str, Any]:
    told = {"job": found.job, "job_paused": found.job_is_paused, **found.as_dict()}
    if found.source is None:
        told["sources"] = [part.as_dict() for part in found.sources]
    if drift is not None:
        told["corrected"] = sum(each.job_id == found.job_id for each in drift)
    return told


def cells(found: Coverage) -> tuple[object, ...]:
    name = f"{found.job}{' (paused)' if found.job_is_paused else ''}"
    return (
        name if found.source is None or not found.sources else "",
        "all" if found.source is None else found.source or "-",
        found.known,
        found.active,
        found.never_checked,
        found.stale,
        found.missed,
        found.paused,
        ", ".join(f"{name}: {number}" for name, number in found.lag.items() if number) or "-",
        span(found.oldest_never_checked),
        span(found.first_success_mean),
    )


def span(value: timedelta | None) -> str:
    return "-" if value is None else rounded(value)


def in_words(drift: list[runs.Drift]) -> Iterator[str]:
    """Say what was wrong, one line each."""
    jobs = dict(
        Job.objects.filter(pk__in={each.job_id for each in drift}).values_list("pk", "name")
    )
    sources = dict(
        Source.objects.filter(pk__in={each.source for each in drift}).values_list("pk", "name")
    )
    for each in drift:
        source = sources.get(each.source, f"deleted source {each.source}") if each.source else "-"
        yield (
            f"{jobs.get(each.job_id, each.job_id)}, source {source}: {each.measure} was "
            f"{each.counted}, is {each.exact}"
        )
    yield f"Counted anew: {len(drift) or 'no'} counts were wrong"


VERBS = (Verb("coverage", "how many targets are known, checked, stale", arguments, show),)
