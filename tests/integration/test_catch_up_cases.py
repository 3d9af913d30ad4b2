"""Cases of other schedulers that speak of time, in our form, by the numbers teams know them by.

F5 to F33 come from a scheduler of workflows, A4 to A31 from a library of jobs. Where our answer
differs on purpose (intervals are anchored, week-days count to 7, nothing is ever lost), the case
says what is right here. Those of the runner of commands are in `test_command_runner_cases`.
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from datetime import datetime, timedelta
from typing import Any

import pytest
from celery import Celery
from celery.app import app_or_default
from django.test import override_settings

from scheduling import Every, Once, catch_up, outbox, parse, runs
from scheduling.errors import InvalidSchedule
from scheduling.models import Job, Reason, Run, State
from scheduling.policies import CatchUp, retry_delay
from scheduling.runs import Result
from scheduling.spans import parse_span
from tests.factories import NOW, make_job, make_target
from tests.integration.cli import jobs
from tests.integration.command_app import Deploy, command, target
from tests.services import Valkey

SECOND, MINUTE, HOUR = timedelta(seconds=1), timedelta(minutes=1), timedelta(hours=1)
DAY = timedelta(days=1)


def ask(*words: str) -> Any:
    told = jobs(*words, "--json")
    assert told.code == 0, told
    return told.document()


def short(times: list[str]) -> list[str]:
    return [text.removesuffix(":00+00:00").removesuffix("+00:00") for text in times]


def next_fires(text: str, after: str, count: int, *more: str) -> list[str]:
    words = ("next", text, "--after", f"{after}Z", "--count", str(count), *more)
    return short(ask(*words)["fires"])


def between(text: str, after: str, until: str, *more: str) -> list[str]:
    words = ("between", text, "--after", f"{after}Z", "--until", f"{until}Z", *more)
    return short(ask(*words)["fires"])


def days(text: str, first: int, last: int) -> list[str]:
    return [text.format(day) for day in range(first, last + 1)]


# --- windows --------------------------------------------------------------------------------------

WINDOWS = [
    ("F7", "0 0 15 2 *", "2023-01-01T00:00", "2023-12-31T23:59:59", ["2023-02-15T00:00"]),
    ("F10 by its phase", "every 1d phase 19h", "2022-01-27T19:00", "2022-02-03T18:59:59",
        [*days("2022-01-{}T19:00", 28, 31), *days("2022-02-0{}T19:00", 1, 2)]),
    ("F10 anchored at the epoch", "every 1d", "2022-01-27T19:00", "2022-02-03T18:59:59",
        [*days("2022-01-{}T00:00", 28, 31), *days("2022-02-0{}T00:00", 1, 3)]),
    ("F11", "*/10 * * * *", "2022-01-27T19:00:30", "2022-01-27T20:30",
        [*days("2022-01-27T19:{}0", 1, 5), *days("2022-01-27T20:{}0", 0, 3)]),
    ("F12", "@every 90s", "2022-01-27T19:30", "2022-01-27T19:36",
        ["2022-01-27T19:31:30", "2022-01-27T19:33", "2022-01-27T19:34:30", "2022-01-27T19:36"]),
    ("F12 from any start", "@every 90s", "2022-01-27T19:30:40", "2022-01-27T19:33",
        ["2022-01-27T19:31:30", "2022-01-27T19:33"]),
    ("F13", "0 0 29 2 *", "2023-01-01T00:00", "2030-01-01T00:00",
        ["2024-02-29T00:00", "2028-02-29T00:00"]),
    ("F14 empty", "* * * * *", "2023-01-01T00:00", "2023-01-01T00:00", []),
    ("F14 reversed", "* * * * *", "2023-01-02T00:00", "2023-01-01T00:00", []),
    ("F14 empty interval", "every 1s", "2023-01-01T00:00", "2023-01-01T00:00", []),
    ("F16 in a zone", "0 9 * * * tz America/Los_Angeles", "2026-07-01T15:59", "2026-07-02T16:01",
        ["2026-07-01T16:00", "2026-07-02T16:00"]),
    ("F16 in UTC", "0 9 * * *", "2026-07-01T08:59", "2026-07-02T09:01",
        ["2026-07-01T09:00", "2026-07-02T09:00"]),
    ("F18 minutes", "every 1m", "2024-01-01T00:00", "2024-01-01T00:02",
        ["2024-01-01T00:01", "2024-01-01T00:02"]),
    ("F30 either day", "* * 1,15 * Sun", "2012-06-14T23:58", "2012-06-15T00:00",
        ["2012-06-15T00:00"]),
    ("F30 both days", "* * 1,15 * Sun", "2012-07-14T23:59", "2012-07-15T00:00",
        ["2012-07-15T00:00"]),
    ("F30 a star is no day", "* * 1,15 * *", "2012-07-09T00:00", "2012-07-09T23:59", []),
]  # fmt: skip


@pytest.mark.parametrize(
    ("text", "after", "until", "expected"),
    [pytest.param(*case[1:], id=case[0]) for case in WINDOWS],
)
def test_a_window_holds(text: str, after: str, until: str, expected: list[str]) -> None:
    assert between(text, after, until) == expected


# --- the next fires -------------------------------------------------------------------------------

F28, A25 = "2024-01-10T12:34:56", "2024-01-10T12:34:56"
NEXT = [
    ("F28 5/15", "5/15 * * * *", F28, ["2024-01-10T12:35", "2024-01-10T12:50"]),
    ("F28 @every", "@every 1h30m", F28, ["2024-01-10T13:30", "2024-01-10T15:00"]),
    ("F28 ?", "0 0 ? * MON", F28, ["2024-01-15T00:00"]),
    ("F28 weekday 7", "0 0 * * 7", F28, ["2024-01-14T00:00"]),
    ("F28 L", "0 0 L * *", F28, ["2024-01-31T00:00"]),
    ("F24 MON#1", "* * * * MON#1", F28, ["2024-02-05T00:00"]),
    ("F30 Apr-Oct", "0 0 9 Apr-Oct ?", "2012-07-09T23:35", ["2012-08-09T00:00"]),
    ("F30 leap day", "0 0 29 Feb ?", "2012-07-09T23:35", ["2016-02-29T00:00"]),
    ("F30 */5 or Mon", "0 0 */5 Oct Mon", "2012-07-09T23:35", ["2012-10-01T00:00"]),
    ("F30 whole seconds", "every 15m", "2012-07-09T14:45:00.005", ["2012-07-09T15:00"]),
    ("A15", "* * * * * * *", "2013-01-01T00:00:59", ["2013-01-01T00:01"]),
    ("A15 day", "* * * * * * *", "2013-01-01T23:59:59", ["2013-01-02T00:00"]),
    ("A15 year", "* * * * * * *", "2012-12-31T23:59:59", ["2013-01-01T00:00"]),
    ("A16", "*/5 * * * * * *", "2013-01-01T00:00", ["2013-01-01T00:00:05"]),
    ("A17", "17-43/5 * * * *", "2013-01-01T00:30", ["2013-01-01T00:32"]),
    ("A17 next hour", "17-43/5 * * * *", "2013-01-01T00:50", ["2013-01-01T01:17"]),
    ("A18", "15-30/4,55 * * * *", "2013-01-01T00:16", ["2013-01-01T00:19"]),
    ("A18 55", "15-30/4,55 * * * *", "2013-01-01T00:30", ["2013-01-01T00:55"]),
    ("A18 next hour", "15-30/4,55 * * * *", "2013-01-01T00:55", ["2013-01-01T01:15"]),
    ("A19 MON", "0 0 * * MON", "2013-01-28T00:00", ["2013-02-04T00:00"]),
    ("A19 friday", "0 0 * * friday", "2013-01-01T00:00", ["2013-01-04T00:00"]),
    ("A19 6,7", "0 0 * * 6,7", "2013-01-01T00:00", ["2013-01-05T00:00", "2013-01-06T00:00"]),
    ("A22 L", "0 0 L * *", "2014-02-01T00:00", ["2014-02-28T00:00"]),
    ("A22 L leap", "0 0 L * *", "2016-02-15T00:00", ["2016-02-29T00:00"]),
    ("A22 LW", "0 0 LW * *", "2013-11-02T00:00", ["2013-11-29T00:00"]),
    ("A22 LW later", "0 0 LW * *", "2014-08-15T00:00", ["2014-08-29T00:00"]),
    ("A23 past year", "0 * * * * * 1980", "2024-01-01T00:00", []),
    ("A23 year to come", "0 * * * * * 2050", "2024-01-01T00:00", ["2050-01-01T00:00"]),
    ("A25", "30 5-59/15 * * * * *", A25,
        [f"2024-01-10T{time}:30" for time in ("12:35", "12:50", "13:05")]),
    ("A26 hours", "0 0 1,5,9,15,21 * * * *", A25,
        ["2024-01-10T15:00", "2024-01-10T21:00", "2024-01-11T01:00"]),
    ("A26 Saturdays", "0 0 0 * * 6 *", A25, [f"2024-01-{day}T00:00" for day in (13, 20, 27)]),
    ("A29", "0 0 0 1 1 * 2025-2030/2", A25, [f"{year}-01-01T00:00" for year in (2025, 2027, 2029)]),
    ("A30", "0 0 29 2 *", "2013-08-30T00:00",
        [f"{year}-02-29T00:00" for year in (2016, 2020, 2024, 2028, 2032)]),
    ("A31 5L", "0 0 * * 5L", A25, [f"2024-{day}T00:00" for day in ("01-26", "02-23", "03-29")]),
    ("A31 1#2", "0 0 * * 1#2", A25, [f"2024-{day}T00:00" for day in ("02-12", "03-11", "04-08")]),
    ("A31 31W", "0 0 31W * *", A25, [f"2024-{day}T00:00" for day in ("01-31", "03-29", "05-31")]),
]  # fmt: skip


@pytest.mark.parametrize(
    ("text", "after", "expected"), [pytest.param(*case[1:], id=case[0]) for case in NEXT]
)
def test_the_next_fires_are(text: str, after: str, expected: list[str]) -> None:
    assert next_fires(text, after, max(len(expected), 1)) == expected


REFUSED = [
    ("A4", "@time", "@hourly"),
    ("A23 six fields", "* * * * * 1980", "write '0 * * * * * 1980'"),
    *((f"A24 {step}", f"{step} * * * *", "minute") for step in ("*/60", "*/61", "2/60", "2-20/61")),
    ("A29 2100", "0 0 0 1 1 * 2100", "year '2100' has 2100, outside 1970-2099"),
    ("A29 */100", "0 0 0 1 1 * */100", "year '*/100' has the step 100"),
    ("F5", "0 19 * *", "4 fields"),
    ("F6 31 February", "0 0 31 2 *", "never fires"),
    ("F6 31 April", "0 0 31 4 *", "never fires"),
    ("F18", "every 1fortnight", "'1fortnight'"),
    ("F18 nothing", "every 0m", "no interval"),
    ("F30 15ms", "every 15ms", "'15ms'"),
    ("F28 reboot", "@reboot", "@hourly"),
    ("F28 60", "60 0 * * *", "minute '60' has 60, outside 0-59"),
    ("F28 six fields", "0 0 0 * * *", "can be read in two ways"),
    ("F28 */0", "*/0 * * * *", "minute '*/0' has the step '0'"),
    ("F28 */90", "*/90 * * * *", "minute '*/90' has the step 90"),
    ("F28 zone", "0 0 * * * tz Mars/Base", "Mars/Base"),
]


@pytest.mark.parametrize(
    ("text", "named"), [pytest.param(*case[1:], id=case[0]) for case in REFUSED]
)
def test_what_is_wrong_is_refused_at_once_and_named(text: str, named: str) -> None:
    window = ("--after", "2023-01-01T00:00Z", "--until", "2023-12-31T00:00Z")
    for words in (("next", text), ("between", text, *window), ("plan", text, *window)):
        told = jobs(*words, "--json")
        assert told.code == 2
        assert named in told.document()["error"]

    def taken() -> Iterator[float]:
        for _ in range(5):
            began = time.perf_counter()
            with pytest.raises(InvalidSchedule):
                parse(text)
            yield time.perf_counter() - began

    assert min(taken()) < 0.05


def test_f18_units_are_seconds_of_sixty_to_the_minute() -> None:
    lengths = [parse_span(text) for text in ("1m", "1h", "1d")]
    assert [each.total_seconds() for each in lengths] == [60, 3600, 86_400]
    assert Every("1m").period(NOW) == Every(minutes=1).period(NOW) == MINUTE


def test_f19_a_fire_is_the_same_instant_in_whatever_zone_it_is_written() -> None:
    texts = ("once 2022-01-28T19:00:00+00:00", "once 2022-01-28T20:00:00+01:00")
    assert parse(texts[0]) == parse(texts[1]) == Once(datetime.fromisoformat(texts[1][5:]))
    assert next_fires(texts[1], "2022-01-01T00:00", 1) == ["2022-01-28T19:00"]


def test_f23_a_text_without_a_zone_means_utc_or_the_zone_that_is_asked_for() -> None:
    assert next_fires("0 3 * * *", "2026-07-01T12:00", 1) == ["2026-07-02T03:00"]
    zone = ("--tz", "Europe/Berlin")
    assert next_fires("0 3 * * *", "2026-07-01T12:00", 1, *zone) == ["2026-07-02T01:00"]


def test_f25_after_a_short_stop_each_second_is_run_with_its_own_time() -> None:
    bounds = ("--after", "2026-01-05T12:00:00.500Z", "--until", "2026-01-05T12:00:04Z")
    answer = ask("plan", "every 1s", *bounds, "--catch-up", "all")
    assert answer["start"] == [f"2026-01-05T12:00:0{n}+00:00" for n in (1, 2, 3, 4)]
    assert (answer["skip"], answer["cursor"]) == ([], "2026-01-05T12:00:05+00:00")


def test_a6_a7_a_retry_waits_longer_each_time_but_never_wraps_to_its_base() -> None:
    # There the wait falls back to its base; here it stays at its longest.
    def waits(count: int, base: timedelta, cap: timedelta) -> list[float]:
        return [retry_delay(n, base=base, cap=cap) / SECOND for n in range(1, count + 1)]

    assert waits(6, 1 * SECOND, 10 * SECOND) == [1, 2, 4, 8, 10, 10]
    assert waits(7, 30 * SECOND, 10 * MINUTE) == [30, 60, 120, 240, 480, 600, 600]


# --- with a database ------------------------------------------------------------------------------


def rows(job: Job) -> list[tuple[str, str, int]]:
    """What became of the job's fires, oldest first: state, reason, how many."""
    found = Run.objects.filter(job=job).order_by("scheduled_at")
    return list(found.values_list("state", "reason", "fires"))


