"""Valkey and PostgreSQL that go away, and workers that have too much to do."""

from __future__ import annotations

import logging
from datetime import datetime, timedelta

import pytest
from django.db import connection
from django.db.models import Max, Sum

from scheduling import runs
from scheduling.models import Cause, Process, Run, State, Target
from scheduling.runs import make
from tests.acceptance.rig import Rig, add_job, every_second, now
from tests.services import Postgres
from tests.waiting import wait_for

logger = logging.getLogger(__name__)
pytestmark = pytest.mark.acceptance

HOLD = "tests.testapp.jobs.hold"


def test_all_that_was_queued_when_valkey_lost_everything_runs_once(rig: Rig) -> None:
    rig.beat()
    job = add_job("notes", overlap="allow")
    moment = now()
    target = runs.adopt(job, now=moment)
    for _ in range(100):
        runs.trigger(job, by="a test", now=moment)
    wait_for(lambda: rig.messages() == 100, timeout=30, message=lambda: rig.messages())
    rig.valkey.kill()
    rig.valkey.start()
    back = now()
    wait_for(lambda: rig.messages() >= 100, timeout=20, message=lambda: rig.messages())
    logger.info("Published again after %s", now() - back)
    rig.worker()
    wait_for(lambda: len(rig.lines("end")) >= 100, timeout=30, message="all have run")
    wait_for(lambda: not Run.objects.open().exists(), timeout=15, message="all have ended")
    assert now() - back <= timedelta(seconds=15)
    assert Run.objects.filter(target=target, state="succeeded").count() == 100
    rig.check_oracle()


def test_fires_are_recorded_while_valkey_is_away_and_run_when_it_is_back(rig: Rig) -> None:
    processes = [rig.beat("beat1"), rig.beat("beat2"), rig.worker()]
    wait_for(lambda: Process.objects.count() == 3, timeout=30, message="all are up")
    begin = now()
    until = begin + timedelta(seconds=20)
    targets = [
        runs.adopt(
            add_job(
                f"job {n}", schedule="every 1s", ends_at=until, overlap="queue", catch_up="all"
            ),
            now=begin,
        )
        for n in range(5)
    ]
    wait_for(lambda: len(rig.lines("end")) >= 10, timeout=30, message="the jobs run")
    rig.valkey.kill()
    gone = now()

    def is_recorded(moment: datetime) -> bool:
        return not Target.objects.filter(next_fire_at__lte=moment).exists()

    for seconds in (2, 4, 6, 8):
        moment = gone + timedelta(seconds=seconds)
        rig.wait_until(moment)
        wait_for(lambda: is_recorded(moment), timeout=5, message=f"{moment} is recorded")  # noqa: B023
    logger.info("Fires of %s were recorded at %s", moment, now())
    rig.valkey.start()
    rig.wait_for_ends(timeout=40)
    assert [process.name for process in processes if not process.is_alive()] == []
    for target in targets:
        rig.check_fires(target, every_second(begin, until))
        assert Run.objects.filter(target=target, state="succeeded").count() == 20
    rig.check_oracle()


def test_a_message_that_is_delivered_three_times_starts_one_run(rig: Rig) -> None:
    rig.beat()
    job = add_job("notes", overlap="allow")
    moment = now()
    runs.adopt(job, now=moment)
    for _ in range(50):
        runs.trigger(job, by="a test", now=moment)
    wait_for(lambda: rig.messages() == 50, timeout=30, message=lambda: rig.messages())
    with rig.valkey.client() as client:
        messages = client.lrange("celery", 0, -1)
        assert isinstance(messages, list)
        client.rpush("celery", *messages, *messages)
    rig.worker(concurrency=4)
    wait_for(lambda: rig.messages() == 0, timeout=30, message=lambda: rig.messages())
    wait_for(lambda: not Run.objects.open().exists(), timeout=15, message="all have ended")
    assert Run.objects.filter(state="succeeded").count() == 50
    rig.check_oracle()


def test_busy_workers_are_no_reason_to_publish_again(rig: Rig) -> None:
    rig.beat("beat1")
    rig.beat("beat2")
    worker = rig.worker(concurrency=2)
    blocker = add_job(
        "blocker", task=HOLD, kwargs={"until": str(rig.folder / "go")}, overlap="allow"
    )
    moment = now()
    runs.adopt(blocker, now=moment)
    for _ in range(2):
        runs.trigger(blocker, by="a test", now=moment)
    wait_for(lambda: len(rig.lines("start")) == 2, timeout=30, message="both seats are busy")
    job = add_job("notes", overlap="allow")
    target = runs.adopt(job, now=now())
    moment = now()
    Run.objects.bulk_create(
        make.queued(target, job, scheduled_at=moment, cause=Cause.MANUAL, now=moment)
        for _ in range(10_000)
    )
    queued = Run.objects.filter(job=job)
    wait_for(
        lambda: not queued.filter(published_at=None).exists(),
        timeout=60,
        interval=0.2,
        message=lambda: f"{queued.filter(published_at=None).count()} are not published",
    )
    logger.info("Published after %s", now() - moment)
    # Evidence is two looks, 5 s apart, and a run is not published again before 10 s.
    rig.wait_until(now() + timedelta(seconds=25))
    figures = queued.aggregate(Sum("publications"), Max("publications"))
    assert figures == {"publications__sum": 10_000, "publications__max": 1}
    assert queued.filter(state=State.QUEUED).count() == 10_000
    # What the worker has fetched ahead is not in the list any more.
    assert 10_000 - 4 <= rig.messages() <= 10_000
    worker.kill()


def test_every_process_survives_a_database_outage(rig: Rig, postgres: Postgres) -> None:
    if postgres.external:
        pytest.skip("DATABASE_URL names a server that is not ours to stop")
    processes = [rig.beat("beat1"), rig.beat("beat2"), rig.worker(concurrency=3)]
    go = rig.folder / "go"
    held = add_job("held", task=HOLD, kwargs={"until": str(go)})
    begin = now()
    runs.adopt(held, now=begin)
    runs.trigger(held, by="a test", now=begin)
    wait_for(lambda: rig.lines("start", "held"), timeout=30, message="the held job has begun")
    begin = now()
    until = begin + timedelta(seconds=25)
    targets = [
        runs.adopt(
            add_job(f"job {n}", schedule="every 1s", ends_at=until, catch_up="all"), now=begin
        )
        for n in range(5)
    ]
    wait_for(lambda: len(rig.lines("end")) >= 10, timeout=30, message="the jobs run")
    connection.close()
    postgres.stop()
    # One that runs ends while nothing can be written down.
    go.touch()
    wait_for(lambda: rig.lines("end", "held"), timeout=10, message="the held job has ended")
    rig.wait_until(now() + timedelta(seconds=5))
    postgres.start()
    assert [process.name for process in processes if not process.is_alive()] == []
    rig.wait_for_ends(timeout=60)
    assert [process.name for process in processes if not process.is_alive()] == []
    assert Run.objects.get(job=held).state == State.SUCCEEDED
    for target in targets:
        rig.check_fires(target, every_second(begin, until))
    rig.check_oracle()
