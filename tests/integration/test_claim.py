"""Claiming: due fire times become runs and skips, once, and cursors move on."""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import Any

import pytest

from scheduling import runs
from scheduling.models import Installation, Job, Parked, Run, State, Target
from tests.factories import NOW, make_job, make_run, make_target

pytestmark = pytest.mark.django_db

SECOND = timedelta(seconds=1)
MINUTE = timedelta(minutes=1)


def claim(now: datetime = NOW, *, limit: int = 100) -> runs.Claim:
    return runs.claim(now=now, limit=limit)


def due(**fields: Any) -> Target:
    """Make a target of a job that fires every minute and is due now."""
    return make_target(make_job(**{"schedule": "every 1m", **fields}), next_fire_at=NOW)


def test_a_due_target_gets_a_queued_run_and_its_next_fire() -> None:
    target = due()
    claim()
    target.refresh_from_db()
    run = Run.objects.get()
    assert (run.target, run.state, run.scheduled_at) == (target, State.QUEUED, NOW)
    assert run.cause == "schedule"
    # The beat that claimed it publishes it; the others leave it alone for a moment.
    assert run.publish_at == NOW + 2 * SECOND
    assert target.next_fire_at == NOW + MINUTE


def test_a_second_beat_finds_nothing_to_claim() -> None:
    due()
    assert len(claim().runs) == 1
    assert claim().runs == []
    assert Run.objects.count() == 1


def test_a_fire_is_not_taken_before_its_time() -> None:
    due()
    assert claim(NOW - SECOND).runs == []


def test_a_batch_takes_the_earliest_first() -> None:
    for minutes in (2, 1, 3):
        make_target(make_job(schedule="every 1m"), next_fire_at=NOW - minutes * MINUTE)
    claim(limit=2)
    assert Target.objects.due(NOW).get().next_fire_at == NOW - MINUTE


def test_a_fire_time_that_has_its_row_keeps_it_when_the_cursor_was_set_back() -> None:
    target = due()
    claim()
    Target.objects.filter(pk=target.pk).update(next_fire_at=NOW)
    claim()
    assert Run.objects.count() == 1


@pytest.mark.parametrize(
    ("catch_up", "started", "skipped"),
    [("none", 0, 10), ("latest", 0, 9), ("all", 10, 0)],
)
def test_missed_fires_are_run_or_skipped_by_the_jobs_policy(
    catch_up: str, started: int, skipped: int
) -> None:
    target = due(catch_up=catch_up)
    claim(NOW + 10 * MINUTE - 30 * SECOND)
    caught = Run.objects.filter(target=target, cause="catch_up").count()
    assert caught == started + (catch_up == "latest")
    stretches = Run.objects.filter(target=target, state=State.SKIPPED)
    assert sum(stretches.values_list("fires", flat=True)) == skipped
    target.refresh_from_db()
    assert target.next_fire_at == NOW + 10 * MINUTE


def test_caught_up_runs_of_a_target_wait_for_one_another() -> None:
    due(catch_up="all")
    claim(NOW + 3 * MINUTE - 30 * SECOND)
    first, second, third = Run.objects.order_by("scheduled_at")
    assert first.waiting_on is None
    assert (second.waiting_on, third.waiting_on) == (first, second)
    assert (second.publish_at, third.publish_at) == (None, None)


def test_an_open_run_makes_the_next_fire_a_skip_that_names_it() -> None:
    target = due()
    before = make_run(target, state=State.RUNNING)
    claim()
    skipped = Run.objects.get(state=State.SKIPPED)
    assert (skipped.reason, skipped.fires, skipped.scheduled_at) == ("overlap", 1, NOW)
    assert str(before.pk) in skipped.detail
    target.refresh_from_db()
    assert target.skipped_for_overlap == 1


@pytest.mark.parametrize("overlap", ["wait", "queue"])
def test_a_fire_may_wait_for_the_open_run(overlap: str) -> None:
    target = due(overlap=overlap)
    before = make_run(target, state=State.RUNNING, scheduled_at=NOW - MINUTE)
    (run,) = claim().runs
    assert run.waiting_on == before
    assert run.publish_at is None


def test_with_overlap_wait_only_one_fire_waits() -> None:
    target = due(overlap="wait")
    make_run(target, state=State.RUNNING, scheduled_at=NOW - MINUTE)
    claim()
    claim(NOW + MINUTE)
    assert Run.objects.filter(state=State.QUEUED).count() == 1
    assert Run.objects.get(state=State.SKIPPED).scheduled_at == NOW + MINUTE


def test_with_overlap_allow_nothing_waits() -> None:
    target = due(overlap="allow")
    make_run(target, state=State.RUNNING, exclusive=False)
    (run,) = claim().runs
    assert (run.waiting_on, run.exclusive) == (None, False)


@pytest.mark.parametrize("scope", ["job", "target", "installation"])
def test_what_is_paused_loses_its_cursor_until_it_is_resumed(scope: str) -> None:
    target = due()
    scopes: dict[str, Installation | Job | Target] = {
        "job": target.job,
        "target": target,
        "installation": runs.installation(),
    }
    paused = scopes[scope]
    runs.pause(paused, by="a test", reason="to see", now=NOW)
    assert claim().runs == []
    target.refresh_from_db()
    assert (target.next_fire_at, target.parked) == (None, Parked.PAUSED)
    runs.resume(paused, by="a test", now=NOW + 4 * MINUTE - SECOND)
    target.refresh_from_db()
    assert target.next_fire_at == NOW + 4 * MINUTE
    missed = Run.objects.get(state=State.SKIPPED)
    assert (missed.reason, missed.fires) == ("paused", 4)


def test_a_schedule_that_cannot_be_read_stops_no_other() -> None:
    bad, good = due(), due()
    Job.objects.filter(pk=bad.job.pk).update(schedule="every so often")
    assert [run.target for run in claim().runs] == [good]
    bad.refresh_from_db()
    bad.job.refresh_from_db()
    assert (bad.next_fire_at, bad.parked) == (None, Parked.ERROR)
    assert "so often" in bad.job.schedule_error


def test_a_job_with_a_number_of_runs_left_stops_after_them() -> None:
    target = due(runs_left=2, overlap="allow")
    for minutes in range(4):
        claim(NOW + minutes * MINUTE)
    target.refresh_from_db()
    target.job.refresh_from_db()
    assert Run.objects.count() == 2
    assert (target.next_fire_at, target.job.runs_left) == (None, 0)


def test_no_fire_comes_after_the_jobs_end() -> None:
    target = due(ends_at=NOW + 2 * MINUTE, overlap="allow")
    for minutes in range(5):
        claim(NOW + minutes * MINUTE)
    target.refresh_from_db()
    assert target.next_fire_at is None
    assert Run.objects.count() == 3


def test_an_edited_schedule_settles_what_the_old_one_owed() -> None:
    target = due(overlap="allow")
    runs.reschedule(target.job, schedule="every 1h", now=NOW + 2 * SECOND)
    target.refresh_from_db()
    assert Run.objects.get().scheduled_at == NOW
    assert target.next_fire_at == NOW + timedelta(hours=1)


def test_a_retired_job_skips_what_is_queued() -> None:
    target = due()
    claim()
    runs.retire(target.job, now=NOW + SECOND)
    target.refresh_from_db()
    assert (target.next_fire_at, target.parked) == (None, Parked.RETIRED)
    assert Run.objects.get().reason == "retired"