@pytest.mark.django_db(transaction=True)
def test_f17_registering_never_fires_at_once(deploy: Deploy) -> None:
    deploy(work=command("scheduled_times = [time(11, 50)]"))  # ten minutes ago
    assert target().next_fire_at == NOW + DAY - 10 * MINUTE
    assert runs.claim(now=NOW, limit=10).runs == []
    deploy(work=command("scheduled_times = [time(11, 50), time(12, 0)]"))
    assert runs.claim(now=NOW, limit=10).runs == []
    assert target().next_fire_at == NOW + DAY - 10 * MINUTE


@pytest.mark.django_db
def test_f19_a_fire_has_one_run_however_often_it_is_claimed() -> None:
    due = make_target(make_job(schedule="every 1h"), next_fire_at=NOW)
    assert len(runs.claim(now=NOW, limit=10).runs) == 1
    due.next_fire_at = NOW
    due.save(update_fields=["next_fire_at"])
    runs.claim(now=NOW + SECOND, limit=10)
    assert Run.objects.filter(target=due, scheduled_at=NOW).count() == 1


@pytest.mark.django_db
@pytest.mark.parametrize("resumed", [True, False])
def test_f27_down_and_paused_only_what_came_after_the_pause_is_caught_up(resumed: bool) -> None:
    # NOW is 12:00. Beats are away from 08:30 to 13:05; paused at 10:00, resumed at 12:00.
    job = make_job(schedule="every 1h", catch_up=CatchUp.ALL.value, catch_up_window=DAY)
    due = make_target(job, next_fire_at=NOW - 3 * HOUR)
    runs.pause(job, by="ann", reason="works", now=NOW - 2 * HOUR)
    if resumed:
        runs.resume(job, missed=CatchUp.NONE, by="ann", now=NOW)

    runs.claim(now=NOW + 65 * MINUTE, limit=10)

    due.refresh_from_db()
    if not resumed:
        assert rows(job) == []
        assert due.next_fire_at is None
        return
    started = Run.objects.filter(job=job, state=State.QUEUED)
    assert [run.scheduled_at for run in started] == [NOW + HOUR]
    assert started[0].cause == "catch_up"
    # 09:00 to 12:00 are not lost: they are accounted for, with their reason.
    skipped = Run.objects.filter(job=job, state=State.SKIPPED)
    assert sum(run.fires for run in skipped) == 4
    assert {run.reason for run in skipped} <= {Reason.PAUSED, Reason.LATE}
    assert due.next_fire_at == NOW + 2 * HOUR


