"""What becomes of fires: started or skipped, each exactly once.

The line of time in these tests, for an hourly schedule:

    cursor          window                     grace    now
    |---- older ----|--------- missed ---------|-- due -|
"""

from __future__ import annotations

import time
from datetime import UTC, datetime, timedelta

import pytest

from scheduling.errors import NaiveTime
from scheduling.policies import (
    CatchUp,
    Fire,
    Overlap,
    Plan,
    catch_up_window,
    late_after,
    on_overlap,
    plan,
    plan_fires,
    retry_delay,
    start_within,
)
from scheduling.schedules import Cron, Every, Manual, Once, Schedule, Times, parse

SECOND, MINUTE = timedelta(seconds=1), timedelta(minutes=1)
HOUR, DAY = timedelta(hours=1), timedelta(days=1)
HOURLY = [Every("1h"), Cron("0 * * * *")]


def at(text: str) -> datetime:
    return datetime.fromisoformat(f"2024-01-10 {text}").replace(tzinfo=UTC)


def brief(made: Plan) -> tuple[str, str, str]:
    """'09:00+ 10:00' (+ is caught up), '06:00-08:00x3 late', the cursor."""
    start = [f"{fire.at:%H:%M}{'+' * (fire.cause == 'catch_up')}" for fire in made.start]
    skips = [f"{s.first:%H:%M}-{s.last:%H:%M}x{s.fires} {s.reason}" for s in made.skips]
    cursor = f"{made.cursor:%H:%M}" if made.cursor else "ended"
    return " ".join(start), ", ".join(skips), cursor + "..." * made.truncated


@pytest.mark.parametrize("schedule", HOURLY, ids=str)
@pytest.mark.parametrize(
    ("catch_up", "cursor", "now", "window", "start", "skips", "next_cursor"),
    [
        # not due, just due, due to the second, a moment past the grace
        ("latest", "06:00", "05:59:59", 24, "", "", "06:00"),
        ("none", "06:00", "06:00:00", 24, "06:00", "", "07:00"),
        ("none", "06:00", "06:00:15", 24, "06:00", "", "07:00"),
        ("none", "06:00", "06:00:16", 24, "", "06:00-06:00x1 late", "07:00"),
        ("latest", "06:00", "06:00:16", 24, "06:00+", "", "07:00"),
        ("all", "06:00", "06:00:16", 24, "06:00+", "", "07:00"),
        # missed, nothing due
        ("none", "06:00", "09:30:00", 24, "", "06:00-09:00x4 late", "10:00"),
        ("latest", "06:00", "09:30:00", 24, "09:00+", "06:00-08:00x3 coalesced", "10:00"),
        ("all", "06:00", "09:30:00", 24, "06:00+ 07:00+ 08:00+ 09:00+", "", "10:00"),
        # missed, and one due
        ("none", "06:00", "09:00:05", 24, "09:00", "06:00-08:00x3 late", "10:00"),
        ("latest", "06:00", "09:00:05", 24, "09:00", "06:00-08:00x3 coalesced", "10:00"),
        ("all", "06:00", "09:00:05", 24, "06:00+ 07:00+ 08:00+ 09:00", "", "10:00"),
        # a window of two hours: its lower bound still counts
        ("latest", "06:00", "10:00:00", 2, "10:00", "06:00-07:00x2 window, 08:00-09:00x2 coalesced", "11:00"),  # noqa: E501
        ("all", "06:00", "10:00:00", 2, "08:00+ 09:00+ 10:00", "06:00-07:00x2 window", "11:00"),
        ("latest", "06:00", "10:30:00", 2, "10:00+", "06:00-08:00x3 window, 09:00-09:00x1 coalesced", "11:00"),  # noqa: E501
        ("all", "06:00", "10:30:00", 2, "09:00+ 10:00+", "06:00-08:00x3 window", "11:00"),
        # nothing within the window
        ("latest", "06:00", "10:30:00", 0, "", "06:00-10:00x5 window", "11:00"),
        ("all", "06:00", "10:30:00", 0, "", "06:00-10:00x5 window", "11:00"),
        ("latest", "06:00", "10:00:05", 0, "10:00", "06:00-09:00x4 window", "11:00"),
    ],
)  # fmt: skip
def test_a_downtime_is_planned(
    schedule: Schedule,
    catch_up: str,
    cursor: str,
    now: str,
    window: int,
    start: str,
    skips: str,
    next_cursor: str,
) -> None:
    made = plan_fires(
        schedule, cursor=at(cursor), now=at(now), catch_up=CatchUp(catch_up), window=window * HOUR
    )

    assert brief(made) == (start, skips, next_cursor)


