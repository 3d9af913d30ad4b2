"""Each reason is told with the persons, runs, locks and queues that it is about."""

from __future__ import annotations

from typing import Any

import pytest

from scheduling import ledger, runs
from scheduling.models import (
    Circuit,
    Installation,
    Job,
    Reason,
    Run,
    Seat,
    State,
)
from scheduling.policies import CatchUp
from tests.factories import NOW, make_job, make_run, make_target
from tests.integration.answers import (
    MINUTE,
    adopted,
    claimed,
    ended,
    one,
    told,
    worker,
)

pytestmark = pytest.mark.django_db


# --- the reasons ----------------------------------------------------------------------------------


def test_overlap_names_the_run_that_was_open_and_how_it_stands() -> None:
    job = adopted()
    (open_run,) = claimed(NOW + 10 * MINUTE)
    started = runs.start(open_run.pk, 1, worker="w@here/1", now=NOW + 10 * MINUTE)
    assert started is not None
    claimed(NOW + 20 * MINUTE)
    skipped = told(job, now=NOW + 21 * MINUTE).findings[0]
    assert f"the run before was still open: run {open_run.pk} of 2026-01-05 12:10:00 UTC" in (
        skipped.explanation
    )
    assert "has been running on w@here/1 since 2026-01-05 12:10:00 UTC" in skipped.explanation
    result = runs.Result(state=State.SUCCEEDED)
    runs.finish(open_run.pk, 1, token=started.token, result=result, now=NOW + 25 * MINUTE)
    skipped = told(job, now=NOW + 26 * MINUTE).findings[0]
    assert "ran from 2026-01-05 12:10:00 UTC to 2026-01-05 12:25:00 UTC and succeeded" in (
        skipped.explanation
    )


def test_a_run_that_was_ended_for_a_newer_fire_names_that_fire() -> None:
    job = adopted(overlap="terminate")
    (old,) = claimed(NOW + 10 * MINUTE)
    runs.start(old.pk, 1, worker="w@here/1", now=NOW + 10 * MINUTE)
    claimed(NOW + 20 * MINUTE)
    newer, replaced = told(job, now=NOW + 21 * MINUTE).findings
    assert f"it waits for the end of run {old.pk}" in newer.explanation
    assert "it is to be killed by a newer fire, that of 2026-01-05 12:20:00 UTC" in (
        replaced.explanation
    )


def test_a_run_that_waits_for_a_lock_names_who_holds_it() -> None:
    holder = make_run(
        make_target(make_job("printer")), state=State.RUNNING, started_at=NOW, worker="w@here/9"
    )
    Seat.objects.create(key="paper", run=holder, attempt=1, taken_at=NOW)
    job = adopted()
    (run,) = claimed(NOW + 10 * MINUTE)
    Run.objects.filter(pk=run.pk).update(waiting_for="paper", waiting_since=NOW, publish_at=None)
    found = told(job, now=NOW + 11 * MINUTE).findings[0]
    assert (
        f"it waits for the lock 'paper', which run {holder.pk} of 'printer' has held on w@here/9 "
        "since 2026-01-05 12:00:00 UTC"
    ) in found.explanation
    Run.objects.filter(pk=run.pk).update(start_by=NOW + 12 * MINUTE)
    runs.recover(now=NOW + 13 * MINUTE, reap=False)
    late = told(job, now=NOW + 13 * MINUTE).findings[0]
    assert "could not start in time, by 2026-01-05 12:12:00 UTC" in late.explanation
    assert f"waited for the lock 'paper', which run {holder.pk}" in late.explanation


def test_a_run_that_nobody_takes_says_whether_a_worker_consumes_its_queue() -> None:
    job = adopted(options={"queue": "mails"})
    (run,) = claimed(NOW + 10 * MINUTE)
    now = NOW + 11 * MINUTE

    def said() -> str:
        return told(job, now=now).findings[0].explanation

    assert "no beat has sent it to a worker yet" in said()
    Run.objects.filter(pk=run.pk).update(published_at=now, publish_at=None)
    assert "no worker is running" in said()
    worker("other@here", seen_at=now)
    assert "no worker consumes queue 'mails', only 'celery'" in said()
    worker("w@here", queues=("mails",), seen_at=now, places=1)
    assert "w@here consumes queue 'mails' and has room" in said()
    make_run(make_target(), state=State.RUNNING, started_at=NOW, worker="w@here/7")
    assert "all 1 places of w@here are busy" in said()


