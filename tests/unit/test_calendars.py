"""Days off: which days a calendar names, and what is left of a schedule without them."""

from __future__ import annotations

import re
import time
from collections.abc import Callable
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from zoneinfo import ZoneInfo

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from scheduling.calendars import LONGEST_TEXT, DaysOff, Except, without
from scheduling.errors import InvalidCalendar, InvalidSchedule, NaiveTime
from scheduling.schedules import Always, Every, Manual, Schedule, parse
from scheduling.zones import ClockChange
from tests.unit.any_schedule import ZONES, anchored, calendars, moments, rules

MINUTE, HOUR, DAY = timedelta(minutes=1), timedelta(hours=1), timedelta(days=1)
TICK = timedelta.resolution
CHRISTMAS = DaysOff.parse("2024-12-25")
EVERY_DAY = "\n".join(f"{date(2000, 1, 1) + n * DAY:%m-%d}" for n in range(366))


def at(text: str) -> datetime:
    return datetime.fromisoformat(text).replace(tzinfo=UTC)


def fires(schedule: Schedule, after: str, until: str) -> list[str]:
    return [f"{fire:%m-%d %H:%M}" for fire in schedule.between(at(after), at(until))]


def without_days(text: str, days: str, zone: str = "UTC") -> Schedule:
    return without(parse(text), DaysOff.parse(days, timezone=zone))