@pytest.mark.parametrize("schedule", HOURLY, ids=str)
class TestBudget:
    def made(self, schedule: Schedule, budget: int | None, max_fires: int = 10_000) -> Plan:
        return plan_fires(
            schedule,
            cursor=at("06:00"),
            now=at("10:00"),
            catch_up=CatchUp.ALL,
            window=2 * HOUR,
            budget=budget,
            max_fires=max_fires,
        )

    @pytest.mark.parametrize(
        ("budget", "start", "cursor"),
        [
            (0, "", "08:00..."),
            (1, "08:00+", "09:00..."),
            (2, "08:00+ 09:00+ 10:00", "11:00"),
            (None, "08:00+ 09:00+ 10:00", "11:00"),
        ],
    )
    def test_what_is_due_waits_until_the_missed_ones_are_through(
        self, schedule: Schedule, budget: int | None, start: str, cursor: str
    ) -> None:
        expected = (start, "06:00-07:00x2 window", cursor)
        assert brief(self.made(schedule, budget)) == expected

    def test_without_missed_fires_no_budget_is_needed(self, schedule: Schedule) -> None:
        made = plan_fires(
            schedule,
            cursor=at("10:00"),
            now=at("10:00:05"),
            catch_up=CatchUp.ALL,
            window=DAY,
            budget=0,
        )
        assert brief(made) == ("10:00", "", "11:00")


def test_the_latest_of_a_truncated_stretch_is_not_started_as_later_ones_exist() -> None:
    first = plan_fires(
        Cron("0 * * * *"),
        cursor=at("06:00"),
        now=at("09:30"),
        catch_up=CatchUp.LATEST,
        window=DAY,
        max_fires=3,
    )
    assert brief(first) == ("", "06:00-08:00x3 coalesced", "09:00...")
    assert first.cursor is not None
    second = plan_fires(
        Cron("0 * * * *"),
        cursor=first.cursor,
        now=at("09:30"),
        catch_up=CatchUp.LATEST,
        window=DAY,
        max_fires=3,
    )
    assert brief(second) == ("09:00+", "", "10:00")


def test_nothing_is_decided_beyond_a_truncated_stretch() -> None:
    made = plan_fires(
        Cron("0 * * * *"),
        cursor=at("06:00"),
        now=at("10:30"),
        catch_up=CatchUp.LATEST,
        window=2 * HOUR,
        max_fires=1,
    )
    assert brief(made) == ("", "06:00-06:00x1 window", "07:00...")


@pytest.mark.parametrize("text", ["every 1s", "* * * * * * *", "every 1s | * * * * *"])
@pytest.mark.parametrize("catch_up", list(CatchUp))
def test_a_week_of_seconds_is_planned_at_once(text: str, catch_up: CatchUp) -> None:
    schedule, now = parse(text), at("10:00:00")
    schedule.next(now)
    started = time.thread_time()
    made = plan_fires(schedule, cursor=now - 7 * DAY, now=now, catch_up=catch_up, window=7 * DAY)

    # The aim is 50 ms; the limit leaves room for a busy machine.
    assert time.thread_time() - started < 2
    if text == "every 1s" and catch_up is not CatchUp.ALL:
        assert sum(skip.fires for skip in made.skips) + len(made.start) == 7 * 86_400 + 1
        assert not made.truncated
    else:
        assert made.truncated
        assert sum(skip.fires for skip in made.skips) + len(made.start) == 10_000


def test_a_pause_after_the_end_is_due_however_late() -> None:
    schedule = Every("30m", after_end=True)
    made = plan_fires(
        schedule, cursor=at("06:07"), now=at("09:00"), catch_up=CatchUp.NONE, window=HOUR
    )

    assert made == Plan(start=(Fire(at=at("06:07"), cause="schedule"),), cursor=None)


def test_a_union_plans_its_pause_and_its_own_fires() -> None:
    schedule = Every("30m", after_end=True) | Cron("0 * * * *")
    made = plan_fires(
        schedule, cursor=at("06:37"), now=at("08:30"), catch_up=CatchUp.LATEST, window=DAY
    )

    assert brief(made) == ("06:37 08:00+", "07:00-07:00x1 coalesced", "09:00")


def test_a_schedule_that_has_ended_leaves_no_cursor() -> None:
    made = plan_fires(
        Once(at("06:00")), cursor=at("06:00"), now=at("07:00"), catch_up=CatchUp.ALL, window=DAY
    )
    assert brief(made) == ("06:00+", "", "ended")
    assert plan(
        Manual(), after=at("06:00"), until=at("07:00"), catch_up=CatchUp.ALL, window=DAY
    ) == Plan(cursor=None)


