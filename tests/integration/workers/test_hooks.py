"""Asking hooks: yes, no, raised and too slow are told apart, and one that hangs costs no worker."""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterator
from datetime import timedelta
from typing import Any

import pytest
from django.test import override_settings

from scheduling import clock, runs
from scheduling.context import current_run, running
from scheduling.explanations.surroundings import NOTHING_ELSE
from scheduling.explanations.waiting import why_queued
from scheduling.models import Job, Run, State
from scheduling.registry import Declaration, registry
from scheduling.runs import wait_until_ready
from scheduling.schedules import Manual
from tests.factories import NOW, make_job, make_run, make_target
from tests.integration.workers.conftest import Deliver
from tests.waiting import wait_for
from workers import hooks
from workers.hooks import Said

pytestmark = pytest.mark.django_db(transaction=True)

Declare = Callable[..., Job]
SECOND = timedelta(seconds=1)


@pytest.fixture
def declare() -> Iterator[Declare]:
    """Give a function that makes a job with hooks; they are forgotten afterwards."""
    known = dict(registry._by_name)

    def declare(name: str = "asked", **hooks: Any) -> Job:
        registry.add(
            Declaration(
                name=name,
                kind="task",
                declared_in="function",
                schedule=Manual(),
                task="tests.testapp.jobs.note",
                **hooks,
            )
        )
        return make_job(name)

    yield declare
    registry._by_name.clear()
    registry._by_name.update(known)
    wait_for(lambda: not any(hooks._Call.hanging.values()), message="all hooks have returned")


def refuse() -> bool:
    raise ConnectionError("the door is shut")


@pytest.mark.parametrize("which", ["should_run", "ready", "status"])
@pytest.mark.parametrize(
    ("hook", "said", "detail"),
    [
        (lambda: True, Said.YES, ""),
        (lambda: False, Said.NO, "gave False"),
        (lambda: None, Said.NO, "gave None"),
        (refuse, Said.RAISED, "raised ConnectionError: the door is shut"),
        (lambda: exit(3), Said.RAISED, "raised SystemExit: 3"),
    ],
)
def test_an_answer_tells_yes_no_and_an_error_apart(
    declare: Declare, which: hooks.Which, hook: Callable[[], object], said: Said, detail: str
) -> None:
    declare(**{which: hook})
    answer = hooks.ask("asked", which)
    assert answer is not None
    assert (answer.said, answer.is_yes) == (said, said is Said.YES)
    assert detail in answer.detail


def test_who_has_no_hook_is_not_asked(declare: Declare) -> None:
    declare()
    assert hooks.ask("asked", "ready") is None
    assert hooks.ask("made in the admin", "ready") is None


def test_a_hook_may_ask_which_run_it_is_asked_for(declare: Declare) -> None:
    declare(should_run=lambda: current_run().key == "books")
    run = make_run(make_target(key="books"))
    started = runs.start(run.pk, 1, worker="w", now=clock.now())
    assert started is not None
    with running(started.current(lambda: False)):
        answer = hooks.ask("asked", "should_run")
    assert answer is not None
    assert answer.is_yes


@override_settings(JOBS_HOOK_LIMIT=timedelta(milliseconds=50))
def test_one_that_hangs_is_given_up_and_not_called_again_until_it_has_returned(
    declare: Declare,
) -> None:
    let_go, calls = threading.Event(), []

    def hang() -> bool:
        calls.append(threading.current_thread())
        return let_go.wait(10)

    declare(status=hang)
    first, second = hooks.ask("asked", "status"), hooks.ask("asked", "status")
    assert first is not None
    assert second is not None
    assert (first.said, second.said) == (Said.TOO_SLOW, Said.TOO_SLOW)
    assert first.detail == "status() took longer than 0.05 s"
    assert second.detail == "status() has not returned from an earlier call"
    assert len(calls) == 1

    let_go.set()
    calls[0].join()
    third = hooks.ask("asked", "status")
    assert third is not None
    assert third.is_yes


@override_settings(JOBS_HOOK_LIMIT=timedelta(milliseconds=200))
def test_the_hooks_of_many_jobs_share_one_limit(declare: Declare) -> None:
    let_go = threading.Event()
    for n in range(5):
        declare(f"slow {n}", status=lambda: let_go.wait(10))
    declare("quick", status=lambda: True)
    declare("silent")
    names = [*(f"slow {n}" for n in range(5)), "quick", "silent"]
    began = time.monotonic()

    answers = hooks.ask_all(names, "status")

    let_go.set()
    assert time.monotonic() - began < 0.8
    assert list(answers) == names
    assert [answer and answer.said for answer in answers.values()] == [
        *[Said.TOO_SLOW] * 5,
        Said.YES,
        None,
    ]


def test_a_first_run_waits_until_its_job_is_ready(declare: Declare, deliver: Deliver) -> None:
    """Initializing -> Running -> Finished."""
    said: list[bool] = []
    job = declare(ready=lambda: said and said.pop(0))
    said += [False, True]
    run = make_run(make_target(job), publications=1, ready_at=clock.now())

    run = deliver(run)

    job.refresh_from_db()
    assert (run.state, run.published_at) == (State.QUEUED, None)
    assert run.ready_at == run.publish_at
    assert run.ready_at is not None
    assert job.asked_at is not None
    assert run.ready_at - job.asked_at == SECOND
    assert (job.ready_since, job.unready_detail) == (None, "ready() gave False")

    Run.objects.update(ready_at=clock.now())
    Job.objects.update(asked_at=NOW)
    run = deliver(run)

    job.refresh_from_db()
    assert (run.state, run.detail) == (State.SUCCEEDED, "")
    assert job.ready_since is not None
    assert job.unready_detail == ""
    run = deliver(make_run(run.target))
    assert run.state == State.SUCCEEDED  # not asked again: nothing was left to say


def test_the_waits_for_a_job_that_is_never_ready_double_up_to_ten_minutes() -> None:
    run = make_run(make_target())
    waits = []
    for publications in range(1, 13):
        run.publications = publications
        assert wait_until_ready(run, detail="no", asked=True, now=NOW)
        run.refresh_from_db()
        assert run.ready_at is not None
        waits.append((run.ready_at - NOW).total_seconds())
    assert waits == [min(2.0**n, 600.0) for n in range(12)]


def test_many_runs_of_a_job_that_is_not_ready_ask_once_a_second(
    declare: Declare, deliver: Deliver
) -> None:
    asked: list[int] = []
    job = declare(ready=lambda: asked.append(1))
    for key in ("a", "b", "c"):
        assert deliver(make_run(make_target(job, key))).state == State.QUEUED
    assert len(asked) == 1


def test_a_hook_that_raises_is_told_from_one_that_says_no(
    declare: Declare, deliver: Deliver
) -> None:
    job = declare(ready=refuse)
    run = deliver(make_run(make_target(job)))
    job.refresh_from_db()
    assert run.state == State.QUEUED
    assert job.unready_detail == "ready() raised ConnectionError: the door is shut"


def test_it_can_be_asked_why_a_run_waits_for_its_job(declare: Declare, deliver: Deliver) -> None:
    run = deliver(make_run(make_target(declare(ready=lambda: False))))
    assert ": not ready: ready() gave False" in why_queued(run, NOW, NOTHING_ELSE)
