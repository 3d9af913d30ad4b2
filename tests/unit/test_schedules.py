"""Schedules as values: what they fire, count and promise to each other."""

from __future__ import annotations

import pickle
import subprocess
import sys
import time
from collections.abc import Callable
from datetime import UTC, datetime, timedelta, timezone
from datetime import time as time_of_day
from itertools import islice, pairwise
from zoneinfo import ZoneInfo

import pytest

from scheduling.errors import InvalidSchedule, NaiveTime
from scheduling.schedules import (
    Adaptive,
    Always,
    Cron,
    Every,
    Manual,
    Once,
    Schedule,
    Times,
    Union,
    fires_between,
    parse,
    require_supported,
    union,
)

MINUTE, HOUR, DAY = timedelta(minutes=1), timedelta(hours=1), timedelta(days=1)
NAIVE = datetime(2024, 1, 1)  # noqa: DTZ001


def at(text: str) -> datetime:
    return datetime.fromisoformat(text).replace(tzinfo=UTC)


class TestEvery:
    def test_its_spellings_are_equal(self) -> None:
        assert Every("5m") == Every(minutes=5) == Every(timedelta(minutes=5)) == Every("300s")
        assert Every("15m", phase="20m") == Every("15m", phase=timedelta(minutes=5))

    @pytest.mark.parametrize(
        ("schedule", "after", "until", "expected"),
        [
            (Every("90s"), "2022-01-27 19:30", "2022-01-27 19:36", "19:31:30 19:33:00 19:34:30 19:36:00"),  # noqa: E501
            (Every("1m"), "2022-01-27 19:30", "2022-01-27 19:32", "19:31:00 19:32:00"),
            (Every("1h"), "2022-01-27 19:30", "2022-01-27 21:00", "20:00:00 21:00:00"),
            (Every("15m", phase="5m"), "2022-01-27 19:30", "2022-01-27 20:00", "19:35:00 19:50:00"),
            (Every("15m"), "2022-01-27 14:45:00.005", "2022-01-27 15:00", "15:00:00"),
            (Every("1h", phase="30m"), "1969-12-31 22:00", "1970-01-01 00:00", "22:30:00 23:30:00"),
        ],
        ids=str,
    )  # fmt: skip
    def test_it_is_anchored_at_the_epoch_and_its_phase(
        self, schedule: Every, after: str, until: str, expected: str
    ) -> None:
        fires = fires_between(schedule, at(after), at(until))

        assert " ".join(f"{fire:%H:%M:%S}" for fire in fires) == expected

    def test_a_phase_gives_any_alignment(self) -> None:
        anchor = at("2022-01-27 19:00")
        schedule = Every("1d", phase=anchor - at("1970-01-01"))

        fires = list(schedule.between(anchor, at("2022-02-03 18:59:59")))
        assert fires == [anchor + n * DAY for n in range(1, 7)]

    def test_spread_shifts_by_name_and_keeps_the_interval(self) -> None:
        schedule = Every("1h", spread=True)
        firsts = {schedule.next(at("2024-01-01"), name=f"job {n}") for n in range(100)}

        assert len(firsts) > 90
        assert max(filter(None, firsts)) <= at("2024-01-01 01:00")
        fires = list(schedule.between(at("2024-01-01"), at("2024-01-02"), name="a"))
        assert {b - a for a, b in pairwise(fires)} == {HOUR}
        assert len(fires) == schedule.count(at("2024-01-01"), at("2024-01-02"), name="a") == 24

    def test_the_draw_of_a_name_never_changes_between_releases(self) -> None:
        fire = Every("1h", spread=True).next(at("2024-01-01"), name="close_books")
        assert fire == at("2024-01-01 00:55:11")

    def test_a_century_is_counted_by_arithmetic(self) -> None:
        started = time.thread_time()
        assert Every("1s").count(at("1970-01-01"), at("2070-01-01")) == 3_155_760_000
        assert time.thread_time() - started < 0.05

    def test_after_end_counts_from_the_end_only(self) -> None:
        schedule = Every("30m", after_end=True)

        assert not schedule.is_anchored
        assert schedule.next(at("2024-01-01")) is None
        assert schedule.count(at("2024-01-01"), at("2025-01-01")) == 0
        assert schedule.after_end(at("2024-01-01 10:07")) == at("2024-01-01 10:37")
        assert Every("30m").after_end(at("2024-01-01")) is None

    @pytest.mark.parametrize(
        "make",
        [
            lambda: Every(),
            lambda: Every("0s"),
            lambda: Every(timedelta(seconds=-1)),
            lambda: Every(timedelta(milliseconds=1500)),
            lambda: Every("5m", minutes=5),
            lambda: Every("5m", after_end=True, spread=True),
            lambda: Every("5m", after_end=True, phase="1m"),
            lambda: Every("5m", phase=timedelta(seconds=-1)),
            lambda: Every(days=40_000),
            lambda: Every("5 minutes"),
            lambda: Every(""),
        ],
    )
    def test_a_wrong_interval_is_refused(self, make: Callable[[], Every]) -> None:
        with pytest.raises(InvalidSchedule):
            make()

    def test_it_ends_with_the_calendar(self) -> None:
        assert Every("1d").next(datetime.max.replace(tzinfo=UTC)) is None


