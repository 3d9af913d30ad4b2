"""Follow-ups through crashes: none missing, none double, each after what it follows."""

from __future__ import annotations

import logging
from collections.abc import Mapping
from itertools import pairwise
from pathlib import Path
from typing import Any

import pytest
from django.db.models import Count

from scheduling import runs
from scheduling.models import FollowUp, Job, Run, Target
from tests.acceptance.rig import ON_SQLITE_IN_SOAK, Rig, now
from tests.waiting import wait_for

logger = logging.getLogger(__name__)
pytestmark = pytest.mark.acceptance

PAIRS, CHAINS, LINKS, DIAMONDS = 200, 20, 5, 10
WORKER_KILLS, BEAT_KILLS = 10, 5
CONCURRENCY = 3
Fields = dict[str, Any]
ON = ("success", "failure", "any")
WORK: Fields = {"task": "tests.testapp.jobs.take_a_while", "kwargs": {"seconds": 0.05}}


def add_jobs(jobs: Mapping[str, Fields]) -> dict[str, Job]:
    made = Job.objects.bulk_create(
        Job(name=name, kind="task", declared_in="admin", rerun_if_lost=True, **fields)
        for name, fields in jobs.items()
    )
    Target.objects.bulk_create(Target(job=job) for job in made)
    return {job.name: job for job in made}


def fails(number: int) -> bool:
    return number % 4 == 0


def add_pairs(broken: Path) -> list[Job]:
    """Pairs of a job, one in four of which fails, and its follower, by each rule in turn."""
    failing: Fields = {"task": "tests.testapp.jobs.fail_while", "kwargs": {"broken": str(broken)}}
    leaders = add_jobs({f"leader{n}": failing if fails(n) else WORK for n in range(PAIRS)})
    followers = add_jobs({f"follower{n}": WORK for n in range(PAIRS)})
    FollowUp.objects.bulk_create(
        FollowUp(job=leaders[f"leader{n}"], follower=followers[f"follower{n}"], on=ON[n % 3])
        for n in range(PAIRS)
    )
    return list(leaders.values())


def add_chains() -> list[Job]:
    names = [[f"link{chain}.{n}" for n in range(LINKS)] for chain in range(CHAINS)]
    links = add_jobs({name: WORK for chain in names for name in chain})
    FollowUp.objects.bulk_create(
        FollowUp(job=links[name], follower=links[after])
        for chain in names
        for name, after in pairwise(chain)
    )
    return [links[chain[0]] for chain in names]


def add_diamonds() -> list[Job]:
    """A job that leads to two, and one after both of them."""
    parts = ("top", "left", "right", "bottom")
    jobs = add_jobs({f"{part}{n}": WORK for n in range(DIAMONDS) for part in parts})
    FollowUp.objects.bulk_create(
        FollowUp(job=jobs[f"{leader}{n}"], follower=jobs[f"{follower}{n}"], join=join)
        for n in range(DIAMONDS)
        for leader, follower, join in (
            ("top", "left", False),
            ("top", "right", False),
            ("left", "bottom", True),
            ("right", "bottom", True),
        )
    )
    return [jobs[f"top{n}"] for n in range(DIAMONDS)]


def expected_followers() -> set[str]:
    fires = {"success": (False,), "failure": (True,), "any": (False, True)}
    return {f"follower{n}" for n in range(PAIRS) if fails(n) in fires[ON[n % 3]]}


@pytest.mark.timeout(300)
@pytest.mark.parametrize("either_rig", ON_SQLITE_IN_SOAK, indirect=True)
def test_followers_run_once_and_in_order_whatever_is_killed(either_rig: Rig) -> None:
    rig = either_rig
    # What is killed again and again here is no poison.
    rig.environ["JOBS_TEST_LOSSES_TO_POISON"] = str(WORKER_KILLS + 1)
    broken = rig.folder / "broken"
    broken.touch()
    leaders, firsts = add_pairs(broken), [*add_chains(), *add_diamonds()]
    beat = rig.beat("beat0")
    worker = rig.worker("worker0", concurrency=CONCURRENCY)
    for kill in range(WORKER_KILLS):
        for job in (*leaders[kill::WORKER_KILLS], *firsts[kill::WORKER_KILLS]):
            runs.trigger(job, by="a test", now=now())
        victim, worker = worker, rig.worker(f"worker{kill + 1}", concurrency=CONCURRENCY)
        seen = len(rig.lines("start"))
        wait_for(
            lambda: len(rig.lines("start")) >= seen + CONCURRENCY,  # noqa: B023
            timeout=60,
            message=f"there is work to interrupt, {kill}",
        )
        victim.kill()
        if kill % (WORKER_KILLS // BEAT_KILLS) == 0:
            beat.kill()
            beat = rig.beat(f"beat{kill + 1}")
        if kill == WORKER_KILLS // 2:
            rig.valkey.kill()
            rig.valkey.start()
    killed = now()
    wait_for(
        lambda: not Run.objects.open().exists(),
        timeout=200,
        message=lambda: list(
            Run.objects.values_list("state", "reason").annotate(Count("pk")).order_by()
        ),
    )
    again = Run.objects.filter(losses__gt=0).count()
    logger.info("All had ended %s after the last kill; %d ran again", now() - killed, again)
    assert again > 0, "no kill has hit a run"
    check_pairs()
    check_chains()
    check_diamonds()
    expected = PAIRS + len(expected_followers()) + CHAINS * LINKS + DIAMONDS * 4
    assert Run.objects.count() == expected
    rig.check_oracle(refused=WORKER_KILLS * CONCURRENCY)
    check_order(rig)


def check_pairs() -> None:
    rows = Run.objects.filter(name__startswith="leader")
    assert dict(rows.values_list("name", "state")) == {
        f"leader{n}": "failed" if fails(n) else "succeeded" for n in range(PAIRS)
    }
    found = list(Run.objects.filter(name__startswith="follower", state="succeeded"))
    assert len(found) == len(expected_followers())
    assert {run.name for run in found} == expected_followers()
    for run in found:
        assert run.parent is not None
        assert run.parent == run.root
        assert run.parent.name == run.name.replace("follower", "leader")


def check_chains() -> None:
    for chain in range(CHAINS):
        links = list(Run.objects.filter(name__startswith=f"link{chain}.").order_by("depth"))
        assert [run.name for run in links] == [f"link{chain}.{n}" for n in range(LINKS)]
        assert {run.state for run in links} == {"succeeded"}
        assert [run.parent for run in links[1:]] == links[:-1]
        assert {run.root for run in links[1:]} == {links[0]}


def check_diamonds() -> None:
    for n in range(DIAMONDS):
        top = Run.objects.get(name=f"top{n}")
        bottom = Run.objects.get(name=f"bottom{n}", root=top, joined=True)
        sides = Run.objects.filter(parent=top, state="succeeded")
        assert {run.name for run in sides} == {f"left{n}", f"right{n}"}
        assert bottom.state == "succeeded"
        assert bottom.parent in sides


def check_order(rig: Rig) -> None:
    """Check that no follower began before the accepted attempt of its parent had ended."""
    begun: dict[str, float] = {}
    for line in rig.lines("start"):
        begun.setdefault(line.run, line.at)
    ended = {(line.run, line.attempt): line.at for line in rig.lines("end")}
    for run in Run.objects.filter(cause="follow_up").select_related("parent"):
        assert run.parent is not None
        if run.parent.state == "succeeded":
            assert begun[str(run.pk)] >= ended[str(run.parent_id), run.parent.attempt]
