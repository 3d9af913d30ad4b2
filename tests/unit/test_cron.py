"""The cron language, by tables: which times an expression names, and what is refused."""

from __future__ import annotations

import time
from datetime import UTC, datetime, timedelta
from itertools import islice, pairwise

import pytest

from scheduling.errors import InvalidSchedule
from scheduling.schedules import Cron, fires_between, parse


def at(text: str) -> datetime:
    return datetime.fromisoformat(text).replace(tzinfo=UTC)


def first_fires(expression: str, after: str, count: int, *, and_days: bool = False) -> list[str]:
    fires = Cron(expression, and_days=and_days).between(at(after), at("2100-01-01"))
    return [fire.isoformat(sep=" ").removesuffix("+00:00") for fire in islice(fires, count)]


@pytest.mark.parametrize(
    ("expression", "after", "expected"),
    [
        # seven fields
        ("* * * * * * *", "2013-01-01 00:00:59", ["2013-01-01 00:01:00"]),
        ("* * * * * * *", "2013-01-01 23:59:59", ["2013-01-02 00:00:00"]),
        ("* * * * * * *", "2012-12-31 23:59:59", ["2013-01-01 00:00:00"]),
        ("*/5 * * * * * *", "2013-01-01 00:00:00", ["2013-01-01 00:00:05"]),
        (
            "30 5-59/15 * * * * *",
            "2024-01-10 12:34:56",
            ["2024-01-10 12:35:30", "2024-01-10 12:50:30", "2024-01-10 13:05:30"],
        ),
        (
            "0 0 1,5,9,15,21 * * * *",
            "2024-01-10 12:34:56",
            ["2024-01-10 15:00:00", "2024-01-10 21:00:00", "2024-01-11 01:00:00"],
        ),
        (
            "0 0 0 * * 6 *",
            "2024-01-10 12:34:56",
            ["2024-01-13 00:00:00", "2024-01-20 00:00:00", "2024-01-27 00:00:00"],
        ),
        (
            "0 0 0 1 1 * 2025-2030/2",
            "2024-01-10 00:00:00",
            ["2025-01-01 00:00:00", "2027-01-01 00:00:00", "2029-01-01 00:00:00"],
        ),
        ("0 * * * * * 2050", "2024-01-01 00:00:00", ["2050-01-01 00:00:00"]),
        # steps, ranges, lists
        ("17-43/5 * * * *", "2013-01-01 00:30:00", ["2013-01-01 00:32:00"]),
        ("17-43/5 * * * *", "2013-01-01 00:50:00", ["2013-01-01 01:17:00"]),
        ("15-30/4,55 * * * *", "2013-01-01 00:16:00", ["2013-01-01 00:19:00"]),
        ("15-30/4,55 * * * *", "2013-01-01 00:30:00", ["2013-01-01 00:55:00"]),
        ("15-30/4,55 * * * *", "2013-01-01 00:55:00", ["2013-01-01 01:15:00"]),
        ("5/15 * * * *", "2024-01-10 12:34:56", ["2024-01-10 12:35:00", "2024-01-10 12:50:00"]),
        # weekdays and months
        ("0 0 * * MON", "2013-01-28 00:00:00", ["2013-02-04 00:00:00"]),
        ("0 0 * * friday", "2013-01-01 00:00:00", ["2013-01-04 00:00:00"]),
        ("0 0 * * 6,7", "2013-01-01 00:00:00", ["2013-01-05 00:00:00", "2013-01-06 00:00:00"]),
        ("0 0 * * 7", "2013-01-01 00:00:00", ["2013-01-06 00:00:00"]),
        ("0 0 ? * MON", "2024-01-10 12:34:56", ["2024-01-15 00:00:00"]),
        (
            "0 0 * * 5-7",
            "2024-01-10 00:00:00",
            [f"2024-01-{day} 00:00:00" for day in (12, 13, 14, 19)],
        ),
        ("0 0 * * fri-sun", "2024-01-13 00:00:00", ["2024-01-14 00:00:00", "2024-01-19 00:00:00"]),
        ("0 0 * * 7/2", "2024-01-10 00:00:00", ["2024-01-14 00:00:00", "2024-01-21 00:00:00"]),
        ("0 0 9 Apr-Oct ?", "2012-07-09 23:35:00", ["2012-08-09 00:00:00"]),
        ("0 0 1 september *", "2012-07-09 23:35:00", ["2012-09-01 00:00:00"]),
        # day or weekday, unless one of them begins with a star
        ("0 0 1,15 * Sun", "2012-06-14 00:00:00", ["2012-06-15 00:00:00", "2012-06-17 00:00:00"]),
        ("0 0 1,15 * *", "2012-07-09 00:00:00", ["2012-07-15 00:00:00"]),
        ("0 0 */5 Oct Mon", "2012-07-09 23:35:00", ["2012-10-01 00:00:00"]),
        # special days
        ("0 0 L * *", "2014-02-01 00:00:00", ["2014-02-28 00:00:00"]),
        ("0 0 L * *", "2016-02-15 00:00:00", ["2016-02-29 00:00:00"]),
        ("0 0 LW * *", "2013-11-02 00:00:00", ["2013-11-29 00:00:00"]),
        ("0 0 LW * *", "2014-08-15 00:00:00", ["2014-08-29 00:00:00"]),
        (
            "0 0 29 2 *",
            "2013-08-30 00:00:00",
            [f"{year}-02-29 00:00:00" for year in (2016, 2020, 2024, 2028, 2032)],
        ),
        (
            "0 0 * * 5L",
            "2024-01-10 00:00:00",
            ["2024-01-26 00:00:00", "2024-02-23 00:00:00", "2024-03-29 00:00:00"],
        ),
        (
            "0 0 * * 1#2",
            "2024-01-10 00:00:00",
            ["2024-02-12 00:00:00", "2024-03-11 00:00:00", "2024-04-08 00:00:00"],
        ),
        ("0 0 * * mon#2", "2024-01-10 00:00:00", ["2024-02-12 00:00:00"]),
        (
            "0 0 31W * *",
            "2024-01-10 00:00:00",
            ["2024-01-31 00:00:00", "2024-03-29 00:00:00", "2024-05-31 00:00:00"],
        ),
        ("0 0 1W * *", "2024-05-31 00:00:00", ["2024-06-03 00:00:00"]),  # the 1st is a Saturday
        ("0 0 15W * *", "2024-06-01 00:00:00", ["2024-06-14 00:00:00"]),
        # names
        ("@daily", "2024-01-10 12:00:00", ["2024-01-11 00:00:00"]),
        ("@weekly", "2024-01-10 12:00:00", ["2024-01-14 00:00:00"]),
        ("@Midnight", "2024-01-10 12:00:00", ["2024-01-11 00:00:00"]),
    ],
)
def test_an_expression_names_these_times(expression: str, after: str, expected: list[str]) -> None:
    assert first_fires(expression, after, len(expected)) == expected


