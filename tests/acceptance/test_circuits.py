"""Services that are to run once, whatever dies; circuits that open and close under way."""

from __future__ import annotations

import logging
from datetime import timedelta

import pytest

from scheduling import runs
from scheduling.models import Circuit, Job, Notification, Run, Target
from tests.acceptance.rig import ON_SQLITE_IN_SOAK, Process, Rig, add_job, every_second, now
from tests.waiting import wait_for

logger = logging.getLogger(__name__)
pytestmark = pytest.mark.acceptance

SECOND = timedelta(seconds=1)


@pytest.fixture(params=ON_SQLITE_IN_SOAK)
def any_rig(request: pytest.FixtureRequest) -> Rig:
    rig: Rig = request.getfixturevalue(request.param)
    rig.environ["DJANGO_SETTINGS_MODULE"] = "tests.acceptance.circuit_settings"
    return rig


def service(rig: Rig, name: str = "listener", **fields: object) -> Target:
    until = {"until": str(rig.folder / "never")}
    job = add_job(name, task="tests.testapp.jobs.hold", schedule="always", kwargs=until, **fields)
    return runs.adopt(job, now=now())


def of_services(rig: Rig, name: str) -> Process:
    return rig.worker(name, queue="services", pool="threads", concurrency=4)


def running(name: str) -> Run | None:
    """The running run of a job; there is never a second one."""
    found = list(Run.objects.running().filter(name=name))
    assert len(found) <= 1, found
    return found[0] if found else None


def wait_until_it_runs(rig: Rig, name: str, *, after: int) -> Run:
    """Wait for the run that the oracle hears begin as one more than `after`."""

    def begun() -> Run | None:
        run = running(name)
        is_new = len(rig.lines("start", name)) == after + 1
        return run if run is not None and is_new and run.token == after + 1 else None

    run = wait_for(begun, timeout=60, message=lambda: list(Run.objects.values()))
    assert run is not None
    return run


def test_a_service_runs_once_and_moves_when_its_worker_is_killed(any_rig: Rig) -> None:
    rig = any_rig
    rig.beat("beat")
    rig.beat("second")
    workers = {name: of_services(rig, name) for name in ("left", "right")}
    target = service(rig)

    run = wait_until_it_runs(rig, "listener", after=0)
    workers[run.worker.partition("@")[0]].kill()
    killed = now()
    again = wait_until_it_runs(rig, "listener", after=1)
    logger.info("Started again after %s", now() - killed)
    run.refresh_from_db()
    assert (run.state, run.reason) == ("failed", "lost")
    assert again.worker.partition("@")[0] != run.worker.partition("@")[0]

    runs.pause(target.job, by="a test", reason="works", now=now())
    wait_for(lambda: running("listener") is None, timeout=15, message="it has stopped")
    again.refresh_from_db()
    assert (again.state, again.reason) == ("failed", "cancelled")
    assert len(rig.lines("end", "listener")) == 1
    runs.resume(target.job, by="a test", now=now())
    wait_until_it_runs(rig, "listener", after=2)
    # Its worker stops, and hands it back or ends it; nothing is left running.
    runs.pause(target.job, by="a test", reason="the end", now=now())
    wait_for(lambda: running("listener") is None, timeout=15, message="it has stopped")
    rig.check_oracle(refused=2)


def test_a_circuit_opens_stops_its_members_and_closes_when_all_are_ready(any_rig: Rig) -> None:
    rig = any_rig
    circuit = Circuit.objects.create(name="edge")
    (rig.folder / "ready").touch()
    rig.beat()
    rig.worker()
    of_services(rig, "services")
    listener = service(rig, circuit=circuit)
    wait_until_it_runs(rig, "listener", after=0)
    since = now()
    reader = add_job(
        "reader",
        task="tests.testapp.circuit.read",
        schedule="every 1s",
        circuit=circuit,
        ends_at=since + timedelta(minutes=10),
    )
    target = runs.adopt(reader, now=since)
    wait_for(lambda: len(rig.lines("end", "reader")) >= 3, timeout=30, message="it runs well")

    (rig.folder / "ready").unlink()
    (rig.folder / "broken").touch()
    wait_for(is_open, timeout=15, message="the circuit is open")
    wait_for(lambda: running("listener") is None, timeout=15, message="the service has stopped")
    wait_for(lambda: edge().probes >= 2, timeout=30, message=lambda: vars(edge()))
    assert edge().is_open
    assert Job.objects.get(name="reader").unready_detail == "ready() gave False"
    target.refresh_from_db()
    assert target.parked == "circuit"

    (rig.folder / "broken").unlink()
    (rig.folder / "ready").touch()
    wait_for(lambda: not is_open(), timeout=30, message="the circuit has closed")
    ended = len(rig.lines("end", "reader"))
    wait_until_it_runs(rig, "listener", after=1)
    wait_for(lambda: len(rig.lines("end", "reader")) >= ended + 3, timeout=30)

    (rig.folder / "ill").touch()
    wait_for(is_open, timeout=30, message="the status has opened it")
    assert edge().opened_by == "reader"
    assert edge().open_reason == "status() gave False"
    (rig.folder / "ill").unlink()
    wait_for(lambda: not is_open(), timeout=30, message="the circuit has closed again")

    until = rig.end(reader)
    wait_for(
        lambda: (
            Target.objects.filter(pk=target.pk, next_fire_at=None, parked="").exists()
            and not Run.objects.open().filter(target=target).exists()
        ),
        timeout=30,
        message=lambda: (vars(Target.objects.get(pk=target.pk)), running("reader")),
    )
    rig.check_fires(target, every_second(since, until))
    told = Notification.objects.filter(circuit=circuit).order_by("pk")
    assert list(told.values_list("event", flat=True)) == ["circuit_opened", "circuit_closed"] * 2
    runs.pause(listener.job, by="a test", reason="the end", now=now())
    wait_for(lambda: running("listener") is None, timeout=15, message="it has stopped")
    stops = Run.objects.filter(name="listener", reason="cancelled").count()
    rig.check_oracle(refused=stops)


def edge() -> Circuit:
    return Circuit.objects.get(name="edge")


def is_open() -> bool:
    return edge().is_open
