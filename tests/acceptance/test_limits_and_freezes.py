"""Time limits inside workers, by their pool; and workers that freeze, with what runs in them."""

from __future__ import annotations

import signal
from datetime import timedelta
from time import monotonic

import psutil
import pytest

from scheduling.conf import conf
from scheduling.models import Run
from tests.acceptance.rig import Rig, add_job, send_to, trigger
from tests.waiting import wait_for

pytestmark = pytest.mark.acceptance

JOBS = "tests.testapp.jobs"


def wait_for_end(run: Run) -> Run:
    wait_for(
        lambda: Run.objects.filter(pk=run.pk, ended_at__isnull=False).exists(),
        timeout=30,
        message=lambda: list(Run.objects.values()),
    )
    run.refresh_from_db()
    return run


@pytest.mark.parametrize(
    ("pool", "task", "reason"),
    [
        ("prefork", "take_a_while", "soft_limit"),
        ("prefork", "deaf", "hard_limit"),
        ("gevent", "deaf", "hard_limit"),
        ("threads", "take_a_while", "permanent"),
    ],
)
def test_a_run_says_which_limit_has_ended_it(rig: Rig, pool: str, task: str, reason: str) -> None:
    rig.beat()
    rig.worker(pool=pool)
    limits = {"hard_limit": timedelta(seconds=2)}
    if pool == "prefork":
        limits["soft_limit"] = timedelta(seconds=1)
    run = trigger(add_job("long", task=f"{JOBS}.{task}", kwargs={"seconds": 20}, **limits))
    after = wait_for_end(run)
    assert (after.state, after.reason) == ("failed", reason), after.error
    assert bool(rig.lines("start")) == (reason != "permanent")


def test_what_ran_in_a_frozen_worker_dies_as_soon_as_it_thaws(rig: Rig) -> None:
    rig.beat()
    frozen = rig.worker("frozen", concurrency=1)
    kwargs = {"until": str(rig.folder / "go")}
    run = trigger(add_job("again", task=f"{JOBS}.hold", kwargs=kwargs, rerun_if_lost=True))
    wait_for(lambda: rig.lines("start"), timeout=30, message="it has begun")
    body = psutil.Process(rig.lines("start")[0].pid)
    tree = frozen.tree()
    for each in tree:
        send_to(each, signal.SIGSTOP)
    rig.worker("heir", concurrency=1)
    wait_for(
        lambda: len(rig.lines("start")) == 2,
        timeout=conf.lease.total_seconds() + 15,
        message="it has begun again",
    )
    thawed = monotonic()
    for each in tree:
        send_to(each, signal.SIGCONT)
    wait_for(lambda: not body.is_running() or body.status() == "zombie", timeout=5)
    assert monotonic() - thawed <= 1
    (rig.folder / "go").touch()
    after = wait_for_end(run)
    assert (after.state, after.attempt, after.losses) == ("succeeded", 2, 1)
    wait_for(lambda: frozen.is_alive(), timeout=1)
    rig.check_oracle()
