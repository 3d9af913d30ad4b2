"""Follow-ups: chains, fan-out, what a follower learns of its parent."""

from __future__ import annotations

from datetime import timedelta
from time import process_time

import pytest
from django.test import override_settings

from scheduling import runs
from scheduling.models import Outcome, Reason, Run, State, Target
from tests.factories import NOW, make_job
from tests.integration.chains import (
    BROKEN,
    DONE,
    LATER,
    begin,
    decline,
    end,
    follower,
    followers,
    job,
    tie,
    trigger,
)
from workers import commands

pytestmark = pytest.mark.django_db


# --- chains


def test_all_runs_of_a_chain_know_its_first_one() -> None:
    a, b, c = job("a"), job("b"), job("c")
    tie(a, b)
    tie(b, c)
    first = end(trigger(a))
    second = end(follower("b"))
    assert (first.root, second.root, follower("c").root) == (None, first, first)
    assert [first.depth, second.depth, follower("c").depth] == [0, 1, 2]


@override_settings(JOBS_FOLLOW_UP_DEPTH=1)
def test_a_chain_that_is_too_deep_ends_with_a_skip_that_says_so() -> None:
    a, b, c = job("a"), job("b"), job("c")
    tie(a, b)
    tie(b, c)
    end(trigger(a))
    end(follower("b"))
    assert (follower("c").state, follower("c").reason) == (State.SKIPPED, Reason.CAPPED)
    assert "deeper than 1" in follower("c").detail


def test_the_time_to_start_counts_from_the_end_of_the_parent() -> None:
    a, b = job("a"), job("b", start_within=timedelta(minutes=1))
    tie(a, b)
    end(trigger(a), now=LATER)
    run = follower("b")
    assert run.start_by == LATER + timedelta(minutes=1)
    assert runs.start(run.pk, 1, worker="w", now=LATER + timedelta(minutes=2)) is None
    assert (follower("b").state, follower("b").reason) == (State.SKIPPED, Reason.LATE)


def test_a_paused_follower_leaves_a_skip_and_leads_to_nothing() -> None:
    a, b, c = job("a"), job("b"), job("c")
    tie(a, b)
    tie(b, c, "any")
    runs.pause(b, by="ann", reason="audit", now=NOW)
    end(trigger(a))
    assert runs.start(follower("b").pk, 1, worker="w", now=NOW) is None
    assert (follower("b").state, follower("b").reason) == (State.SKIPPED, Reason.PAUSED)
    assert "audit" in follower("b").detail
    assert followers("c") == []


def test_a_follower_that_declines_leads_to_nothing() -> None:
    a, b, c = job("a"), job("b"), job("c")
    tie(a, b)
    tie(b, c, "any")
    end(trigger(a))
    decline(follower("b"))
    assert (follower("b").state, follower("b").reason) == (State.SKIPPED, Reason.DECLINED)
    assert followers("c") == []


def test_only_the_last_attempt_of_a_parent_counts() -> None:
    a, good, bad = job("a", retries=1), job("good"), job("bad")
    tie(a, good)
    tie(a, bad, "failure")
    run = trigger(a)
    end(run, BROKEN)
    assert followers() == []
    run.refresh_from_db()
    assert run.ready_at is not None
    end(run, now=run.ready_at)
    assert [each.name for each in followers()] == ["good"]


# --- fan-out


def test_a_plain_parent_leads_to_a_run_for_each_active_target() -> None:
    a, b = job("a"), job("b", "north", "south", "gone")
    tie(a, b)
    runs.retire_target(Target.objects.get(key="gone"), now=NOW)
    parent = end(trigger(a))
    assert [(run.key, run.parent, run.state) for run in followers("b")] == [
        ("north", parent, State.QUEUED),
        ("south", parent, State.QUEUED),
    ]
    assert not Target.objects.filter(job=b, key="").exists()


def test_a_keyed_follower_without_targets_leads_to_nothing(
    caplog: pytest.LogCaptureFixture,
) -> None:
    a = job("a")
    tie(a, make_job("b"))
    end(trigger(a))
    assert followers() == []
    assert "b is to follow, but has no targets" in caplog.text


@override_settings(JOBS_FAN_OUT=2)
def test_targets_for_which_there_is_no_room_are_one_skip_that_counts_them() -> None:
    a, b = job("a"), job("b", *"pqrst")
    tie(a, b)
    end(trigger(a))
    found = followers("b")
    assert [(run.key, run.state) for run in found] == [
        ("p", State.QUEUED),
        ("q", State.QUEUED),
        ("r", State.SKIPPED),
    ]
    assert found[2].reason == Reason.CAPPED
    assert "3 targets" in found[2].detail
    assert "JOBS_FAN_OUT" in found[2].detail


@override_settings(JOBS_FAN_OUT=2)
def test_the_limit_holds_for_all_rules_of_a_run_together() -> None:
    a = job("a")
    for name in "bcd":
        tie(a, job(name))
    end(trigger(a))
    assert sorted(run.state for run in followers()) == [State.QUEUED, State.QUEUED, State.SKIPPED]


def test_ten_thousand_targets_take_a_few_seconds() -> None:
    a, b = job("a"), make_job("b")
    Target.objects.bulk_create(Target(job=b, key=f"{n:05}") for n in range(10_000))
    tie(a, b)
    run = trigger(a)
    token = begin(run).token
    begun = process_time()
    assert runs.finish(run.pk, 1, token=token, result=DONE, now=NOW)
    assert Run.objects.filter(parent=run, state=State.QUEUED).count() == 10_000
    assert process_time() - begun < 10, "seconds of this process, whatever else the machine does"


# --- what a follower learns


def test_a_follower_learns_how_its_parent_ended() -> None:
    a, b = job("a", "north"), job("b", "north")
    tie(a, b)
    result = runs.Result(state=State.SUCCEEDED, outcome=Outcome.CHANGED, value={"rows": 3})
    run = end(trigger(a, "north"), result)
    begun = begin(follower("b"))
    told = begun.current(lambda: False).parent
    assert told is not None
    assert (told.id, told.job, told.key, told.scheduled_at) == (run.pk, "a", "north", NOW)
    assert (told.state, told.reason, told.outcome) == ("succeeded", "", "changed")
    assert told.result == {"rows": 3}
    assert begun.current(lambda: False).parents == (told,)
    environ = commands.facts(begun)
    assert (environ["PARENT_RUN_ID"], environ["PARENT_JOB"]) == (str(run.pk), "a")
    assert environ["PARENT_STATE"] == "succeeded"
    assert environ["PARENT_SCHEDULED_AT"] == NOW.isoformat()


def test_a_run_that_follows_nothing_has_no_parent() -> None:
    begun = begin(trigger(job("a")))
    current = begun.current(lambda: False)
    assert (current.parent, current.parents) == (None, ())
    assert "PARENT_RUN_ID" not in commands.facts(begun)


def test_a_pruned_parent_is_none() -> None:
    a, b = job("a"), job("b")
    tie(a, b)
    end(trigger(a)).delete()
    assert begin(follower("b")).current(lambda: False).parents == ()
