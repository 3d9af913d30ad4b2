from __future__ import annotations

import os
import signal
import threading
from datetime import timedelta
from typing import Any

import pytest
from django.db import OperationalError

from config.celery import app
from scheduling import clock, redis, runs
from scheduling.beat import Scheduler
from scheduling.models import Run, State
from tests.factories import make_run, make_target
from tests.waiting import wait_for
from workers import lease, locks
from workers.live_output import LiveOutput
from workers.open_run import OpenRun, Stop
from workers.orders import boot_time
from workers.output import HeadTail

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
    with heartbeat.keep(OpenRun(mine.pk, 1, ["db"])):
        wait_for(lambda: lease_of(mine) > mine.lease_until)
        wait_for(lambda: redis.client().zrange(f"{locks.PREFIX}db", 0, -1) == [f"{mine.pk}/1"])
    # Started but never answered: in nobody's hand, although the worker's name is on it.
    assert lease_of(nobodys) == nobodys.lease_until


def test_the_thread_ends_with_the_last_run_and_comes_back() -> None:
    heartbeat = lease.Heartbeat(WORKER)
    for _ in range(2):
        with heartbeat.keep(OpenRun(running().pk, 1, [])):
            assert heartbeat._threads
        wait_for(lambda: not heartbeat._threads)


def test_two_runs_of_one_process_share_the_thread() -> None:
    first, second = running(), running()
    heartbeat = lease.Heartbeat(WORKER)
    with heartbeat.keep(OpenRun(first.pk, 1, [])):
        with heartbeat.keep(OpenRun(second.pk, 1, [])):
            wait_for(lambda: lease_of(second) > second.lease_until)
        before = lease_of(first)
        wait_for(lambda: lease_of(first) > before)


