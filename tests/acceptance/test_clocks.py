"""A machine whose clock is wrong, among others whose is right."""

from __future__ import annotations

from datetime import timedelta

import pytest

from scheduling import health, runs
from scheduling.conf import conf
from scheduling.models import Run
from tests.acceptance.rig import Rig, add_job, every_second, now, trigger
from tests.waiting import wait_for

pytestmark = pytest.mark.acceptance

HOLD = "tests.testapp.jobs.hold"


def test_a_worker_whose_clock_is_ahead_loses_nothing_and_is_told_of(rig: Rig) -> None:
    """A minute and a half: more than its lease, and more than its runs may wait for their start."""
    rig.beat()
    rig.worker("ahead", concurrency=3, DJANGO_SETTINGS_MODULE="tests.acceptance.ahead_settings")
    go = rig.folder / "go"
    held = trigger(add_job("held", task=HOLD, kwargs={"until": str(go)}, rerun_if_lost=True))
    wait_for(lambda: rig.lines("start"), timeout=60, message="it has begun")
    assert rig.lines("start")[0].at > (now() + timedelta(seconds=60)).timestamp()
    begin = now()
    # Long enough for a lease to lapse, were it not renewed by the right clock.
    until = begin + conf.lease + timedelta(seconds=4)
    targets = [
        runs.adopt(
            add_job(
                f"job {n}",
                schedule="every 1s",
                ends_at=until,
                overlap="queue",
                catch_up="all",
                start_within=timedelta(seconds=60),
            ),
            now=begin,
        )
        for n in range(3)
    ]
    wait_for(lambda: not health.clocks(now())[0], timeout=30, message=lambda: health.clocks(now()))
    assert "ahead; set the time there" in health.clocks(now())[1]
    rig.wait_until(until)
    go.touch()
    rig.wait_for_ends(timeout=30)
    held.refresh_from_db()
    assert (held.state, held.attempt) == ("succeeded", 1)
    assert abs(held.started_at - begin) < timedelta(seconds=30) if held.started_at else False
    for target in targets:
        rig.check_fires(target, every_second(begin, until))
    assert set(Run.objects.values_list("state", "attempt")) == {("succeeded", 1)}
    rig.check_oracle()
