"""Workers that stand still or are cut off, and go on when others have taken their runs."""

from __future__ import annotations

import logging
import signal
import time
from collections.abc import Iterator
from datetime import timedelta
from typing import Any

import psutil
import pytest

from scheduling.models import Run
from tests.acceptance.proxy import Proxy
from tests.acceptance.rig import Process, Rig, add_command, add_job, now, send_to, trigger
from tests.services import Postgres
from tests.waiting import wait_for

logger = logging.getLogger(__name__)
pytestmark = pytest.mark.acceptance

HOLD = "tests.testapp.jobs.hold"
# A lost run begins again at the latest after so long.
BEGINS_AGAIN = timedelta(seconds=15)
# How long what stood still may go on before it is ended, in seconds.
ENDED_WITHIN = 1.0


class Pair:
    """One run inside a worker and one beside it, which begin again if they are lost."""

    def __init__(self, rig: Rig, victim: Process) -> None:
        self.rig = rig
        self.victim = victim
        fields = {
            "kwargs": {"until": str(rig.folder / "go")},
            "rerun_if_lost": True,
            "options": {"queue": victim.name},
        }
        self.runs = [
            trigger(add_job(f"inside {victim.name}", task=HOLD, **fields)),
            trigger(add_command(f"beside {victim.name}", "linger", **fields)),
        ]

    def wait_for_attempts(self, attempts: list[int], *, timeout: float) -> None:
        ours = {str(run.pk) for run in self.runs}

        def told() -> list[int]:
            return sorted(line.attempt for line in self.rig.lines("start") if line.run in ours)

        wait_for(
            lambda: told() == attempts,
            timeout=timeout,
            message=lambda: (self.victim.name, told(), list(Run.objects.values())),
        )

    def process(self) -> psutil.Process:
        """Return the external process of the first attempt."""
        [line] = self.rig.lines("start", f"beside {self.victim.name}")
        return psutil.Process(line.pid)

    def signs_of_life(self, attempt: int) -> list[float]:
        lines = self.rig.lines(job=f"beside {self.victim.name}")
        return [line.at for line in lines if line.attempt == attempt]

    def own_processes(self) -> list[psutil.Process]:
        """Return the worker's main process and those of its pool."""
        own = {int(pid.rpartition("/")[2]) for pid in Run.objects.values_list("worker", flat=True)}
        own.add(self.victim.popen.pid)
        return [each for each in self.victim.tree() if each.pid in own]


@pytest.fixture
def proxy(rig: Rig, postgres: Postgres) -> Iterator[Proxy]:
    if postgres.external:
        pytest.skip("DATABASE_URL names a server that this test cannot stand in front of")
    proxy = Proxy(rig.folder / "wire", postgres.data)
    yield proxy
    # Workers stop only when they have told the database how their runs ended.
    proxy.mend()
    rig.stop()
    proxy.close()


def test_who_was_silent_for_long_and_his_heir_never_run_a_job_at_once(
    rig: Rig, proxy: Proxy
) -> None:
    """Of three workers one is frozen, one with all that it runs, one cut off from the database.

    External processes are ended before another attempt of their run begins or, if they are frozen
    themselves, as soon as they can do anything at all. Late ends are refused.
    """
    rig.beat()
    wire: dict[str, Any] = {
        "DATABASE_URL": proxy.url(rig.environ["DATABASE_URL"].rpartition("/")[2])
    }
    names = ("frozen", "frozen with all", "cut off")
    frozen, entire, cut_off = pairs = [
        Pair(rig, rig.worker(name, queue=name, **(wire if name == "cut off" else {})))
        for name in names
    ]
    for pair in pairs:
        pair.wait_for_attempts([1, 1], timeout=60)
    first = {pair: pair.process() for pair in pairs}
    standing = [*frozen.own_processes(), *entire.victim.tree()]
    assert first[frozen] not in standing
    assert first[entire] in standing
    for each in standing:
        send_to(each, signal.SIGSTOP)
    proxy.cut()
    silent = now()
    rig.worker("heir", queue=",".join(names), concurrency=6)
    for pair in pairs:
        left = (silent + BEGINS_AGAIN - now()).total_seconds()
        pair.wait_for_attempts([1, 1, 2, 2], timeout=left)
    logger.info("All began again after %s", now() - silent)
    assert not first[frozen].is_running()
    assert not first[cut_off].is_running()
    thawed = time.time()
    for each in standing:
        send_to(each, signal.SIGCONT)
    proxy.mend()
    wait_for(lambda: not first[entire].is_running(), timeout=10, message="it has ended, too")
    # The bodies in the pools may go on, and end as well.
    (rig.folder / "go").touch()
    wait_for(lambda: not Run.objects.open().exists(), timeout=30, message="all have ended")
    rig.stop()
    for pair in (frozen, cut_off):
        assert max(pair.signs_of_life(1)) < min(pair.signs_of_life(2))
    late = [at for at in entire.signs_of_life(1) if at >= min(entire.signs_of_life(2))]
    assert [at for at in late if not thawed <= at <= thawed + ENDED_WITHIN] == []
    ended = list(Run.objects.values_list("state", "attempt"))
    assert ended == [("succeeded", 2)] * 6
    assert all(pair.victim.popen.returncode == 0 for pair in pairs)
    rig.check_oracle(refused=3)
