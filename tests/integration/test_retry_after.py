"""A result may ask for its target to be left alone: nothing but a newer result forgets that."""

from __future__ import annotations

from collections.abc import Callable
from datetime import timedelta

import pytest

from scheduling import backend, runs
from scheduling.cadence import Ended, Observation
from scheduling.feeds import OLDEST_SCHEDULED, Cooldowns, Feed
from scheduling.models import Cause, Job, Reason, Run, State, Target
from scheduling.runs import pool
from tests.factories import NOW, make_job, make_run, make_target

pytestmark = pytest.mark.django_db

MINUTE, HOUR, DAY = timedelta(minutes=1), timedelta(hours=1), timedelta(days=1)
FEED = Feed(cooldowns=Cooldowns(absolute=None)).as_json()
ASKED = runs.Result(state=State.SUCCEEDED, next_after=30 * DAY)
PLAIN = runs.Result(state=State.SUCCEEDED)
UNTIL = NOW + 30 * DAY


def end(target: Target, result: runs.Result, **fields: object) -> None:
    run = make_run(target, **fields)
    assert runs.start(run.pk, 1, worker="w", now=NOW) is not None
    assert runs.finish(run.pk, 1, token=None, result=result, now=NOW)
    target.refresh_from_db()


def told(target: Target) -> Target:
    """The host has said: come back in thirty days."""
    end(target, ASKED)
    assert target.not_before == UNTIL
    return target


def fed() -> Target:
    return make_target(make_job(feed=FEED), "a", last_scheduled_at=NOW - HOUR)


def pause_and_resume(target: Target) -> None:
    runs.pause(target, by="ann", reason="", now=NOW + DAY)
    runs.resume(target, by="ann", now=NOW + 2 * DAY)


def edit_the_feed(target: Target) -> None:
    target.job.feed = Feed(cooldowns=Cooldowns(absolute=HOUR)).as_json()
    target.job.save()
    pool.reckon_anew(target.job, after=0, now=NOW + 2 * DAY)


def retire_and_revive(target: Target) -> None:
    runs.retire_target(target, now=NOW + DAY)
    runs.revive_target(target, now=NOW + 2 * DAY)


def reschedule(target: Target) -> None:
    runs.reschedule(target.job, schedule="every 3h after end", now=NOW + 2 * DAY)


def give_it_to_an_executor(target: Target) -> None:
    run = make_run(target)
    runs.cancel(run.pk, by="ann", now=NOW + 2 * DAY)


@pytest.mark.parametrize(
    "act",
    [
        *(pause_and_resume, edit_the_feed, retire_and_revive, reschedule),
        give_it_to_an_executor,
    ],
)
def test_what_strategies_pick_is_left_alone_whatever_else_happens(
    act: Callable[[Target], None],
) -> None:
    target = told(fed())
    act(target)
    target.refresh_from_db()
    assert (target.eligible_at, target.eligible_since) == (UNTIL, None)


def test_other_cooldowns_do_not_forget_it() -> None:
    target = told(fed())
    none = Cooldowns(absolute=None, in_flight=None, failed=None, missing=None)
    for at, wanted in ((UNTIL, 0), (UNTIL + timedelta.resolution, 1)):
        picks = runs.select(target.job, OLDEST_SCHEDULED, 5, now=at, cooldowns=none, dry_run=True)
        assert len(picks) == wanted


def test_a_newer_result_that_asks_for_nothing_ends_it() -> None:
    target = told(fed())
    end(target, PLAIN)
    assert (target.not_before, target.eligible_since) == (None, NOW)


def test_a_newer_result_may_ask_for_another_time() -> None:
    target = told(fed())
    end(target, runs.Result(state=State.FAILED, reason=Reason.ERROR, next_after=15 * DAY))
    assert target.eligible_at is not None
    assert NOW + 15 * DAY <= target.eligible_at < NOW + 16 * DAY


def observe(job: Job, at: timedelta, wait: timedelta | None = None) -> None:
    observation = Observation(at=NOW + at, ended=Ended.FOUND, retry_after=wait)
    runs.observe(job, [("a", observation)], now=NOW + DAY)


def test_results_from_elsewhere_are_remembered_and_forgotten_alike() -> None:
    target = fed()
    observe(target.job, HOUR, 30 * DAY)
    observe(target.job, MINUTE)  # an older one
    observe(target.job, HOUR)  # the same again
    target.refresh_from_db()
    assert target.not_before == target.eligible_at == UNTIL + HOUR
    pause_and_resume(target)
    target.refresh_from_db()
    assert target.eligible_at == UNTIL + HOUR
    observe(target.job, 2 * HOUR)
    target.refresh_from_db()
    assert target.not_before is None
    assert target.eligible_at is None


