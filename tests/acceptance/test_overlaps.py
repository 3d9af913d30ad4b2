"""The six overlaps, with real beats and workers, counted by the oracle."""

from __future__ import annotations

from collections import Counter
from datetime import datetime, timedelta

import pytest

from scheduling import runs
from scheduling.models import Job, Run, Target
from scheduling.policies import Overlap
from tests.acceptance.rig import Rig, add_job, every_second, now
from tests.waiting import wait_for

pytestmark = pytest.mark.acceptance

HOLD = "tests.testapp.jobs.hold"
FIRES = 4


def test_each_policy_does_what_its_name_says(rig: Rig) -> None:
    check_policies(rig)


def test_so_it_does_on_sqlite(embedded_rig: Rig) -> None:
    check_policies(embedded_rig)


def check_policies(rig: Rig) -> None:
    """While a run of each job is held, four fires come; then it is let go."""
    rig.beat()
    rig.worker(concurrency=12)
    jobs = {
        policy: add_job(
            policy.value,
            task=HOLD,
            kwargs={"until": str(rig.folder / "go")},
            overlap=policy.value,
            queue_limit=2,
        )
        for policy in Overlap
    }
    for job in jobs.values():
        runs.adopt(job, now=now())
        runs.trigger(job, by="a test", now=now())
    wait_for(lambda: len(rig.lines("start")) == 6, timeout=60, message="all six have begun")
    begin = now()
    end = begin.replace(microsecond=0) + timedelta(seconds=FIRES)
    for job in jobs.values():
        runs.reschedule(job, schedule="every 1s", ends_at=end, after=begin, now=begin)
    expected = every_second(begin, end)
    wait_for(
        lambda: not rig.firing().exists(),
        timeout=30,
        message="all fires are claimed",
    )
    last = {policy: fired(job, expected[-1]) for policy, job in jobs.items()}
    wait_for(
        lambda: (
            len(rig.lines("start", Overlap.ALLOW)) == 1 + FIRES
            and all(began(rig, last[policy]) for policy in (Overlap.CANCEL, Overlap.TERMINATE))
        ),
        timeout=60,
        message=lambda: Counter((line.job, line.event) for line in rig.lines()),
    )
    (rig.folder / "go").touch()
    rig.wait_for_ends(timeout=60)

    for job in jobs.values():
        rig.check_fires(Target.objects.get(job=job), expected)
    states = {policy: told(job) for policy, job in jobs.items()}
    assert states[Overlap.SKIP] == {("skipped", "overlap"): 4, ("succeeded", ""): 1}
    assert states[Overlap.WAIT] == {("skipped", "overlap"): 3, ("succeeded", ""): 2}
    assert states[Overlap.QUEUE] == {("skipped", "capped"): 2, ("succeeded", ""): 3}
    assert states[Overlap.ALLOW] == {("succeeded", ""): 5}
    for policy, reason in ((Overlap.CANCEL, "cancelled"), (Overlap.TERMINATE, "terminated")):
        # How many of the fires between began before the next one came is up to the machine.
        assert states[policy]["succeeded", ""] == 1
        assert states[policy]["failed", reason] >= 1
        assert set(states[policy]) <= {
            ("succeeded", ""),
            ("failed", reason),
            ("skipped", "overlap"),
        }
        assert Run.objects.get(pk=last[policy].pk).state == "succeeded"
    # The killed ones never came to their end, the oracle says.
    assert [line.run for line in rig.lines("end", Overlap.TERMINATE)] == [
        str(last[Overlap.TERMINATE].pk)
    ]
    for policy in Overlap:
        most = 1 + FIRES if policy is Overlap.ALLOW else 1
        assert most_at_once(rig, policy) == most, policy


def fired(job: Job, at: datetime) -> Run:
    return Run.objects.get(job=job, scheduled_at=at)


def began(rig: Rig, run: Run) -> bool:
    return str(run.pk) in {line.run for line in rig.lines("start", run.name)}


def told(job: Job) -> Counter[tuple[str, str]]:
    return Counter(Run.objects.filter(job=job).values_list("state", "reason"))


def most_at_once(rig: Rig, policy: Overlap) -> int:
    """How many bodies of the job were alive at once: a killed one until the next one's start."""
    alive: set[str] = set()
    most = 0
    ended = {line.run for line in rig.lines("end", policy)}
    for line in rig.lines(job=policy):
        if line.event == "end":
            alive.discard(line.run)
            continue
        if policy is Overlap.TERMINATE:
            alive &= ended
        alive.add(line.run)
        most = max(most, len(alive))
    return most