class TestReading:
    def test_a_line_is_a_day_a_range_or_a_day_of_every_year(self) -> None:
        days = DaysOff.parse(
            "# the bank's\n\n 2026-05-01 Labour Day\n2026-12-24..2026-12-26\n01-01 New Year\n02-29"
        )
        assert days.dates == {date(2026, 5, 1), *(date(2026, 12, day) for day in (24, 25, 26))}
        assert days.yearly == {(1, 1), (2, 29)}

    def test_the_text_is_one_spelling_that_reads_back(self) -> None:
        days = DaysOff.parse("12-25\n2026-05-02\n2026-05-01\n2026-05-03 x\n2026-06-01\n01-01")
        text = "tz UTC\n2026-05-01..2026-05-03\n2026-06-01\n01-01\n12-25"
        assert str(days) == text
        assert DaysOff.read(text) == days
        assert hash(DaysOff.read(text)) == hash(days)

    def test_the_calendar_of_the_docs_can_be_read(self) -> None:
        page = Path(__file__).parents[2] / "docs" / "schedules.md"
        text = re.findall(r"^```text\n(.*?)^```", page.read_text("utf-8"), re.M | re.S)[0]
        assert str(DaysOff.parse(text)) == "tz UTC\n2027-03-26..2027-03-29\n01-01\n05-01\n12-24"

    def test_no_day_at_all_is_the_empty_text_in_any_zone(self) -> None:
        none = DaysOff.parse("# nothing yet", timezone="Asia/Tokyo")
        assert (str(none), bool(none), DaysOff.read("")) == ("", False, none)

    def test_the_zone_is_kept(self) -> None:
        tokyo = DaysOff.parse("12-25", timezone="Asia/Tokyo")
        assert DaysOff.read(str(tokyo)) == tokyo != DaysOff.parse("12-25")

    @settings(deadline=None, max_examples=100)
    @given(
        dates=st.lists(st.dates(date(1970, 1, 1), date(2099, 12, 31)), max_size=20),
        lengths=st.lists(st.integers(0, 400), max_size=20),
        yearly=st.lists(st.dates(date(2000, 1, 1), date(2000, 12, 31)), max_size=20),
        zone=st.sampled_from(ZONES[1:]),
    )
    def test_any_calendar_reads_back_as_an_equal_one(
        self, dates: list[date], lengths: list[int], yearly: list[date], zone: str
    ) -> None:
        last = date(2099, 12, 31)
        lines = [f"{a}..{min(a + n * DAY, last)}" for a, n in zip(dates, lengths, strict=False)]
        lines += [*map(str, dates), *(f"{each:%m-%d}" for each in yearly)]
        days = DaysOff.parse("\n".join(lines), timezone=zone)

        assert DaysOff.read(str(days)) == days
        assert str(DaysOff.read(str(days))) == str(days)
        assert days.dates >= set(dates)

    @pytest.mark.parametrize(
        ("text", "problem"),
        [
            ("2026-12-24\nnonsense", "Line 2, 'nonsense': write 2026-12-25"),
            ("2026-13-01", "Line 1, '2026-13-01': month must be in 1..12"),
            ("2026-02-29", "Line 1, '2026-02-29': day is out of range"),
            ("02-30 never", "Line 1, '02-30 never': day is out of range"),
            ("2026-12-26..2026-12-24", "2026-12-24 lies before 2026-12-26; exchange them"),
            ("2026-12-24 .. 2027-01-01 x", ""),  # reads as a day with a name
            ("2026-12-24...2027-01-01", "Line 1"),
            ("1969-12-31", "days go from 1970-01-01 to 2099-12-31; correct the year"),
            ("0001-01-01..9999-12-31", "days go from 1970-01-01 to 2099-12-31"),
            ("\n".join(["1970-01-01..2090-01-01"] * 5), "Line 2, .* more than 50000 days"),
            ("2026-12-2\N{FULLWIDTH DIGIT FIVE}", "Line 1"),
            ("2026-12-25\0", "Line 1"),
            ("x" * 10_000, "Line 1, 'x{60}': write"),
            ("# \n" * LONGEST_TEXT, "characters of text; at most 200000: use ranges"),
            (EVERY_DAY, "leave no day over from 1970 to 2099; take some out"),
            ("1970-01-01..2099-12-31", "leave no day over"),
            (
                "\n".join(f"{date(1970, 1, 1) + 2 * n * DAY}" for n in range(6000)),
                "6000 separate stretches from 1970 to 2099, at most 5000",
            ),
        ],
        ids=lambda text: text[:25].strip(),
    )
    def test_what_cannot_be_read_is_named_at_once(self, text: str, problem: str) -> None:
        started = time.thread_time()
        if problem:
            with pytest.raises(InvalidCalendar, match=problem):
                DaysOff.parse(text)
        else:
            DaysOff.parse(text)
        assert time.thread_time() - started < 0.05 * 5  # with room for a busy machine

    def test_the_line_is_a_fact_of_the_error(self) -> None:
        with pytest.raises(InvalidCalendar) as caught:
            DaysOff.parse("12-25\n\nChristmas")
        assert vars(caught.value) == {"line": 3}

    def test_an_unknown_zone_is_refused(self) -> None:
        with pytest.raises(InvalidSchedule, match="Time zone 'Mars/Base' is unknown"):
            DaysOff.parse("12-25", timezone="Mars/Base")


