"""Pauses in every scope, what becomes of what they missed, and jobs that pause themselves."""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import Any

import pytest

from scheduling import runs
from scheduling.models import (
    Circuit,
    Event,
    Installation,
    Job,
    Notification,
    Parked,
    Reason,
    Resource,
    Run,
    State,
    Target,
)
from scheduling.policies import CatchUp
from scheduling.runs import Result, Scope
from tests.factories import NOW, make_job, make_target

pytestmark = pytest.mark.django_db

SECOND = timedelta(seconds=1)
MINUTE = timedelta(minutes=1)
SCOPES = (Installation, Circuit, Job, Resource, Target)


def minutely(**fields: Any) -> Target:
    """Make a target that is due now, inside a scope of every kind."""
    circuit, _ = Circuit.objects.get_or_create(name="edge")
    job = make_job(**{"schedule": "every 1m", "circuit": circuit, **fields})
    return make_target(job, "db", resource="database", next_fire_at=NOW)


def scope_of(target: Target, kind: type[Scope]) -> Scope:
    found: dict[type[Scope], Scope | None] = {
        Installation: runs.installation(),
        Circuit: target.job.circuit,
        Job: target.job,
        Resource: target.resource,
        Target: target,
    }
    scope = found[kind]
    assert scope is not None
    return scope


def claim(now: datetime) -> runs.Claim:
    return runs.claim(now=now, limit=100)


def fires(state: State) -> list[datetime]:
    return list(
        Run.objects.filter(state=state)
        .order_by("scheduled_at")
        .values_list("scheduled_at", flat=True)
    )


@pytest.mark.parametrize("kind", SCOPES)
@pytest.mark.parametrize(
    ("missed", "run"),
    [(CatchUp.NONE, []), (CatchUp.LATEST, [2]), (CatchUp.ALL, [0, 1, 2])],
)
def test_resume_runs_of_what_was_missed_as_much_as_was_chosen(
    kind: type[Scope], missed: CatchUp, run: list[int]
) -> None:
    target = minutely()
    scope = scope_of(target, kind)
    assert runs.pause(scope, by="ann", reason="works", now=NOW - SECOND)
    claim(NOW)

    assert runs.resume(scope, missed=missed, by="ann", now=NOW + 2 * MINUTE)

    target.refresh_from_db()
    assert fires(State.QUEUED) == [NOW + n * MINUTE for n in run]
    skipped = Run.objects.filter(state=State.SKIPPED)
    assert sum(row.fires for row in skipped) == 3 - len(run)
    assert {row.reason for row in skipped} <= {Reason.PAUSED}
    assert all("was paused by ann: works" in row.detail for row in skipped)
    assert target.next_fire_at == NOW + 3 * MINUTE


@pytest.mark.parametrize("kind", SCOPES)
def test_a_pause_holds_what_is_in_its_scope_and_nothing_else(kind: type[Scope]) -> None:
    inside = minutely()
    other = Circuit.objects.create(name="other")
    outside = make_target(
        make_job(schedule="every 1m", circuit=other), resource="elsewhere", next_fire_at=NOW
    )
    runs.pause(scope_of(inside, kind), by="ann", reason="", now=NOW - SECOND)

    claimed = {run.target_id for run in claim(NOW).runs}

    assert claimed == (set() if kind is Installation else {outside.pk})
    inside.refresh_from_db()
    assert (inside.next_fire_at, inside.parked) == (None, Parked.PAUSED)


@pytest.mark.parametrize("kind", SCOPES)
def test_a_run_that_was_claimed_before_the_pause_does_not_start_in_it(kind: type[Scope]) -> None:
    target = minutely()
    [run] = claim(NOW).runs
    runs.pause(scope_of(target, kind), by="ann", reason="works", now=NOW)

    assert runs.start(run.pk, 1, worker="w", now=NOW) is None

    run.refresh_from_db()
    assert (run.state, run.reason) == (State.SKIPPED, Reason.PAUSED)
    assert "ann" in run.detail
    assert "works" in run.detail


@pytest.mark.parametrize("kind", SCOPES)
def test_a_pause_ends_by_itself_at_its_time(kind: type[Scope]) -> None:
    target = minutely()
    runs.pause(
        scope_of(target, kind), by="ann", reason="", until=NOW + 2 * MINUTE, now=NOW - SECOND
    )
    claim(NOW)

    runs.recover(now=NOW + 2 * MINUTE, reap=False)

    [run] = claim(NOW + 2 * MINUTE).runs
    assert run.scheduled_at == NOW + 2 * MINUTE


def test_what_two_scopes_hold_goes_on_when_both_are_resumed() -> None:
    target = minutely()
    everything = runs.installation()
    for scope in (everything, target.job):
        runs.pause(scope, by="ann", reason="", now=NOW - SECOND)
    claim(NOW)

    runs.resume(everything, missed=CatchUp.ALL, by="ann", now=NOW + MINUTE)
    assert not Run.objects.exists()
    runs.resume(target.job, missed=CatchUp.ALL, by="ann", now=NOW + 2 * MINUTE)

    assert fires(State.QUEUED) == [NOW, NOW + MINUTE, NOW + 2 * MINUTE]


def fail(target: Target, times: int = 1) -> None:
    for _ in range(times):
        run = runs.trigger(target.job, key=target.key, by="ann", now=NOW)
        started = runs.start(run.pk, 1, worker="w", now=NOW)
        assert started is not None
        result = Result(state=State.FAILED, reason=Reason.ERROR, error="no")
        assert runs.finish(run.pk, 1, token=started.token, result=result, now=NOW)


def test_a_plain_job_pauses_itself_after_so_many_failures_and_says_so() -> None:
    target = make_target(make_job(pause_after=3))

    fail(target, 2)
    target.job.refresh_from_db()
    assert not target.job.is_paused(NOW)
    fail(target)

    target.job.refresh_from_db()
    assert target.job.is_paused(NOW)
    assert (target.job.paused_by, target.job.pause_reason) == ("Beatkeeper", "3 failures in a row")
    assert Notification.objects.filter(event=Event.PAUSED, name=target.job.name).count() == 1


def test_of_a_job_with_keys_only_the_target_is_paused() -> None:
    job = make_job(pause_after=1)
    bad, good = make_target(job, "bad"), make_target(job, "good")

    fail(bad)

    for scope in (job, bad, good):
        scope.refresh_from_db()
    assert (job.is_paused(NOW), bad.is_paused(NOW), good.is_paused(NOW)) == (False, True, False)


def test_a_resumed_job_has_as_many_chances_again() -> None:
    target = make_target(make_job(pause_after=2))
    fail(target, 2)
    runs.resume(target.job, by="ann", now=NOW)

    fail(target)
    target.job.refresh_from_db()
    assert not target.job.is_paused(NOW)
    fail(target)

    target.job.refresh_from_db()
    assert target.job.is_paused(NOW)


def test_without_the_column_a_job_may_fail_for_ever() -> None:
    target = make_target()

    fail(target, 5)

    target.job.refresh_from_db()
    assert not target.job.is_paused(NOW)
