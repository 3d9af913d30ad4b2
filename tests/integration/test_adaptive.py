"""Adaptive schedules: the end of a run sets the next cursor, by what the run has found."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from scheduling import Outcome, runs
from scheduling.feeds import Feed
from scheduling.models import Calendar, Cause, Parked, Reason, Run, State, Target
from tests.factories import NOW, make_job, make_run, make_target
from tests.integration.answers import comes

pytestmark = pytest.mark.django_db

MINUTE, HOUR, DAY = timedelta(minutes=1), timedelta(hours=1), timedelta(days=1)
BETWEEN = "adaptive 8d between 1d and 64d factor 2"
CHANGED = runs.Result(state=State.SUCCEEDED, outcome=Outcome.CHANGED)
UNCHANGED = runs.Result(state=State.SUCCEEDED, outcome=Outcome.UNCHANGED)
MISSING = runs.Result(state=State.SUCCEEDED, outcome=Outcome.MISSING)
PLAIN = runs.Result(state=State.SUCCEEDED)
BROKEN = runs.Result(state=State.FAILED, reason=Reason.ERROR)


def adopted(**fields: Any) -> Target:
    fields.setdefault("schedule", BETWEEN)
    return runs.adopt(make_job(**fields), now=NOW)


def fire(target: Target) -> Run:
    """Claim the fire that is due and begin its run; nothing else is due."""
    target.refresh_from_db()
    assert target.next_fire_at is not None
    [run] = runs.claim(now=target.next_fire_at, limit=10).runs
    assert runs.start(run.pk, 1, worker="w", now=run.scheduled_at) is not None
    return run


def finish(run: Run, result: runs.Result, *, took: timedelta = MINUTE) -> datetime:
    """End the run; give when it ended."""
    ended = run.scheduled_at + took
    run.refresh_from_db()
    assert runs.finish(run.pk, run.attempt, token=run.token, result=result, now=ended)
    return ended


def look(target: Target, result: runs.Result) -> timedelta | None:
    """Let the target have one run; give how long after its end the next one is."""
    ended = finish(fire(target), result)
    target.refresh_from_db()
    return None if target.next_fire_at is None else target.next_fire_at - ended


def test_its_first_fire_is_one_interval_away_as_that_of_a_pause_between_runs() -> None:
    assert adopted().next_fire_at == NOW + 8 * DAY
    assert adopted(schedule="adaptive ladder").next_fire_at == NOW + 2 * DAY


def test_the_first_run_can_come_at_once() -> None:
    target = adopted(first_run="now")
    assert Run.objects.get().ready_at == NOW
    assert target.next_fire_at == NOW + 8 * DAY


def test_b11_what_changes_is_looked_at_sooner_and_what_does_not_later() -> None:
    target = adopted()
    waits = [look(target, each) for each in (UNCHANGED, UNCHANGED, CHANGED, CHANGED, CHANGED)]
    assert waits == [16 * DAY, 32 * DAY, 16 * DAY, 8 * DAY, 4 * DAY]


def test_the_bounds_hold_both_ways() -> None:
    target = adopted()
    assert [look(target, UNCHANGED) for _ in range(5)][-1] == 64 * DAY
    assert [look(target, CHANGED) for _ in range(8)][-1] == DAY


@pytest.mark.parametrize("result", [PLAIN, BROKEN, MISSING])
def test_what_says_nothing_of_a_change_waits_as_long_again(result: runs.Result) -> None:
    assert look(adopted(), result) == 8 * DAY


def test_the_ladder_waits_the_days_of_its_level_spread_by_a_tenth() -> None:
    target = adopted(schedule="adaptive ladder")
    waits = [look(target, UNCHANGED) for _ in range(4)]
    for wait, days in zip(waits, (2, 4, 16, 64), strict=True):
        assert wait is not None
        assert abs(wait - days * DAY) <= 0.1 * days * DAY
    assert waits[0] != 2 * DAY


def test_without_bounds_each_change_goes_down_the_ladder() -> None:
    target = adopted(schedule="adaptive ladder")
    for _ in range(3):
        look(target, CHANGED)
    assert target.level == 0
    assert target.interval is not None
    assert target.interval <= 1.1 * DAY


def test_while_its_run_is_open_it_has_no_cursor() -> None:
    target = adopted()
    run = fire(target)
    target.refresh_from_db()
    assert (target.next_fire_at, target.parked) == (None, Parked.OPEN)
    assert not runs.claim(now=NOW + 100 * DAY, limit=10).runs
    ended = finish(run, UNCHANGED)
    target.refresh_from_db()
    assert (target.next_fire_at, target.parked) == (ended + 16 * DAY, "")


def test_the_end_of_a_run_by_hand_counts_too() -> None:
    target = adopted()
    run = make_run(target, cause=Cause.MANUAL)
    assert runs.start(run.pk, 1, worker="w", now=NOW) is not None
    ended = finish(run, CHANGED)
    target.refresh_from_db()
    assert target.next_fire_at == ended + 4 * DAY


def test_retry_after_is_the_least_that_it_waits() -> None:
    later = runs.Result(state=State.SUCCEEDED, next_after=30 * DAY, fingerprint="a")
    sooner = runs.Result(state=State.SUCCEEDED, next_after=HOUR, fingerprint="a")
    target = adopted()
    assert look(target, later) == 30 * DAY
    assert target.interval == 4 * DAY
    assert look(target, sooner) == 8 * DAY


def test_retry_after_holds_for_a_pause_between_runs_but_for_no_fixed_time() -> None:
    later = runs.Result(state=State.SUCCEEDED, next_after=DAY)
    assert look(adopted(schedule="every 1h after end"), later) == DAY
    assert look(adopted(schedule="every 2h"), later) == 2 * HOUR - MINUTE


def test_its_retries_come_first_and_keep_the_interval() -> None:
    target = adopted(retries=1)
    run = fire(target)
    finish(run, BROKEN)
    target.refresh_from_db()
    assert (target.next_fire_at, target.parked) == (None, Parked.OPEN)
    again = run.scheduled_at + HOUR
    assert runs.start(run.pk, 2, worker="w", now=again) is not None
    ended = finish(run, BROKEN, took=HOUR + MINUTE)
    target.refresh_from_db()
    assert target.next_fire_at == ended + 8 * DAY


def test_a_one_shot_that_has_failed_is_done() -> None:
    target = adopted(schedule=f"once {(NOW + DAY).isoformat()}", retries=0)
    assert look(target, BROKEN) is None
    assert not runs.claim(now=NOW + 100 * DAY, limit=10).runs


def test_recover_arms_a_cursor_whose_run_is_gone() -> None:
    target = adopted()
    look(target, UNCHANGED)
    run = fire(target)
    Run.objects.filter(pk=run.pk).delete()
    now = run.scheduled_at + DAY
    assert runs.recover(now=now, reap=False).armed == 1
    target.refresh_from_db()
    assert target.next_fire_at == now + 16 * DAY


def test_a_resume_counts_the_interval_anew() -> None:
    target = adopted()
    look(target, UNCHANGED)
    runs.pause(target, by="ann", reason="", now=NOW)
    target.refresh_from_db()
    assert target.next_fire_at is not None
    due = target.next_fire_at
    assert not runs.claim(now=due, limit=10).runs
    runs.resume(target, by="ann", now=due + DAY)
    target.refresh_from_db()
    assert target.next_fire_at == due + 17 * DAY


def test_an_edit_begins_the_interval_anew() -> None:
    target = adopted()
    look(target, UNCHANGED)
    now = NOW + 10 * DAY
    runs.reschedule(target.job, schedule="adaptive 2d between 1d and 4d factor 2", now=now)
    target.refresh_from_db()
    assert (target.interval, target.next_fire_at) == (None, now + 2 * DAY)


def test_an_edit_while_a_run_is_open_counts_for_its_end() -> None:
    target = adopted()
    look(target, UNCHANGED)
    run = fire(target)
    text = "adaptive 2d between 1d and 4d factor 2"
    runs.reschedule_target(target, schedule=text, now=run.scheduled_at)
    target.refresh_from_db()
    assert (target.interval, target.parked) == (None, Parked.OPEN)
    ended = finish(run, CHANGED)
    target.refresh_from_db()
    assert target.next_fire_at == ended + DAY


def test_an_edit_of_the_job_leaves_the_interval_of_a_target_with_a_schedule_of_its_own() -> None:
    target = adopted(schedule="every 1h")
    runs.reschedule_target(target, schedule=BETWEEN, now=NOW)
    target.refresh_from_db()
    look(target, UNCHANGED)
    runs.reschedule(target.job, schedule="every 2h", now=NOW)
    target.refresh_from_db()
    assert target.interval == 16 * DAY


def test_an_interval_outside_of_the_bounds_is_brought_within_them() -> None:
    target = adopted()
    Target.objects.filter(pk=target.pk).update(interval=HOUR)
    assert look(target, PLAIN) == DAY


def test_it_comes_when_the_days_off_are_over() -> None:
    Calendar.objects.create(name="closed", days="2026-01-10..2026-01-31")
    target = adopted(calendar_id="closed")
    assert target.next_fire_at == datetime(2026, 2, 1, tzinfo=UTC)
    look(target, UNCHANGED)
    assert target.interval == 16 * DAY


@pytest.mark.parametrize(
    ("place", "words"),
    [
        ({"eligible_at": NOW + DAY}, "It is left alone"),
        ({"eligible_since": NOW}, "strategies may pick it when slots are free"),
    ],
)
def test_of_a_target_that_strategies_pick_it_is_told_from_when(
    place: dict[str, Any], words: str
) -> None:
    job = make_job(schedule=BETWEEN, feed=Feed().as_json())
    make_target(job, "a", **place)
    assert words in comes(job, now=NOW)


def test_why_says_what_it_has_come_to() -> None:
    target = adopted()
    look(target, UNCHANGED)
    assert target.next_fire_at is not None
    told = comes(target.job, now=target.next_fire_at - DAY)
    assert "; it waits 16 days by now, adapting to what its runs find" in told
