"""However a run ends, none of its processes is left: children, deaf ones, and some that left."""

from __future__ import annotations

import signal
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import timedelta
from typing import Any

import psutil
import pytest
from celery import Celery

from scheduling import runs
from scheduling.conf import conf
from scheduling.models import Run
from tests.acceptance.rig import Rig, add_command, add_family, is_running, now, send_to, trigger
from tests.waiting import wait_for

pytestmark = pytest.mark.acceptance

GRACE = 2.0
# How soon after its end, or after TERM and grace, nothing of a run is alive.
GONE_WITHIN = 5.0
# The same if the shepherd itself was killed.
SWEPT_WITHIN = 30.0


def cancel(rig: Rig, run: Run) -> None:
    runs.cancel(run.pk, by="a test", now=now())


def terminate(rig: Rig, run: Run) -> None:
    runs.cancel(run.pk, by="a test", now=now(), at_once=True)


def revoke(rig: Rig, run: Run) -> None:
    with Celery(broker=rig.valkey.broker_url) as app:
        app.control.terminate(str(run.pk), signal="SIGKILL")


def kill_child(rig: Rig, run: Run) -> None:
    """As the kernel does when memory runs out."""
    send_to(pool_child_of(run), signal.SIGKILL)


def wait_for_limit(rig: Rig, run: Run) -> None:
    pass


def pool_child_of(run: Run) -> psutil.Process:
    run.refresh_from_db()
    return psutil.Process(int(run.worker.rpartition("/")[2]))


@dataclass(frozen=True, slots=True, kw_only=True)
class Way:
    """`fields` of its job; what somebody does to the run; what is then said of it."""

    reason: str
    act: Callable[[Rig, Run], None] = wait_for_limit
    deaf: bool = False
    fields: dict[str, Any] = field(default_factory=dict)


LONG = timedelta(seconds=8)
WAYS = {
    "hard limit": Way(reason="hard_limit", deaf=True, fields={"hard_limit": LONG}),
    "soft limit": Way(
        reason="soft_limit", fields={"soft_limit": LONG, "hard_limit": timedelta(minutes=1)}
    ),
    "cancel": Way(reason="cancelled", act=cancel),
    "cancel a deaf one": Way(reason="cancelled", act=cancel, deaf=True),
    "terminate": Way(reason="terminated", act=terminate),
    "revoke": Way(reason="terminated", act=revoke),
    "kill its worker process": Way(reason="lost", act=kill_child),
}


def add_pair(name: str, **fields: Any) -> list[Run]:
    """Ask for a run of a management command and one of a program."""
    return [
        trigger(add_family(f"{name} {kind}", is_program=kind == "program", **fields))
        for kind in ("command", "program")
    ]


def test_however_a_run_ends_none_of_its_processes_is_left(either_rig: Rig) -> None:
    rig = either_rig
    rig.environ["JOBS_TEST_GRACE"] = str(GRACE)
    rig.beat()
    worker = rig.worker(concurrency=2 * len(WAYS))
    asked = {name: add_pair(name, deaf=way.deaf, **way.fields) for name, way in WAYS.items()}
    families = {name: [rig.family(run) for run in pair] for name, pair in asked.items()}
    for name, way in WAYS.items():
        for run in asked[name]:
            way.act(rig, run)
    for name, way in WAYS.items():
        for run, family in zip(asked[name], families[name], strict=True):
            wait_for(
                lambda: Run.objects.filter(pk=run.pk, state="failed").exists(),  # noqa: B023
                timeout=LONG.total_seconds() + GRACE + GONE_WITHIN,
                message=lambda: (name, list(Run.objects.filter(pk=run.pk).values())),  # noqa: B023
            )
            wait_until_gone(family, within=GONE_WITHIN, what=name)
            run.refresh_from_db()
            assert (name, run.reason) == (name, way.reason), run.error
            if way.reason not in ("terminated", "lost"):
                assert "before the limit" in run.output
    assert worker.is_alive()