class TestTimes:
    @pytest.mark.parametrize(
        ("times", "now", "expected"),
        [
            (["13:00", "23:37"], "2024-01-10 12:00", "2024-01-10 13:00"),
            (["05:00"], "2024-01-10 12:00", "2024-01-11 05:00"),
            (["12:00"], "2024-01-10 12:00", "2024-01-11 12:00"),
            (["23:37:30", "13:00"], "2024-01-10 13:00", "2024-01-10 23:37:30"),
        ],
    )
    def test_the_next_time_of_day(self, times: list[str], now: str, expected: str) -> None:
        assert Times(*times).next(at(now)) == at(expected)

    def test_they_are_local_times_of_their_zone(self) -> None:
        schedule = Times("01:00", tz="Asia/Tokyo")
        fires = schedule.between(at("2026-07-01 15:59"), at("2026-07-02 16:01"))

        assert list(fires) == [at("2026-07-01 16:00"), at("2026-07-02 16:00")]

    def test_order_and_repetition_do_not_matter(self) -> None:
        assert Times("13:00", "09:00", "13:00:00") == Times(time_of_day(9), time_of_day(13))

    @pytest.mark.parametrize(
        "text", ["25:00", "9:00", "12:60", "12", "12:00:00:00", "", "1\N{FULLWIDTH DIGIT TWO}:00"]
    )
    def test_a_wrong_time_is_refused(self, text: str) -> None:
        with pytest.raises(InvalidSchedule, match="HH:MM"):
            Times(text)

    def test_none_and_a_zone_of_its_own_are_refused(self) -> None:
        with pytest.raises(InvalidSchedule):
            Times()
        with pytest.raises(InvalidSchedule):
            Times(time_of_day(9, tzinfo=UTC))


class TestOnce:
    def test_it_fires_once(self) -> None:
        moment = at("2027-01-01 00:00")

        assert Once(moment).next(moment - MINUTE) == moment
        assert Once(moment).next(moment) is None
        assert Once(moment).period(moment - MINUTE) is None
        assert Once(moment).count(moment - MINUTE, moment) == 1

    def test_the_same_instant_in_another_zone_is_equal(self) -> None:
        tokyo = timezone(timedelta(hours=9))
        assert str(Once(datetime(2027, 1, 1, 9, tzinfo=tokyo))) == "once 2027-01-01T00:00:00+00:00"

    def test_a_naive_moment_is_refused(self) -> None:
        with pytest.raises(NaiveTime):
            Once(NAIVE)


