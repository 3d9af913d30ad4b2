"""What workers do besides the work: output, followers, mails."""

from __future__ import annotations

import os

import pytest

from scheduling import runs
from scheduling.models import FollowUp, Job, Run
from tests.acceptance.rig import Rig, add_job, now, trigger
from tests.waiting import wait_for

pytestmark = pytest.mark.acceptance

HOLD = "tests.testapp.jobs.hold"


def test_an_external_job_tells_what_it_did(rig: Rig) -> None:
    rig.beat()
    rig.worker()
    run = trigger(Job.objects.get(name__endswith="scribble"))
    wait_for(lambda: not Run.objects.open().exists(), timeout=30, message="it has ended")
    run.refresh_from_db()
    assert (run.state, run.exit_code) == ("succeeded", 0)
    assert run.output.strip() == "scribbled"
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