def test_a_run_that_was_late_for_its_predecessor_names_it() -> None:
    job = adopted(overlap="queue", start_within=5 * MINUTE)
    (first,) = claimed(NOW + 10 * MINUTE)
    runs.start(first.pk, 1, worker="w@here/1", now=NOW + 10 * MINUTE)
    claimed(NOW + 20 * MINUTE)
    runs.recover(now=NOW + 26 * MINUTE, reap=False)
    late = told(job, now=NOW + 27 * MINUTE).findings[0]
    assert f"it waited for the end of run {first.pk}" in late.explanation


def test_a_run_that_started_late_says_by_how_much_and_if_no_beat_claimed_it() -> None:
    job = adopted()
    (run,) = claimed(NOW + 13 * MINUTE)
    ended(run, NOW + 14 * MINUTE)
    found = told(job, now=NOW + 15 * MINUTE).findings[0]
    assert "run 4 minutes late (no beat claimed it until 2026-01-05 12:13:00 UTC)" in (
        found.explanation
    )


def test_attempts_before_are_counted_apart() -> None:
    target = make_target()
    make_run(
        target,
        state=State.SUCCEEDED,
        attempt=4,
        failures=2,
        losses=1,
        started_at=NOW,
        ended_at=NOW + MINUTE,
    )
    assert "at attempt 4 (2 failed and 1 lost)" in one(target.job, now=NOW).explanation


def test_cancelled_says_by_whom() -> None:
    job = adopted()
    (run,) = claimed(NOW + 10 * MINUTE)
    runs.cancel(run.pk, by="anna", now=NOW + 11 * MINUTE)
    assert "skipped: cancelled by anna." in told(job, now=NOW + 11 * MINUTE).findings[0].explanation


def test_who_may_not_read_output_is_not_told_what_a_failure_said() -> None:
    target = make_target()
    make_run(target, state=State.FAILED, reason=Reason.ERROR, error="password is 1234")
    assert "1234" in one(target.job, now=NOW).explanation
    assert "1234" not in one(target.job, now=NOW, with_error=False).explanation


# --- paused ---------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("scope", "name"),
    [
        ("everything", "Everything"),
        ("circuit", "The circuit 'eu'"),
        ("job", "The job 'mails'"),
        ("resource", "The resource 'printer'"),
        ("target", "The target"),
    ],
)
def test_a_pause_of_any_scope_is_named_with_who_and_why(scope: str, name: str) -> None:
    circuit = Circuit.objects.create(name="eu")
    job = make_job("mails", schedule="every 10m", circuit=circuit)
    target = make_target(job, resource="printer", next_fire_at=NOW + 10 * MINUTE)
    paused: Any = {
        "everything": Installation.objects.get_or_create(pk=1)[0],
        "circuit": circuit,
        "job": job,
        "resource": target.resource,
        "target": target,
    }[scope]
    runs.pause(paused, by="anna", reason="audit", now=NOW)
    claimed(NOW + 10 * MINUTE)
    account = told(job, now=NOW + 25 * MINUTE)
    assert account.next is not None
    assert account.next.explanation == (
        f"{name} has been paused by anna since 2026-01-05 12:00:00 UTC: audit."
    )
    (waiting,) = account.findings
    assert "2 fires from 2026-01-05 12:10:00 UTC to 2026-01-05 12:20:00 UTC have no row yet" in (
        waiting.explanation
    )
    assert name in waiting.explanation
    assert one(job, at=NOW + 20 * MINUTE, now=NOW + 25 * MINUTE).is_problem


def test_after_a_resume_the_fires_are_rows() -> None:
    job = adopted()
    runs.pause(job, by="anna", reason="audit", now=NOW)
    claimed(NOW + 10 * MINUTE)
    runs.resume(Job.objects.get(pk=job.pk), by="anna", missed=CatchUp.NONE, now=NOW + 25 * MINUTE)
    (skipped,) = told(job, now=NOW + 26 * MINUTE).findings
    assert skipped.run is not None
    assert (skipped.run.reason, skipped.run.fires) == (Reason.PAUSED, 2)
    assert "paused" in skipped.explanation


def test_a_job_of_a_paused_circuit_is_told_as_stopped() -> None:
    circuit = Circuit.objects.create(name="eu")
    job = adopted(circuit=circuit)
    assert ledger.jobs_as_dicts([job], NOW)[0]["paused"] is False
    runs.pause(circuit, by="anna", reason="audit", now=NOW)
    described = ledger.jobs_as_dicts([Job.objects.get(pk=job.pk)], NOW)[0]
    assert (described["paused"], described["state"]) == (True, "Stopped")