@pytest.mark.parametrize(
    ("expression", "after", "until", "expected"),
    [
        ("0 0 15 2 *", "2023-01-01", "2023-12-31 23:59:59", ["2023-02-15 00:00:00"]),
        ("0 0 29 2 *", "2023-01-01", "2030-01-01", ["2024-02-29 00:00:00", "2028-02-29 00:00:00"]),
        (
            "*/10 * * * *",
            "2022-01-27 19:00:30",
            "2022-01-27 20:30:00",
            [f"2022-01-27 {time}:00" for time in ["19:10", "19:20", "19:30", "19:40", "19:50"]]
            + [f"2022-01-27 {time}:00" for time in ["20:00", "20:10", "20:20", "20:30"]],
        ),
        ("* * * * *", "2024-01-01 00:00", "2024-01-01 00:00", []),
        ("* * * * *", "2024-01-02 00:00", "2024-01-01 00:00", []),
        ("* * * * *", "2024-01-01 00:00", "2024-01-01 00:01", ["2024-01-01 00:01:00"]),
    ],
)
def test_a_window_is_open_below_and_closed_above(
    expression: str, after: str, until: str, expected: list[str]
) -> None:
    fires = fires_between(Cron(expression), at(after), at(until))

    assert [fire.isoformat(sep=" ")[:19] for fire in fires] == expected


