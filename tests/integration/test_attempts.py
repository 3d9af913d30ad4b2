"""The guard: exactly one attempt begins, and only one end of it is accepted."""

from __future__ import annotations

from datetime import datetime, timedelta

import pytest
from django.db import transaction

from scheduling import runs
from scheduling.models import Reason, Run, Seat, State
from scheduling.runs import Result, Started
from tests.factories import NOW, make_job, make_run, make_target

pytestmark = pytest.mark.django_db

SECOND = timedelta(seconds=1)
DONE = Result(state=State.SUCCEEDED)
BROKEN = Result(state=State.FAILED, reason=Reason.ERROR, error="boom")


def start(run: Run, attempt: int = 1, *, now: datetime = NOW) -> Started | None:
    return runs.start(run.pk, attempt, worker="host/1", now=now)


def started(run: Run, attempt: int = 1) -> Started:
    found = start(run, attempt)
    assert found is not None
    return found


def finish(begun: Started, result: Result = DONE, *, token: int | None = None) -> bool:
    return runs.finish(
        begun.run.pk,
        begun.run.attempt,
        token=begun.token if token is None else token,
        result=result,
        now=NOW + SECOND,
    )


def test_the_first_delivery_starts_and_the_second_is_dropped() -> None:
    run = make_run()
    assert start(run) is not None
    assert start(run) is None
    run.refresh_from_db()
    assert (run.state, run.worker, run.started_at) == (State.RUNNING, "host/1", NOW)
    assert run.lease_until is not None
    assert run.lease_until > NOW


def test_a_message_of_an_earlier_attempt_is_dropped() -> None:
    run = make_run(attempt=2)
    assert start(run, 1) is None
    assert start(run, 2) is not None


def test_arguments_come_from_job_target_and_run_in_that_order() -> None:
    job = make_job(args=[1], kwargs={"a": 1, "b": 1, "c": 1}, scheduled_at_argument="as_of")
    target = make_target(job, kwargs={"b": 2, "c": 2})
    begun = started(make_run(target, kwargs={"c": 3}))
    assert begun.args == [1]
    assert begun.kwargs == {"a": 1, "b": 2, "c": 3, "as_of": "2026-01-05T12:00:00+00:00"}


def test_a_run_that_waits_for_its_moment_does_not_start_before() -> None:
    run = make_run(ready_at=NOW + SECOND)
    assert start(run) is None
    assert start(run, now=NOW + SECOND) is not None


def test_a_run_that_comes_too_late_is_skipped() -> None:
    run = make_run(start_by=NOW - SECOND)
    assert start(run) is None
    run.refresh_from_db()
    assert (run.state, run.reason) == (State.SKIPPED, Reason.LATE)


def test_the_token_grows_with_every_start() -> None:
    target = make_target()
    first = started(make_run(target))
    assert finish(first)
    second = started(make_run(target))
    assert second.token == first.token + 1


def test_a_late_result_is_refused() -> None:
    run = make_run(make_target(make_job(rerun_if_lost=True)))
    first = started(run)
    assert runs.lose(run.pk, 1, detail="gone", now=NOW)
    second = started(run, 2)
    assert not finish(first)
    assert finish(second)
    run.refresh_from_db()
    assert (run.state, run.attempt, run.losses) == (State.SUCCEEDED, 2, 1)


def test_a_wrong_token_is_refused() -> None:
    begun = started(make_run())
    assert not finish(begun, token=begun.token + 1)
    assert finish(begun)


def test_a_lost_run_of_a_job_that_may_not_rerun_fails() -> None:
    run = make_run()
    started(run)
    assert runs.lose(run.pk, 1, detail="gone", now=NOW)
    run.refresh_from_db()
    assert (run.state, run.reason) == (State.FAILED, Reason.LOST)
    assert not runs.lose(run.pk, 1, detail="gone", now=NOW)


def test_a_job_that_keeps_killing_its_workers_is_stopped_as_poison() -> None:
    run = make_run(make_target(make_job(rerun_if_lost=True)))
    for attempt in (1, 2, 3):
        started(run, attempt)
        assert runs.lose(run.pk, attempt, detail="gone", now=NOW)
    run.refresh_from_db()
    assert (run.state, run.reason, run.losses) == (State.FAILED, Reason.POISON, 3)


