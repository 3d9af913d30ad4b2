"""The four rules for clock times that a clock change leaves out or repeats."""

from __future__ import annotations

import re
from datetime import UTC, datetime, timedelta
from pathlib import Path
from time import thread_time
from typing import Any
from zoneinfo import ZoneInfo

import pytest

from scheduling.errors import InvalidSchedule
from scheduling.schedules import Cron, Every, Schedule, Times, parse
from scheduling.zones import ClockChange
from tests.benchmarks.bench_next import forget

# Berlin: 02:00 to 03:00 is left out on 2027-03-28 (01:00 UTC), shown twice on 2027-10-31.
SPRING, AUTUMN = "2027-03-28", "2027-10-31"
BERLIN = {
    "cron 30 2 * * *": {
        ClockChange.CLASSIC: ("01:00", "00:30"),
        ClockChange.SKIP: ("", "00:30"),
        ClockChange.TWICE: ("01:00", "00:30 01:30"),
        ClockChange.RUNNING: ("", "00:30 01:30"),
    },
    "times 02:15 02:45 03:00": {
        ClockChange.CLASSIC: ("01:00", "00:15 00:45 02:00"),
        ClockChange.SKIP: ("01:00", "00:15 00:45 02:00"),
        ClockChange.TWICE: ("01:00", "00:15 00:45 01:15 01:45 02:00"),
        ClockChange.RUNNING: ("01:00", "00:15 00:45 01:15 01:45 02:00"),
    },
    # A rhythm follows real time by any rule.
    "cron */30 2 * * *": dict.fromkeys(ClockChange, ("", "00:00 00:30 01:00 01:30")),
}
CASES = [
    pytest.param(text, rule, *expected, id=f"{text}-{rule}")
    for text, rules in BERLIN.items()
    for rule, expected in rules.items()
]


def times_on(schedule: Schedule, day: str) -> str:
    since = datetime.fromisoformat(day).replace(tzinfo=UTC)
    fires = schedule.between(since - timedelta(hours=1), since + timedelta(hours=5))
    return " ".join(f"{fire:%H:%M}" for fire in fires)


@pytest.mark.parametrize(("text", "rule", "spring", "autumn"), CASES)
def test_a_clock_change_is_answered_by_the_rule(
    text: str, rule: ClockChange, spring: str, autumn: str
) -> None:
    schedule = parse(f"{text} tz Europe/Berlin").under(rule)
    assert times_on(schedule, SPRING) == spring
    assert times_on(schedule, AUTUMN) == autumn


def test_the_table_of_the_docs_says_the_same() -> None:
    page = (Path(__file__).parents[2] / "docs" / "schedules.md").read_text("utf-8")
    rows = re.findall(r"^\| `(\w+)`[^|]*\| ([^|]+) \| ([^|]+) \|", page, re.M)
    shown = {rule: (a.strip("-`"), b.strip("`")) for rule, a, b in rows if rule in set(ClockChange)}
    assert shown == BERLIN["cron 30 2 * * *"]


@pytest.mark.parametrize("rule", ClockChange)
def test_the_rule_is_no_part_of_the_text(rule: ClockChange) -> None:
    for text in ("cron 30 2 * * * tz Europe/Berlin", "times 02:30 tz Europe/Berlin"):
        assert str(parse(text).under(rule)) == text
        assert parse(text).under(rule).sentence() == parse(text).sentence()
        assert (parse(text).under(rule) == parse(text)) == (rule is ClockChange.CLASSIC)


def test_the_rule_stays_when_the_zone_is_filled_in() -> None:
    for schedule in (Cron("30 2 * * *"), Times("02:30"), Cron("30 2 * * *") | Times("02:30")):
        ruled = schedule.under(ClockChange.SKIP).in_zone("Europe/Berlin")
        assert times_on(ruled, SPRING) == ""
        assert ruled == schedule.in_zone("Europe/Berlin").under(ClockChange.SKIP)


def test_what_names_no_clock_time_knows_no_rule() -> None:
    assert Every("5m").under(ClockChange.SKIP) == Every("5m")


