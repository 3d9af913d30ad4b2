"""How long `next` takes: ours, croniter and cronsim in turns, and the worst that we can think of.

    python -m tests.benchmarks.bench_next

Each walks the same fire times, one call after the other, each in the way it is quickest at: the
other two advance an iterator that remembers where it is; ours is given a time, and remembers
nothing. They take turns within every round, so that a busy moment of the machine meets them all.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from datetime import UTC, datetime
from importlib.metadata import version
from itertools import product
from statistics import median
from time import perf_counter
from zoneinfo import ZoneInfo

from croniter import croniter
from cronsim import CronSim

from scheduling import cron, zones
from scheduling.errors import InvalidSchedule
from scheduling.schedules import Schedule, parse
from tests.benchmarks.installation import machine

ROUNDS = 7
FIRES = 300
START = datetime(2024, 1, 1, tzinfo=UTC)
ZONES = ("UTC", "Europe/Berlin")
EXPRESSIONS = (
    "* * * * *",
    "*/5 * * * *",
    "0 * * * *",
    "*/15 9-17 * * 1-5",
    "30 2 * * *",
    "0 9 * * 1-5",
    "0 0 1 * *",
    "0 0 1,15 * 5",
    "0 0 L * *",
    "0 12 * * 5#2",
    "0 0 29 2 *",
)

LIMIT = 0.005  # seconds, for each of these
HOSTILE = (
    "cron 0 0 29 2 *",
    "cron 0 0 29 2 1 and",
    "cron * * 29 2 1 and",
    "cron */7 */5 29 2 0 tz Antarctica/Troll and",
    "cron 30 2 29 2 1 tz Europe/Berlin and",
    "cron 0 0 * 2 7#5",
    "cron 30 2 * 2 SUN#5 tz Australia/Lord_Howe",
    "cron 0 0 29W 2 *",
    "cron 0 0 LW 2 7L tz America/Sao_Paulo",
    "cron 15 0 L 2 5L tz Africa/Casablanca and",
    "cron 0 0 31W,30W 1,3,5 1L and",
    "cron 0 0 0 29 2 * 2096",
    "cron * * * 29 2 * 2096 tz Africa/Casablanca",
    "cron 59 59 23 31 12 ? 2099 tz Pacific/Apia",
    "cron * * * * * * 1970",
    "cron */59 */59 */23 L 2 SUN#5 1970-2099/2",
    "cron H H 29 2 1 tz Europe/Berlin and",
    "cron H H(1-3) H H 5#5 tz America/New_York",
    f"cron {','.join(['0-59'] * 20)} {','.join(['0-23'] * 20)} {','.join(['1-31'] * 20)} 2 1#5",
    " | ".join(f"cron {n} {n} 29 2 1 and" for n in range(8)),
)
REFUSED = ("0 0 30 2 *", "0 0 31 2,4,6,9,11 5#5 and", "0 0 0 29 2 * 2097-2099")
MOMENTS = tuple(
    datetime.fromisoformat(text).replace(tzinfo=UTC)
    for text in ("0001-01-01", "1970-01-01", "2024-03-01", "2096-03-01", "2099-12-31", "9999-12-31")
)


def main() -> None:
    write = sys.stdout.write
    write(
        f"{machine()}, croniter {version('croniter')}, cronsim {version('cronsim')}; "
        f"medians of {ROUNDS} rounds of {FIRES} fires\n\n"
        f"{'':34}{'microseconds a fire':^30}   times as long as ours\n"
        f"{'zone':16}{'expression':18}{'ours':>10}{'croniter':>10}{'cronsim':>10}"
        f"{'croniter':>13}{'cronsim':>10}\n"
    )
    for zone, expression in product(ZONES, EXPRESSIONS):
        ours, theirs, simulated = compare(expression, zone)
        write(
            f"{zone:16}{expression:18}{ours * 1e6:10.1f}{theirs * 1e6:10.1f}{simulated * 1e6:10.1f}"
            f"{theirs / ours:12.1f}x{simulated / ours:9.1f}x\n"
        )
    write(f"\nhostile expressions: slowest `next` in milliseconds; none may exceed {LIMIT * 1e3}\n")
    write(f"{'nothing cached':>16}{'cached':>10}\n")
    for text in HOSTILE:
        write(f"{slowest(text, cold=True) * 1e3:16.3f}{slowest(text) * 1e3:10.3f}  {text[:70]}\n")
    for text in REFUSED:
        write(f"{refusal(text) * 1e3:16.3f}{'':10}  cron {text} (refused)\n")


def compare(expression: str, zone: str) -> list[float]:
    """Median seconds for a fire: ours, croniter, cronsim."""
    start = START.astimezone(ZoneInfo(zone))
    schedule = parse(f"cron {expression} tz {zone}")
    walks: list[Callable[[], Iterator[datetime]]] = [
        lambda: walk(schedule),
        lambda: croniter(expression, start).all_next(datetime),
        lambda: CronSim(expression, start),
    ]
    taken: list[list[float]] = [[], [], []]
    for turn in range(ROUNDS + 1):
        for place in range(3):
            which = (turn + place) % 3
            fires = walks[which]()
            begun = perf_counter()
            count = sum(1 for _ in zip(range(FIRES), fires))  # noqa: B905
            taken[which].append((perf_counter() - begun) / max(count, 1))
    return [median(each[1:]) for each in taken]  # the first round warms the caches


def walk(schedule: Schedule) -> Iterator[datetime]:
    fire = schedule.next(START)
    while fire is not None:
        yield fire
        fire = schedule.next(fire)


def slowest(text: str, *, cold: bool = False) -> float:
    """Median seconds of `next` from the moment that takes it longest."""
    schedule = parse(text)

    def seconds(moment: datetime) -> float:
        if cold:
            forget()
        begun = perf_counter()
        schedule.next(moment, name="job")
        return perf_counter() - begun

    return max(median(seconds(moment) for _ in range(ROUNDS)) for moment in MOMENTS)


def refusal(expression: str) -> float:
    def seconds() -> float:
        forget()
        begun = perf_counter()
        try:
            parse(f"cron {expression}")
        except InvalidSchedule:
            return perf_counter() - begun
        raise AssertionError(f"{expression!r} should be refused")

    return median(seconds() for _ in range(ROUNDS))


def forget() -> None:
    """Empty every cache that an evaluation uses."""
    for cached in (cron.compile_rule, cron._compile_calendar, zones._offsets, zones.load_zone):
        cached.cache_clear()
    ZoneInfo.clear_cache()


if __name__ == "__main__":
    main()
