"""next, between, plan: what a schedule means. Without a database."""

from __future__ import annotations

from argparse import ArgumentParser, ArgumentTypeError, Namespace
from collections.abc import Iterator, Sequence
from datetime import UTC, datetime
from itertools import islice
from zoneinfo import ZoneInfo

from scheduling.errors import InvalidSchedule
from scheduling.management.verbs.base import Answer, BadInput, Say, Verb, count, iso, moment, span
from scheduling.policies import CatchUp, Plan, catch_up_window, plan_fires
from scheduling.schedule_text import parse
from scheduling.schedules import Schedule, Union
from scheduling.zones import load_zone

# A document is held in memory whole; more than this is a mistake in the bounds.
MOST_FIRES = 1_000_000


def zone(name: str) -> str:
    try:
        load_zone(name)
    except InvalidSchedule as error:
        raise ArgumentTypeError(str(error)) from None
    return name


def add_schedule(parser: ArgumentParser) -> None:
    parser.add_argument("schedule", metavar="TEXT", help="such as 'every 5m' or 'cron 0 3 * * *'")
    parser.add_argument(
        "--tz", type=zone, metavar="ZONE", help="for a text that names none, and to show times in"
    )
    parser.add_argument(
        "--name", default="", help="of the job: decides where H and spread schedules fall"
    )


def add_bounds(parser: ArgumentParser) -> None:
    parser.add_argument("--after", type=moment, required=True, metavar="ISO", help="exclusive")
    parser.add_argument("--until", type=moment, required=True, metavar="ISO", help="inclusive")


def next_arguments(parser: ArgumentParser) -> None:
    add_schedule(parser)
    parser.add_argument("--after", type=moment, metavar="ISO", help="exclusive; default: now")
    parser.add_argument("--count", type=count, default=5, metavar="N")


def between_arguments(parser: ArgumentParser) -> None:
    add_schedule(parser)
    add_bounds(parser)


def plan_arguments(parser: ArgumentParser) -> None:
    add_schedule(parser)
    add_bounds(parser)
    parser.add_argument(
        "--catch-up", choices=[member.value for member in CatchUp], default=CatchUp.LATEST.value
    )
    parser.add_argument(
        "--window", type=span, metavar="SPAN", help="default: one period, from 1h to 7d"
    )


def read(options: Namespace) -> Schedule:
    schedule = parse(options.schedule)
    return schedule.in_zone(options.tz) if options.tz else schedule


def own_zone(schedule: Schedule) -> str | None:
    """The zone that the schedule names; None if it names none, or several."""
    members: Sequence[Schedule] = schedule.members if isinstance(schedule, Union) else [schedule]
    named = {getattr(member, "tz", None) for member in members} - {None}
    return named.pop() if len(named) == 1 else None


def fires_answer(schedule: Schedule, fires: Iterator[datetime], options: Namespace) -> Answer:
    found = list(fires)
    evaluated_in = own_zone(schedule) or options.tz or "UTC"
    shown_in = ZoneInfo(options.tz or evaluated_in)
    lines = [f"{schedule}: {schedule.sentence()}"]
    none = "no fire times"
    if schedule.after_end(datetime.now(UTC)) is not None:
        none += " of its own: each is counted from the end of the run before"
    lines += [f"  {fire.astimezone(shown_in):%a %Y-%m-%d %H:%M:%S %Z}" for fire in found]
    return Answer(
        data={
            "schedule": str(schedule),
            "timezone": evaluated_in,
            "fires": [iso(fire) for fire in found],
        },
        text="\n".join(lines if found else [*lines, f"  ({none})"]),
    )


def walk(schedule: Schedule, after: datetime, name: str) -> Iterator[datetime]:
    fire = schedule.next(after, name=name)
    while fire is not None:
        yield fire
        fire = schedule.next(fire, name=name)


def next_fires(options: Namespace, say: Say) -> Answer:
    schedule = read(options)
    # The host's clock: this verb works without the database, whose time is ours elsewhere.
    after = options.after or datetime.now(UTC)
    fires = islice(walk(schedule, after, options.name), options.count)
    return fires_answer(schedule, fires, options)


def between(options: Namespace, say: Say) -> Answer:
    schedule, after, until = read(options), options.after, options.until
    number = schedule.count(after, until, name=options.name)
    if number > MOST_FIRES:
        raise BadInput(
            f"{schedule} has {number} fire times there, and at most {MOST_FIRES} are listed; "
            "move --after and --until together"
        )
    return fires_answer(schedule, schedule.between(after, until, name=options.name), options)


def plan(schedule: Schedule, after: datetime, until: datetime, options: Namespace) -> Plan:
    """Decide about the fires in (after, until] as a beat would that comes back at `until`."""
    cursor = schedule.next(after, name=options.name)
    if cursor is None:
        return Plan(cursor=None)
    return plan_fires(
        schedule,
        cursor=cursor,
        now=until,
        catch_up=CatchUp(options.catch_up),
        window=catch_up_window(schedule, until, configured=options.window, name=options.name),
        max_fires=MOST_FIRES,
        name=options.name,
    )


def show_plan(options: Namespace, say: Say) -> Answer:
    schedule, after, until = read(options), options.after, options.until
    planned = plan(schedule, after, until, options)
    if planned.truncated:
        raise BadInput(
            f"{schedule} has more than {MOST_FIRES} fire times there; "
            "move --after and --until together"
        )
    lines = [f"start   {iso(fire.at)}  ({fire.cause.replace('_', '-')})" for fire in planned.start]
    lines += [
        f"skip    {iso(skip.first)} to {iso(skip.last)}  {skip.fires} x {skip.reason}"
        for skip in planned.skips
    ]
    return Answer(
        data={
            "start": [iso(fire.at) for fire in planned.start],
            "skip": [
                {
                    "from": iso(skip.first),
                    "until": iso(skip.last),
                    "fires": skip.fires,
                    "reason": skip.reason,
                }
                for skip in planned.skips
            ],
            "cursor": iso(planned.cursor),
        },
        text="\n".join([*lines, f"cursor  {iso(planned.cursor) or '- (no further fire)'}"]),
    )


VERBS = (
    Verb("next", "the next fire times of a schedule", next_arguments, next_fires),
    Verb("between", "the fire times of a schedule in (after, until]", between_arguments, between),
    Verb("plan", "what a beat back from an outage would start and skip", plan_arguments, show_plan),
)
