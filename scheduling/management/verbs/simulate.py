"""simulate: how would this fleet look after that inventory for a year?"""

from __future__ import annotations

from argparse import ArgumentParser, ArgumentTypeError, Namespace
from dataclasses import fields
from datetime import timedelta
from pathlib import Path
from time import monotonic

from scheduling.errors import SchedulingError
from scheduling.feeds import BUILT_IN, Cooldowns
from scheduling.management.verbs.base import Answer, Say, Verb, span, table
from scheduling.management.verbs.simulated import (
    base_scenario,
    inventory_of,
    scenarios_of,
    title_of,
)
from scheduling.schedule_unanchored import Adaptive
from scheduling.schedules import parse
from scheduling.simulation import MIX, Result, Scenario, Synthetic, compare
from scheduling.simulation.files import write_inventory
from scheduling.simulation.plot import plot, require_plot
from scheduling.simulation.report import HEAD, require_folder, rows, write_csv
from scheduling.simulation.scenario import MOST_WORKERS

USUAL = Scenario()
MADE_UP = Synthetic()


def number(text: str) -> int:
    if text.isascii() and text.isdecimal() and len(text) <= 9:
        return int(text)
    raise ArgumentTypeError(f"{text!r} is not a number of at most nine digits")


def share(text: str) -> float:
    read = decimal(text)
    if 0 <= read <= 1:
        return read
    raise ArgumentTypeError(f"{text!r} is not a share; write a number from 0 to 1, such as 0.01")


def decimal(text: str) -> float:
    try:
        read = float(text)
    except ValueError:
        read = -1.0
    if 0 <= read <= 1e9:
        return read
    raise ArgumentTypeError(f"{text!r} is not a number of 0 or more")


def seconds(text: str) -> timedelta:
    """Read a span such as 2h, or seconds with a fraction: 0.5."""
    return timedelta(seconds=decimal(text)) if text[-1:].isdecimal() else span(text)


def sizes(text: str) -> list[int]:
    read = [number(each) for each in text.split(",")]
    for each in read:
        if not 1 <= each <= MOST_WORKERS:
            raise ArgumentTypeError(f"{each} workers; give a number from 1 to {MOST_WORKERS}")
    return list(dict.fromkeys(read))


def pairs(text: str) -> dict[str, str]:
    """Read NAME=VALUE,NAME=VALUE."""
    read = [each.partition("=") for each in text.split(",")]
    if all(name and equals for name, equals, _ in read):
        return {name: value for name, _, value in read}
    raise ArgumentTypeError(f"{text!r} cannot be read; write NAME=VALUE,NAME=VALUE")


def adaptive(text: str) -> Adaptive:
    try:
        schedule = parse(text)
    except SchedulingError as error:
        raise ArgumentTypeError(str(error)) from None
    if isinstance(schedule, Adaptive):
        return schedule
    raise ArgumentTypeError(
        f"{text!r} is no adaptive schedule; write such as 'adaptive ladder' or "
        "'adaptive 1d between 1h and 30d factor 2'"
    )


def simulate_arguments(parser: ArgumentParser) -> None:
    how = parser.add_argument_group("how things are picked")
    how.add_argument(
        "--strategies",
        metavar="NAMES",
        help=f"each alone, with commas: {', '.join(BUILT_IN)}, {MIX} (the usual shares); "
        "or all (default: the job's shares, or mix)",
    )
    how.add_argument(
        "--shares", type=pairs, metavar="S=W,...", help="shares of strategies, as a job has them"
    )
    how.add_argument(
        "--cooldowns",
        type=pairs,
        metavar="C=SPAN,...",
        help=f"{', '.join(each.name for each in fields(Cooldowns))}; nothing after = for none",
    )
    how.add_argument(
        "--schedule",
        type=adaptive,
        metavar="TEXT",
        help="an adaptive schedule: alone, it says when each is due; with --strategies or "
        "--shares, it is a further least distance",
    )
    how.add_argument("--queue", type=number, metavar="N", help="longest queue (default: 1000)")

    by = parser.add_argument_group("by whom")
    by.add_argument(
        "--workers", type=sizes, default=[48], metavar="N,...", help="each in turn (default: 48)"
    )
    by.add_argument(
        "--run-time", type=seconds, default=USUAL.run_time, help="of a check (default: 0.5)"
    )
    by.add_argument(
        "--run-time-per-change",
        type=seconds,
        default=USUAL.run_time_per_change,
        help="besides (default: 0.1)",
    )
    by.add_argument(
        "--run-time-limit",
        type=seconds,
        default=USUAL.run_time_limit,
        help="a check that takes so long fails (default: 2h)",
    )
    by.add_argument(
        "--failures", type=share, default=USUAL.failures, help="share of checks (default: 0.01)"
    )

    what = parser.add_argument_group("what is looked after")
    what.add_argument("--inventory", type=Path, metavar="FILE", help="JSON lines")
    what.add_argument("--from-database", metavar="JOB", help="what is known of a job's targets")
    what.add_argument("--write-inventory", type=Path, metavar="FILE", help="for --inventory")
    what.add_argument(
        "--resources",
        type=number,
        metavar="N",
        help=f"made up: how many there are at first (default: {MADE_UP.things})",
    )
    what.add_argument("--per-hour", type=decimal, metavar="N", help="further ones (default: 0.1)")
    what.add_argument("--hinted", type=share, help="share whose changes listings tell of (0.5)")
    what.add_argument("--missing", type=share, help="share that goes away (default: 0.01)")
    what.add_argument("--shortest", type=seconds, help="change period (default: 1s)")
    what.add_argument("--longest", type=seconds, help="change period (default: 3650d)")
    what.add_argument(
        "--listing-every",
        type=span,
        default=USUAL.listing_every,
        metavar="SPAN",
        help="full listings (default: 1d)",
    )
    what.add_argument("--days", type=number, default=365, help="to simulate (default: 365)")
    what.add_argument("--seed", type=number, default=1, help="of all that is drawn (default: 1)")

    out = parser.add_argument_group("what comes out")
    out.add_argument("--plot", type=Path, metavar="FILE", help="a picture: .png or .svg")
    out.add_argument("--csv", type=Path, metavar="FILE", help="the time series")
    out.add_argument("--processes", type=number, metavar="N", help="default: one per processor")


def simulate(options: Namespace, say: Say) -> Answer:
    for path in (options.plot, options.csv, options.write_inventory):
        if path is not None:
            require_folder(path)
    if options.plot is not None:
        require_plot(options.plot)
    base = base_scenario(options)
    scenarios = scenarios_of(options, base)
    inventory = inventory_of(options, base)
    if options.write_inventory is not None:
        things = (
            inventory.make(seed=base.seed, span=base.span)
            if isinstance(inventory, Synthetic)
            else inventory
        )
        write_inventory(options.write_inventory, things)
    begun = monotonic()
    results: list[Result] = []
    for result in compare(scenarios, inventory, processes=options.processes):
        results.append(result)
        say(f"{result.scenario.name}: {result.checks:,} checks, {monotonic() - begun:.0f} s")
    title = title_of(base, results)
    if options.csv is not None:
        write_csv(options.csv, results)
    if options.plot is not None:
        plot(options.plot, results, title=title)
    return Answer(
        data=[each.as_json() for each in results],
        text="\n".join(["", title, "", table(HEAD, rows(results))]),
    )


VERBS = (
    Verb("simulate", "a virtual year of looking after an inventory", simulate_arguments, simulate),
)
