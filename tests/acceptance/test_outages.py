"""Valkey that goes away or forgets everything, and messages that come too often."""

from __future__ import annotations

import logging
import time
from datetime import datetime, timedelta

import pytest
from django.contrib.auth.models import User
from django.db.models import Max, Sum

from scheduling import runs
from scheduling.models import Cause, Job, Process, Run, State, Target
from scheduling.runs import make
from tests.acceptance.rig import Rig, add_job, every_second, now, trigger
from tests.acceptance.web import Browser, free_ports
from tests.waiting import wait_for

logger = logging.getLogger(__name__)
pytestmark = pytest.mark.acceptance

HOLD = "tests.testapp.jobs.hold"
PASSWORD = "correct-horse-7"


def test_what_was_queued_and_what_ran_when_valkey_was_killed_ends_once(either_rig: Rig) -> None:
    """It keeps nothing on disk: started again, it is empty."""
    rig = either_rig
    rig.beat()
    rig.worker(concurrency=4)
    go = rig.folder / "go"
    for n in range(4):
        trigger(add_job(f"held {n}", task=HOLD, kwargs={"until": str(go)}))
    wait_for(lambda: len(rig.lines("start")) == 4, timeout=60, message="all seats are busy")
    notes = add_job("notes", overlap="allow")
    moment = now()
    runs.adopt(notes, now=moment)
    for _ in range(100):
        runs.trigger(notes, by="a test", now=moment)
    wait_for(
        lambda: not Run.objects.filter(job=notes, published_at=None).exists(),
        timeout=30,
        message=lambda: rig.messages(),
    )
    rig.valkey.kill()
    rig.wait_until(now() + timedelta(seconds=2))
    rig.valkey.start()
    back = now()
    # The worker takes some of them out of the list before it can work on them.
    wait_for(lambda: rig.messages() >= 80, timeout=20, message=lambda: rig.messages())
    logger.info("Published again after %s", now() - back)
    assert now() - back <= timedelta(seconds=15)
    go.touch()
    wait_for(
        lambda: len(rig.lines("start", "notes")) == 100,
        timeout=(back + timedelta(seconds=30) - now()).total_seconds(),
        message=lambda: len(rig.lines("start", "notes")),
    )
    wait_for(lambda: not Run.objects.open().exists(), timeout=15, message="all have ended")
    assert Run.objects.filter(state="succeeded", attempt=1).count() == 104
    rig.check_oracle()


def add_every_second(begin: datetime, until: datetime, **fields: object) -> list[Target]:
    """Make five jobs whose every fire gets a run of its own."""
    fields = {"overlap": "queue", "catch_up": "all", **fields}
    return [
        runs.adopt(add_job(f"job {n}", schedule="every 1s", ends_at=until, **fields), now=begin)
        for n in range(5)
    ]


@pytest.mark.parametrize(
    ("seconds", "pause"),
    [(12, 3), pytest.param(60, 5, marks=[pytest.mark.soak, pytest.mark.timeout(300)])],
)
def test_nothing_is_lost_while_everything_is_flushed_again_and_again(
    either_rig: Rig, seconds: int, pause: int
) -> None:
    rig = either_rig
    for name in ("beat1", "beat2"):
        rig.beat(name)
    rig.worker("worker1")
    rig.worker("worker2")
    wait_for(lambda: Process.objects.count() == 4, timeout=60, message="all are up")
    begin = now()
    until = begin + timedelta(seconds=seconds)
    targets = add_every_second(begin, until)
    flushed = 0
    with rig.valkey.client() as client:
        while now() < until:
            rig.wait_until(now() + timedelta(seconds=pause))
            client.flushall()
            flushed += 1
    logger.info("Flushed %s times", flushed)
    rig.wait_for_ends(timeout=45)
    for target in targets:
        rig.check_fires(target, every_second(begin, until))
    assert Run.objects.filter(state="succeeded", attempt=1).count() == 5 * seconds
    rig.check_oracle()


@pytest.mark.parametrize(
    "seconds", [10, pytest.param(90, marks=[pytest.mark.soak, pytest.mark.timeout(300)])]
)
def test_fires_are_recorded_while_valkey_is_away_and_run_when_it_is_back(
    rig: Rig, seconds: int
) -> None:
    [port] = free_ports(1)
    processes = [rig.beat("beat1"), rig.beat("beat2"), rig.worker(), rig.web(port)]
    admin = Admin(f"http://127.0.0.1:{port}")
    wait_for(lambda: Process.objects.count() == 3, timeout=60, message="all are up")
    by_hand = add_job("by hand", overlap="allow")
    runs.adopt(by_hand, now=now())
    begin = now()
    until = begin + timedelta(seconds=seconds + 5)
    # Longer than the outage: none of them is to be skipped as late.
    targets = add_every_second(begin, until, start_within=timedelta(minutes=5))
    wait_for(lambda: len(rig.lines("end")) >= 10, timeout=30, message="the jobs run")
    rig.valkey.kill()
    gone = now()
    asked = 0
    for moment in (gone + timedelta(seconds=second) for second in range(2, seconds, 2)):
        rig.wait_until(moment)
        wait_for(lambda: is_recorded(moment), timeout=5, message=f"{moment} is recorded")  # noqa: B023
        admin.run_now(by_hand)
        asked += 1
    rig.wait_until(gone + timedelta(seconds=seconds))
    logger.info("The web process took %s for the slowest answer", admin.slowest)
    assert admin.slowest <= 2
    rig.valkey.start()
    rig.wait_for_ends(timeout=60)
    assert [process.name for process in processes if not process.is_alive()] == []
    for target in targets:
        rig.check_fires(target, every_second(begin, until))
        # Each of them, since none may stand for another.
        assert Run.objects.filter(target=target, state="succeeded").count() == seconds + 5
    assert Run.objects.filter(job=by_hand, state="succeeded").count() == asked
    rig.check_oracle()


def is_recorded(moment: datetime) -> bool:
    return not Target.objects.filter(next_fire_at__lte=moment).exists()


class Admin:
    """Somebody at the admin, with a watch."""

    def __init__(self, url: str) -> None:
        User.objects.create_superuser("admin", password=PASSWORD)
        self.url = url
        self.browser = Browser()
        self.slowest = 0.0
        login = f"{url}/admin/login/"
        wait_for(self.is_up, timeout=60, message=f"{url} answers")
        assert self.browser.ask(login)[0] == 200
        assert self.browser.post(login, username="admin", password=PASSWORD)[0] == 302

    def is_up(self) -> bool:
        try:
            return self.browser.ask(f"{self.url}/admin/login/")[0] == 200
        except OSError:
            return False

    def run_now(self, job: Job) -> None:
        began = time.monotonic()
        page = f"{self.url}/admin/scheduling/job/{job.pk}/run-by-hand/"
        assert self.browser.post(page, overlap="allow")[0] == 302
        self.slowest = max(self.slowest, time.monotonic() - began)


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
