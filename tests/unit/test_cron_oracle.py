"""Fire times around clock changes, against an independent evaluator."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from itertools import islice, pairwise, takewhile
from zoneinfo import ZoneInfo

import pytest
from cronsim import CronSim
from hypothesis import assume, example, given, settings
from hypothesis import strategies as st

from scheduling.errors import InvalidSchedule
from scheduling.schedules import Cron, Times

# zone -> the days of its clock changes; Lord Howe moves by half an hour
CHANGES = {
    "Europe/Berlin": [datetime(2024, 3, 31), datetime(2024, 10, 27)],  # noqa: DTZ001
    "America/New_York": [datetime(2024, 3, 10), datetime(2024, 11, 3)],  # noqa: DTZ001
    "Australia/Lord_Howe": [datetime(2024, 4, 7), datetime(2024, 10, 6)],  # noqa: DTZ001
    "America/Sao_Paulo": [datetime(2018, 2, 18), datetime(2018, 11, 4)],  # noqa: DTZ001
    "UTC": [datetime(2024, 2, 29)],  # noqa: DTZ001
}
# Where a zone moves by half an hour or at midnight, CronSim misses or misplaces a rhythm's times.
HARD = {"Australia/Lord_Howe", "America/Sao_Paulo"}
DAYS = [(zone, day) for zone, days in CHANGES.items() for day in days]
EXPRESSIONS = [
    "* */2 * * */4",
    *["0 0 * * *", "30 0 * * *", "0 1 * * *", "30 1 * * *", "15 2 * * *", "30 2 * * *"],
    *["0,30 2 * * *", "0 2,3 * * *", "45 1-3 * * *", "0 0-23/2 * * *", "59 23 * * *"],
    *["* * * * *", "*/30 * * * *", "*/15 2 * * *", "0 * * * *", "30 * * * *", "0 */2 * * *"],
    *["*/45 1-2 * * *", "5 */3 * * *", "30 2 L * *", "30 1 * * 7L", "30 2 * 3,10 7#5"],
]


def follows_real_time(expression: str) -> bool:
    minute, hour, *_ = expression.split()
    return minute.startswith("*") or hour.startswith("*")


def oracle(expression: str, after: datetime, until: datetime, zone: str) -> list[datetime]:
    if zone in HARD and follows_real_time(expression):
        return oracle_by_minutes(expression, after, until, zone)
    fires = (fire.astimezone(UTC) for fire in CronSim(expression, after.astimezone(ZoneInfo(zone))))
    return list(takewhile(lambda fire: fire <= until, fires))


def oracle_by_minutes(
    expression: str, after: datetime, until: datetime, zone: str
) -> list[datetime]:
    """Look at the local clock of each minute: right by definition, but slow."""
    info, day = ZoneInfo(zone), timedelta(days=1)
    shown = {
        fire.replace(tzinfo=None)
        for fire in takewhile(lambda fire: fire <= until + day, CronSim(expression, after - day))
    }
    minutes = (after + timedelta(minutes=n) for n in range(1, (until - after) // (day / 1440) + 1))
    return [m for m in minutes if m.astimezone(info).replace(tzinfo=None) in shown]


@pytest.mark.parametrize(("zone", "day"), DAYS, ids=lambda value: str(value)[:19])
@pytest.mark.parametrize("expression", EXPRESSIONS)
def test_fires_around_a_clock_change_equal_the_oracle(
    expression: str, zone: str, day: datetime
) -> None:
    after = (day - timedelta(days=2)).replace(tzinfo=UTC)
    until = after + timedelta(days=5)

    assert list(Cron(expression, tz=zone).between(after, until)) == oracle(
        expression, after, until, zone
    )


def _terms(low: int, high: int, *, steps: bool = True) -> Iterator[st.SearchStrategy[str]]:
    number = st.integers(low, high)
    # A range of one (5-5/2) is open in the oracle, as 5/2 is.
    span = st.lists(number, min_size=2, max_size=2, unique=True).map(sorted)
    step = st.integers(1, high)
    yield number.map(str)
    yield span.map(lambda pair: f"{pair[0]}-{pair[1]}")
    yield st.tuples(span, step).map(lambda drawn: f"{drawn[0][0]}-{drawn[0][1]}/{drawn[1]}")
    if steps:
        yield st.tuples(number, step).map(lambda drawn: f"{drawn[0]}/{drawn[1]}")


def field(low: int, high: int, *extra: str, steps: bool = True) -> st.SearchStrategy[str]:
    listed = st.lists(
        st.one_of(*_terms(low, high, steps=steps), *map(st.just, extra)), min_size=1, max_size=3
    ).map(",".join)
    star = st.one_of(st.just("*"), st.integers(1, high).map(lambda step: f"*/{step}"))
    return st.one_of(star, st.just("*"), listed)


# An open step of weekdays (1/2) reaches Sunday as 7 in the oracle; here it ends on Saturday.
expressions = st.tuples(
    field(0, 59),
    field(0, 23),
    field(1, 31, "L", "LW"),
    field(1, 12, "FEB", "JUL"),
    field(0, 6, "7", "SUN", "FRI", "5L", "1#1", "3#5", "THU#2", steps=False),
).map(" ".join)


@settings(max_examples=300, deadline=None)
@given(
    expression=expressions,
    place=st.sampled_from(DAYS),
    offset=st.integers(-3 * 86_400, 3 * 86_400),
)
@example("30 2 31 3 *", ("Europe/Berlin", CHANGES["Europe/Berlin"][0]), 0)
def test_any_expression_equals_the_oracle(
    expression: str, place: tuple[str, datetime], offset: int
) -> None:
    zone, day = place
    assume(zone not in HARD or not follows_real_time(expression))
    try:
        schedule = Cron(expression, tz=zone)
    except InvalidSchedule as error:
        assume("never fires" not in str(error))
        raise
    after = day.replace(tzinfo=UTC) + timedelta(seconds=offset)
    fires = CronSim(expression, after.astimezone(ZoneInfo(zone)))
    expected = [next(fires).astimezone(UTC) for _ in range(12)]

    found = list(islice(schedule.between(after, datetime.max.replace(tzinfo=UTC)), 12))
    # Days that stay years apart may leave the calendar, which ends with 2099.
    assert found == [fire for fire in expected if fire.year < 2100]


@pytest.mark.parametrize(
    ("zone", "expression", "day", "expected"),
    [
        # 02:00 -> 03:00: the time that is left out happens at the first instant after the gap
        ("Europe/Berlin", "30 2 * * *", "2024-03-31", ["03:00+02:00"]),
        ("Europe/Berlin", "0,30 2,3 * * *", "2024-03-31", ["03:00+02:00", "03:30+02:00"]),
        ("Europe/Berlin", "0 30 2 * * * *", "2024-03-31", ["03:00+02:00"]),
        # 03:00 -> 02:00: the time that is repeated happens once
        ("Europe/Berlin", "30 2 * * *", "2024-10-27", ["02:30+02:00"]),
        ("Europe/Berlin", "*/30 2 * * *", "2024-03-31", []),
        (
            "Europe/Berlin",
            "*/30 2 * * *",
            "2024-10-27",
            ["02:00+02:00", "02:30+02:00", "02:00+01:00", "02:30+01:00"],
        ),
        # half an hour
        ("Australia/Lord_Howe", "15 2 * * *", "2024-10-06", ["02:30+11:00"]),
        ("Australia/Lord_Howe", "45 1 * * *", "2024-04-07", ["01:45+11:00"]),
        # a day that Samoa left out
        ("Pacific/Apia", "0 3 30 12 *", "2011-12-31", ["00:00+14:00"]),
        # the last hour of a pattern, repeated after its end
        (
            "Europe/Berlin",
            "0 */30 2 27 10 ? 2024",
            "2024-10-27",
            ["02:00+02:00", "02:30+02:00", "02:00+01:00", "02:30+01:00"],
        ),
    ],
)
def test_a_clock_change_is_answered_as_cron_does(
    zone: str, expression: str, day: str, expected: list[str]
) -> None:
    start = datetime.fromisoformat(day).replace(tzinfo=ZoneInfo(zone)).astimezone(UTC)
    before = start - timedelta(seconds=1)
    fires = Cron(expression, tz=zone).between(before, before + timedelta(hours=23))

    shown = [fire.astimezone(ZoneInfo(zone)).isoformat() for fire in fires]
    assert shown == [f"{day}T{text[:5]}:00{text[5:]}" for text in expected]


def test_a_time_that_is_shown_again_is_over_for_today() -> None:
    second_0210 = datetime(2024, 10, 27, 1, 10, tzinfo=UTC)
    fire = Cron("30 2 * * *", tz="Europe/Berlin").next(second_0210)

    assert fire == datetime(2024, 10, 28, 1, 30, tzinfo=UTC)


def test_times_of_day_follow_the_same_rule() -> None:
    after, until = datetime(2024, 3, 30, 12, tzinfo=UTC), datetime(2024, 10, 28, 12, tzinfo=UTC)
    times, cron = Times("02:30", tz="Europe/Berlin"), Cron("30 2 * * *", tz="Europe/Berlin")

    assert list(times.between(after, until)) == list(cron.between(after, until))


@pytest.mark.parametrize(
    "zone", ["Europe/Berlin", "Africa/Casablanca", "America/Nuuk", "Asia/Gaza"]
)
def test_every_minute_is_every_real_minute(zone: str) -> None:
    after = datetime(2024, 1, 1, tzinfo=UTC)
    hours = list(Cron("0 * * * *", tz=zone).between(after, after + timedelta(days=730)))

    assert len(hours) == 730 * 24
    assert {b - a for a, b in pairwise(hours)} == {timedelta(hours=1)}