def test_plan_leaves_out_its_lower_bound() -> None:
    made = plan(
        Cron("0 * * * *"), after=at("06:00"), until=at("08:00"), catch_up=CatchUp.ALL, window=DAY
    )
    assert brief(made) == ("07:00+ 08:00", "", "09:00")


def test_the_extremes_of_time_are_planned() -> None:
    made = plan_fires(
        Every("1h"),
        cursor=at("06:00"),
        now=at("08:30"),
        catch_up=CatchUp.LATEST,
        window=timedelta.max,
        grace=timedelta.max,
    )
    assert brief(made) == ("06:00 07:00 08:00", "", "09:00")


def test_a_naive_time_is_refused() -> None:
    with pytest.raises(NaiveTime):
        plan_fires(
            Every("1h"),
            cursor=at("06:00"),
            now=datetime(2024, 1, 10),  # noqa: DTZ001
            catch_up=CatchUp.ALL,
            window=DAY,
        )


@pytest.mark.parametrize(
    ("schedule", "window"),
    [
        (Every("1m"), HOUR),
        (Every("6h"), 6 * HOUR),
        (Cron("@daily"), DAY),
        (Cron("@monthly"), 7 * DAY),
        (Once(at("06:00")), 7 * DAY),
    ],
    ids=str,
)
def test_the_window_is_one_period_from_an_hour_to_a_week(
    schedule: Schedule, window: timedelta
) -> None:
    assert catch_up_window(schedule, at("05:00"), configured=None) == window
    assert catch_up_window(schedule, at("05:00"), configured=MINUTE) == MINUTE


@pytest.mark.parametrize(
    ("schedule", "cause", "limit"),
    [
        (Every("10s"), "schedule", MINUTE),
        (Every("1h"), "schedule", HOUR),
        (Times("06:00"), "schedule", DAY),
        (Once(at("06:00")), "schedule", None),
        (Every("1h"), "catch_up", None),
        (Every("1h"), "manual", None),
    ],
    ids=str,
)
def test_a_run_by_schedule_may_wait_for_one_period(
    schedule: Schedule, cause: str, limit: timedelta | None
) -> None:
    assert start_within(schedule, at("05:00"), configured=None, cause=cause) == limit
    assert start_within(schedule, at("05:00"), configured=SECOND, cause=cause) == SECOND


@pytest.mark.parametrize(
    ("schedule", "limit"),
    [(Every("1m"), 5 * MINUTE), (Every("10h"), HOUR), (Manual(), 5 * MINUTE)],
    ids=str,
)
def test_late_is_a_tenth_of_the_period(schedule: Schedule, limit: timedelta) -> None:
    assert late_after(schedule, at("05:00")) == limit


@pytest.mark.parametrize(
    ("base", "cap", "delays"),
    [
        (1, 10, [1, 2, 4, 8, 10, 10]),
        (30, 600, [30, 60, 120, 240, 480, 600]),
        (60, 3600, [60, 120, 240, 480, 960, 1920, 3600]),
        (60, 10, [10, 10]),
        (0, 10, [0, 0]),
    ],
)
def test_retries_wait_twice_as_long_each_time_and_stay_at_the_cap(
    base: int, cap: int, delays: list[int]
) -> None:
    found = [
        retry_delay(n, base=base * SECOND, cap=cap * SECOND) for n in range(1, len(delays) + 1)
    ]

    assert found == [delay * SECOND for delay in delays]
    assert retry_delay(10**9, base=base * SECOND, cap=cap * SECOND) == delays[-1] * SECOND


@pytest.mark.parametrize(
    ("policy", "open_runs", "waiting", "decision"),
    [
        *[(policy, 0, 0, "start") for policy in Overlap],
        (Overlap.ALLOW, 3, 2, "start"),
        (Overlap.SKIP, 1, 0, "skip"),
        (Overlap.SKIP, 1, 1, "skip"),
        (Overlap.WAIT, 1, 0, "wait"),
        (Overlap.WAIT, 2, 1, "skip"),
        (Overlap.QUEUE, 1, 0, "wait"),
        (Overlap.QUEUE, 9, 8, "wait"),
        (Overlap.QUEUE, 10, 9, "cap"),
        (Overlap.CANCEL, 1, 0, "replace"),
        (Overlap.CANCEL, 2, 1, "replace"),
        (Overlap.TERMINATE, 2, 1, "replace"),
    ],
)
def test_a_fire_meets_an_open_run(
    policy: Overlap, open_runs: int, waiting: int, decision: str
) -> None:
    found = on_overlap(policy, open_runs=open_runs, waiting=waiting, queue_limit=9)

    assert found == decision