class TestDays:
    @pytest.mark.parametrize(
        ("days", "zone", "moment", "opens"),
        [
            ("2026-12-25", "UTC", "2026-12-24 23:59:59", None),
            ("2026-12-25", "UTC", "2026-12-25 00:00", "2026-12-26 00:00"),
            ("2026-12-25", "Asia/Tokyo", "2026-12-24 15:00", "2026-12-25 15:00"),
            ("2026-12-25", "Asia/Tokyo", "2026-12-25 15:00", None),
            ("2026-12-24..2026-12-31\n01-01", "UTC", "2026-12-27 12:00", "2027-01-02 00:00"),
            ("02-29", "UTC", "2028-02-29 12:00:00.5", "2028-03-01 00:00"),
            ("02-29", "UTC", "2027-02-28 23:00", None),
            ("02-29", "UTC", "2027-03-01 00:00", None),
            # Clocks went from 00:00 to 01:00: the day begins at 01:00.
            ("2017-10-14", "America/Sao_Paulo", "2017-10-14 12:00", "2017-10-15 03:00"),
            # From 24:00 back to 23:00: the day has 25 hours.
            ("2018-02-17", "America/Sao_Paulo", "2018-02-18 01:30", "2018-02-18 03:00"),
            # At 00:01 back to 23:01: the day before goes on after the next one's first minute.
            ("2006-10-28", "America/St_Johns", "2006-10-29 02:29:59", "2006-10-29 02:30"),
            ("2006-10-28", "America/St_Johns", "2006-10-29 02:30", None),
            ("2006-10-28", "America/St_Johns", "2006-10-29 02:31", "2006-10-29 03:30"),
            # Samoa had no 30 December 2011.
            ("2011-12-29", "Pacific/Apia", "2011-12-30 09:00", "2011-12-30 10:00"),
            ("2011-12-30", "Pacific/Apia", "2011-12-30 09:59", None),
            ("2011-12-30", "Pacific/Apia", "2011-12-30 10:00", None),
            ("2011-12-29\n2011-12-31", "Pacific/Apia", "2011-12-30 09:00", "2011-12-31 10:00"),
            ("2024-04-07", "Australia/Lord_Howe", "2024-04-07 13:00", "2024-04-07 13:30"),
        ],
    )
    def test_a_day_off_lasts_while_the_clock_shows_it(
        self, days: str, zone: str, moment: str, opens: str | None
    ) -> None:
        found = DaysOff.parse(days, timezone=zone).first_open(at(moment))
        assert found == at(opens or moment)

    def test_before_1970_every_day_is_open_and_from_2100_on_none(self) -> None:
        assert CHRISTMAS.first_open(at("0001-01-01")) == at("0001-01-01")
        assert CHRISTMAS.first_open(at("2099-12-31 23:59")) == at("2099-12-31 23:59")
        assert CHRISTMAS.first_open(at("2100-01-01")) is None
        assert CHRISTMAS.first_open(datetime.max.replace(tzinfo=UTC)) is None
        assert DaysOff.parse("2099-12-31").first_open(at("2099-12-31 12:00")) is None

    @pytest.mark.parametrize(
        ("zone", "around"),
        [
            ("America/St_Johns", date(2006, 10, 28)),
            ("America/Sao_Paulo", date(2018, 2, 17)),
            ("America/Sao_Paulo", date(2017, 10, 15)),
            ("Pacific/Apia", date(2011, 12, 30)),
            ("Antarctica/Troll", date(2024, 3, 31)),
            ("Asia/Tehran", date(2022, 9, 21)),
        ],
    )
    @pytest.mark.parametrize("shift", range(-2, 3))
    def test_minutes_around_a_clock_change_are_those_that_the_clock_shows(
        self, zone: str, around: date, shift: int
    ) -> None:
        off = around + shift * DAY
        schedule = without_days("every 1m", str(off), zone)
        start = datetime(around.year, around.month, around.day, tzinfo=UTC) - 4 * DAY
        minutes = [start + n * MINUTE for n in range(1, 8 * 24 * 60)]
        expected = [each for each in minutes if each.astimezone(ZoneInfo(zone)).date() != off]

        assert list(schedule.between(start, minutes[-1])) == expected
        assert schedule.count(start, minutes[-1]) == len(expected)
        walked, fire = [], schedule.next(start)
        while fire is not None and fire <= minutes[-1]:
            walked.append(fire)
            fire = schedule.next(fire)
        assert walked == expected


