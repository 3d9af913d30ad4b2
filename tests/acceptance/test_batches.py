"""Messages for several runs, with processes killed on purpose."""

from __future__ import annotations

import signal

import pytest

from scheduling.models import Run
from tests.acceptance.rig import Rig, add_job, now
from tests.factories import make_run, make_target
from tests.waiting import wait_for

pytestmark = pytest.mark.acceptance

MANY = 300


def many(number: int = MANY, **fields: object) -> list[Run]:
    moment = now()
    job = add_job("many", batch=50, **fields)
    return [
        make_run(make_target(job, f"{at:03}"), scheduled_at=moment, publish_at=moment)
        for at in range(number)
    ]


def test_each_of_them_runs_once(rig: Rig) -> None:
    many()
    rig.beat()
    rig.worker()
    wait_for(lambda: not Run.objects.open().exists(), timeout=60, message="all have ended")
    assert Run.objects.filter(state="succeeded", attempt=1).count() == MANY
    assert len(rig.lines("end", "many")) == MANY
    rig.check_oracle()


def test_a_killed_worker_loses_none_of_them(rig: Rig) -> None:
    many(task="tests.testapp.jobs.take_a_while", kwargs={"seconds": 0.02}, rerun_if_lost=True)
    rig.beat()
    worker = rig.worker()
    ended = Run.objects.filter(state="succeeded")
    wait_for(lambda: ended.count() > 20, timeout=60, message="some have ended")
    worker.kill()
    rig.worker("other")
    wait_for(lambda: not Run.objects.open().exists(), timeout=90, message="all have ended")
    assert ended.count() == MANY
    # What it had ended within its last second, without a word to the database, ran again.
    rig.check_oracle(refused=MANY)


def test_a_killed_process_of_a_worker_loses_none_of_them(rig: Rig) -> None:
    many(task="tests.testapp.jobs.take_a_while", kwargs={"seconds": 0.02}, rerun_if_lost=True)
    rig.beat()
    worker = rig.worker()
    ended = Run.objects.filter(state="succeeded")
    wait_for(lambda: ended.count() > 20, timeout=60, message="some have ended")
    for child in worker.tree()[1:2]:
        child.send_signal(signal.SIGKILL)
    wait_for(lambda: not Run.objects.open().exists(), timeout=90, message="all have ended")
    assert ended.count() == MANY
    rig.check_oracle(refused=MANY)


def test_a_worker_that_stops_hands_back_what_it_has_not_begun(rig: Rig) -> None:
    many(100, task="tests.testapp.jobs.take_a_while", kwargs={"seconds": 0.2})
    rig.beat()
    worker = rig.worker()
    wait_for(lambda: rig.lines("start", "many"), timeout=60, message="one has begun")
    worker.stop()
    assert not Run.objects.running().exists()
    begun = len(rig.lines("start", "many"))
    assert begun < MANY
    assert Run.objects.filter(state="succeeded").count() == begun
    rig.worker("other")
    wait_for(lambda: not Run.objects.open().exists(), timeout=90, message="all have ended")
    assert Run.objects.filter(state="succeeded").count() == 100
    rig.check_oracle()
