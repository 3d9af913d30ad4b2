"""Beats that are killed and frozen: every fire time keeps its one run or skip."""

from __future__ import annotations

import logging
import random
import signal
from datetime import datetime, timedelta

import pytest
from django.db import connection

from scheduling import models, runs
from scheduling.models import Run, Target
from tests.acceptance.rig import Process, Rig, add_job, every_second, now
from tests.waiting import wait_for

logger = logging.getLogger(__name__)
pytestmark = pytest.mark.acceptance

JOBS = 10


def ten_jobs(rig: Rig, *, seconds: int) -> tuple[list[Target], list[datetime]]:
    """Start ten jobs that fire every second for a while, and return the fires they name."""
    rig.worker()
    rig.beat("beat1")
    rig.beat("beat2")
    wait_for(lambda: models.Process.objects.count() == 3, timeout=30, message="all have said hello")
    begin = now()
    until = begin + timedelta(seconds=seconds)
    jobs = [
        add_job(
            f"job {number}",
            schedule="every 1s",
            ends_at=until,
            # Half of them may skip a fire, the others must run them all, one after another.
            overlap="skip" if number % 2 else "queue",
            catch_up="all",
        )
        for number in range(JOBS)
    ]
    targets = [runs.adopt(job, now=begin) for job in jobs]
    return targets, every_second(begin, until)


def check(rig: Rig, targets: list[Target], fires: list[datetime]) -> None:
    for target in targets:
        rig.check_fires(target, fires)
        if target.job.overlap == "queue":
            assert Run.objects.filter(target=target, state="succeeded").count() == len(fires)
    rig.check_oracle()


def kill_beats(rig: Rig, *, times: int, until: datetime) -> None:
    """Kill one of two beats at random moments (pytest-randomly prints the seed); start it again."""
    beats = {process.name: process for process in rig.processes if "beat" in process.name}
    left = (until - now()).total_seconds()
    moments = sorted(now() + timedelta(seconds=random.uniform(0, left - 1)) for _ in range(times))
    for moment in moments:
        rig.wait_until(moment)
        name = random.choice(sorted(beats))
        beats[name].kill()
        beats[name] = rig.beat(name)


def test_beats_killed_ten_times_lose_and_repeat_nothing(rig: Rig) -> None:
    targets, fires = ten_jobs(rig, seconds=30)
    kill_beats(rig, times=10, until=fires[-1])
    rig.wait_for_ends(timeout=40)
    assert len(fires) == 30
    check(rig, targets, fires)


def test_an_embedded_installation_survives_killed_beats_too(embedded_rig: Rig) -> None:
    targets, fires = ten_jobs(embedded_rig, seconds=12)
    kill_beats(embedded_rig, times=4, until=fires[-1])
    embedded_rig.wait_for_ends(timeout=60)
    check(embedded_rig, targets, fires)


def test_a_beat_frozen_inside_its_transaction_is_replaced_within_five_seconds(rig: Rig) -> None:
    # No worker: the first runs stay queued, later fires are skipped, and each tick claims them all.
    frozen, other = rig.beat("beat1"), rig.beat("beat2")
    wait_for(lambda: models.Process.objects.count() == 2, timeout=30, message="both are up")
    begin = now()
    job = add_job("many", schedule="every 1s", catch_up="all", start_within=timedelta(days=1))
    for number in range(300):
        runs.add_target(job, str(number), now=begin)

    def freeze_inside_a_transaction() -> bool:
        frozen.send(signal.SIGSTOP)
        if is_in_transaction(frozen):
            return True
        frozen.send(signal.SIGCONT)
        return False

    wait_for(freeze_inside_a_transaction, timeout=30, interval=0.05, message="caught in the middle")
    moment = now()
    wait_for(
        lambda: not Target.objects.due(moment).exists(),
        timeout=10,
        message="another beat has claimed them all",
    )
    logger.info("All targets went on after %s", now() - moment)
    assert now() - moment <= timedelta(seconds=5)
    thawed = now()
    frozen.send(signal.SIGCONT)
    wait_for(
        lambda: models.Process.objects.filter(kind="beat", seen_at__gt=thawed).count() == 2,
        timeout=20,
        message="the thawed beat goes on",
    )
    assert frozen.is_alive()
    assert other.is_alive()
    rig.stop()
    for target in Target.objects.filter(job=job):
        assert target.next_fire_at is not None
        rig.check_fires(target, every_second(begin, target.next_fire_at - timedelta(seconds=1)))


def is_in_transaction(process: Process) -> bool:
    """Tell whether PostgreSQL waits for the next statement of a transaction of this process."""
    with connection.cursor() as cursor:
        cursor.execute(
            "SELECT count(*) FROM pg_stat_activity WHERE application_name = %s "
            "AND datname = current_database() AND state = 'idle in transaction'",
            [process.name],
        )
        return bool(cursor.fetchone()[0])