def test_the_rule_may_be_given_as_text() -> None:
    text: Any = "running"
    assert Times("02:30", clock_change=text) == Times("02:30").under(ClockChange.RUNNING)
    assert Cron("30 2 * * *", clock_change=text).clock_change is ClockChange.RUNNING


@pytest.mark.parametrize("rule", ["vixie", "", None])
def test_an_unknown_rule_is_refused_and_the_known_ones_are_named(rule: Any) -> None:
    problem = f"rule '{rule}' are unknown; choose one of classic, skip, twice, running"
    for kind in (Cron("30 2 * * *"), Times("02:30")):
        with pytest.raises(InvalidSchedule, match=problem):
            kind.under(rule)


@pytest.mark.parametrize(
    ("expression", "rule"),
    [
        ("0 30 2 28 3 * 2027", ClockChange.SKIP),
        ("0 30 2 28 3 * 2027", ClockChange.RUNNING),
        ("0 */30 2 28 3 * 2027", ClockChange.CLASSIC),
    ],
)
def test_a_time_that_its_clock_never_shows_is_refused(expression: str, rule: ClockChange) -> None:
    with pytest.raises(InvalidSchedule, match="never fires: the clock of Europe/Berlin never"):
        Cron(expression, tz="Europe/Berlin", clock_change=rule)


def test_by_the_classic_rule_the_same_time_fires_behind_the_gap() -> None:
    schedule = Cron("0 30 2 28 3 * 2027", tz="Europe/Berlin")
    assert list(schedule.between(*(datetime(y, 1, 1, tzinfo=UTC) for y in (1960, 2101)))) == [
        datetime(2027, 3, 28, 1, tzinfo=UTC)
    ]


@pytest.mark.parametrize("rule", ClockChange)
@pytest.mark.parametrize("zone", ["UTC", "Pacific/Kiritimati", "Pacific/Pago_Pago"])
def test_the_calendar_has_a_first_and_a_last_day_by_every_rule(
    zone: str, rule: ClockChange
) -> None:
    schedule = Cron("0 0 12 1 1 * *", tz=zone).under(rule)
    first, last = datetime.min.replace(tzinfo=UTC), datetime.max.replace(tzinfo=UTC)
    years = [fire.astimezone(ZoneInfo(zone)).year for fire in schedule.between(first, last)]
    assert years == [*range(1970, 2100)]
    assert schedule.next(last) is None


@pytest.mark.parametrize("rule", ClockChange)
def test_a_day_that_a_zone_never_had(rule: ClockChange) -> None:
    # Samoa went from 29 December 2011 straight to the 31st, which began at 10:00 UTC on the 30th.
    schedule = Cron("0 12 30 12 *", tz="Pacific/Apia").under(rule)
    after = datetime(2011, 12, 1, tzinfo=UTC)
    moved = rule in (ClockChange.CLASSIC, ClockChange.TWICE)
    assert schedule.next(after) == (
        datetime(2011, 12, 30, 10, tzinfo=UTC) if moved else datetime(2012, 12, 29, 22, tzinfo=UTC)
    )


def test_a_time_never_shown_in_a_century_is_refused_at_once() -> None:
    def taken(schedule: str) -> float:
        forget()
        began = thread_time()
        with pytest.raises(InvalidSchedule, match="never fires"):
            parse(schedule)
        return thread_time() - began

    never = "cron 0 */30 2 25-31 3 7 1996-2099 tz Europe/Berlin and"
    assert min(taken(never) for _ in range(5)) < 0.05


def test_a_zone_has_every_offset_that_its_clock_shows() -> None:
    # Recife went back after a week in 2000; Gaza will, about Ramadan.
    for zone, year in (("America/Recife", 2000), ("Asia/Gaza", 2040), ("Africa/Casablanca", 2024)):
        info, noons = ZoneInfo(zone), Cron("0 12 * * *", tz=zone)
        fires = noons.between(datetime(year, 1, 1, tzinfo=UTC), datetime(year, 12, 31, tzinfo=UTC))
        assert {fire.astimezone(info).hour for fire in fires} == {12}
