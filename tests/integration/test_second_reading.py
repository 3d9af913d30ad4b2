"""What a second reading of the engine found: waits, replaced runs, pauses, first runs, alerts."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import pytest
from django.db import OperationalError, transaction
from django.db.models import ProtectedError

from scheduling import lateness, runs
from scheduling.models import (
    Cause,
    Circuit,
    Job,
    Notification,
    Reason,
    Run,
    ScheduleStretch,
    State,
    Target,
)
from scheduling.models.system import Event
from scheduling.policies import CatchUp, Overlap
from scheduling.runs import Result, operate, pausing
from scheduling.runs.cursors import job_of
from tests.factories import NOW, make_job, make_run, make_target
from tests.integration.rivals import in_thread, needs_row_locks

pytestmark = pytest.mark.django_db

SECOND = timedelta(seconds=1)
MINUTE = timedelta(minutes=1)
HOUR = timedelta(hours=1)
DAY = timedelta(days=1)


def minutely(**fields: Any) -> Target:
    return make_target(make_job(schedule="every 1m", **fields), next_fire_at=NOW)


def claim(now: Any) -> list[Run]:
    return runs.claim(now=now, limit=100).runs


def work(run: Run, *, state: State, now: Any) -> bool:
    started = runs.start(run.pk, run.attempt, worker="w", now=now)
    assert started is not None
    return runs.finish(
        run.pk, run.attempt, token=started.token, result=Result(state=state), now=now
    )


# --- waiting --------------------------------------------------------------------------------------


@pytest.mark.parametrize("overlap", [Overlap.QUEUE, Overlap.WAIT, Overlap.CANCEL])
def test_a_delayed_run_by_hand_keeps_its_delay_when_the_run_before_it_ends(
    overlap: Overlap,
) -> None:
    target = make_target(make_job())
    running = make_run(target)
    started = runs.start(running.pk, 1, worker="w", now=NOW)
    assert started is not None
    asked = runs.trigger(target.job, delay=HOUR, overlap=overlap, by="ann", now=NOW)

    runs.finish(
        running.pk,
        1,
        token=started.token,
        result=Result(state=State.SUCCEEDED),
        now=NOW + MINUTE,
    )

    assert runs.start(asked.pk, 1, worker="w", now=NOW + 2 * MINUTE) is None
    assert runs.start(asked.pk, 1, worker="w", now=NOW + HOUR) is not None


def test_a_queue_keeps_its_fires_while_a_run_takes_longer_than_the_period() -> None:
    target = minutely(overlap="queue", queue_limit=5)
    (first,) = claim(NOW)
    runs.start(first.pk, 1, worker="w", now=NOW)
    for minute in (1, 2, 3, 4):
        claim(NOW + minute * MINUTE)
        runs.recover(now=NOW + minute * MINUTE + 30 * SECOND, reap=False)

    assert Run.objects.queued().filter(target=target).count() == 4
    assert not Run.objects.filter(reason=Reason.LATE).exists()


# --- replaced by a newer fire ---------------------------------------------------------------------


def test_a_job_whose_retries_are_replaced_by_newer_fires_is_known_to_fail() -> None:
    target = minutely(overlap="cancel", retries=3, retry_delay=2 * MINUTE)

    for minute in range(5):
        now = NOW + minute * MINUTE
        (run,) = claim(now)
        assert work(run, state=State.FAILED, now=now + SECOND)

    target.refresh_from_db()
    assert target.failing_since is not None
    assert Notification.objects.filter(event=Event.FAILING).exists()


@pytest.mark.parametrize("overlap", ["cancel", "terminate"])
def test_a_fire_stops_nothing_if_others_that_wait_are_first_in_line(overlap: str) -> None:
    """Else each fire would end one run of a backfill, and not start before the last of them."""
    target = make_target(make_job(schedule="every 1h", overlap=overlap), next_fire_at=NOW + HOUR)
    runs.backfill(target.job, after=NOW - 3 * HOUR, until=NOW, by="ann", now=NOW)
    first = Run.objects.queued().get(waiting_on=None)
    assert runs.start(first.pk, 1, worker="w", now=NOW) is not None

    claim(NOW + HOUR)

    fire = Run.objects.get(target=target, cause=Cause.SCHEDULE)
    first.refresh_from_db()
    is_next = fire.waiting_on_id == first.pk
    was_stopped = first.stop_requested_at is not None
    assert is_next == was_stopped


def test_a_fire_that_was_replaced_does_not_count_against_the_number_of_runs() -> None:
    target = minutely(overlap="cancel", runs_left=3)
    (first,) = claim(NOW)
    runs.start(first.pk, 1, worker="w", now=NOW)

    claim(NOW + MINUTE)
    claim(NOW + 2 * MINUTE)

    target.job.refresh_from_db()
    assert Run.objects.filter(target=target, state=State.SKIPPED).count() == 1
    assert target.job.runs_left == 1


# --- backfill -------------------------------------------------------------------------------------


@pytest.mark.parametrize("newest_first", [False, True])
def test_no_run_of_a_backfill_becomes_ready_while_it_is_cancelled(
    newest_first: bool, monkeypatch: pytest.MonkeyPatch
) -> None:
    job = make_job(schedule="every 1h")
    make_target(job, next_fire_at=NOW + DAY)
    made = runs.backfill(
        job, after=NOW - 6 * HOUR, until=NOW, newest_first=newest_first, by="ann", now=NOW
    )
    first = Run.objects.get(backfill=made.id, waiting_on=None)
    runs.start(first.pk, 1, worker="w", now=NOW)
    cancel = operate.cancel
    ready: set[Any] = set()

    def cancel_while_a_beat_looks(*args: Any, **options: Any) -> Run:
        run = cancel(*args, **options)
        ready.update(Run.objects.to_publish(NOW).values_list("scheduled_at", flat=True))
        return run

    monkeypatch.setattr(operate, "cancel", cancel_while_a_beat_looks)

    assert runs.cancel_backfill(made.id, by="eve", now=NOW) == 6

    assert ready == set()


# --- first runs -----------------------------------------------------------------------------------


def test_a_pause_holds_the_first_run_which_nobody_asked_for_by_hand() -> None:
    job = make_job(schedule="every 1d", first_run=(NOW + HOUR).isoformat())
    runs.adopt(job, now=NOW)
    runs.pause(runs.installation(), by="ann", reason="move", now=NOW)
    run = Run.objects.get()

    assert runs.start(run.pk, 1, worker="w", now=NOW + HOUR) is None


def test_an_edit_before_the_first_run_lets_nothing_fire_before_it() -> None:
    at = NOW + DAY
    job = make_job(schedule="every 1h", first_run=at.isoformat())
    target = runs.adopt(job, now=NOW)

    runs.reschedule(job, schedule="every 30m", now=NOW + MINUTE)

    target.refresh_from_db()
    assert target.next_fire_at == at + 30 * MINUTE


# --- pauses ---------------------------------------------------------------------------------------


def test_a_circuit_that_has_jobs_cannot_be_deleted() -> None:
    """What its pause has parked would stay so for ever."""
    circuit = Circuit.objects.create(name="payments")
    make_job(circuit=circuit)

    with pytest.raises(ProtectedError):
        circuit.delete()


# --- edits ----------------------------------------------------------------------------------------


def test_an_edit_that_waited_for_another_edit_begins_after_it() -> None:
    target = runs.adopt(make_job(schedule="every 10s"), now=NOW)

    runs.reschedule(target.job, schedule="every 5s", now=NOW + 28 * SECOND)
    # Its time was taken before it had to wait.
    runs.reschedule(target.job, schedule="every 4s", now=NOW + 21 * SECOND)

    *settled, present = ScheduleStretch.objects.filter(target=target).order_by("pk")
    for before in settled:
        assert before.until is not None
        assert before.until <= present.since


# --- alerts ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("cause", [Cause.CATCH_UP, Cause.MANUAL, Cause.FOLLOW_UP])
def test_a_run_that_no_worker_begins_and_that_all_fires_are_skipped_for_is_told(
    cause: Cause,
) -> None:
    target = minutely()
    make_run(target, cause=cause, scheduled_at=NOW - MINUTE, ready_at=NOW, published_at=NOW)
    for minute in range(60):
        claim(NOW + minute * MINUTE)

    lateness.evaluate(NOW + HOUR)

    skipped = Run.objects.filter(target=target, reason=Reason.OVERLAP)
    assert skipped.count() == 60
    assert Notification.objects.filter(event=Event.LATE, target=target).exists()


# --- who waits for whom ---------------------------------------------------------------------------


@needs_row_locks
@pytest.mark.django_db(transaction=True)
def test_nobody_else_spends_the_number_of_runs_that_a_resume_has_read(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    job = make_job(schedule="every 1h", runs_left=1)
    make_target(job, "a", next_fire_at=NOW - HOUR)
    runs.pause(job, by="ann", reason="", now=NOW - 2 * HOUR)
    claim(NOW - HOUR)
    errors: list[Exception] = []

    def spend() -> None:
        with transaction.atomic():
            Job.objects.select_for_update(no_key=True, nowait=True).get(pk=job.pk)

    def read_before_another_claims(locked: Target) -> Job:
        found = job_of(locked)
        in_thread(spend, errors).join(10)
        return found

    monkeypatch.setattr(pausing, "job_of", read_before_another_claims)

    runs.resume(job, by="ann", now=NOW, missed=CatchUp.LATEST)

    job.refresh_from_db()
    assert job.runs_left == 0
    assert [type(error) for error in errors] == [OperationalError]


@needs_row_locks
@pytest.mark.django_db(transaction=True)
def test_a_renewal_and_fires_that_replace_do_not_wait_for_each_other() -> None:
    targets = [make_target(make_job(schedule="every 1m", overlap="cancel")) for _ in range(2)]
    first, second = (
        make_run(target, state=State.RUNNING, worker="w", cause=Cause.SCHEDULE)
        for target in targets
    )
    errors: list[Exception] = []
    ids = [first.pk, second.pk]
    with transaction.atomic():
        # As a claim does that replaces the second, and then the first.
        runs.line.request_stop(second, by="a newer fire", at_once=False, now=NOW)
        renewal = in_thread(lambda: runs.renew(worker="w", run_ids=ids, now=NOW), errors)
        renewal.join(0.5)
        runs.line.request_stop(first, by="a newer fire", at_once=False, now=NOW)
    renewal.join(10)
    assert errors == []


@needs_row_locks
@pytest.mark.django_db(transaction=True)
def test_a_resume_and_an_edit_of_a_job_that_fails_do_not_wait_for_each_other() -> None:
    job = make_job(schedule="every 1h", pause_after=3)
    first, second = (make_target(job, key, failures_in_a_row=1) for key in "ab")
    # In the table, and in its indexes, the first now lies behind the second.
    Target.objects.filter(pk=first.pk).update(next_fire_at=NOW + HOUR)
    runs.pause(job, by="ann", reason="", now=NOW)
    errors: list[Exception] = []
    with transaction.atomic():
        # As every edit does, in the order of their ids.
        runs.cursors.lock_target(first.pk)
        resume = in_thread(lambda: runs.resume(job, by="ann", now=NOW), errors)
        resume.join(0.5)
        runs.cursors.lock_target(second.pk)
    resume.join(10)
    assert errors == []
