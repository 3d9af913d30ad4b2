"""Workers that die: what ran in them is found, once, and what was queued runs."""

from __future__ import annotations

import logging
import signal
from collections import Counter
from datetime import timedelta

import psutil
import pytest

from scheduling import runs
from scheduling.conf import conf
from scheduling.models import Job, Run
from tests.acceptance.rig import Rig, add_job, now, send_to, trigger
from tests.waiting import wait_for

logger = logging.getLogger(__name__)
pytestmark = pytest.mark.acceptance

HOLD = "tests.testapp.jobs.hold"
QUEUED = 40
# How long a dead worker may go unnoticed beyond its lease.
NOTICE = timedelta(seconds=3)


def add_held(rig: Rig, name: str, **fields: object) -> Job:
    """Make a job whose runs last until `let_go`."""
    return add_job(name, task=HOLD, kwargs={"until": str(rig.folder / "go")}, **fields)


def let_go(rig: Rig) -> None:
    (rig.folder / "go").touch()


def ends() -> Counter[tuple[str, str, str, int]]:
    rows = Run.objects.values_list("name", "state", "reason", "attempt")
    return Counter(
        (name.split()[0], state, reason, attempt) for name, state, reason, attempt in rows
    )


def test_what_ran_in_a_killed_worker_begins_again_or_is_lost_as_its_job_says(
    either_rig: Rig,
) -> None:
    """Its main process alone is killed, with eight that run and forty in the queue."""
    rig = either_rig
    rig.beat()
    victim = rig.worker("victim", concurrency=8)
    held = [trigger(add_held(rig, f"again {n}", rerun_if_lost=True)) for n in range(4)]
    held += [trigger(add_held(rig, f"once {n}")) for n in range(4)]
    wait_for(lambda: len(rig.lines("start")) == 8, timeout=60, message="all eight have begun")
    notes = add_job("notes", overlap="allow", rerun_if_lost=True)
    runs.adopt(notes, now=now())
    for _ in range(QUEUED):
        runs.trigger(notes, by="a test", now=now())
    # Some are in the victim's own hands already, and go down with it.
    wait_for(
        lambda: not Run.objects.filter(job=notes, published_at=None).exists(),
        timeout=30,
        message="all are published",
    )
    victim.popen.kill()
    killed = now()
    rig.worker("heir", concurrency=8)
    bound = killed + conf.lease + NOTICE
    wait_for(
        lambda: ends()["once", "failed", "lost", 1] == 4,
        timeout=(bound - now()).total_seconds(),
        message=ends,
    )
    wait_for(
        lambda: len([line for line in rig.lines("start") if line.attempt == 2]) == 4,
        timeout=(bound - now()).total_seconds(),
        message=ends,
    )
    logger.info("All were found and began again after %s", now() - killed)
    let_go(rig)
    wait_for(lambda: not Run.objects.open().exists(), timeout=60, message=ends)
    assert ends() == {
        ("again", "succeeded", "", 2): 4,
        ("once", "failed", "lost", 1): 4,
        ("notes", "succeeded", "", 1): QUEUED,
    }
    once = {str(run.pk) for run in held[4:]}
    assert len([line for line in rig.lines("start") if line.run in once]) == 4
    # Its children go with it; one that ends first would be refused.
    rig.check_oracle(refused=4)
    check_alerts(rig, [f"once {n}" for n in range(4)])


def check_alerts(rig: Rig, names: list[str]) -> None:
    """Check that there is one mail about each of these jobs."""

    def told() -> Counter[str]:
        return Counter(name for name in names for subject in rig.subjects() if name in subject)

    wait_for(lambda: len(told()) == len(names), timeout=30, message=rig.subjects)
    assert set(told().values()) == {1}, rig.subjects()


def test_a_killed_process_of_the_pool_costs_its_run_only(either_rig: Rig) -> None:
    """Ten times, half of them runs that begin again; the worker stays."""
    rig = either_rig
    rig.beat()
    worker = rig.worker(concurrency=2)
    for n in range(5):
        pair = [
            trigger(add_held(rig, f"again {n}", rerun_if_lost=True)),
            trigger(add_held(rig, f"once {n}")),
        ]
        wait_for(lambda: began(rig, pair) == [1, 1], timeout=60, message=ends)  # noqa: B023
        for line in rig.lines("start"):
            if line.run in {str(run.pk) for run in pair}:
                send_to(psutil.Process(line.pid), signal.SIGKILL)
        killed = now()
        wait_for(
            lambda: began(rig, pair) == [1, 1, 2],  # noqa: B023
            timeout=(conf.lease + NOTICE).total_seconds(),
            message=ends,
        )
        wait_for(
            lambda: ends()["once", "failed", "lost", 1] == n + 1,  # noqa: B023
            timeout=(conf.lease + NOTICE).total_seconds(),
            message=ends,
        )
        logger.info("Both were found after %s", now() - killed)
        let_go(rig)
        wait_for(lambda: not Run.objects.open().exists(), timeout=30, message=ends)
        (rig.folder / "go").unlink()
    assert worker.is_alive()
    assert ends() == {("again", "succeeded", "", 2): 5, ("once", "failed", "lost", 1): 5}
    rig.check_oracle()
    check_alerts(rig, [f"once {n}" for n in range(5)])


def began(rig: Rig, pair: list[Run]) -> list[int]:
    """Return the attempts of these runs that have begun, ascending."""
    of_pair = {str(run.pk) for run in pair}
    return sorted(line.attempt for line in rig.lines("start") if line.run in of_pair)
