"""`with lock(...)` in team code."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from datetime import timedelta

import pytest
from django.db import connection, transaction

from scheduling import clock, lock, runs
from scheduling.context import running
from scheduling.errors import LockBusy, LockInTransaction, RunIsOver
from scheduling.models import Run, Seat, State, Ticket
from scheduling.runs import Result
from tests.factories import make_job, make_run, make_target
from tests.waiting import wait_for

pytestmark = pytest.mark.django_db(transaction=True)

NOT_AT_ALL = timedelta(0)


def begin(*locks: str) -> runs.Started:
    run = make_run(make_target(make_job(locks=list(locks))), scheduled_at=clock.now())
    started = runs.start(run.pk, 1, worker="host/1", now=clock.now())
    assert started is not None
    return started


@pytest.fixture
def thread() -> Iterator[list[threading.Thread]]:
    threads: list[threading.Thread] = []
    yield threads
    for each in threads:
        each.join(timeout=30)


def test_outside_of_runs_it_excludes_others_and_ends_with_the_block() -> None:
    with lock("ledger") as hold:
        (held,) = runs.locks_held(clock.now())
        assert (held.key, held.run, held.token) == ("ledger", None, hold.token)
        assert held.host
        with (
            pytest.raises(LockBusy, match="'ledger' was not free within 0 s"),
            lock("ledger", wait=NOT_AT_ALL),
        ):
            pass
    assert runs.locks_held(clock.now()) == []
    assert not Ticket.objects.exists()
    with lock("ledger", wait=NOT_AT_ALL) as again:
        assert again.token > hold.token


def test_a_run_that_names_the_lock_waits_for_it_and_is_woken() -> None:
    with lock("ledger"):
        run = make_run(make_target(make_job(locks=["ledger"])), publish_at=None)
        assert runs.start(run.pk, 1, worker="host/1", now=clock.now()) is None
    run.refresh_from_db()
    assert run.publish_at is not None
    assert runs.start(run.pk, 1, worker="host/1", now=clock.now()) is not None


def test_inside_a_run_it_belongs_to_the_run() -> None:
    started = begin()
    with running(started.current(lambda: False)), lock("ledger") as hold:
        seat = Seat.objects.get(key="ledger")
        assert (seat.run_id, seat.attempt, seat.token) == (started.run.pk, 1, hold.token)
        assert hold.token >= started.token
    assert Seat.objects.get(key="ledger").run_id is None


def test_it_ends_with_its_run_if_the_block_does_not() -> None:
    started = begin()
    with running(started.current(lambda: False)), lock("ledger"):
        runs.lose(started.run.pk, 1, detail="killed", now=clock.now())
        assert runs.locks_held(clock.now()) == []
        with pytest.raises(RunIsOver, match="no longer running"), lock("other"):
            pass


def test_a_lock_that_the_job_names_is_held_already() -> None:
    started = begin("ledger")
    with running(started.current(lambda: False)), lock("ledger", wait=NOT_AT_ALL) as hold:
        assert hold.token == started.token
    # and is not given up by the block
    assert Seat.objects.get(key="ledger").run_id == started.run.pk


def test_who_waits_in_code_keeps_its_place_before_a_run_that_comes_later(thread) -> None:
    holder = begin("ledger")
    got = threading.Event()

    def wait() -> None:
        with lock("ledger", wait=timedelta(seconds=30)):
            got.set()
        connection.close()

    thread.append(threading.Thread(target=wait))
    thread[0].start()
    wait_for(lambda: Ticket.objects.filter(key="ledger").exists(), timeout=30)
    late = make_run(make_target(make_job(locks=["ledger"])), publish_at=None)
    assert runs.start(late.pk, 1, worker="host/1", now=clock.now()) is None
    done = Result(state=State.SUCCEEDED)
    assert runs.finish(holder.run.pk, 1, token=holder.token, result=done, now=clock.now())
    assert got.wait(timeout=30)
    wait_for(lambda: Run.objects.get(pk=late.pk).publish_at is not None, timeout=30)


def test_inside_of_a_transaction_it_is_refused() -> None:
    with (
        transaction.atomic(),
        pytest.raises(LockInTransaction, match="take the lock first"),
        lock("ledger"),
    ):
        pass


def test_a_holder_that_fell_silent_loses_it_after_its_lease(settings) -> None:
    settings.JOBS_LEASE = timedelta(seconds=1)
    settings.JOBS_LEASE_RENEWAL = timedelta(hours=1)
    with lock("ledger") as lost, lock("ledger", wait=timedelta(seconds=30)) as hold:
        assert hold.token > lost.token


def test_a_living_holder_keeps_it_beyond_its_lease(settings) -> None:
    settings.JOBS_LEASE = timedelta(seconds=1)
    settings.JOBS_LEASE_RENEWAL = timedelta(milliseconds=100)
    with lock("ledger") as hold:
        with pytest.raises(LockBusy), lock("ledger", wait=timedelta(seconds=2)):
            pass
        assert not hold.is_lost()


def test_a_broken_lock_is_told_to_its_holder(settings) -> None:
    settings.JOBS_LEASE_RENEWAL = timedelta(milliseconds=50)
    with lock("ledger") as hold:
        assert runs.break_lock("ledger", by="eve", reason="stuck", now=clock.now()) == 1
        wait_for(hold.is_lost, timeout=30)
    assert runs.locks_held(clock.now()) == []
