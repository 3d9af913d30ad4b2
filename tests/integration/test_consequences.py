"""What the end of a run leads to: follow-ups and notifications, exactly once."""

from __future__ import annotations

from datetime import datetime, timedelta

import pytest
from django.test import override_settings

from scheduling import runs
from scheduling.models import (
    Cause,
    FollowUp,
    FollowUpOn,
    Job,
    Notification,
    Reason,
    Run,
    State,
    Target,
)
from tests.factories import NOW, make_job, make_run, make_target

pytestmark = pytest.mark.django_db

DONE = runs.Result(state=State.SUCCEEDED)
BROKEN = runs.Result(state=State.FAILED, reason=Reason.ERROR)


def end(
    target: Target, result: runs.Result = DONE, *, now: datetime = NOW, **fields: object
) -> Run:
    run = make_run(target, **fields)
    begun = runs.start(run.pk, 1, worker="w", now=now)
    assert begun is not None
    assert runs.finish(run.pk, 1, token=begun.token, result=result, now=now)
    return Run.objects.get(pk=run.pk)


def rule(job: Job, on: FollowUpOn, *, key: str = "") -> Target:
    follower = make_job()
    FollowUp.objects.create(job=job, follower=follower, on=on)
    return make_target(follower, key)


def followers() -> list[Run]:
    return list(Run.objects.filter(cause=Cause.FOLLOW_UP))


@pytest.mark.parametrize(
    ("on", "result", "expected"),
    [
        (FollowUpOn.SUCCESS, DONE, 1),
        (FollowUpOn.SUCCESS, BROKEN, 0),
        (FollowUpOn.FAILURE, DONE, 0),
        (FollowUpOn.FAILURE, BROKEN, 1),
        (FollowUpOn.ANY, DONE, 1),
        (FollowUpOn.ANY, BROKEN, 1),
    ],
)
def test_a_follow_up_fires_on_the_end_it_names(
    on: FollowUpOn, result: runs.Result, expected: int
) -> None:
    target = make_target()
    rule(target.job, on)
    parent = end(target, result)
    assert len(followers()) == expected
    for run in followers():
        assert (run.parent, run.state, run.depth) == (parent, State.QUEUED, 1)


def test_a_second_end_of_the_parent_is_refused_and_adds_no_follow_up() -> None:
    target = make_target()
    rule(target.job, FollowUpOn.ANY)
    parent = end(target)
    assert not runs.finish(parent.pk, 1, token=None, result=DONE, now=NOW)
    assert len(followers()) == 1


def test_a_retry_is_no_end() -> None:
    target = make_target(make_job(retries=1))
    rule(target.job, FollowUpOn.ANY)
    end(target, BROKEN)
    assert followers() == []


def test_a_cancelled_run_neither_alerts_nor_leads_on() -> None:
    target = make_target()
    rule(target.job, FollowUpOn.ANY)
    end(target, runs.Result(state=State.FAILED, reason=Reason.CANCELLED))
    assert followers() == []
    assert Notification.objects.count() == 0


def test_a_skipped_parent_starts_nothing() -> None:
    target = make_target()
    rule(target.job, FollowUpOn.ANY)
    run = make_run(target)
    runs.cancel(run.pk, by="ann", now=NOW)
    assert followers() == []


def test_the_follower_runs_for_the_same_key_where_it_knows_it() -> None:
    target = make_target(make_job(), "shop")
    same = rule(target.job, FollowUpOn.SUCCESS, key="shop")
    plain = rule(target.job, FollowUpOn.SUCCESS)
    end(target)
    assert {run.target for run in followers()} == {same, plain}


def test_a_keyed_follower_meets_a_new_key_with_a_target_of_its_own() -> None:
    target = make_target(make_job(), "shop", resource="shop")
    follower = make_job(schedule="every 1h")
    FollowUp.objects.create(job=target.job, follower=follower, on=FollowUpOn.ANY)
    make_target(follower, "bank")
    end(target)
    [run] = followers()
    made = Target.objects.get(job=follower, key="shop")
    assert (run.target, made.resource) == (made, target.resource)
    assert made.next_fire_at == NOW + timedelta(hours=1)
    end(target)
    assert Target.objects.filter(job=follower).count() == 2


def test_a_retired_target_of_a_follower_leaves_a_skipped_row() -> None:
    target = make_target(make_job(), "shop")
    retired = rule(target.job, FollowUpOn.ANY, key="shop")
    runs.retire_target(retired, now=NOW)
    end(target)
    [run] = followers()
    assert runs.start(run.pk, 1, worker="w", now=NOW) is None
    run.refresh_from_db()
    assert (run.state, run.reason) == (State.SKIPPED, Reason.RETIRED)


def test_a_paused_follower_leaves_a_skipped_row() -> None:
    target = make_target()
    follower = rule(target.job, FollowUpOn.SUCCESS)
    runs.pause(follower.job, by="ann", reason="upgrade", now=NOW)
    end(target)
    [run] = followers()
    assert runs.start(run.pk, 1, worker="w", now=NOW) is None
    run.refresh_from_db()
    assert (run.state, run.reason) == (State.SKIPPED, Reason.PAUSED)
    assert "ann" in run.detail


@override_settings(JOBS_FOLLOW_UP_DEPTH=2)
def test_a_chain_that_is_too_deep_is_capped() -> None:
    target = make_target()
    rule(target.job, FollowUpOn.SUCCESS)
    end(target, depth=2)
    [run] = followers()
    assert (run.state, run.reason) == (State.SKIPPED, Reason.CAPPED)


def told() -> list[str]:
    return list(Notification.objects.order_by("pk").values_list("event", flat=True))


def test_failing_fixed_and_failing_again_are_told_once_each() -> None:
    target = make_target()
    for result in (DONE, BROKEN, BROKEN, BROKEN, DONE, DONE, BROKEN):
        end(target, result)
    assert told() == ["failing", "fixed", "failing"]


def test_still_failing_is_told_every_time_by_choice() -> None:
    target = make_target(make_job(notify_still_failing=True))
    for result in (BROKEN, BROKEN, BROKEN):
        end(target, result)
    assert told() == ["failing", "still_failing", "still_failing"]


def test_still_failing_is_told_once_a_day_otherwise() -> None:
    target = make_target()
    for hours in (0, 1, 23, 24, 25, 47, 48):
        end(target, BROKEN, now=NOW + timedelta(hours=hours))
    assert told() == ["failing", "still_failing", "still_failing"]


@pytest.mark.parametrize(("output", "expected"), [("", []), (" \n", []), ("3 sent", ["succeeded"])])
def test_success_is_told_when_asked_for_and_there_is_output(
    output: str, expected: list[str]
) -> None:
    target = make_target(make_job(notify_on_success=True))
    end(target, runs.Result(state=State.SUCCEEDED, output=output))
    assert told() == expected
