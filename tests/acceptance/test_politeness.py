"""Politeness, measured by what jobs tell: two workers press on one host no more than is allowed."""

from __future__ import annotations

import logging
from collections.abc import Iterator
from datetime import timedelta

import pytest

from scheduling import runs
from scheduling.conf import conf
from scheduling.feeds import Polite
from scheduling.models import Job, Run, State
from tests.acceptance.rig import Rig, add_job, now
from tests.testapp.oracle import Line
from tests.waiting import wait_for

logger = logging.getLogger(__name__)
pytestmark = pytest.mark.acceptance

HOLD = "tests.testapp.jobs.hold"
WORK = "tests.testapp.jobs.take_a_while"
MOMENT = 1.0  # seconds


def add_polite(name: str, limits: Polite, **fields: object) -> Job:
    job = add_job(name, polite=limits.as_json(), **fields)
    runs.adopt(job, now=now())
    return job


def ask(job: Job, number: int, *, host: str = "shop.example.org") -> list[Run]:
    """Trigger so many targets of one host at once."""
    moment = now()
    for n in range(number):
        runs.add_target(job, f"https://{host}/{n}", now=moment)
    return [
        runs.trigger(job, key=f"https://{host}/{n}", by="a test", now=moment) for n in range(number)
    ]


def most_at_once(lines: list[Line]) -> int:
    """The most runs that were inside at any moment; who tells no end was inside for ever."""
    inside, most = 0, 0
    for line in sorted(lines, key=lambda line: (line.at, line.event == "start")):
        inside += 1 if line.event == "start" else -1
        most = max(most, inside)
    return most


def starts_of(lines: list[Line]) -> list[float]:
    return sorted(line.at for line in lines if line.event == "start")


def check_rate(lines: list[Line], rate: float) -> None:
    """Check that in no stretch of time more have begun than may, and one more a second.

    What is counted is the worker's yes; on a busy machine one run needs longer than another from
    there to its first word.
    """
    starts = starts_of(lines)
    for span in (1, 3, 10, 30):
        most = max(sum(begin <= other < begin + span for other in starts) for begin in starts)
        assert most <= (rate + 1) * (span + MOMENT), f"{most} in {span} s"


def deliveries(asked: list[Run]) -> Iterator[int]:
    yield from Run.objects.filter(pk__in=[run.pk for run in asked]).values_list(
        "publications", flat=True
    )


def wait_for_successes(asked: list[Run], *, timeout: float) -> None:
    good = Run.objects.filter(pk__in=[run.pk for run in asked], state=State.SUCCEEDED)
    wait_for(
        lambda: good.count() == len(asked),
        timeout=timeout,
        interval=0.1,
        message=lambda: f"{good.count()} of {len(asked)}: {list(Run.objects.open().values()[:3])}",
    )


def test_two_workers_share_the_limits_of_a_host(either_rig: Rig) -> None:
    rig = either_rig
    for name in ("left", "right"):
        rig.worker(name, concurrency=4)
    slow = add_polite("slow", Polite(at_once=2), task=WORK, kwargs={"seconds": 0.2})
    often = add_polite("often", Polite(per_second=4))
    asked = [*ask(slow, 10), *ask(often, 14)]
    rig.beat()
    wait_for_successes(asked, timeout=60)
    assert most_at_once(rig.lines(job="slow")) == 2
    check_rate(rig.lines(job="often"), 4)
    assert len({line.pid for line in rig.lines("start")}) > 2
    told = list(deliveries(asked))
    logger.info("Deliveries of each: %s", told)
    assert sum(told) <= 4 * len(asked)
    rig.check_oracle()


@pytest.mark.soak
@pytest.mark.timeout(300)
def test_a_long_line_of_one_host_is_spread_over_its_time(rig: Rig) -> None:
    for name in ("left", "right"):
        rig.worker(name, concurrency=4)
    often = add_polite("often", Polite(per_second=5))
    asked = ask(often, 150)
    rig.beat()
    wait_for_successes(asked, timeout=120)
    lines = rig.lines(job="often")
    starts = starts_of(lines)
    told = list(deliveries(asked))
    logger.info("%.0f s, %.2f deliveries for each", starts[-1] - starts[0], sum(told) / len(told))
    check_rate(lines, 5)
    assert 28 < starts[-1] - starts[0] < 45
    assert sum(told) <= 3 * len(asked)
    rig.check_oracle()


@pytest.mark.soak
def test_the_place_of_a_killed_holder_is_free_after_its_lease(rig: Rig) -> None:
    go = rig.folder / "go"
    fields = {"task": HOLD, "kwargs": {"until": str(go)}, "rerun_if_lost": False}
    job = add_polite("holding", Polite(at_once=1), **fields)
    rig.beat()
    left = rig.worker("left", concurrency=1)
    asked = ask(job, 2)
    wait_for(lambda: rig.lines("start"), timeout=60, message="one has begun")
    rig.worker("right", concurrency=1)
    held_until = now() + timedelta(seconds=20)
    rig.wait_until(held_until)
    # Longer than a lease: the heartbeat has kept the place.
    assert len(rig.lines("start")) == 1
    left.kill()
    killed_at = now()
    wait_for(lambda: len(rig.lines("start")) == 2, timeout=60, message="the other has begun")
    logger.info("Begun %s after the kill", now() - killed_at)
    assert now() - killed_at < 2 * conf.lease + timedelta(seconds=5)
    go.touch()
    wait_for(lambda: not Run.objects.open().exists(), timeout=30, message="all have ended")
    states = set(
        Run.objects.filter(pk__in=[run.pk for run in asked]).values_list("state", "reason")
    )
    assert states == {(State.FAILED, "lost"), (State.SUCCEEDED, "")}


@pytest.mark.soak
def test_limits_begin_anew_when_redis_has_forgotten_and_runs_go_on(either_rig: Rig) -> None:
    rig = either_rig
    for name in ("left", "right"):
        rig.worker(name, concurrency=4)
    job = add_polite("slow", Polite(at_once=2, per_second=8), task=WORK, kwargs={"seconds": 0.3})
    asked = ask(job, 60)
    rig.beat()
    with rig.valkey.client() as client:
        wait_for(lambda: len(rig.lines("end")) >= 10, timeout=60, message="they run")
        client.flushall()
        wait_for(lambda: len(rig.lines("end")) >= 30, timeout=60, message="they go on")
        client.flushall()
    wait_for_successes(asked, timeout=90)
    # Those inside at that moment are not known again before their next heartbeat.
    assert most_at_once(rig.lines(job="slow")) <= 4
    rig.check_oracle()