@pytest.mark.django_db
@override_settings(JOBS_CATCH_UP_BURST=10, JOBS_CATCH_UP_RATE=100.0)
def test_f32_a_thousand_catch_ups_take_their_time_and_none_is_lost() -> None:
    assert catch_up.take(11, now=NOW) == 10
    assert catch_up.take(1, now=NOW + 9 * timedelta(milliseconds=1)) == 0
    assert catch_up.take(1, now=NOW + 20 * timedelta(milliseconds=1)) == 1

    now, left, ticks = NOW + HOUR, 1000, 0
    while left:
        left -= catch_up.take(left, now=now)
        ticks += 1
        now += 100 * timedelta(milliseconds=1)  # a tick: the bucket holds no more than its burst
    assert ticks == 100
    assert (ticks - 1) * 0.1 >= 9.9


@pytest.mark.django_db
def test_f32_what_the_budget_leaves_stays_due() -> None:
    job = make_job(schedule="every 1m", catch_up=CatchUp.ALL.value, catch_up_window=DAY)
    due = make_target(job, next_fire_at=NOW - 120 * MINUTE)
    for _ in range(13):
        runs.claim(now=NOW, limit=10, catch_up_budget=10)
    made = Run.objects.filter(target=due).order_by("scheduled_at")
    assert [run.scheduled_at for run in made] == [NOW - n * MINUTE for n in range(120, -1, -1)]


