"""select, feeding: what strategies pick, and how fed jobs stand."""

from __future__ import annotations

from argparse import ArgumentParser, ArgumentTypeError, Namespace
from dataclasses import replace
from typing import Any

from django.db.models import Count, F

from scheduling import clock, runs
from scheduling.errors import InvalidDeclaration, NotFed
from scheduling.feeds import BUILT_IN, Cooldowns
from scheduling.management.verbs.base import (
    Answer,
    BadInput,
    Say,
    Verb,
    brief,
    count,
    find_job,
    iso,
    moment,
    table,
    visible,
)
from scheduling.models import Job, Run, Target
from scheduling.runs.pool import feed_of
from scheduling.runs.rounds import in_words


def cooldowns(text: str) -> dict[str, str]:
    """Read NAME=SPAN,NAME=SPAN; an empty span switches that cooldown off."""
    pairs = [part.partition("=") for part in text.split(",") if part]
    if not all(sign for _, sign, _ in pairs):
        raise ArgumentTypeError(
            f"{text!r} cannot be read; write such as absolute=12h,failed=14d,missing="
        )
    given = {name: span for name, _, span in pairs}
    try:
        Cooldowns.read(given)
    except InvalidDeclaration as error:
        raise ArgumentTypeError(str(error)) from None
    return given


def select_arguments(parser: ArgumentParser) -> None:
    parser.add_argument("job", metavar="JOB")
    parser.add_argument(
        "--strategy",
        required=True,
        metavar="S",
        help=f"{', '.join(BUILT_IN)}, or a class of yours as module:Class",
    )
    parser.add_argument("--count", type=count, default=10, metavar="N", help="default: %(default)s")
    parser.add_argument("--source", metavar="SOURCE", help="only what this source named first")
    parser.add_argument(
        "--cooldowns",
        type=cooldowns,
        metavar="NAME=SPAN,...",
        help="others than the job's: absolute, in_flight, failed, missing; NAME= for none",
    )
    parser.add_argument("--at", type=moment, metavar="ISO", help="default: now")
    parser.add_argument("--dry-run", action="store_true", help="show what would be picked")


def select(options: Namespace, say: Say) -> Answer:
    job = find_job(options.job)
    feed = feed_of(job)
    if feed is None:
        raise NotFed(f"Job {job.name!r} is not fed, so nothing of it is picked; give it a feed")
    if options.at is not None and not options.dry_run:
        raise BadInput("--at asks about another time; add --dry-run")
    other = None
    if options.cooldowns is not None:
        given = Cooldowns.read(options.cooldowns)
        other = replace(
            feed.cooldowns, **{name: getattr(given, name) for name in options.cooldowns}
        )
    picks = runs.select(
        job,
        options.strategy,
        options.count,
        now=options.at or clock.sample(),
        source=None if options.source is None else runs.source_named(options.source),
        cooldowns=other,
        dry_run=options.dry_run,
    )
    rows = [
        {
            "job": job.name,
            "key": pick.key,
            "strategy": pick.strategy,
            **({} if pick.run_id is None else {"run": str(pick.run_id)}),
        }
        for pick in picks
    ]
    verb = "would pick" if options.dry_run else "has picked"
    lines = [visible(pick.key) for pick in picks]
    return Answer(data=rows, text="\n".join([f"{options.strategy} {verb} {len(rows)}:", *lines]))


def feeding_arguments(parser: ArgumentParser) -> None:
    parser.add_argument("job", nargs="*", metavar="JOB", help="default: all that are fed")


def feeding(options: Namespace, say: Say) -> Answer:
    named = [find_job(name) for name in dict.fromkeys(options.job)]
    for job in named:
        if job.feed is None:
            raise NotFed(f"Job {job.name!r} is not fed; give it a feed")
    jobs = named or list(Job.objects.active().filter(feed__isnull=False).order_by("name"))
    rows = [standing(job) for job in jobs]
    head = ("job", "open", "most", "in lanes", "eligible", "cooling", "fed at", "last round")
    lines = [
        (
            row["job"],
            row["open"],
            row["max_queue_length"],
            row["waiting"],
            row["eligible"],
            row["cooling"],
            brief(row["last_round_at"]),
            in_words(row["last_round"]),
        )
        for row in rows
    ]
    data = [{**row, "last_round_at": iso(row["last_round_at"])} for row in rows]
    return Answer(data=data, text=table(head, lines) if rows else "No job is fed.")


def standing(job: Job) -> dict[str, Any]:
    """How a fed job stands; counts of its targets are of those that strategies pick."""
    feed = feed_of(job)
    feeder = getattr(job, "feeder", None)
    open_runs = Run.objects.open().filter(job=job)
    by_lane = open_runs.filter(feed_at__isnull=False).order_by()
    lanes = by_lane.values_list("priority").annotate(number=Count("pk"))
    targets = Target.objects.filter(job=job)
    return {
        "job": job.name,
        "open": open_runs.filter(feed_at=None).count(),
        "max_queue_length": None if feed is None else feed.max_queue_length,
        "waiting": sum(number for _, number in lanes),
        "lanes": {
            "normal" if lane is None else str(lane): number
            for lane, number in lanes.order_by(F("priority").asc(nulls_last=True))
        },
        "eligible": targets.filter(eligible_since__isnull=False).count(),
        "cooling": targets.filter(eligible_at__isnull=False).count(),
        "last_round": {} if feeder is None else feeder.last_round,
        "last_round_at": None if feeder is None else feeder.last_round_at,
    }


VERBS = (
    Verb("select", "pick targets of a fed job by a strategy", select_arguments, select),
    Verb("feeding", "show how fed jobs stand", feeding_arguments, feeding),
)
