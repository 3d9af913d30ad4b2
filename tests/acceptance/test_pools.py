"""External jobs are the same in each of the pools that people use."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import psutil
import pytest

from scheduling import runs
from scheduling.models import Run
from tests.acceptance.rig import Rig, add_command, add_family, is_running, now, trigger
from tests.waiting import wait_for

pytestmark = pytest.mark.acceptance

HARD = timedelta(seconds=7)
POOLS = ("prefork", "threads", "gevent")


class Four:
    """One that ends at its limit, one that is stopped, and two of which the second waits."""

    def __init__(self, rig: Rig, pool: str) -> None:
        self.rig = rig
        self.pool = pool
        self.go = rig.folder / f"go {pool}"
        queue: dict[str, Any] = {"options": {"queue": pool}}
        held = {"kwargs": {"until": str(self.go)}, "locks": [f"ledger {pool}"], **queue}
        self.at_limit = trigger(add_family(f"long {pool}", deaf=True, hard_limit=HARD, **queue))
        self.stopped = trigger(add_family(f"stopped {pool}", is_program=True, **queue))
        self.first = trigger(add_command(f"first {pool}", "linger", **held))
        wait_for(lambda: rig.lines("start", f"first {pool}"), timeout=60, message="it has begun")
        self.second = trigger(add_command(f"second {pool}", "linger", **held))
        self.family: list[psutil.Process] = []

    def wait_until_under_way(self) -> None:
        self.family += self.rig.family(self.at_limit) + self.rig.family(self.stopped)
        waiting = Run.objects.filter(pk=self.second.pk, waiting_for=f"ledger {self.pool}")
        wait_for(waiting.exists, timeout=30, message=lambda: self.told())

    def told(self) -> list[tuple[str, str]]:
        """Return how each of them stands."""
        rows = [self.at_limit, self.stopped, self.first, self.second]
        for run in rows:
            run.refresh_from_db()
        return [(run.state, run.reason) for run in rows]


def test_external_jobs_keep_their_limits_and_locks_in_each_pool(rig: Rig) -> None:
    rig.environ["JOBS_TEST_GRACE"] = "2"
    rig.beat()
    workers = [rig.worker(pool, pool=pool, queue=pool, concurrency=6) for pool in POOLS]
    fours = [Four(rig, pool) for pool in POOLS]
    for four in fours:
        four.wait_until_under_way()
        runs.cancel(four.stopped.pk, by="a test", now=now())
    for four in fours:
        wait_for(
            lambda: [state for state, _ in four.told()[:2]] == ["failed", "failed"],  # noqa: B023
            timeout=30,
            message=lambda: (four.pool, four.told()),  # noqa: B023
        )
        wait_for(
            lambda: not any(map(is_running, four.family)),  # noqa: B023
            timeout=5,
            message=lambda: (four.pool, list(filter(is_running, four.family))),  # noqa: B023
        )
        four.go.touch()
    wait_for(lambda: not Run.objects.open().exists(), timeout=30, message="all have ended")
    for four in fours:
        ended = [("failed", "hard_limit"), ("failed", "cancelled"), *[("succeeded", "")] * 2]
        assert four.told() == ended, four.pool
        assert "before the limit" in four.at_limit.output
        [end] = rig.lines("end", f"first {four.pool}")
        [start] = rig.lines("start", f"second {four.pool}")
        assert end.at < start.at
    assert all(worker.is_alive() for worker in workers)
    rig.stop()
    assert [worker.popen.returncode for worker in workers] == [0, 0, 0]
    rig.check_oracle()