def test_a_past_year_and_the_end_of_the_calendar_give_none() -> None:
    assert Cron("0 * * * * * 1980").next(at("2024-01-01")) is None
    assert Cron("0 0 3 1 1 * 1980").next(at("2024-01-01")) is None
    assert Cron("* * * * *").next(at("2099-12-31 23:59")) is None
    assert Cron("@daily").next(datetime.max.replace(tzinfo=UTC)) is None
    assert Cron("* * * * *").next(datetime.max.replace(tzinfo=UTC)) is None
    assert Cron("@yearly").next(datetime.min.replace(tzinfo=UTC)) == at("1970-01-01")


def test_an_hourly_schedule_counts_from_the_full_hour_not_from_its_start() -> None:
    assert Cron("0 * * * *").next(at("2024-01-01 10:59:59.999999")) == at("2024-01-01 11:00")
    assert Cron("0 * * * *").next(at("2024-01-01 11:00")) == at("2024-01-01 12:00")


@pytest.mark.parametrize(
    ("expression", "names"),
    [
        ("0 19 * *", "4 fields"),
        ("* * * * * * * *", "8 fields"),
        ("", "0 fields"),
        ("0 0 31 2 *", "never fires"),
        ("0 0 31 4 *", "never fires"),
        ("0 0 30 2 *", "never fires"),
        ("0 0 31W 2,4,6,9,11 *", "never fires"),
        ("0 0 0 29 2 * 2025-2027", "never fires"),
        ("*/60 * * * *", "minute '*/60' has the step 60"),
        ("*/61 * * * *", "minute '*/61' has the step 61"),
        ("*/90 * * * *", "minute '*/90' has the step 90"),
        ("2/60 * * * *", "minute '2/60' has the step 60"),
        ("2-20/61 * * * *", "minute '2-20/61' has the step 61"),
        ("0 */24 * * *", "hour '*/24' has the step 24"),
        ("0 0 1 */13 *", "month"),
        ("*/0 * * * *", "minute '*/0' has the step '0'"),
        ("*/ * * * *", "minute '*/' has the step ''"),
        ("*/-5 * * * *", "minute '*/-5' has the step '-5'"),
        ("60 * * * *", "minute '60' has 60, outside 0-59"),
        ("0 24 * * *", "hour '24' has 24, outside 0-23"),
        ("0 0 0 * *", "day '0' has 0, outside 1-31"),
        ("0 0 * 13 *", "month '13' has 13, outside 1-12"),
        ("0 0 * * 8", "weekday '8' has 8, outside 0-7"),
        ("0 0 0 1 1 * 2100", "year '2100' has 2100, outside 1970-2099"),
        ("0 0 0 1 1 * */100", "year '*/100' has the step 100"),
        ("40-20 * * * *", "reversed range '40-20'; write 20-40"),
        ("0 22-2 * * *", "reversed range '22-2'"),
        ("0 0 * * sat-mon", "reversed range 'SAT-MON'"),
        ("1,,2 * * * *", "nothing where a number belongs"),
        ("1- * * * *", "nothing where a number belongs"),
        ("+1 * * * *", "'+1', not a number"),
        ("** * * * *", "'**', not a number"),
        ("1/2/3 * * * *", "step '2/3'"),
        ("MON * * * *", "'MON', not a number"),
        ("0 0 * * 1#6", "after # comes a number from 1 to 5"),
        ("0 0 * * L", "'L', not a number"),
        ("0 0 L-3 * *", "'L', not a number"),
        ("0 0 W * *", "nothing where a number belongs"),
        ("0 0 0 1 1 * H", "H stands alone"),
        ("H(5-1) * * * *", "H ranges from 0 to 59"),
        ("0 0 H(1-31) * *", "H ranges from 1 to 28"),
        ("@reboot", "unknown"),
        ("@time", "unknown"),
        ("٣ * * * *", "outside ASCII"),
        ("\N{SUPERSCRIPT TWO} * * * *", "outside ASCII"),
        (",".join(["1"] * 60) + " * * * *", "longer than 100 characters"),
        ("1 " * 500_000, "1000000 characters"),
    ],
    ids=lambda value: value[:30],
)
def test_a_wrong_expression_is_refused_with_its_field_and_value(
    expression: str, names: str
) -> None:
    started = time.thread_time()
    with pytest.raises(InvalidSchedule) as caught:
        Cron(expression)

    assert names in str(caught.value)
    assert len(str(caught.value)) < 300
    assert time.thread_time() - started < 0.05


