"""Fire times against a walk over every minute, or second, that really passes.

The walk is the definition itself: it asks the time zone database what each clock shows and matches
the fields one value at a time. It shares nothing with the evaluator and is some thousand times
slower, so each commit walks the days around the clock changes; `-m soak` walks whole years.
"""

from __future__ import annotations

from calendar import monthrange
from collections.abc import Callable, Iterator
from datetime import UTC, date, datetime, timedelta
from functools import cache
from zoneinfo import ZoneInfo

import pytest

from scheduling.schedules import Cron
from scheduling.zones import ClockChange

# zone -> the first and the last year that are walked
YEARS = {
    "UTC": (2023, 2024),
    "Europe/Berlin": (2023, 2024),
    "America/New_York": (2023, 2024),
    "Australia/Lord_Howe": (2023, 2024),  # moves by half an hour
    "Asia/Kathmandu": (1985, 1986),  # moved once, by a quarter of an hour
    "Africa/Casablanca": (2023, 2024),  # sets its clocks back for Ramadan
    "Pacific/Apia": (2011, 2012),  # had no 30 December 2011
    "America/Sao_Paulo": (2017, 2018),  # moved at midnight
    "America/St_Johns": (2006, 2007),  # moved a minute after midnight: back into the day before
    "Asia/Tehran": (2021, 2022),  # moved at midnight, and then never again
    "Antarctica/Troll": (2023, 2024),  # moves by two hours
}

BY_MINUTE = [
    # fixed times, in and about the hours that clock changes leave out or repeat
    *["0 0 * * *", "15 0 * * *", "59 23 * * *", "0 1 * * *", "30 1 * * *", "45 1 * * *"],
    *["0 2 * * *", "15 2 * * *", "30 2 * * *", "0 3 * * *", "10,50 0-3 * * *", "5/20 1,2 * * *"],
    *["30 0-23/2 * * *", "0 22-23 * * *", "0-59/20 2 * * *"],
    # rhythms
    *["* * * * *", "*/7 * * * *", "0 * * * *", "30 * * * *", "*/20 2 * * *", "15 */2 * * *"],
    *["? 1-3 * * *", "*/45 0-2,23 * * *", "10 */5 * * MON-FRI"],
    # rhythms that end in a repeated hour, and begin again weeks later
    *["*/15 1-2 * * 7L", "*/20 1 * 4,11 7#1"],
    # days, weekdays, months
    *["30 2 L * *", "15 0 LW * *", "30 1 31W * *", "30 2 1,15 * 7", "0 0 */2 * 0", "30 2 * * 7L"],
    *["15 2 * 3,10 SUN#5", "30 1 ? 4,11 7#1", "0 0 30 12 *", "30 0 29 FEB *", "*/30 2 L 3,10 5L"],
    *["15 0 * NOV-DEC 5-7", "0 12 10-20/3,L * 1#2,3L", "0 3 13 * 5", "30 2 25-31 3,10 0 and"],
]
# those of the above whose times a change of the clock may leave out or repeat
FIXED = [
    *["0 0 * * *", "59 23 * * *", "30 1 * * *", "30 2 * * *", "15 2 * * *", "0 3 * * *"],
    *["10,50 0-3 * * *", "0-59/20 2 * * *", "30 2 * * 7L", "15 2 * 3,10 SUN#5", "0 0 30 12 *"],
    *["*/20 2 * * *", "30 2 25-31 3,10 0 and"],
]
BY_SECOND = [
    *["0 30 2 * * * *", "30 15 0 * * * *", "59 59 1 * * * *", "5,35 0 0-3 * * * *"],
    *["*/7 * * * * * *", "0 * * * * ? *", "15 */10 * * * * *", "*/20 30 * * * * *"],
    *["30 59 */2 * * * *", "0/25 0-59/30 2 L * SUN *", "* 30 2 * * * *", "10 30 1 * * * 2024"],
    "1 2 0 * * * 2011-2021/2",
]