def test_it_survives_an_outage(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    renew = runs.renew
    failures: list[int] = []

    def flaky(**kwargs: Any) -> Any:
        if len(failures) < 3:
            failures.append(1)
            raise OperationalError("gone")
        return renew(**kwargs)

    monkeypatch.setattr(runs, "renew", flaky)
    run = running()
    with lease.Heartbeat(WORKER).keep(OpenRun(run.pk, 1, [])):
        wait_for(lambda: lease_of(run) > run.lease_until)
    assert caplog.text.count("failed; trying again") == 1


def test_a_wish_to_stop_reaches_a_run_that_asks() -> None:
    run = running()
    open_run = OpenRun(run.pk, 1, [])
    with lease.Heartbeat(WORKER).keep(open_run):
        assert not open_run.should_stop()
        runs.cancel(run.pk, by="eve", now=clock.now())
        wait_for(open_run.should_stop)
    assert open_run.told is Stop.ASKED


def test_a_wish_to_kill_reaches_one_that_never_asks_with_the_next_renewal(
    caplog: pytest.LogCaptureFixture,
) -> None:
    run = running()
    with lease.Heartbeat(WORKER).keep(OpenRun(run.pk, 1, [])):
        runs.cancel(run.pk, by="eve", now=clock.now(), at_once=True)
        # This process is the tests', which nobody may kill: it is told so.
        wait_for(lambda: "other runs share its process" in caplog.text)


def test_of_an_external_job_only_its_own_process_is_to_die() -> None:
    run = running()
    open_run = OpenRun(run.pk, 1, [], is_external=True)
    with lease.Heartbeat(WORKER).keep(open_run):
        assert not open_run.should_stop()
        assert not open_run.must_die()
        runs.cancel(run.pk, by="eve", now=clock.now(), at_once=True)
        wait_for(open_run.must_die)


# --- whose it is, and for how long ----------------------------------------------------------------


def end_elsewhere(run: Run) -> None:
    """Let the reaper take it for lost."""
    assert runs.lose(run.pk, 1, detail="silent", now=clock.now())


def test_the_lease_surely_holds_for_a_little_less_than_it_is_long(settings: Any) -> None:
    settings.JOBS_LEASE = timedelta(seconds=12)
    before = boot_time()
    open_run = OpenRun(running().pk, 1, [])
    assert before + 11 <= open_run.lease_until() <= boot_time() + 11


def test_each_renewal_moves_the_end_of_the_lease_counted_from_before_it_was_asked_for(
    settings: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings.JOBS_LEASE = timedelta(seconds=12)
    renew = runs.renew
    asked: list[float] = []

    def slow(**kwargs: Any) -> Any:
        answer = renew(**kwargs)
        asked.append(boot_time())
        return answer

    monkeypatch.setattr(runs, "renew", slow)
    open_run = OpenRun(running().pk, 1, [])
    first = open_run.lease_until()
    with lease.Heartbeat(WORKER).keep(open_run):
        wait_for(lambda: open_run.lease_until() > first)
    assert open_run.lease_until() <= asked[-1] + 11


def test_a_run_that_was_given_to_another_attempt_is_to_stop_and_loses_its_locks() -> None:
    run = running()
    open_run = OpenRun(run.pk, 1, ["db"])
    with lease.Heartbeat(WORKER).keep(open_run):
        wait_for(lambda: redis.client().exists(f"{locks.PREFIX}db"))
        end_elsewhere(run)
        wait_for(open_run.should_stop)
        wait_for(lambda: not redis.client().exists(f"{locks.PREFIX}db"))
    assert open_run.told is Stop.SUPERSEDED


def test_a_second_attempt_in_the_same_process_does_not_hide_that_the_first_is_superseded() -> None:
    run = running()
    first, second = OpenRun(run.pk, 1, []), OpenRun(run.pk, 2, [])
    heartbeat = lease.Heartbeat(WORKER)
    with heartbeat.keep(first):
        Run.objects.filter(pk=run.pk).update(attempt=2)
        with heartbeat.keep(second):
            wait_for(first.should_stop)
            assert not second.should_stop()


def test_an_external_run_that_is_superseded_dies_at_once() -> None:
    run = running()
    open_run = OpenRun(run.pk, 1, [], is_external=True)
    with lease.Heartbeat(WORKER).keep(open_run):
        end_elsewhere(run)
        wait_for(open_run.must_die)


@pytest.fixture
def kills(monkeypatch: pytest.MonkeyPatch) -> list[Any]:
    """Let this process look like a child of the prefork pool, and note what it does to itself."""
    signals: list[Any] = []
    monkeypatch.setattr("workers.open_run.is_pool_child", lambda: True)
    monkeypatch.setattr("os.kill", lambda pid, number: signals.append((pid, number)))
    return signals


def test_a_child_of_the_pool_ends_itself_with_a_run_that_is_superseded(kills: list[Any]) -> None:
    run = running()
    with lease.Heartbeat(WORKER).keep(OpenRun(run.pk, 1, [])):
        end_elsewhere(run)
        wait_for(lambda: kills)
    assert kills[0] == (os.getpid(), signal.SIGKILL)


def test_nobody_is_killed_because_of_a_run_whose_body_has_ended(kills: list[Any]) -> None:
    run = running()
    ended, other = OpenRun(run.pk, 1, []), running()
    heartbeat = lease.Heartbeat(WORKER)
    with heartbeat.keep(ended), heartbeat.keep(OpenRun(other.pk, 1, [])):
        ended.is_over = True
        end_elsewhere(run)
        before = lease_of(other)
        wait_for(lambda: lease_of(other) > before)
    assert kills == []


# --- without the database -------------------------------------------------------------------------


@pytest.fixture
def cut_off(settings: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    """Let renewals fail, and leases be short."""

    def fail(**kwargs: Any) -> Any:
        raise OperationalError("gone")

    settings.JOBS_LEASE = timedelta(seconds=0.6)
    monkeypatch.setattr(runs, "renew", fail)
    monkeypatch.setattr(lease, "SILENCE", 0.05)
    monkeypatch.setattr(lease, "LAST_CHANCE", 0.02)


@pytest.mark.usefixtures("cut_off")
def test_while_a_beat_has_the_database_a_run_that_is_cut_off_from_it_ends_with_its_lease(
    kills: list[Any],
) -> None:
    redis.say_beat_is_well()
    open_run = OpenRun(running().pk, 1, [])
    first = open_run.lease_until()
    with lease.Heartbeat(WORKER).keep(open_run):
        wait_for(lambda: kills)
    assert boot_time() >= first == open_run.lease_until()


@pytest.mark.usefixtures("cut_off")
def test_so_it_does_without_redis(kills: list[Any], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(redis, "is_a_beat_well", lambda: None)
    with lease.Heartbeat(WORKER).keep(OpenRun(running().pk, 1, [])):
        wait_for(lambda: kills)


@pytest.mark.usefixtures("cut_off")
def test_a_run_that_is_cut_off_in_a_pool_of_threads_is_told_to_stop() -> None:
    redis.say_beat_is_well()
    open_run = OpenRun(running().pk, 1, [])
    with lease.Heartbeat(WORKER).keep(open_run):
        wait_for(open_run.should_stop)
    assert open_run.told is Stop.CUT_OFF


@pytest.mark.usefixtures("cut_off")
def test_while_nobody_has_the_database_it_goes_on(kills: list[Any]) -> None:
    open_run = OpenRun(running().pk, 1, [])
    first = open_run.lease_until()
    with lease.Heartbeat(WORKER).keep(open_run):
        wait_for(lambda: boot_time() > first + 1)
        assert open_run.lease_until() > boot_time()
        # The database is back for a beat first, which waits for a lease before it ends anything.
        redis.say_beat_is_well()
        wait_for(lambda: kills)


@pytest.mark.usefixtures("cut_off")
def test_a_redis_that_has_just_forgotten_everything_is_not_believed(
    kills: list[Any], monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(lease, "SILENCE", 60)
    with lease.Heartbeat(WORKER).keep(OpenRun(running().pk, 1, [])):
        wait_for(lambda: kills)


def test_a_database_that_does_not_answer_at_all_holds_up_no_deadline(
    kills: list[Any], settings: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings.JOBS_LEASE = timedelta(seconds=0.3)
    monkeypatch.setattr(lease, "LAST_CHANCE", 0.02)
    answer = threading.Event()
    monkeypatch.setattr(runs, "renew", lambda **_: answer.wait(20) and {})
    redis.say_beat_is_well()
    with lease.Heartbeat(WORKER).keep(OpenRun(running().pk, 1, [])):
        wait_for(lambda: kills)
        answer.set()


def test_a_renewal_at_the_last_moment_saves_a_run_of_a_machine_that_slept(
    kills: list[Any], settings: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(lease, "LAST_CHANCE", 5)
    open_run = OpenRun(running().pk, 1, [])
    slept = boot_time() - 1
    monkeypatch.setattr(open_run, "_lease_until", slept)
    with lease.Heartbeat(WORKER).keep(open_run):
        wait_for(lambda: open_run.lease_until() > slept)
    assert kills == []


# --- what it has written so far -------------------------------------------------------------------


def output_of(run: Run) -> tuple[str, int]:
    return Run.objects.values_list("output", "output_bytes").get(pk=run.pk)


def test_what_a_run_writes_is_shown_while_it_runs(settings: Any) -> None:
    settings.JOBS_OUTPUT_EVERY = timedelta(seconds=0.05)
    run = running(token=7)
    open_run = OpenRun(run.pk, 1, [])
    open_run.token = 7
    output = HeadTail(1000, 100)
    open_run.heard(output)
    with lease.Heartbeat(WORKER).keep(open_run):
        output.write(b"half")
        wait_for(lambda: output_of(run) == ("half", 4))
        output.write(b" done")
        wait_for(lambda: output_of(run) == ("half done", 9))


def test_a_long_text_is_stored_less_often(settings: Any) -> None:
    settings.JOBS_OUTPUT_EVERY = timedelta(0)
    output = HeadTail(2_000_000, 100)
    live = LiveOutput(output)
    assert not live.is_due()
    output.write(b"x" * 1_000_000)
    assert live.is_due()
    assert live.take() == ("x" * 1_000_000, 1_000_000)
    output.write(b"x")
    assert not live.is_due()


def test_storing_it_holds_up_no_renewal(settings: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    settings.JOBS_OUTPUT_EVERY = timedelta(seconds=0.01)
    begun, go = threading.Event(), threading.Event()

    def slow(*_: Any, **__: Any) -> bool:
        begun.set()
        return go.wait(20)

    monkeypatch.setattr(runs, "show_output", slow)
    run = running()
    open_run = OpenRun(run.pk, 1, [])
    output = HeadTail(1000, 100)
    output.write(b"x")
    open_run.heard(output)
    with lease.Heartbeat(WORKER).keep(open_run):
        assert begun.wait(10)
        before = lease_of(run)
        wait_for(lambda: lease_of(run) > before)
        go.set()


# --- who has the database -------------------------------------------------------------------------


def tick() -> None:
    beat = Scheduler(app, lazy=True)
    try:
        beat.tick()
    finally:
        beat.close()


def test_a_beat_says_in_each_tick_that_it_has_the_database() -> None:
    assert redis.is_a_beat_well() is False
    tick()
    assert redis.is_a_beat_well() is True
    assert 0 < redis.client().ttl(redis.BEAT) <= redis.BEAT_LASTS


def test_a_beat_without_the_database_says_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    def fail() -> Any:
        raise OperationalError("gone")

    monkeypatch.setattr(clock, "sample", fail)
    tick()
    assert redis.is_a_beat_well() is False


def test_a_beat_in_shadow_mode_could_end_nothing_and_says_nothing(settings: Any) -> None:
    settings.JOBS_SHADOW = True
    tick()
    assert redis.is_a_beat_well() is False