def test_six_fields_are_refused_and_both_readings_shown() -> None:
    with pytest.raises(InvalidSchedule) as caught:
        Cron("0 30 9 * * 1")

    assert "'0 30 9 * * 1 *'" in str(caught.value)
    assert "'0 0 30 9 * * 1'" in str(caught.value)


@pytest.mark.parametrize("zone", ["Mars/Olympus", "Europe", "../etc/passwd", "", "Europe/Berlin\0"])
def test_an_unknown_zone_is_refused(zone: str) -> None:
    with pytest.raises(InvalidSchedule, match="Time zone"):
        Cron("0 3 * * *", tz=zone)


def test_a_zone_may_come_with_the_expression() -> None:
    berlin = Cron("0 3 * * *", tz="Europe/Berlin")

    assert Cron("CRON_TZ=Europe/Berlin 0 3 * * *") == berlin
    assert Cron("TZ=Europe/Berlin 0  3 * * *", tz="Europe/Berlin") == berlin
    with pytest.raises(InvalidSchedule, match="another time zone"):
        Cron("TZ=Europe/Paris 0 3 * * *", tz="Europe/Berlin")


def test_a_zone_is_filled_in_only_where_none_is_named() -> None:
    assert Cron("0 3 * * *").in_zone("Europe/Paris") == Cron("0 3 * * *", tz="Europe/Paris")
    assert Cron("0 3 * * *", tz="UTC").in_zone("Europe/Paris") == Cron("0 3 * * *", tz="UTC")
    assert parse("every 5m | times 13:00").in_zone("UTC") == parse("every 5m | times 13:00 tz UTC")


class TestHashed:
    def test_it_is_stable_and_differs_by_name(self) -> None:
        schedule = Cron("H H * * *")
        after = at("2024-01-01")
        drawn = {schedule.next(after, name=f"job {n}") for n in range(100)}

        assert schedule.next(after, name="report") == schedule.next(after, name="report")
        assert len(drawn) > 80

    def test_its_draw_never_changes_between_releases(self) -> None:
        after = at("2024-01-01")

        assert Cron("H H * * *").next(after, name="close_books") == at("2024-01-01 23:51")
        assert Cron("H * * * *").next(after) == at("2024-01-01 00:17")

    @pytest.mark.parametrize("expression", ["H/15 * * * *", "H(0-14)/15 * * * *"])
    def test_with_a_step_it_shifts_the_rhythm(self, expression: str) -> None:
        fires = list(islice(Cron(expression).between(at("2024-01-01"), at("2024-01-02")), 4))
        gap = timedelta(minutes=60 if "(" in expression else 15)

        assert {b - a for a, b in pairwise(fires)} == {gap}

    def test_it_keeps_within_its_range(self) -> None:
        schedule = Cron("0 H(1-5) * * *")
        hours = {schedule.next(at("2024-01-01"), name=str(n)).hour for n in range(200)}  # type: ignore[union-attr]

        assert hours == {1, 2, 3, 4, 5}


class TestTheDialectOfCelery:
    """Day AND weekday; ranges wrap around; wide steps leave one value."""

    @pytest.mark.parametrize(
        ("expression", "expected"),
        [
            ("0 0 1 * 1", ["2024-04-01 00:00:00", "2024-07-01 00:00:00"]),
            ("0 22-1 * * *", ["2024-01-10 22:00:00", "2024-01-10 23:00:00", "2024-01-11 00:00:00"]),
            ("*/60 * * * *", ["2024-01-10 13:00:00", "2024-01-10 14:00:00"]),
            ("0 0 * * sat-mon", ["2024-01-13 00:00:00", "2024-01-14 00:00:00"]),
        ],
    )
    def test_it_names_these_times(self, expression: str, expected: list[str]) -> None:
        found = first_fires(expression, "2024-01-10 12:34:56", len(expected), and_days=True)
        assert found == expected

    def test_a_day_that_is_never_such_a_weekday_is_refused(self) -> None:
        with pytest.raises(InvalidSchedule, match="never fires"):
            Cron("0 0 31 2 1", and_days=True)