def test_a_failure_with_retries_left_waits_in_the_database() -> None:
    job = make_job(retries=2, retry_delay=timedelta(seconds=10))
    run = make_run(make_target(job))
    assert finish(started(run), BROKEN)
    run.refresh_from_db()
    assert (run.state, run.reason, run.attempt) == (State.QUEUED, Reason.RETRY, 2)
    assert run.ready_at == NOW + SECOND + timedelta(seconds=10)
    assert run.publish_at == run.ready_at
    assert run.published_at is None
    assert run.error == "boom"


def test_retries_run_out() -> None:
    job = make_job(retries=1, retry_delay=timedelta(0))
    run = make_run(make_target(job))
    assert finish(started(run), BROKEN)
    second = runs.start(run.pk, 2, worker="host/1", now=NOW + SECOND)
    assert second is not None
    assert finish(second, BROKEN)
    run.refresh_from_db()
    assert (run.state, run.reason, run.failures) == (State.FAILED, Reason.ERROR, 1)


def test_one_run_of_a_target_at_a_time_and_the_next_waits_for_it() -> None:
    target = make_target()
    first, second = make_run(target), make_run(target)
    begun = started(first)
    assert start(second) is None
    second.refresh_from_db()
    assert (second.state, second.waiting_on) == (State.QUEUED, first)
    assert finish(begun)
    second.refresh_from_db()
    assert second.waiting_on is None
    assert second.publish_at == NOW + SECOND


def test_the_database_itself_refuses_a_second_running_run() -> None:
    target = make_target()
    make_run(target, state=State.RUNNING)
    with pytest.raises(Exception, match=r"(?i)unique"), transaction.atomic():
        make_run(target, state=State.RUNNING)


def test_overlap_allow_lets_several_run() -> None:
    target = make_target(make_job(overlap="allow"))
    assert start(make_run(target, exclusive=False)) is not None
    assert start(make_run(target, exclusive=False)) is not None


class TestSeats:
    def two_jobs_on(self, *keys: str) -> tuple[Run, Run]:
        return (
            make_run(make_target(make_job(locks=list(keys)))),
            make_run(make_target(make_job(locks=list(keys)))),
        )

    def test_a_resource_is_held_by_one_run_and_handed_to_the_waiter(self) -> None:
        first, second = self.two_jobs_on("ledger")
        begun = started(first)
        assert start(second) is None
        second.refresh_from_db()
        assert (second.waiting_for, second.publish_at) == ("ledger", None)
        assert finish(begun)
        second.refresh_from_db()
        assert second.publish_at == NOW + SECOND
        assert runs.start(second.pk, 1, worker="w", now=NOW + SECOND) is not None

    def test_a_newcomer_does_not_pass_who_waits(self) -> None:
        first, second = self.two_jobs_on("ledger")
        begun = started(first)
        start(second)
        assert finish(begun)
        newcomer = make_run(make_target(make_job(locks=["ledger"])))
        assert start(newcomer, now=NOW + 2 * SECOND) is None
        assert start(second, now=NOW + 2 * SECOND) is not None

    def test_a_targets_resource_is_a_lock(self) -> None:
        check = make_target(make_job(), key="a", resource="shop")
        other = make_target(make_job(locks=["shop"]))
        assert start(make_run(check)) is not None
        assert start(make_run(other)) is None

    def test_a_stolen_seat_is_not_released_by_its_old_holder(self) -> None:
        job = make_job(locks=["ledger"], rerun_if_lost=True)
        run = make_run(make_target(job))
        old = started(run)
        runs.lose(run.pk, 1, detail="gone", now=NOW)
        new = started(run, 2)
        assert new.token > old.token
        assert not finish(old)
        assert Seat.objects.get(key="ledger").attempt == 2

    def test_the_token_grows_over_all_jobs_of_a_resource(self) -> None:
        first, second = self.two_jobs_on("ledger")
        begun = started(first)
        finish(begun)
        again = runs.start(second.pk, 1, worker="w", now=NOW + SECOND)
        assert again is not None
        assert again.token > begun.token

    def test_a_seat_whose_holder_is_gone_is_given_on_by_recovery(self) -> None:
        first, second = self.two_jobs_on("ledger")
        started(first)
        start(second)
        later = NOW + timedelta(minutes=5)
        runs.recover(now=later, reap=True)
        assert runs.start(second.pk, 1, worker="w", now=later) is not None


