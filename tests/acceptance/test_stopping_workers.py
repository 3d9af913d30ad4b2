"""Workers that are told to stop: what runs in them ends or goes back, what waits is nobody's."""

from __future__ import annotations

import signal

import pytest

from scheduling.models import Process, Run
from tests.acceptance.rig import Rig, add_job, trigger
from tests.waiting import wait_for

pytestmark = pytest.mark.acceptance

HOLD = "tests.testapp.jobs.hold"
POOLS = ["prefork", "threads", "gevent"]


def hold(rig: Rig, name: str, **fields: object) -> Run:
    """Trigger a run that lasts until the file `go` is there."""
    return trigger(add_job(name, task=HOLD, kwargs={"until": str(rig.folder / "go")}, **fields))


def wait_for_start(rig: Rig, name: str, *, attempts: int = 1) -> None:
    wait_for(
        lambda: len(rig.lines("start", name)) == attempts,
        timeout=30,
        message=lambda: f"{name} has begun: {list(Run.objects.values())}",
    )


@pytest.mark.parametrize("pool", POOLS)
def test_a_warm_stop_waits_for_what_runs_and_leaves_the_rest_to_others(rig: Rig, pool: str) -> None:
    rig.beat()
    first = rig.worker("first", concurrency=1, pool=pool)
    hold(rig, "running")
    wait_for_start(rig, "running")
    for n in range(4):
        trigger(add_job(f"waiting {n}"))
    wait_for(
        lambda: not Run.objects.queued().filter(published_at=None).exists(),
        timeout=10,
        message="all are published",
    )
    first.send(signal.SIGTERM)
    wait_for(lambda: first.says("Warm shutdown"), timeout=10)
    assert first.is_alive()
    rig.worker("second")
    wait_for(
        lambda: Run.objects.filter(state="succeeded").count() == 4,
        timeout=30,
        message=lambda: list(Run.objects.values("name", "state", "reason", "published_at")),
    )
    (rig.folder / "go").touch()
    first.wait_for_end()
    assert first.popen.returncode == 0
    wait_for(lambda: not Run.objects.open().exists(), timeout=10)
    assert set(Run.objects.values_list("state", "attempt")) == {("succeeded", 1)}
    rig.check_oracle()


def test_a_cold_stop_is_recorded_at_once(rig: Rig) -> None:
    rig.beat()
    first = rig.worker("first")
    hold(rig, "once")
    hold(rig, "again", rerun_if_lost=True)
    for name in ("once", "again"):
        wait_for_start(rig, name)
    first.send(signal.SIGQUIT)
    first.wait_for_end()
    ends = dict(Run.objects.values_list("name", "reason"))
    assert ends == {"once": "lost", "again": "lost"}
    rig.worker("second")
    wait_for_start(rig, "again", attempts=2)
    (rig.folder / "go").touch()
    wait_for(lambda: not Run.objects.open().exists(), timeout=20)
    assert dict(Run.objects.values_list("name", "state")) == {
        "once": "failed",
        "again": "succeeded",
    }
    rig.check_oracle()


@pytest.mark.parametrize("pool", POOLS)
def test_a_service_is_told_when_its_worker_stops_and_goes_on_elsewhere(rig: Rig, pool: str) -> None:
    rig.beat()
    first = rig.worker("first", pool=pool, queue="services")
    hold(rig, "service", schedule="always")
    wait_for_start(rig, "service")
    first.stop()
    assert first.popen.returncode == 0
    assert not Process.objects.filter(name="first@rig").exists()
    rig.worker("second", queue="services")
    wait_for_start(rig, "service", attempts=2)
    run = Run.objects.get()
    assert (run.state, run.attempt, run.failures, run.losses) == ("running", 2, 0, 0)
    rig.check_oracle(refused=1)
