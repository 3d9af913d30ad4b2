"""A process that is to end at once ends in time, whoever does not answer then."""

from __future__ import annotations

import os
import signal
import threading
from collections.abc import Iterator
from datetime import timedelta
from typing import Any

import pytest

from scheduling import clock, runs
from scheduling.models import State
from tests.factories import make_job, make_run, make_target
from tests.integration.workers import tasks
from tests.integration.workers.conftest import send
from tests.waiting import wait_for
from workers import lease, locks, open_run
from workers.open_run import OpenRun
from workers.orders import boot_time

pytestmark = pytest.mark.django_db(transaction=True)

WORKER = "w@x/1"
LEASE = timedelta(seconds=1.5)


@pytest.fixture(autouse=True)
def quick(settings: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    settings.JOBS_LEASE_RENEWAL = timedelta(seconds=0.05)
    monkeypatch.setattr(lease, "POLL", 0.02)
    monkeypatch.setattr(lease, "LAST_CHANCE", 0.02)
    tasks.seen.clear()
    tasks.act.clear()


@pytest.fixture
def kills(monkeypatch: pytest.MonkeyPatch) -> list[Any]:
    """Let this process look like a child of the prefork pool, and note what it does to itself."""
    found: list[Any] = []
    monkeypatch.setattr("workers.open_run.is_pool_child", lambda: True)
    monkeypatch.setattr("os.kill", lambda *facts: found.append((*facts, boot_time())))
    return found


@pytest.fixture
def answer() -> Iterator[threading.Event]:
    """Whoever waits for it hangs until the test is over."""
    event = threading.Event()
    yield event
    event.set()
    # This process lives on: what was to die with it would meet the flush of the tables.
    speaking = [each for each in threading.enumerate() if each.name == "last words"]
    wait_for(lambda: not any(each.is_alive() for each in speaking), timeout=20)


def test_a_database_that_does_not_answer_any_more_keeps_no_process_alive(
    kills: list[Any], answer: threading.Event, settings: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings.JOBS_LEASE = LEASE
    job = make_job(task=f"{tasks.PATH}.remember", batch=10)
    rows = [make_run(make_target(job, f"key {at}")) for at in range(3)]

    def end_well_and_wait() -> None:
        finish = runs.finish_batch

        def hang(*facts: Any, **more: Any) -> set[Any]:
            assert answer.wait(20)
            return finish(*facts, **more)

        monkeypatch.setattr(runs, "finish_batch", hang)

    def long() -> None:
        asked_at.append(boot_time())
        runs.cancel(rows[1].pk, by="eve", now=clock.now(), at_once=True)
        wait_for(lambda: kills, timeout=5)
        answer.set()

    asked_at: list[float] = []
    tasks.act.extend([long, end_well_and_wait])
    names = [[str(run.pk), 1] for run in rows]
    send(job.task, *names[0], task_id=str(rows[0].pk), jobs_run=names[0], jobs_batch=names)
    assert kills[0][:2] == (os.getpid(), signal.SIGKILL)
    assert kills[0][2] < asked_at[0] + LEASE.total_seconds()


def test_nor_does_a_redis(
    kills: list[Any], answer: threading.Event, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(open_run, "LAST_WORDS", 0.1)
    monkeypatch.setattr(locks, "release", lambda *_: answer.wait(20))
    run = make_run(make_target(), state=State.RUNNING, worker=WORKER, lease_until=clock.now())
    with lease.Heartbeat(WORKER).keep(OpenRun(run.pk, 1, ["db"])):
        assert runs.lose(run.pk, 1, detail="silent", now=clock.now())
        wait_for(lambda: kills)
        answer.set()


def test_what_the_others_have_to_say_is_waited_for(kills: list[Any]) -> None:
    run = make_run(make_target(), state=State.RUNNING, worker=WORKER, lease_until=clock.now())
    mine = OpenRun(run.pk, 1, [])
    said: list[int] = []
    mine.before_death = lambda: said.append(len(kills))
    with lease.Heartbeat(WORKER).keep(mine):
        runs.cancel(run.pk, by="eve", now=clock.now(), at_once=True)
        wait_for(lambda: kills)
    assert said[0] == 0