def test_a_declined_run_is_a_skip_that_changes_no_failure_flag() -> None:
    target = make_target(failing_since=NOW)
    begun = started(make_run(target))
    assert runs.decline(begun.run.pk, 1, token=begun.token, detail="nothing to do", now=NOW)
    target.refresh_from_db()
    run = Run.objects.get()
    assert (run.state, run.reason) == (State.SKIPPED, Reason.DECLINED)
    assert target.failing_since == NOW
    assert target.last_skipped_at == NOW


def test_a_run_handed_back_keeps_its_chances() -> None:
    begun = started(make_run())
    assert runs.hand_back(begun.run.pk, 1, token=begun.token, now=NOW)
    run = Run.objects.get()
    assert (run.state, run.attempt, run.failures, run.losses) == (State.QUEUED, 2, 0, 0)


def test_the_reaper_ends_only_lapsed_leases() -> None:
    run = make_run()
    started(run)
    runs.recover(now=NOW + SECOND, reap=True)
    assert Run.objects.get().state == State.RUNNING
    assert runs.renew(worker="host/1", run_ids=[run.pk], now=NOW + timedelta(seconds=60))
    runs.recover(now=NOW + timedelta(seconds=61), reap=True)
    assert Run.objects.get().state == State.RUNNING
    runs.recover(now=NOW + timedelta(minutes=3), reap=False)
    assert Run.objects.get().state == State.RUNNING
    runs.recover(now=NOW + timedelta(minutes=3), reap=True)
    assert Run.objects.get().reason == Reason.LOST


def test_an_after_end_target_is_armed_by_the_end_of_its_run() -> None:
    job = make_job(schedule="every 30m after end")
    target = make_target(job, next_fire_at=NOW)
    runs.claim(now=NOW, limit=10)
    target.refresh_from_db()
    assert (target.next_fire_at, target.parked) == (None, "open")
    finish(started(Run.objects.get()))
    target.refresh_from_db()
    assert target.next_fire_at == NOW + SECOND + timedelta(minutes=30)


def test_a_skip_arms_an_after_end_target_too() -> None:
    target = make_target(make_job(schedule="every 30m after end"), next_fire_at=NOW)
    runs.claim(now=NOW, limit=10)
    run = Run.objects.get()
    runs.cancel(run.pk, by="ann", now=NOW + SECOND)
    target.refresh_from_db()
    assert target.next_fire_at == NOW + SECOND + timedelta(minutes=30)


def test_statistics_of_a_target_follow_its_runs() -> None:
    target = make_target()
    finish(started(make_run(target)), BROKEN)
    target.refresh_from_db()
    assert (target.failing_since, target.failures_in_a_row) == (NOW + SECOND, 1)
    finish(started(make_run(target)))
    target.refresh_from_db()
    assert (target.failing_since, target.failures_in_a_row) == (None, 0)
    assert target.last_succeeded_at == NOW + SECOND


def test_a_lease_renewed_at_the_last_moment_is_not_lost() -> None:
    run = make_run()
    started(run)
    late = NOW + timedelta(minutes=3)
    # The reaper has listed the run; its worker was only slow, and renews before its turn comes.
    runs.renew(worker="host/1", run_ids=[run.pk], now=late)
    assert not runs.lose(run.pk, 1, detail="silent", now=late, if_lapsed=True)
    assert runs.lose(run.pk, 1, detail="its process is gone", now=late)


def test_a_stop_asked_for_while_a_failure_is_recorded_is_respected() -> None:
    run = make_run(make_target(make_job(retries=3)))
    begun = started(run)
    runs.cancel(run.pk, by="ann", now=NOW)
    assert finish(begun, BROKEN)
    run.refresh_from_db()
    assert run.state == State.FAILED