@pytest.mark.django_db
def test_f33_a_broker_that_fails_stops_no_schedule_and_loses_nothing(valkey: Valkey) -> None:
    failing = Celery("failing", broker="redis+socket:///nonexistent/sock", set_as_current=False)
    failing.conf.broker_transport_options = {"socket_connect_timeout": 0.2}
    for name in ("one", "other"):
        make_target(make_job(name, schedule="every 1m", overlap="allow"), next_fire_at=NOW)

    for minute in range(3):
        now = NOW + minute * MINUTE
        began = time.perf_counter()
        assert len(runs.claim(now=now, limit=10).runs) == 2
        assert outbox.publish_ready(failing, epoch="e1", now=now + 10 * SECOND) == 0
        assert time.perf_counter() - began < 5

    later = NOW + 3 * MINUTE
    assert outbox.publish_ready(app_or_default(), epoch="e1", now=later) == 6
    assert len(valkey.messages()) == 6


@pytest.mark.django_db
def test_f33_one_bad_schedule_stops_the_catch_up_of_no_other() -> None:
    good, bad = make_job("good", schedule="every 1h"), make_job("bad", schedule="every sometimes")
    for job in (bad, good):
        make_target(job, next_fire_at=NOW - HOUR)
    runs.claim(now=NOW, limit=10)
    assert [run.job for run in Run.objects.filter(state=State.QUEUED)] == [good]
    bad.refresh_from_db()
    assert "'sometimes' cannot be read" in bad.schedule_error


