"""Cases of other schedulers that speak of locks, in our form, by the numbers teams know them by.

G1 to G11 come from a health checker, whose lock of a resource lasted for its frequency less one
minute; here it lasts until the next fire, at which it is free. A5 is from a library of jobs.
"""

from __future__ import annotations

import threading
from datetime import datetime, timedelta

import pytest
from django.db import connection

from scheduling import clock, lock, runs
from scheduling.models import Cause, Job, Resource, Run, State, Target
from scheduling.runs import Result
from tests.factories import NOW, make_job, make_run, make_target
from tests.waiting import wait_for

pytestmark = pytest.mark.django_db(transaction=True)

MINUTE = timedelta(minutes=1)
DONE = Result(state=State.SUCCEEDED)


def checker(minutes: int, resource: str = "site") -> Target:
    """A target whose lock is held until its next fire."""
    job = make_job(schedule=f"every {minutes}m", locks_until_next_fire=True)
    return make_target(job, "k", resource=resource, next_fire_at=NOW + minutes * MINUTE)


def run_at(target: Target, at: datetime) -> bool:
    """Have one run start and end at `at`; False: it has to wait."""
    run = make_run(target, cause=Cause.MANUAL, scheduled_at=at)
    started = runs.start(run.pk, 1, worker="host/1", now=at)
    if started is None:
        runs.cancel(run.pk, by="the test", now=at)
        return False
    return runs.finish(run.pk, 1, token=started.token, result=DONE, now=at)


@pytest.mark.parametrize("minutes", [1, 10, 60, 1440])
def test_g1_g2_g7_the_lock_is_free_at_the_next_fire_and_not_before(minutes: int) -> None:
    mine, other = checker(minutes), checker(minutes)
    fire = NOW + minutes * MINUTE
    assert run_at(mine, NOW)
    assert not run_at(other, fire - timedelta.resolution)
    assert run_at(other, fire)


def test_g4_of_two_runners_with_shifted_phases_one_does_all_the_work() -> None:
    a, b = checker(10), checker(10)
    done = []
    for minute in range(0, 50):
        at = NOW + minute * MINUTE
        for name, target, phase in (("a", a, 0), ("b", b, 9)):
            if minute % 10 == phase:
                Target.objects.filter(pk=target.pk).update(next_fire_at=at + 10 * MINUTE)
                if run_at(target, at):
                    done.append((name, minute))
    assert done == [("a", minute) for minute in (0, 10, 20, 30, 40)]


def test_g8_of_two_that_take_a_lock_for_the_first_time_at_once_one_gets_it() -> None:
    for number in range(5):
        both = [
            make_run(make_target(make_job(locks=[f"new {number}"])), scheduled_at=NOW)
            for _ in range(2)
        ]
        barrier = threading.Barrier(2)
        started: list[bool] = []

        threads = [
            threading.Thread(target=begin_together, args=(run, barrier, started)) for run in both
        ]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join(60)
        assert sorted(started) == [False, True]


def begin_together(run: Run, barrier: threading.Barrier, started: list[bool]) -> None:
    barrier.wait(30)
    try:
        started.append(runs.start(run.pk, 1, worker="host/1", now=NOW) is not None)
    finally:
        connection.close()


def test_g9_g11_a_resource_that_is_paused_or_gone_from_use_is_not_locked() -> None:
    target = checker(10)
    assert target.resource is not None
    runs.pause(target.resource, by="ann", reason="moving house", now=NOW)
    run = make_run(target, cause=Cause.SCHEDULE)
    assert runs.start(run.pk, 1, worker="host/1", now=NOW) is None
    runs.resume(Resource.objects.get(key="site"), by="ann", now=NOW)
    runs.retire_target(target, now=NOW)
    late = make_run(target, cause=Cause.SCHEDULE, scheduled_at=NOW + MINUTE)
    assert runs.start(late.pk, 1, worker="host/1", now=NOW) is None
    assert runs.locks_held(NOW) == []
    assert set(Run.objects.values_list("state", flat=True)) == {State.SKIPPED}


def test_g10_an_old_lock_does_not_block_a_shorter_frequency() -> None:
    target = checker(60)
    assert run_at(target, NOW)
    runs.reschedule(Job.objects.get(pk=target.job_id), schedule="every 10m", now=NOW + MINUTE)
    assert run_at(target, NOW + 10 * MINUTE)


def test_a5_nothing_runs_while_code_holds_the_lock_and_all_goes_on_afterwards() -> None:
    job = make_job("poll", locks=["upstream"])
    run = make_run(make_target(job), publish_at=None)
    with lock("upstream"):
        assert runs.start(run.pk, 1, worker="host/1", now=clock.now()) is None
        assert runs.recover(now=clock.now(), reap=False).woken == 0
    wait_for(lambda: Run.objects.get(pk=run.pk).publish_at is not None, timeout=30)
    assert runs.start(run.pk, 1, worker="host/1", now=clock.now()) is not None
