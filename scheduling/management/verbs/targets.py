"""targets, resources: what jobs are applied to, and what is known of each."""

from __future__ import annotations

from argparse import ArgumentParser, ArgumentTypeError, Namespace
from datetime import datetime, timedelta
from typing import Any

from scheduling import clock, inventory
from scheduling.explanations import rounded
from scheduling.inventory import Standing
from scheduling.management.verbs.base import Answer, Say, Verb, brief, count, find_job, table

TARGET_COLUMNS = (
    *("JOB", "KEY", "LAST", "FOUND AT", "STREAK", "MISSES", "LEVEL", "INTERVAL"),
    *("STALENESS", "NEXT", "STRATEGY", "PAUSED"),
)
RESOURCE_COLUMNS = ("KEY", "TARGETS", "SEATS", "SOURCES", "LAST SEEN", "PAUSED", "DESCRIPTION")


def add_common(parser: ArgumentParser) -> None:
    parser.add_argument("--key", metavar="KEY", help="one only; all that begin so if it ends in *")
    parser.add_argument("--limit", type=count, default=50, metavar="N")


def target_arguments(parser: ArgumentParser) -> None:
    parser.add_argument("job", metavar="JOB", nargs="?")
    add_common(parser)
    parser.add_argument("--source", metavar="NAME", help="that named it first; empty: none")
    parser.add_argument(
        "--state", choices=list(map(str, Standing)), metavar="STATE", help=", ".join(Standing)
    )


def targets(options: Namespace, say: Say) -> Answer:
    job = find_job(options.job) if options.job is not None else None
    found = inventory.targets(
        job=job,
        key=options.key,
        source=options.source,
        standing=None if options.state is None else Standing(options.state),
        limit=options.limit,
    )
    now = clock.now()
    return Answer(
        data=[inventory.target_as_dict(each) for each in found],
        text=table(TARGET_COLUMNS, [target_cells(each, now) for each in found])
        if found
        else "No such target.",
    )


def target_cells(target: Any, now: datetime) -> tuple[object, ...]:
    return (
        target.job.name,
        target.key or "-",
        " ".join(filter(None, (target.last_state, target.last_outcome))) or "-",
        brief(target.found_at),
        target.streak,
        target.misses,
        target.level,
        span(target.interval),
        span(target.staleness),
        when(target, now),
        target.strategy or "-",
        f"by {target.paused_by}: {target.pause_reason}" if target.paused_at else "-",
    )


def when(target: Any, now: datetime) -> str:
    """When it is run again, as far as that is known."""
    if target.retired_at is not None:
        return "retired"
    if target.eligible_since is not None:
        return f"in the pool for {rounded(now - target.eligible_since)}"
    if target.eligible_at is not None:
        return f"not before {brief(target.eligible_at)}"
    return str(target.get_parked_display()) if target.parked else brief(target.next_fire_at)


def resource_arguments(parser: ArgumentParser) -> None:
    add_common(parser)
    parser.add_argument("--label", type=label, metavar="NAME=VALUE")


def label(text: str) -> tuple[str, str]:
    name, equals, value = text.partition("=")
    if not (equals and name):
        raise ArgumentTypeError(f"{text!r} is no label; write NAME=VALUE")
    return name, value


def resources(options: Namespace, say: Say) -> Answer:
    found = inventory.resources(key=options.key, label=options.label, limit=options.limit)
    return Answer(
        data=[inventory.resource_as_dict(each) for each in found],
        text=table(RESOURCE_COLUMNS, [resource_cells(each) for each in found])
        if found
        else "No such resource.",
    )


def resource_cells(resource: Any) -> tuple[object, ...]:
    return (
        resource.key,
        resource.targets_in_use or 0,
        resource.seats or "-",
        ", ".join(each.source.name for each in resource.listings.all()) or "-",
        brief(resource.last_seen_at),
        f"by {resource.paused_by}: {resource.pause_reason}" if resource.paused_at else "-",
        resource.description or "-",
    )


def span(value: timedelta | None) -> str:
    return "-" if value is None else rounded(value)


VERBS = (
    Verb("targets", "the targets of a job, or of all", target_arguments, targets),
    Verb("resources", "the resources behind the keys", resource_arguments, resources),
)
