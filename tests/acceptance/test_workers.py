"""Workers that are killed, and jobs that do not want to end."""

from __future__ import annotations

import logging
import os
from datetime import timedelta
from pathlib import Path

import pytest

from scheduling import runs
from scheduling.models import FollowUp, Job, Run
from tests.acceptance.rig import Rig, add_job, now
from tests.waiting import wait_for

logger = logging.getLogger(__name__)
pytestmark = pytest.mark.acceptance

HOLD = "tests.testapp.jobs.hold"


def is_running(pid: int) -> bool:
    """Tell whether a process exists and is not merely waiting to be buried."""
    try:
        state = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0]
    except FileNotFoundError:
        return False
    return state != "Z"


def trigger(job: Job) -> Run:
    moment = now()
    runs.adopt(job, now=moment)
    return runs.trigger(job, by="a test", now=moment)


def test_the_runs_of_a_killed_worker_are_found_and_end_once(rig: Rig) -> None:
    rig.beat()
    victim = rig.worker("victim", concurrency=6)
    until = {"until": str(rig.folder / "go")}
    again = [
        trigger(add_job(f"again {n}", task=HOLD, kwargs=until, rerun_if_lost=True))
        for n in range(3)
    ]
    once = [trigger(add_job(f"once {n}", task=HOLD, kwargs=until)) for n in range(3)]
    wait_for(lambda: len(rig.lines("start")) == 6, timeout=30, message="all six have begun")
    victim.kill()
    killed = now()
    rig.worker("heir", concurrency=6)
    wait_for(
        lambda: (
            Run.objects.filter(state="failed", reason="lost").count() == 3
            and len(rig.lines("start")) == 9
        ),
        timeout=30,
        message=lambda: list(Run.objects.values("name", "state", "reason", "attempt")),
    )
    logger.info("All were found after %s", now() - killed)
    assert now() - killed <= timedelta(seconds=15)
    (rig.folder / "go").touch()
    wait_for(lambda: not Run.objects.open().exists(), timeout=15, message="all have ended")
    for run in again:
        run.refresh_from_db()
        assert (run.state, run.attempt) == ("succeeded", 2)
    for run in once:
        run.refresh_from_db()
        assert (run.state, run.reason, run.attempt) == ("failed", "lost", 1)
    rig.check_oracle()


def test_an_orphan_of_a_killed_worker_is_refused_if_another_attempt_has_begun(rig: Rig) -> None:
    """The main process alone is killed: its child may live on, and end late."""
    rig.beat()
    victim = rig.worker("victim", concurrency=1)
    run = trigger(
        add_job(
            "again",
            task=HOLD,
            kwargs={"until": str(rig.folder / "go")},
            rerun_if_lost=True,
        )
    )
    wait_for(lambda: rig.lines("start"), timeout=30, message="it has begun")
    victim.popen.kill()
    rig.worker("heir", concurrency=1)
    wait_for(lambda: len(rig.lines("start")) == 2, timeout=30, message="it has begun again")
    (rig.folder / "go").touch()
    wait_for(lambda: not Run.objects.open().exists(), timeout=15, message="it has ended")
    run.refresh_from_db()
    assert (run.state, run.attempt) == ("succeeded", 2)
    rig.check_oracle(refused=1)


def test_an_external_job_at_its_hard_limit_leaves_no_process(rig: Rig) -> None:
    rig.beat()
    rig.worker()
    run = trigger(Job.objects.get(name__endswith="stubborn"))
    wait_for(
        lambda: rig.pids.exists() and len(rig.pids.read_text().split()) == 3,
        timeout=30,
        message="the job and its two descendants have begun",
    )
    pids = [int(pid) for pid in rig.pids.read_text().split()]
    assert all(is_running(pid) for pid in pids)
    wait_for(
        lambda: Run.objects.filter(pk=run.pk, state="failed").exists(),
        timeout=30,
        message=lambda: Run.objects.filter(pk=run.pk).values(),
    )
    wait_for(lambda: not any(map(is_running, pids)), timeout=5, message="no process is left")
    run.refresh_from_db()
    assert run.reason == "hard_limit"
    assert "before the limit" in run.output


def test_an_external_job_tells_what_it_did(rig: Rig) -> None:
    rig.beat()
    rig.worker()
    run = trigger(Job.objects.get(name__endswith="scribble"))
    wait_for(lambda: not Run.objects.open().exists(), timeout=30, message="it has ended")
    run.refresh_from_db()
    assert (run.state, run.exit_code) == ("succeeded", 0)
    assert run.output.strip() == "scribbled"
    rig.check_oracle()


def test_followers_run_exactly_once_although_the_worker_was_killed(rig: Rig) -> None:
    rig.beat()
    victim = rig.worker("victim")
    go = rig.folder / "go"
    first = add_job("first", task=HOLD, kwargs={"until": str(go)}, rerun_if_lost=True)
    for name, on in (("good", "success"), ("any", "any"), ("bad", "failure")):
        follower = add_job(name)
        runs.adopt(follower, now=now())
        FollowUp.objects.create(job=first, follower=follower, on=on)
    run = trigger(first)
    wait_for(lambda: rig.lines("start", "first"), timeout=30, message="the first has begun")
    victim.kill()
    go.touch()
    rig.worker("heir")
    wait_for(
        lambda: len(rig.lines("end")) == 3 and not Run.objects.open().exists(),
        timeout=30,
        message=lambda: list(Run.objects.values("name", "state", "reason")),
    )
    followers = Run.objects.filter(parent=run, cause="follow_up", state="succeeded")
    assert sorted(followers.values_list("name", flat=True)) == ["any", "good"]
    assert Run.objects.count() == 3
    rig.check_oracle()


def test_people_hear_that_a_job_fails_still_fails_and_is_fixed(rig: Rig) -> None:
    rig.beat()
    rig.worker()
    broken = rig.folder / "broken"
    broken.touch()
    job = add_job(
        "fragile",
        task="tests.testapp.jobs.fail_while",
        kwargs={"broken": str(broken)},
        notify_still_failing=True,
    )
    follower = add_job("any")
    runs.adopt(follower, now=now())
    FollowUp.objects.create(job=job, follower=follower, on="any")
    for mails in (1, 2):
        trigger(job)
        wait_for(lambda: len(rig.subjects()) == mails, timeout=30, message=rig.subjects)  # noqa: B023
    broken.unlink()
    trigger(job)
    wait_for(lambda: len(rig.subjects()) == 3, timeout=30, message=rig.subjects)
    wait_for(lambda: not Run.objects.open().exists(), timeout=15, message="all have ended")
    for word, subject in zip(("failing", "still failing", "fixed"), rig.subjects(), strict=True):
        assert word in subject.lower()
        assert "fragile" in subject
    assert "still" not in rig.subjects()[0].lower()
    assert len(rig.lines("end", "any")) == 3
    for pid in {line.pid for line in rig.lines()}:
        os.kill(pid, 0)  # failures of jobs cost no worker process