def wait_until_gone(family: list[psutil.Process], *, within: float, what: object) -> None:
    wait_for(
        lambda: not any(map(is_running, family)),
        timeout=within,
        message=lambda: f"{what}: {[each for each in family if is_running(each)]}",
    )


def test_a_worker_leaves_no_processes_of_its_runs_however_it_is_ended(rig: Rig) -> None:
    lost = end_workers(rig)
    # Nobody begins them again; what a worker did not record is found when its lease has lapsed.
    wait_for(
        lambda: Run.objects.filter(state="failed").count() == 6,
        timeout=conf.lease.total_seconds() + 5,
        message=lambda: list(Run.objects.values("name", "state", "reason")),
    )
    assert set(Run.objects.values_list("attempt", flat=True)) == {1}
    for run in lost:
        run.refresh_from_db()
        assert run.reason == "lost"


@pytest.mark.soak
def test_nor_does_it_on_sqlite(embedded_rig: Rig) -> None:
    end_workers(embedded_rig)


def end_workers(rig: Rig) -> list[Run]:
    """Ask one of three workers to stop, tell one to stop now, kill one; give the runs of this."""
    rig.environ["JOBS_TEST_GRACE"] = str(GRACE)
    rig.beat()
    ways = {"term": signal.SIGTERM, "quit": signal.SIGQUIT, "kill": signal.SIGKILL}
    workers = {name: rig.worker(name, queue=name) for name in ways}
    asked = {
        # Asked to stop, a worker waits for what it runs; that ends at its limit.
        name: add_pair(name, deaf=True, options={"queue": name}, hard_limit=LONG)
        for name in ways
    }
    families = {
        name: [each for run in pair for each in rig.family(run)] for name, pair in asked.items()
    }
    for name, number in ways.items():
        workers[name].popen.send_signal(number)
    wait_until_gone(families["kill"], within=GRACE + GONE_WITHIN, what="kill")
    wait_until_gone(families["quit"], within=GRACE + GONE_WITHIN, what="quit")
    workers["term"].wait_for_end()
    assert workers["term"].popen.returncode == 0
    wait_until_gone(families["term"], within=GONE_WITHIN, what="term")
    workers["quit"].wait_for_end()
    ended = {run.pk: run for run in Run.objects.filter(state="failed")}
    assert {ended[run.pk].reason for run in asked["term"]} == {"hard_limit"}
    return asked["kill"]


def test_a_killed_shepherd_leaves_a_lost_run_and_no_process(either_rig: Rig) -> None:
    """Alone, and together with the process that it was forked from."""
    rig = either_rig
    rig.beat()
    worker = rig.worker()
    for is_program, with_zygote in ((False, False), (False, True), (True, False), (True, True)):
        name = f"{'program' if is_program else 'command'} {'and' if with_zygote else 'without'}"
        run = trigger(add_family(name, is_program=is_program))
        family = rig.family(run)
        shepherd = family[0].parent()
        assert shepherd is not None
        # The process of the pool is not what watches over the job.
        assert shepherd.pid != pool_child_of(run).pid
        above = shepherd.parent() if with_zygote else None
        for each in (above, shepherd):
            if each is not None and each.pid not in (worker.popen.pid, pool_child_of(run).pid):
                send_to(each, signal.SIGKILL)
        wait_until_gone(family, within=SWEPT_WITHIN, what=name)
        wait_for(
            lambda: Run.objects.filter(pk=run.pk, state="failed").exists(),  # noqa: B023
            timeout=SWEPT_WITHIN,
            message=lambda: list(Run.objects.values("name", "state", "reason")),
        )
        run.refresh_from_db()
        assert (run.reason, run.attempt) == ("lost", 1), run.error
    assert worker.is_alive()
    again = trigger(add_command("again", "scribble"))
    wait_for(lambda: not Run.objects.open().exists(), timeout=30, message="it still can")
    again.refresh_from_db()
    assert (again.state, again.output) == ("succeeded", "scribbled\n")