class TestExcept:
    def test_fires_on_days_off_are_no_fire_times(self) -> None:
        schedule = without_days("times 09:00 17:00", "2026-12-24..2026-12-26\n2026-12-28")
        assert fires(schedule, "2026-12-23 10:00", "2026-12-29 12:00") == [
            *("12-23 17:00", "12-27 09:00", "12-27 17:00", "12-29 09:00"),
        ]
        assert schedule.count(at("2026-12-23 10:00"), at("2026-12-29 12:00")) == 4
        assert schedule.next(at("2026-12-23 17:00")) == at("2026-12-27 09:00")

    def test_the_days_are_those_of_the_calendars_zone_not_of_the_schedules(self) -> None:
        schedule = without_days("times 23:30", "2026-12-25", "Asia/Tokyo")
        assert fires(schedule, "2026-12-23 12:00", "2026-12-26 12:00") == [
            *("12-23 23:30", "12-25 23:30"),  # 23:30 on the 24th is the 25th in Tokyo
        ]

    def test_midnight_itself_belongs_to_the_day_that_begins(self) -> None:
        schedule = without_days("every 12h", "2026-12-25")
        assert fires(schedule, "2026-12-24", "2026-12-26") == ["12-24 12:00", "12-26 00:00"]
        assert fires(schedule, "2026-12-26", "2026-12-26 12:00") == ["12-26 12:00"]

    def test_a_pause_after_a_run_lasts_to_the_end_of_the_days_off(self) -> None:
        schedule = without_days("every 30m after end", "2026-12-25..2026-12-26")
        assert schedule.after_end(at("2026-12-24 23:45")) == at("2026-12-27 00:00")
        assert schedule.after_end(at("2026-12-24 12:00")) == at("2026-12-24 12:30")
        assert schedule.period(at("2026-12-24")) == 30 * MINUTE
        assert schedule.next(at("2026-12-24")) is None
        assert without_days("every 1h", "2026-12-25").after_end(at("2026-12-24")) is None

    def test_a_union_leaves_the_days_out_of_all_its_members(self) -> None:
        schedule = without_days("every 8h | times 09:00", "2026-12-25")
        assert fires(schedule, "2026-12-24 12:00", "2026-12-26 08:00") == [
            *("12-24 16:00", "12-26 00:00", "12-26 08:00"),
        ]

    def test_what_it_does_not_change_it_passes_on(self) -> None:
        schedule = without_days("cron 30 2 * * *", "2026-12-25")
        assert schedule.is_anchored
        assert schedule.is_joinable
        assert schedule.period(at("2026-12-24 12:00")) == DAY
        assert str(schedule) == "cron 30 2 * * *"
        assert schedule.sentence() == "at 02:30 every day, except on days off"
        assert not Except(Manual(), CHRISTMAS).is_joinable
        assert not without_days("every 1h after end", "12-25").is_anchored

    def test_zone_and_rule_reach_the_schedule_inside(self) -> None:
        berlin = without_days("cron 30 2 * * *", "2026-12-25").in_zone("Europe/Berlin")
        assert str(berlin) == "cron 30 2 * * * tz Europe/Berlin"
        assert fires(berlin, "2027-03-27 12:00", "2027-03-28 12:00") == ["03-28 01:00"]
        skipping = berlin.under(ClockChange.SKIP)
        assert fires(skipping, "2027-03-27 12:00", "2027-03-28 12:00") == []
        assert fires(skipping, "2026-12-24 12:00", "2026-12-26 12:00") == ["12-26 01:30"]

    def test_the_name_reaches_the_schedule_inside(self) -> None:
        schedule = without_days("every 1h spread", "12-25")
        spread = parse("every 1h spread")
        for question in (schedule.next, schedule.period):
            assert question(at("2026-12-20"), name="a") == getattr(spread, question.__name__)(
                at("2026-12-20"), name="a"
            )
        assert list(schedule.between(at("2026-12-20"), at("2026-12-21"), name="a")) == list(
            spread.between(at("2026-12-20"), at("2026-12-21"), name="a")
        )

    def test_times_without_a_zone_are_refused(self) -> None:
        schedule, naive = without_days("every 1h", "12-25"), datetime(2026, 1, 1)  # noqa: DTZ001
        questions: list[Callable[[], object]] = [
            lambda: schedule.next(naive),
            lambda: schedule.between(naive, at("2026-01-02")),
            lambda: schedule.count(at("2026-01-01"), naive),
            lambda: schedule.period(naive),
            lambda: schedule.after_end(naive),
        ]
        for question in questions:
            with pytest.raises(NaiveTime):
                question()

    def test_windows_at_the_ends_of_time_are_answered(self) -> None:
        schedule = without_days("cron @yearly", "2026-01-01")
        first, last = datetime.min.replace(tzinfo=UTC), datetime.max.replace(tzinfo=UTC)
        assert schedule.count(first, last) == 129
        assert list(schedule.between(last, last)) == list(schedule.between(last, first)) == []
        assert schedule.next(last) is None
        assert without_days("every 1d", "12-25").next(at("2099-12-31")) is None
        assert without_days("every 1d", "12-25").count(first, at("1970-01-01")) == 719_162


