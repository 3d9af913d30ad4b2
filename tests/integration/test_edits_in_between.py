"""What meets a target that has an edit of its job yet to follow."""

from __future__ import annotations

import pytest

from scheduling import runs
from scheduling.models import (
    Cause,
    Edit,
    Parked,
    Reason,
    Run,
    State,
    Target,
)
from tests.factories import NOW, make_run
from tests.integration.accounts import accounted_for
from tests.integration.many_targets import (
    HOUR,
    MINUTE,
    SECOND,
    cursors,
    follow_all,
    in_small_batches,
    job_of_many,
    one_of,
    parked,
)

pytestmark = pytest.mark.django_db


@pytest.fixture(autouse=True)
def _small_batches(monkeypatch: pytest.MonkeyPatch) -> None:
    in_small_batches(monkeypatch)


def test_a_claim_fires_what_is_due_by_the_new_schedule_only() -> None:
    job = job_of_many()
    runs.reschedule(job, schedule="every 90s", now=NOW + SECOND)
    # Due by the old one, which is no more
    assert not runs.claim(now=NOW + MINUTE, limit=10).runs
    assert not Run.objects.exists()
    assert len(runs.claim(now=NOW + 90 * SECOND, limit=10).runs) == 7
    assert set(Run.objects.values_list("scheduled_at", flat=True)) == {NOW + 90 * SECOND}
    follow_all(NOW + 2 * MINUTE)
    for target in Target.objects.filter(job=job):
        accounted_for(target)


def test_a_claim_fires_what_was_due_before_the_edit() -> None:
    job = job_of_many()
    runs.reschedule(job, schedule="every 1h", now=NOW + MINUTE)
    runs.claim(now=NOW + MINUTE, limit=10)
    assert Run.objects.filter(scheduled_at=NOW + MINUTE, state=State.QUEUED).count() == 7
    assert cursors(job) == {NOW + HOUR}


def test_a_claim_that_was_first_keeps_what_it_took() -> None:
    job = job_of_many()
    runs.claim(now=NOW + 2 * MINUTE, limit=10)
    # The edit's clock was read before.
    runs.reschedule(job, schedule="every 30s", now=NOW + MINUTE)
    follow_all(NOW + 2 * MINUTE)
    assert cursors(job) == {NOW + 2 * MINUTE + 30 * SECOND}


def test_a_claim_of_a_retired_job_takes_nothing() -> None:
    job = job_of_many()
    runs.retire(job, now=NOW + SECOND)
    assert not runs.claim(now=NOW + MINUTE, limit=10).runs
    assert parked(job) == {Parked.RETIRED}
    for target in Target.objects.filter(job=job):
        accounted_for(target)


def test_a_claim_takes_only_the_runs_that_the_job_has_left() -> None:
    job = job_of_many(runs_left=3)
    runs.reschedule(job, schedule="every 1h", now=NOW + MINUTE)
    runs.claim(now=NOW + MINUTE, limit=10)
    job.refresh_from_db()
    assert (Run.objects.count(), job.runs_left) == (3, 0)
    assert cursors(job) == {None}


def test_a_new_target_is_left_alone() -> None:
    job = job_of_many()
    runs.reschedule(job, schedule="every 1h", now=NOW + SECOND)
    new = runs.add_target(job, "new", now=NOW + 2 * SECOND)
    assert follow_all(NOW + 2 * HOUR) == [3, 3, 1]
    new.refresh_from_db()
    assert new.next_fire_at == NOW + HOUR


def test_who_is_resumed_in_between_accounts_for_its_pause() -> None:
    job = job_of_many()
    runs.pause(job, by="ann", reason="", now=NOW)
    runs.claim(now=NOW + MINUTE, limit=10)
    runs.reschedule(job, schedule="every 90s", now=NOW + 3 * MINUTE)
    runs.resume(job, by="ann", now=NOW + 10 * MINUTE)
    assert cursors(job) == {NOW + 10 * MINUTE + 30 * SECOND}
    for target in Target.objects.filter(job=job):
        accounted_for(target)
    follow_all(NOW + 10 * MINUTE)
    assert not Edit.objects.exists()


def test_who_was_not_due_yet_is_resumed_by_what_it_is_to_follow() -> None:
    job = job_of_many(schedule="every 1h")
    runs.pause(job, by="ann", reason="", now=NOW + MINUTE)
    runs.reschedule(job, schedule="every 1m", now=NOW + 2 * MINUTE)
    runs.resume(job, by="ann", now=NOW + 10 * MINUTE)
    assert cursors(job) == {NOW + 11 * MINUTE}
    missed = Run.objects.values_list("reason", "fires")
    assert list(missed) == [(Reason.PAUSED, 8)] * 7


def test_a_pause_between_runs_counts_from_an_end_in_between() -> None:
    job = job_of_many(schedule="every 10m after end")
    target = one_of(job)
    run = make_run(target, cause=Cause.SCHEDULE, state=State.RUNNING, attempt=1, token=1)
    Target.objects.filter(pk=target.pk).update(next_fire_at=None, parked=Parked.OPEN)
    runs.reschedule(job, schedule="every 20m after end", now=NOW + MINUTE)
    done = runs.Result(state=State.SUCCEEDED)
    assert runs.finish(run.pk, 1, token=1, result=done, now=NOW + 5 * MINUTE)
    follow_all(NOW + 6 * MINUTE)
    target.refresh_from_db()
    assert target.next_fire_at == NOW + 25 * MINUTE


@pytest.mark.parametrize("own", ["every 5m", ""])
def test_an_edit_of_one_target_settles_by_what_was(own: str) -> None:
    job = job_of_many()
    target = one_of(job)
    runs.reschedule(job, schedule="every 90s", now=NOW + 2 * MINUTE)
    runs.reschedule_target(target, schedule=own, now=NOW + 3 * MINUTE)
    assert Run.objects.filter(target=target).count() == 3
    assert target.next_fire_at == NOW + (5 * MINUTE if own else 4 * MINUTE + 30 * SECOND)
    accounted_for(target)


def test_a_target_that_retires_settles_by_what_was() -> None:
    job = job_of_many()
    target = one_of(job)
    runs.reschedule(job, schedule="every 1h", now=NOW + 2 * MINUTE)
    assert runs.retire_target(target, now=NOW + 3 * MINUTE)
    accounted_for(target)
    assert sum(follow_all(NOW + 3 * MINUTE)) == 6