class TestUnion:
    def test_it_fires_whenever_one_does_and_once_where_they_meet(self) -> None:
        schedule = Every("20m") | Cron("*/30 * * * *") | Times("10:10")
        fires = schedule.between(at("2024-01-01 10:00"), at("2024-01-01 11:00"))

        assert [f"{fire:%H:%M}" for fire in fires] == ["10:10", "10:20", "10:30", "10:40", "11:00"]
        assert schedule.next(at("2024-01-01 10:40")) == at("2024-01-01 11:00")
        assert schedule.count(at("2024-01-01 10:00"), at("2024-01-01 11:00")) == 5

    def test_it_is_flat_and_without_duplicates(self) -> None:
        a, b = Every("5m"), Cron("@daily")

        assert (a | b) | a == a | b == Union((a, b))
        assert a | a == a
        assert union(a) is a

    def test_more_than_fifty_are_refused(self) -> None:
        daily = [Times(time_of_day(0, minute)) for minute in range(51)]

        assert union(*daily[:50], daily[0]).count(at("2024-01-01 12:00"), at("2024-01-02 12:00"))
        with pytest.raises(InvalidSchedule, match="A union of 51 schedules; join at most 50"):
            union(*daily)

    def test_a_union_of_nothing_is_refused(self) -> None:
        with pytest.raises(InvalidSchedule, match="name at least one"):
            union()

    def test_it_ends_when_the_last_member_does(self) -> None:
        schedule = Once(at("2024-01-01")) | Once(at("2025-01-01"))

        assert schedule.next(at("2024-06-01")) == at("2025-01-01")
        assert schedule.next(at("2025-01-01")) is None

    def test_it_may_hold_a_pause_after_the_end(self) -> None:
        schedule = Every("30m", after_end=True) | Cron("@daily")

        assert schedule.is_anchored
        assert schedule.next(at("2024-01-01 10:00")) == at("2024-01-02")
        assert schedule.after_end(at("2024-01-01 10:00")) == at("2024-01-01 10:30")

    @pytest.mark.parametrize("lonely", [Manual(), Always()])
    def test_what_has_no_times_is_not_joined(self, lonely: Schedule) -> None:
        with pytest.raises(InvalidSchedule, match="cannot be joined"):
            lonely | Every("5m")


@pytest.mark.parametrize("schedule", [Times("13:00"), Once(at("2024-01-01")), Every("5m")])
def test_a_schedule_with_fire_times_is_anchored(schedule: Schedule) -> None:
    assert schedule.is_anchored


@pytest.mark.parametrize("schedule", [Manual(), Always(), Adaptive()], ids=str)
def test_kinds_without_fire_times_are_supported_alone_and_not_in_a_union(
    schedule: Schedule,
) -> None:
    assert require_supported(schedule) == schedule
    if schedule.is_joinable:
        with pytest.raises(InvalidSchedule, match="make two jobs of it"):
            require_supported(schedule | Every("5m"))


def test_an_adaptive_schedule_waits_its_start_until_it_has_adapted() -> None:
    schedule = Adaptive("64d", between=("12h", "64d"))
    ended = at("2024-01-01")
    assert schedule.after_end(ended) == ended + timedelta(days=64)
    adapted = schedule.adapted_to(timedelta(days=8), level=4)
    assert adapted.after_end(ended) == ended + timedelta(days=8)
    assert (adapted, str(adapted)) == (schedule, str(schedule))
    bounded = schedule.adapted_to(timedelta(hours=1), level=4)
    assert bounded.after_end(ended) == ended + timedelta(hours=12)


def test_the_ladder_waits_by_the_level_until_it_has_adapted() -> None:
    ended = at("2024-01-01")
    assert Adaptive().after_end(ended) == ended + timedelta(days=2)
    assert Adaptive().adapted_to(None, level=6).after_end(ended) == ended + timedelta(days=16)
    hour = timedelta(hours=1)
    assert Adaptive().adapted_to(hour, level=6).after_end(ended) == ended + hour


def test_what_always_runs_is_due_as_soon_as_it_has_ended() -> None:
    assert Always().after_end(at("2024-01-01")) == at("2024-01-01")


def test_a_kind_without_words_does_not_make_them_up() -> None:
    with pytest.raises(NotImplementedError):
        Schedule().sentence()


def test_an_adaptive_schedule_takes_its_start_and_bounds_together() -> None:
    with pytest.raises(InvalidSchedule, match="or neither"):
        Adaptive("1d")


@pytest.mark.parametrize("schedule", [Manual(), Always(), Adaptive(), Every("5m", after_end=True)])
def test_schedules_without_times_of_their_own_name_none(schedule: Schedule) -> None:
    assert not schedule.is_anchored
    assert schedule.next(at("2024-01-01")) is None
    assert list(schedule.between(at("2024-01-01"), at("2025-01-01"))) == []