def units_shown(zone: str, after: datetime, until: datetime, step: int) -> list[tuple[int, int]]:
    """Each minute (step 60) or second (step 1) in (after, until] and what the clock shows then."""
    info, first, last = ZoneInfo(zone), int(after.timestamp()), int(until.timestamp())
    return [
        (instant, instant + int(datetime.fromtimestamp(instant, info).utcoffset().total_seconds()))  # type: ignore[union-attr]
        for instant in range(first + step, last + 1, step)
    ]


def walk(
    expression: str, units: list[tuple[int, int]], step: int, rule: ClockChange
) -> Iterator[datetime]:
    """Yield the fires among the units.

    An expression whose second, minute or hour begins with a star is a rhythm and follows real
    time, so that it fires whenever the clock shows one of its times. Any other names clock times.
    As in the classic cron, those happen once: those that the clock jumps over in the moment of the
    jump, together, and those that it shows again not again. The other rules leave out the ones
    jumped over, or take those that are shown again, or both.
    """
    is_due = matcher(expression)
    rhythm = any(text[0] in "*?" for text in seven(expression)[:3])
    latest = units[0][1] - step
    for instant, local in units:
        shown, new = is_due(local), local > latest
        jumped_over = any(map(is_due, range(latest + step, local, step)))
        latest = max(latest, local)
        if rhythm or rule is ClockChange.RUNNING:
            fires = shown
        elif rule is ClockChange.SKIP:
            fires = shown and new
        elif rule is ClockChange.TWICE:
            fires = shown or jumped_over
        else:
            fires = (shown and new) or jumped_over
        if fires:
            yield datetime.fromtimestamp(instant, UTC)


