"""What `simulate` is asked to simulate: the scenarios and the inventory, also of a job of ours."""

from __future__ import annotations

from argparse import Namespace
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import replace
from datetime import timedelta
from math import inf, log1p
from typing import Any

from django.db.models import Count, Max, Min, Q

from scheduling.conf import conf
from scheduling.errors import SchedulingError
from scheduling.feeds import MOST_OPEN, Cooldowns, Feed
from scheduling.management.verbs.base import BadInput, find_job
from scheduling.models import Job, Outcome, State, Target
from scheduling.schedule_unanchored import Adaptive
from scheduling.schedules import parse
from scheduling.simulation import MIX, Result, Scenario, Synthetic, Thing, alone, each_alone
from scheduling.simulation.files import read_inventory
from scheduling.simulation.inventory import words
from scheduling.simulation.scenario import with_workers

# How many targets are read at once.
BATCH = 5000


# --- scenarios ------------------------------------------------------------------------------------


def base_scenario(options: Namespace) -> Scenario:
    """What all scenarios have in common; of a job, how it is fed. Raises SchedulingError."""
    if options.inventory is not None and options.from_database is not None:
        raise BadInput("Both --inventory and --from-database name what is looked after; give one")
    feed, schedule, pause_after, name = Feed(), options.schedule, conf.PAUSE_AFTER, MIX
    if options.from_database is not None:
        job = find_job(options.from_database)
        feed, of_job = how_it_is_fed(job)
        schedule = schedule or of_job
        pause_after = conf.PAUSE_AFTER if job.pause_after is None else job.pause_after
        name = job.name
    if options.queue is not None:
        if not 1 <= options.queue <= MOST_OPEN:
            raise BadInput(f"--queue is {options.queue}; give a number from 1 to {MOST_OPEN}")
        feed = replace(feed, max_queue_length=options.queue)
    if options.cooldowns is not None:
        feed = replace(feed, cooldowns=Cooldowns.read(options.cooldowns))
    if options.shares is not None:
        feed = replace(feed, shares=shares_of(options.shares))
        name = ", ".join(f"{each} {weight:g}" for each, weight in feed.shares.items())
    elif options.schedule is not None and options.strategies is None:
        feed, name = replace(feed, shares={}), str(options.schedule)
    return Scenario(
        name=name,
        feed=feed,
        adaptive=schedule,
        pause_after=pause_after,
        span=timedelta(days=options.days),
        seed=options.seed,
        listing_every=options.listing_every,
        failures=options.failures,
        run_time=options.run_time,
        run_time_per_change=options.run_time_per_change,
        run_time_limit=options.run_time_limit,
    )


def scenarios_of(options: Namespace, base: Scenario) -> list[Scenario]:
    if options.strategies is None:
        wanted = [base]
    elif options.strategies == "all":
        wanted = list(each_alone(base))
    else:
        names = dict.fromkeys(options.strategies.split(","))
        wanted = [alone(name, base) for name in names]
    return with_workers(wanted, options.workers)


def shares_of(given: dict[str, str]) -> dict[str, float]:
    weights: dict[str, float] = {}
    for name, weight in given.items():
        try:
            weights[name] = float(weight)
        except ValueError:
            raise BadInput(
                f"--shares gives {name!r} the weight {weight!r}; give a number"
            ) from None
    return dict(Feed.read({"shares": weights}).shares)


def how_it_is_fed(job: Job) -> tuple[Feed, Adaptive | None]:
    """Give the feed of a job and its adaptive schedule. Raises BadInput if it has neither."""
    try:
        schedule = parse(job.schedule)
    except SchedulingError:
        schedule = None
    adaptive = schedule if isinstance(schedule, Adaptive) else None
    if job.feed is not None:
        return Feed.read(job.feed), adaptive
    if adaptive is not None:
        return Feed(shares={}), adaptive
    raise BadInput(
        f"Job {job.name!r} is neither fed nor adaptive: when it runs is no question of its "
        "results; give --strategies, --shares or --schedule with an --inventory instead"
    )


def title_of(base: Scenario, results: Sequence[Result]) -> str:
    known = max(each.last.known for each in results)
    workers = sorted({each.scenario.workers for each in results})
    return (
        f"{known:,} resources, {base.span.days} days, "
        f"{' / '.join(f'{each:,}' for each in workers)} workers"
    )


# --- the inventory --------------------------------------------------------------------------------


def inventory_of(options: Namespace, base: Scenario) -> Synthetic | Sequence[Thing]:
    """Raises BadInput, InvalidInventory, InvalidScenario."""
    made_up = {
        name: getattr(options, given)
        for given, name in _MADE_UP.items()
        if getattr(options, given) is not None
    }
    if made_up and (options.inventory is not None or options.from_database is not None):
        names = ", ".join(f"--{name.replace('_', '-')}" for name in _MADE_UP)
        raise BadInput(f"{names} are for what is made up; leave them out")
    if options.inventory is not None:
        return read_inventory(options.inventory, seed=base.seed)
    if options.from_database is not None:
        return things_of(find_job(options.from_database), seed=base.seed)
    return Synthetic(**made_up)


def things_of(job: Job, *, seed: int) -> list[Thing]:
    """What the targets of a job have shown so far, as things to look after from the beginning.

    How often one changes is reckoned from the results that are kept of it; of one with fewer than
    two, it is made up.
    """
    things = [_thing(target, seed) for target in _statistics(job)]
    if not things:
        raise BadInput(f"Job {job.name!r} has no targets; list its source first, or give a file")
    return things


def _statistics(job: Job) -> Iterator[Mapping[str, Any]]:
    results = Q(runs__state=State.SUCCEEDED, runs__outcome__in=(Outcome.CHANGED, Outcome.UNCHANGED))
    rows = (
        Target.objects.filter(job=job, retired_at=None)
        .annotate(
            results=Count("runs", filter=results),
            changes=Count("runs", filter=results & Q(runs__outcome=Outcome.CHANGED)),
            first=Min("runs__ended_at", filter=results),
            last=Max("runs__ended_at", filter=results),
        )
        .order_by("pk")
        .values("key", "hint_at", "last_outcome", "results", "changes", "first", "last")
    )
    yield from rows.iterator(chunk_size=BATCH)


def _thing(target: Mapping[str, Any], seed: int) -> Thing:
    drawn = words(seed, target["key"])
    change_every = change_period(
        results=target["results"],
        changes=target["changes"],
        over=(target["last"] or target["first"]) - target["first"] if target["first"] else None,
    )
    if change_every is None:
        change_every = Synthetic().period(drawn[0])
    return Thing(
        key=target["key"],
        change_every=change_every,
        phase=-drawn[1] * change_every,
        hinted=target["hint_at"] is not None,
        gone_at=0.0 if target["last_outcome"] == Outcome.MISSING else inf,
    )


def change_period(*, results: int, changes: int, over: timedelta | None) -> float | None:
    """Reckon in seconds how often something changes that so many looks `over` a time have found
    changed; None: they are too few.

    As for changes at random moments. Half a change is added, so that none seen means rarely, and
    always changed means more often than it was looked at.
    """
    if results < 2 or not over:
        return None
    distance = over.total_seconds() / (results - 1)
    part = min(changes + 0.5, results - 0.5) / results
    return distance / -log1p(-part)


_MADE_UP = {
    "resources": "things",
    "per_hour": "per_hour",
    "shortest": "shortest",
    "longest": "longest",
    "hinted": "hinted",
    "missing": "missing",
}