@pytest.mark.django_db
def test_a12_1_after_a_hold_nothing_runs_that_was_only_to_be_rescheduled() -> None:
    # 150 minutes late: the label "do not run what was missed" means what it says.
    due = make_target(make_job(schedule="every 30m"), next_fire_at=NOW - 150 * MINUTE)
    runs.pause(runs.installation(), by="ann", reason="hold", now=NOW - 160 * MINUTE)
    runs.resume(runs.installation(), missed=CatchUp.NONE, by="ann", now=NOW)
    due.refresh_from_db()
    assert due.next_fire_at == NOW + 30 * MINUTE
    assert runs.claim(now=NOW, limit=10).runs == []
    assert not Run.objects.exclude(state=State.SKIPPED).exists()


@pytest.mark.django_db
def test_a12_2_run_now_during_a_run_is_one_more_run_after_it() -> None:
    due = make_target(make_job(schedule="every 30m"), next_fire_at=NOW + 30 * MINUTE)
    first = runs.trigger(due.job, by="ann", now=NOW)
    started = runs.start(first.pk, first.attempt, worker="w", now=NOW)
    assert started is not None
    more = runs.trigger(due.job, by="bob", now=NOW + SECOND)
    assert runs.start(more.pk, more.attempt, worker="w", now=NOW + SECOND) is None
    done, end = Result(state=State.SUCCEEDED), NOW + 2 * SECOND
    assert runs.finish(first.pk, first.attempt, token=started.token, result=done, now=end)
    assert runs.start(more.pk, more.attempt, worker="w", now=end) is not None
    due.refresh_from_db()
    assert due.next_fire_at == NOW + 30 * MINUTE