def matcher(expression: str) -> Callable[[int], bool]:
    """Whether a local time, in seconds since 1970, is one of the expression's."""
    second, minute, hour, day, month, weekday, year = seven(expression)
    both = expression.endswith("and") or day[0] in "*?" or weekday[0] in "*?"

    @cache
    def is_day(number: int) -> bool:
        shown = date(1970, 1, 1) + timedelta(days=number)
        by_day, by_weekday = is_day_of_month(day, shown), is_weekday(weekday, shown)
        return (
            has(month, shown.month, 1, 12, MONTHS)
            and has(year, shown.year, 1970, 2099)
            and ((by_day and by_weekday) if both else (by_day or by_weekday))
        )

    @cache
    def is_time(number: int) -> bool:
        return (
            has(hour, number // 3600, 0, 23)
            and has(minute, number // 60 % 60, 0, 59)
            and has(second, number % 60, 0, 59)
        )

    return lambda local: is_time(local % 86_400) and is_day(local // 86_400)


MONTHS = ["JAN", "FEB", "MAR", "APR", "MAY", "JUN", "JUL", "AUG", "SEP", "OCT", "NOV", "DEC"]
WEEKDAYS = ["SUN", "MON", "TUE", "WED", "THU", "FRI", "SAT"]


def seven(expression: str) -> list[str]:
    texts = expression.removesuffix(" and").split()
    return texts if len(texts) == 7 else ["0", *texts, "*"]


def has(text: str, value: int, low: int, high: int, names: list[str] | None = None) -> bool:
    def number(word: str) -> int:
        return names.index(word) + low if names and word in names else int(word)

    for term in text.split(","):
        span, _, step = term.partition("/")
        if span in ("*", "?"):
            first, last = low, high
        elif "-" in span:
            first, last = map(number, span.split("-"))
        else:
            first = number(span)
            last = high if step else first
        if first <= value <= last and (value - first) % int(step or 1) == 0:
            return True
    return False


def is_day_of_month(text: str, shown: date) -> bool:
    length = monthrange(shown.year, shown.month)[1]
    return any(is_day_by_term(term, shown, length) for term in text.split(","))


def is_day_by_term(term: str, shown: date, length: int) -> bool:
    if term == "L":
        return shown.day == length
    if term.endswith("W"):
        meant = length if term == "LW" else int(term[:-1])
        return meant <= length and shown == nearest_workday(shown.replace(day=meant))
    return has(term, shown.day, 1, 31)


def nearest_workday(meant: date) -> date:
    near = [meant + timedelta(days=days) for days in (0, -1, 1, -2, 2)]
    return next(day for day in near if day.month == meant.month and day.weekday() < 5)


def is_weekday(text: str, shown: date) -> bool:
    return any(
        is_weekday_by_term(term, shown, number)
        for term in text.split(",")
        for number in {shown.isoweekday(), shown.isoweekday() % 7}  # Sunday is 7 and 0
    )


def is_weekday_by_term(term: str, shown: date, number: int) -> bool:
    if "#" in term:
        name, count = term.split("#")
        return has(name, number, 0, 7, WEEKDAYS) and (shown.day - 1) // 7 + 1 == int(count)
    if term.endswith("L"):
        next_week = shown + timedelta(days=7)
        return has(term[:-1], number, 0, 7, WEEKDAYS) and next_week.month != shown.month
    return has(term, number, 0, 7, WEEKDAYS)


def clock_changes(zone: str) -> list[datetime]:
    """The hours in which the zone's clock is moved, and one ordinary one: a leap day's midnight."""
    info, (first, last) = ZoneInfo(zone), YEARS[zone]
    start, end = datetime(first, 1, 1, tzinfo=UTC), datetime(last + 1, 1, 1, tzinfo=UTC)
    hours = [start + timedelta(hours=n) for n in range((end - start) // timedelta(hours=1))]
    return [datetime(2024, 2, 29, tzinfo=UTC)] + [
        hour
        for hour in hours
        if hour.astimezone(info).utcoffset()
        != (hour + timedelta(hours=1)).astimezone(info).utcoffset()
    ]


def assert_equal(
    zone: str,
    after: datetime,
    until: datetime,
    expressions: list[str],
    *,
    step: int,
    rule: ClockChange = ClockChange.CLASSIC,
) -> int:
    units = units_shown(zone, after, until, step)
    total = 0
    for expression in expressions:
        expected = list(walk(expression, units, step, rule))
        text = expression.removesuffix(" and")
        schedule = Cron(text, tz=zone, and_days=text != expression).under(rule)
        assert list(schedule.between(after, until)) == expected, (expression, zone, after, rule)
        total += len(expected)
    return total


@pytest.mark.parametrize("zone", YEARS)
def test_the_days_around_clock_changes_hold_what_a_walk_over_their_minutes_finds(zone: str) -> None:
    for change in clock_changes(zone):
        around = change - timedelta(hours=50), change + timedelta(hours=30)
        assert assert_equal(zone, *around, BY_MINUTE, step=60)


@pytest.mark.parametrize("rule", list(ClockChange)[1:])
@pytest.mark.parametrize("zone", YEARS)
def test_every_other_rule_for_clock_changes_holds_what_the_walk_finds(
    zone: str, rule: ClockChange
) -> None:
    for change in clock_changes(zone)[:3]:
        around = change - timedelta(hours=26), change + timedelta(hours=26)
        assert assert_equal(zone, *around, FIXED, step=60, rule=rule)


@pytest.mark.parametrize("zone", YEARS)
def test_the_hours_around_clock_changes_hold_what_a_walk_over_their_seconds_finds(
    zone: str,
) -> None:
    for change in clock_changes(zone):
        around = change - timedelta(minutes=30), change + timedelta(hours=3, minutes=30)
        assert assert_equal(zone, *around, BY_SECOND, step=1)


@pytest.mark.soak
@pytest.mark.timeout(1200)
@pytest.mark.parametrize("rule", ClockChange)
@pytest.mark.parametrize("zone", YEARS)
def test_whole_years_hold_what_a_walk_over_their_minutes_finds(
    zone: str, rule: ClockChange
) -> None:
    first, last = YEARS[zone]
    whole = datetime(first - 1, 12, 1, tzinfo=UTC), datetime(last + 1, 2, 1, tzinfo=UTC)
    assert assert_equal(zone, *whole, BY_MINUTE, step=60, rule=rule)


@pytest.mark.soak
@pytest.mark.timeout(1200)
@pytest.mark.parametrize("rule", ClockChange)
@pytest.mark.parametrize("zone", YEARS)
def test_days_hold_what_a_walk_over_their_seconds_finds(zone: str, rule: ClockChange) -> None:
    for change in clock_changes(zone):
        around = change - timedelta(days=2), change + timedelta(days=2)
        assert assert_equal(zone, *around, BY_SECOND, step=1, rule=rule)