@pytest.mark.parametrize(
    ("schedule", "period"),
    [
        (Every("5m"), 5 * MINUTE),
        (Cron("0 3 * * *"), DAY),
        (Cron("0 3 * * *", tz="Europe/Berlin"), DAY - HOUR),  # across the spring change
        (Times("09:00", "17:00"), 8 * HOUR),
        (Cron("0 0 0 1 1 * 2025"), None),
    ],
    ids=str,
)
def test_the_period_is_the_distance_of_the_next_two_fires(
    schedule: Schedule, period: timedelta | None
) -> None:
    assert schedule.period(at("2024-03-30 01:30")) == period


ANY = [
    Cron("*/7 * * * *"),
    Cron("30 2 * * *", tz="Europe/Berlin"),
    Cron("30 * * * *", tz="Europe/Berlin"),
    Cron("H H * * *", tz="America/New_York"),
    Cron("*/20 * * * * * *"),
    Every("7m"),
    Every("1h", phase="25m", spread=True),
    Times("02:30", "02:45", tz="Europe/Berlin"),
    Once(at("2024-03-31 01:00")),
    Every("11m") | Cron("0 * * * *", tz="Europe/Berlin"),
]


@pytest.mark.parametrize("schedule", ANY, ids=str)
@pytest.mark.parametrize(
    ("call", "bounds"),
    [
        ("next", [NAIVE]),
        ("between", [NAIVE, at("2024-01-01")]),
        ("between", [at("2024-01-01"), NAIVE]),
        ("count", [NAIVE, at("2024-01-01")]),
        ("period", [NAIVE]),
        ("after_end", [NAIVE]),
    ],
)
def test_a_time_without_a_zone_is_refused_at_once(
    schedule: Schedule, call: str, bounds: list[datetime]
) -> None:
    with pytest.raises(NaiveTime, match="aware datetime"):
        getattr(schedule, call)(*bounds)


@pytest.mark.parametrize("schedule", ANY, ids=str)
def test_windows_are_lazy(schedule: Schedule) -> None:
    started = time.thread_time()
    list(islice(schedule.between(at("2024-01-01"), at("2090-01-01"), name="job"), 3))
    assert time.thread_time() - started < 0.05


@pytest.mark.parametrize("schedule", [*ANY, Manual(), Always(), Adaptive()], ids=str)
def test_schedules_are_values(schedule: Schedule) -> None:
    assert pickle.loads(pickle.dumps(schedule)) == schedule
    assert hash(parse(str(schedule))) == hash(schedule)


@pytest.mark.parametrize("text", ["*/5 * * * *", "0 3 * * * tz Europe/Berlin", "every 5m"])
def test_thousands_of_fires_a_second_are_found(text: str) -> None:
    schedule, fire = parse(text), at("2024-01-01")
    schedule.next(fire)
    started = time.thread_time()
    for _ in range(5_000):
        fire = schedule.next(fire) or fire

    # The aim is 50,000 a second; the limit leaves room for a busy machine.
    assert time.thread_time() - started < 1


def test_the_package_imports_without_django() -> None:
    code = (
        "import scheduling, sys; scheduling.parse('every 5m'); assert 'django' not in sys.modules"
    )
    subprocess.run([sys.executable, "-c", code], check=True, timeout=30)


@pytest.mark.parametrize(
    "build",
    [
        lambda: parse(None),  # type: ignore[arg-type]
        lambda: Cron(5),  # type: ignore[arg-type]
        lambda: Cron("0 3 * * *", tz=ZoneInfo("Europe/Berlin")),  # type: ignore[arg-type]
        lambda: Cron("0 3 * * *", tz=5),  # type: ignore[arg-type]
        lambda: Every(300),  # type: ignore[arg-type]
        lambda: Every("5m", phase=60),  # type: ignore[arg-type]
        lambda: Adaptive(5, between=(1, 9)),  # type: ignore[arg-type]
        lambda: Times(13),  # type: ignore[arg-type]
        lambda: Times(["13:00"]),  # type: ignore[arg-type]
        lambda: Once("2027-01-01T00:00:00Z"),  # type: ignore[arg-type]
    ],
)
def test_a_value_of_the_wrong_type_is_refused_like_any_other(build: Callable[[], object]) -> None:
    with pytest.raises(InvalidSchedule):
        build()


def test_a_union_with_a_pause_between_runs_is_refused_for_jobs() -> None:
    with pytest.raises(InvalidSchedule, match="make two jobs"):
        require_supported(parse("every 30m after end | cron 0 3 * * *"))