class TestWithout:
    def test_no_days_off_leave_the_schedule_as_it_is(self) -> None:
        assert without(Every("5m"), DaysOff.parse("")) == Every("5m")

    @pytest.mark.parametrize("schedule", [Manual(), Always()], ids=str)
    def test_what_names_no_times_stays_as_it_is(self, schedule: Schedule) -> None:
        assert without(schedule, CHRISTMAS) is schedule

    @pytest.mark.parametrize(
        ("text", "days"),
        [
            ("once 2026-12-25T09:00:00+00:00", "12-25"),
            ("cron 0 0 25 12 *", "12-25 Christmas"),
            ("cron 0 9 25 12 * | once 2026-12-26T09:00:00+00:00", "12-25\n2026-12-26"),
            ("cron 0 0 1-28 * *", EVERY_DAY.replace("02-29\n", "")),
        ],
    )
    def test_a_schedule_of_which_nothing_is_left_is_refused(self, text: str, days: str) -> None:
        with pytest.raises(InvalidSchedule, match="never fires on a day that its calendar leaves"):
            without_days(text, days)

    def test_once_on_another_day_fires(self) -> None:
        schedule = without_days("once 2026-12-24T09:00:00+00:00", "12-25")
        assert schedule.next(at("2026-12-01")) == at("2026-12-24 09:00")
        assert schedule.next(at("2026-12-24 09:00")) is None


MONDAYS = "\n".join(f"{date(2024, 1, 1) + 7 * n * DAY}" for n in range(3000))
EXPENSIVE = [
    ("every 1s", EVERY_DAY.replace("02-29\n", "")),
    ("every 1s", "1980-01-01..2098-12-31"),
    ("cron * * * * * * *", "\n".join(f"{date(2024, 1, 1) + 2 * n * DAY}" for n in range(4000))),
    ("cron 0 0 * * 1", MONDAYS),
    ("cron 0 0 * * 1 tz Europe/Berlin", MONDAYS),
]


@pytest.mark.parametrize(("text", "days"), EXPENSIVE, ids=lambda each: each[:20])
def test_long_runs_of_days_off_are_crossed_at_once(text: str, days: str) -> None:
    schedule = without_days(text, days)
    moment = at("2024-01-01")
    schedule.next(moment)  # fills the caches

    started = time.thread_time()
    fire = schedule.next(moment)
    assert time.thread_time() - started < 0.05 * 5  # with room for a busy machine
    assert fire is not None
    assert fire > moment
    assert schedule.next(fire - TICK) == fire


def test_the_days_of_a_year_of_seconds_are_counted_by_arithmetic() -> None:
    schedule = without_days("every 1s", "12-25\n12-26\n2026-05-01")
    started = time.thread_time()
    assert schedule.count(at("2026-01-01"), at("2027-01-01")) == 362 * 86_400
    assert time.thread_time() - started < 0.05


@settings(deadline=None, max_examples=300)
@given(schedule=anchored, rule=rules, days=calendars, bounds=st.tuples(moments, moments))
def test_what_is_left_are_the_fires_whose_day_the_calendar_does_not_name(
    schedule: Schedule, rule: ClockChange, days: DaysOff, bounds: tuple[datetime, datetime]
) -> None:
    schedule, info = schedule.under(rule), ZoneInfo(days.timezone)
    after, until = sorted(bounds)

    assert list(Except(schedule, days).between(after, until, name="job")) == [
        fire
        for fire in schedule.between(after, until, name="job")
        if (day := fire.astimezone(info).date()) not in days.dates
        and (day.month, day.day) not in days.yearly
    ]