def test_an_older_end_that_becomes_known_late_changes_nothing() -> None:
    target = fed()
    late = make_run(target)
    observe(target.job, HOUR, 30 * DAY)
    backend.end_runs([backend.RunEnd(id=late.pk, retry_after=HOUR, at=NOW)])
    target.refresh_from_db()
    assert target.not_before == target.eligible_at == UNTIL + HOUR


def test_what_was_run_again_for_an_old_day_asks_as_well_but_forgets_nothing() -> None:
    target = fed()
    end(target, ASKED, cause=Cause.BACKFILL)
    end(target, PLAIN, cause=Cause.BACKFILL)
    assert target.not_before == target.eligible_at == UNTIL


# --- with a cursor --------------------------------------------------------------------------------


def with_cursor(schedule: str = "every 1h after end") -> Target:
    target = runs.adopt(make_job(schedule=schedule), now=NOW - 2 * HOUR)
    (run,) = runs.claim(now=NOW - HOUR, limit=5).runs
    assert runs.start(run.pk, 1, worker="w", now=NOW - HOUR) is not None
    assert runs.finish(run.pk, 1, token=None, result=ASKED, now=NOW)
    target.refresh_from_db()
    assert target.next_fire_at == UNTIL
    return target


def pause_the_job(target: Target) -> None:
    runs.pause(target.job, by="ann", reason="", now=NOW + DAY)
    Target.objects.filter(pk=target.pk).update(next_fire_at=NOW + DAY)
    assert not runs.claim(now=NOW + DAY, limit=5).runs
    runs.resume(target.job, by="ann", now=NOW + 2 * DAY)


def let_recover_arm_it(target: Target) -> None:
    run = make_run(target)
    assert runs.start(run.pk, 1, worker="w", now=NOW + DAY) is not None
    Run.objects.filter(pk=run.pk).delete()
    assert runs.recover(now=NOW + DAY, reap=False).armed == 1


@pytest.mark.parametrize("act", [pause_the_job, retire_and_revive, reschedule, let_recover_arm_it])
def test_a_pause_between_runs_is_as_long_as_was_asked(act: Callable[[Target], None]) -> None:
    target = with_cursor()
    act(target)
    target.refresh_from_db()
    assert target.next_fire_at == UNTIL


@pytest.mark.parametrize(("schedule", "wait"), [("every 2h", 2 * HOUR), ("always", timedelta(0))])
def test_fixed_times_stay_and_services_run(schedule: str, wait: timedelta) -> None:
    target = with_cursor()
    runs.reschedule(target.job, schedule=schedule, now=NOW + DAY)
    target.refresh_from_db()
    assert target.next_fire_at == NOW + DAY + wait


ADAPTIVE = "adaptive 2h between 1h and 8h factor 2"


@pytest.mark.parametrize("schedule", ["every 1h after end", ADAPTIVE])
def test_a_result_from_elsewhere_keeps_a_cursor_away(schedule: str) -> None:
    job = make_job(schedule=schedule)
    target = runs.add_target(job, "a", now=NOW)
    observe(job, HOUR, 30 * DAY)
    target.refresh_from_db()
    assert target.next_fire_at == UNTIL + HOUR


# --- what is no such time -------------------------------------------------------------------------

WRONG = [timedelta(0), timedelta(days=-1), timedelta.max, timedelta(days=3651), 5, "1h"]


@pytest.mark.parametrize("wait", WRONG)
def test_a_wrong_wait_is_named_and_stops_no_other(wait: object) -> None:
    target = fed()
    with pytest.raises(ValueError, match="retry_after is"):
        Observation(at=NOW, ended=Ended.FOUND, retry_after=wait)  # type: ignore[arg-type]
    with pytest.raises(ValueError, match="retry_after is"):
        runs.Result(state=State.SUCCEEDED, next_after=wait)  # type: ignore[arg-type]
    wrong, right = make_run(target), make_run(make_target(target.job, "b"))
    reports = [
        backend.RunEnd(id=wrong.pk, retry_after=wait),  # type: ignore[arg-type]
        backend.RunEnd(id=right.pk, retry_after=timedelta(days=3650)),
    ]
    answer = backend.end_runs(reports)
    assert (answer.changed, list(answer.refused)) == ([right.pk], [wrong.pk])
    assert "retry_after is" in answer.refused[wrong.pk]
