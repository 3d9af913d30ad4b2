from __future__ import annotations

from datetime import timedelta
from typing import Any

import pytest
from django.db import OperationalError

from scheduling import clock, redis, runs
from scheduling.models import Run, State
from tests.factories import make_run, make_target
from tests.waiting import wait_for
from workers import lease, locks

pytestmark = pytest.mark.django_db(transaction=True)

WORKER = "w@x/1"


@pytest.fixture(autouse=True)
def quick(settings: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    settings.JOBS_LEASE_RENEWAL = timedelta(seconds=0.05)
    monkeypatch.setattr(lease, "POLL", 0.02)


def running(**fields: Any) -> Run:
    return make_run(
        make_target(),
        state=State.RUNNING,
        worker=WORKER,
        started_at=clock.now(),
        lease_until=clock.now(),
        **fields,
    )


def lease_of(run: Run) -> Any:
    return Run.objects.values_list("lease_until", flat=True).get(pk=run.pk)


def test_leases_and_locks_of_open_runs_are_renewed() -> None:
    mine, nobodys = running(), running()
    heartbeat = lease.Heartbeat(WORKER)
    with heartbeat.keep(lease.OpenRun(mine.pk, 1, ["db"])):
        wait_for(lambda: lease_of(mine) > mine.lease_until)
        wait_for(lambda: redis.client().get(f"{locks.PREFIX}db") == f"{mine.pk}/1")
    # Started but never answered: in nobody's hand, although the worker's name is on it.
    assert lease_of(nobodys) == nobodys.lease_until


def test_the_thread_ends_with_the_last_run_and_comes_back() -> None:
    heartbeat = lease.Heartbeat(WORKER)
    for _ in range(2):
        with heartbeat.keep(lease.OpenRun(running().pk, 1, [])):
            assert heartbeat._thread is not None
        wait_for(lambda: heartbeat._thread is None)


def test_two_runs_of_one_process_share_the_thread() -> None:
    first, second = running(), running()
    heartbeat = lease.Heartbeat(WORKER)
    with heartbeat.keep(lease.OpenRun(first.pk, 1, [])):
        with heartbeat.keep(lease.OpenRun(second.pk, 1, [])):
            wait_for(lambda: lease_of(second) > second.lease_until)
        before = lease_of(first)
        wait_for(lambda: lease_of(first) > before)


def test_it_survives_an_outage(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    renew = runs.renew
    failures: list[int] = []

    def flaky(**kwargs: Any) -> int:
        if len(failures) < 3:
            failures.append(1)
            raise OperationalError("gone")
        return renew(**kwargs)

    monkeypatch.setattr(runs, "renew", flaky)
    run = running()
    with lease.Heartbeat(WORKER).keep(lease.OpenRun(run.pk, 1, [])):
        wait_for(lambda: lease_of(run) > run.lease_until)
    assert caplog.text.count("not renewed") == 1


def test_a_wish_to_stop_reaches_a_run_that_asks() -> None:
    run = running()
    open_run = lease.OpenRun(run.pk, 1, [])
    with lease.Heartbeat(WORKER).keep(open_run):
        assert not open_run.should_stop()
        runs.cancel(run.pk, by="eve", now=clock.now())
        wait_for(open_run.should_stop)
    assert open_run.was_told


def test_a_wish_to_kill_reaches_one_that_never_asks_with_the_next_renewal(
    caplog: pytest.LogCaptureFixture,
) -> None:
    run = running()
    with lease.Heartbeat(WORKER).keep(lease.OpenRun(run.pk, 1, [])):
        runs.cancel(run.pk, by="eve", now=clock.now(), at_once=True)
        # This process is the tests', which nobody may kill: it is told so.
        wait_for(lambda: "other runs share its process" in caplog.text)


def test_of_an_external_job_only_its_own_process_is_to_die() -> None:
    run = running()
    open_run = lease.OpenRun(run.pk, 1, [], is_external=True)
    with lease.Heartbeat(WORKER).keep(open_run):
        assert not open_run.should_stop()
        assert not open_run.must_die()
        runs.cancel(run.pk, by="eve", now=clock.now(), at_once=True)
        wait_for(open_run.must_die)
