"""Jobs that follow one another, and their runs, for tests."""

from __future__ import annotations

from datetime import datetime, timedelta

from scheduling import runs
from scheduling.models import Cause, FollowUp, Job, Reason, Run, State, Target
from scheduling.runs import ends
from tests.factories import NOW, make_job, make_run, make_target

DONE = runs.Result(state=State.SUCCEEDED)
BROKEN = runs.Result(state=State.FAILED, reason=Reason.ERROR)
STOPPED = runs.Result(state=State.FAILED, reason=Reason.CANCELLED)
LATER = NOW + timedelta(minutes=1)


def job(name: str, *keys: str, **fields: object) -> Job:
    """A job with a plain target, or one for each key."""
    made = make_job(name, **fields)
    for key in keys or ("",):
        make_target(made, key)
    return made


def tie(job: Job, follower: Job, on: str = "success", *, join: bool = False) -> FollowUp:
    return FollowUp.objects.create(job=job, follower=follower, on=on, join=join)


def join(follower: Job, *jobs: Job, on: str = "success") -> None:
    for each in jobs:
        tie(each, follower, on, join=True)


def trigger(job: Job, key: str = "") -> Run:
    return make_run(Target.objects.get(job=job, key=key))


def begin(run: Run, *, now: datetime = NOW) -> runs.Started:
    begun = runs.start(run.pk, run.attempt, worker="w", now=now)
    assert begun is not None
    return begun


def end(run: Run, result: runs.Result = DONE, *, now: datetime = NOW) -> Run:
    token = begin(run, now=now).token
    assert runs.finish(run.pk, run.attempt, token=token, result=result, now=now)
    return Run.objects.get(pk=run.pk)


def followers(*names: str) -> list[Run]:
    found = Run.objects.filter(cause=Cause.FOLLOW_UP)
    return list((found.filter(name__in=names) if names else found).order_by("created_at", "key"))


def follower(name: str) -> Run:
    [run] = followers(name)
    return run


def decline(run: Run) -> None:
    assert ends.decline(run.pk, 1, token=begin(run).token, detail="nothing to do", now=NOW)


def make_diamond() -> dict[str, Job]:
    """first -> left, right; last after both of them."""
    jobs = {name: job(name) for name in ("first", "left", "right", "last")}
    tie(jobs["first"], jobs["left"])
    tie(jobs["first"], jobs["right"])
    join(jobs["last"], jobs["left"], jobs["right"])
    return jobs
