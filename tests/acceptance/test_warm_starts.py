"""A worker's external runs begin in one warm process, and do not depend on it."""

from __future__ import annotations

import signal

import psutil
import pytest

from scheduling.models import Run
from tests.acceptance.rig import Rig, add_command, is_running, trigger
from tests.waiting import wait_for

pytestmark = pytest.mark.acceptance


class Lingerer:
    """A run of an external command that ends when it is told to."""

    def __init__(self, rig: Rig, name: str, pool: str) -> None:
        self.go = rig.folder / f"go {name}"
        job = add_command(name, "linger", kwargs={"until": str(self.go)}, options={"queue": pool})
        self.run = trigger(job)
        wait_for(lambda: rig.lines("start", name), timeout=60, message=f"{name} has begun")
        self.process = psutil.Process(rig.lines("start", name)[0].pid)
        self.shepherd = self.process.parent()
        assert self.shepherd is not None
        self.warm = self.shepherd.parent()

    def end(self) -> str:
        self.go.touch()
        wait_for(lambda: not Run.objects.open().filter(pk=self.run.pk).exists(), timeout=30)
        self.run.refresh_from_db()
        return self.run.state


@pytest.mark.parametrize("pool", ["prefork", "threads", "gevent"])
def test_all_runs_of_a_worker_come_from_one_warm_process_and_survive_it(
    rig: Rig, pool: str
) -> None:
    rig.beat()
    worker = rig.worker(pool, pool=pool, queue=pool, concurrency=3)
    first, second = (Lingerer(rig, name, pool) for name in ("first", "second"))
    warm = first.warm
    assert warm is not None
    assert warm == second.warm
    assert warm.ppid() == worker.popen.pid
    assert first.shepherd != second.shepherd
    warm.send_signal(signal.SIGKILL)
    third = Lingerer(rig, "third", pool)
    assert [each.end() for each in (first, second, third)] == ["succeeded"] * 3
    assert third.warm is not None
    assert third.warm != warm
    assert third.warm.ppid() == worker.popen.pid
    worker.stop()
    wait_for(lambda: third.warm is None or not is_running(third.warm), timeout=5)
