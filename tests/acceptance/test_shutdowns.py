"""Workers that are told to stop, and workers that run for long."""

from __future__ import annotations

import logging
import signal
from collections.abc import Sequence
from dataclasses import dataclass

import psutil
import pytest
from django.db.models import Max

from scheduling import runs
from scheduling.models import Cause, Run, Target
from scheduling.runs import make
from tests.acceptance.rig import Rig, add_job, every_second, now, trigger
from tests.waiting import wait_for

logger = logging.getLogger(__name__)
pytestmark = pytest.mark.acceptance

HOLD = "tests.testapp.jobs.hold"
WORK = "tests.testapp.jobs.take_a_while"
MEBIBYTE = 1024 * 1024


def test_a_worker_that_is_told_to_stop_finishes_what_it_runs(either_rig: Rig) -> None:
    rig = either_rig
    rig.beat()
    worker = rig.worker()
    go = rig.folder / "go"
    run = trigger(add_job("long", task=HOLD, kwargs={"until": str(go)}))
    wait_for(lambda: rig.lines("start"), timeout=60, message="it has begun")
    worker.send(signal.SIGTERM)
    wait_for(lambda: worker.says("Warm shutdown"), timeout=10, message="it was told")
    # What comes now is somebody else's.
    trigger(add_job("next"))
    assert worker.is_alive()
    go.touch()
    worker.wait_for_end()
    assert worker.popen.returncode == 0
    run.refresh_from_db()
    assert (run.state, run.attempt) == ("succeeded", 1)
    assert rig.lines("start", "next") == []
    rig.worker("heir")
    wait_for(lambda: not Run.objects.open().exists(), timeout=60, message="all have ended")
    assert Run.objects.filter(state="succeeded").count() == 2
    rig.check_oracle()


def test_five_deploys_under_load_lose_nothing(rig: Rig) -> None:
    check_deploys(rig, 5)


def test_two_deploys_under_load_lose_nothing_on_sqlite(embedded_rig: Rig) -> None:
    check_deploys(embedded_rig, 2)


def check_deploys(rig: Rig, deploys: int) -> None:
    """So often a worker is told to stop while another one starts."""
    rig.beat()
    worker = rig.worker("worker 0")
    begin = now()
    targets = [
        runs.adopt(
            add_job(
                f"job {n}",
                task=WORK,
                kwargs={"seconds": 0.3},
                schedule="every 1s",
                overlap="queue",
                catch_up="all",
            ),
            now=begin,
        )
        for n in range(4)
    ]
    for n in range(1, deploys + 1):
        ended = len(rig.lines("end"))
        wait_for(
            lambda: len(rig.lines("end")) >= ended + 5,  # noqa: B023
            timeout=60,
            message="the jobs run",
        )
        worker.send(signal.SIGTERM)
        heir = rig.worker(f"worker {n}")
        worker.wait_for_end()
        assert worker.popen.returncode == 0
        worker = heir
    # A beat may take a fire while an edit waits for the lock: that one is accounted for as well.
    edited = {}
    for target in targets:
        asked = now()
        runs.reschedule(target.job, schedule="manual", now=asked)
        edited[target] = (asked, now())
    rig.wait_for_ends(timeout=60)
    for target, (asked, done) in edited.items():
        newest = Run.objects.filter(target=target).aggregate(at=Max("scheduled_at"))["at"]
        assert newest <= done
        rig.check_fires(target, every_second(begin, max(asked, newest)))
    assert not Run.objects.exclude(state__in=("succeeded", "skipped")).exists()
    rig.check_oracle()


@dataclass(frozen=True, slots=True, kw_only=True)
class Size:
    resident: int
    zombies: int
    descriptors: int
    processes: int


def size_of(processes: Sequence[psutil.Process]) -> Size:
    return Size(
        resident=sum(process.memory_info().rss for process in processes),
        zombies=sum(process.status() == psutil.STATUS_ZOMBIE for process in processes),
        descriptors=sum(process.num_fds() for process in processes),
        processes=len(processes),
    )


@pytest.mark.parametrize(
    "jobs", [1_000, pytest.param(10_000, marks=[pytest.mark.soak, pytest.mark.timeout(900)])]
)
def test_a_worker_does_not_grow(rig: Rig, jobs: int) -> None:
    rig.beat()
    worker = rig.worker()
    job = add_job("notes", overlap="allow")
    target = runs.adopt(job, now=now())
    run_many(target, 300)
    before = size_of(worker.tree())
    run_many(target, jobs)
    # A connection more may be open at the moment of looking.
    wait_for(
        lambda: size_of(worker.tree()).descriptors <= before.descriptors,
        message=lambda: (before, size_of(worker.tree())),
    )
    after = size_of(worker.tree())
    logger.info("Before: %s; after %s jobs: %s", before, jobs, after)
    assert (after.processes, after.zombies) == (before.processes, 0)
    assert after.resident - before.resident <= 20 * MEBIBYTE
    rig.check_oracle()


def run_many(target: Target, number: int) -> None:
    moment = now()
    Run.objects.bulk_create(
        make.queued(target, target.job, scheduled_at=moment, cause=Cause.MANUAL, now=moment)
        for _ in range(number)
    )
    wait_for(
        lambda: not Run.objects.open().exists(),
        timeout=60 + number / 20,
        interval=0.1,
        message=lambda: f"{Run.objects.open().count()} are open",
    )
