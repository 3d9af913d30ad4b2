"""What is ready is looked at and claimed by others' executors: strict lanes, then due time."""

from __future__ import annotations

import random
from datetime import datetime, timedelta
from functools import partial
from typing import Any

import pytest
from celery.app import app_or_default

from scheduling import backend, clock, evidence, outbox, runs
from scheduling.errors import InvalidRequest, UnknownJob
from scheduling.models import Job, Run, State
from tests.factories import NOW, make_target
from tests.integration.backend_jobs import HOUR, SECOND, one_off, one_offs, registered, set_time
from tests.services import Valkey

pytestmark = pytest.mark.django_db


def ids(found: list[Run]) -> list[object]:
    return [run.pk for run in found]


def publish(now: datetime) -> int:
    return outbox.publish_ready(app_or_default(), epoch="e", now=now)


def test_what_is_ready_comes_by_due_time_and_within_a_bound() -> None:
    registered()
    now = clock.now()
    wanted = [
        backend.NewRun(job="load", kwargs={"n": n}, due_at=now - timedelta(microseconds=n))
        for n in range(100)
    ]
    random.Random(5).shuffle(wanted)
    backend.create_runs(wanted)
    everything = backend.peek_ready("load", limit=1000, at=now)
    assert [run.kwargs["n"] for run in everything] == list(range(99, -1, -1))
    assert backend.peek_ready("load", limit=10, at=now) == everything[:10]
    bound = now - timedelta(microseconds=50)
    assert [run.kwargs["n"] for run in backend.peek_ready("load", limit=1000, at=bound)] == list(
        range(99, 49, -1)
    )


def test_each_lane_has_its_own_runs() -> None:
    registered()
    for priority, number in ((None, 100), (1, 60), (5, 30), (9, 20)):
        backend.create_runs(one_offs(number, priority=priority))
    normal = backend.peek_ready("load", limit=1000)
    assert len(normal) == 100
    assert {run.priority for run in normal} == {None}
    assert len(backend.peek_ready("load", limit=1000, lane=5)) == 30


def test_lanes_are_strict() -> None:
    registered()
    now = clock.now()
    made = [
        one_off(priority=priority, due_at=now - due)
        for priority, due in ((None, HOUR), (9, 3 * HOUR), (1, SECOND), (1, HOUR))
    ]
    found = backend.peek_ready("load", limit=10, lane="any")
    assert ids(found) == [made[i].pk for i in (3, 2, 1, 0)]


def test_what_is_claimed_is_what_was_seen_and_nobody_else_has_it() -> None:
    registered()
    backend.create_runs(one_offs(80))
    seen = backend.peek_ready("load", limit=50)
    taken = backend.claim_ready("load", limit=50)
    assert ids(taken) == ids(seen)
    assert {run.state for run in taken} == {State.QUEUED}
    rest = backend.claim_ready("load", limit=50)
    assert len(rest) == 30
    assert not {*ids(rest)} & {*ids(taken)}
    assert backend.claim_ready("load", limit=50) == []


def test_what_is_claimed_is_published_by_no_beat(valkey: Valkey) -> None:
    registered()
    backend.create_runs(one_offs(3))
    claimed = backend.claim_ready("load", limit=2)
    now = clock.now()
    assert publish(now) == 1
    assert evidence.forget_other_epochs("other", now=now) == 1
    assert set(Run.objects.to_publish(now)).isdisjoint(claimed)


def test_a_claim_of_somebody_who_died_is_found_again() -> None:
    registered()
    one_off()
    (run,) = backend.claim_ready("load", limit=1, lease=HOUR)
    later = clock.now() + HOUR
    assert backend.peek_ready("load", limit=1, at=later - 2 * SECOND) == []
    assert backend.peek_ready("load", limit=1, at=later) == [run]
    assert publish(later) == 1


def test_a_claimed_run_is_started_and_ended_by_its_executor() -> None:
    registered()
    one_off()
    (run,) = backend.claim_ready("load", limit=1)
    begun = backend.start_run(run.pk, worker="pod-1")
    assert begun is not None
    assert begun.state == State.RUNNING
    assert backend.start_run(run.pk, worker="pod-2") is None
    assert backend.renew([run.pk], worker="pod-2") == set()
    assert backend.renew([run.pk], worker="pod-1") == {run.pk}
    ended = backend.end_run(run.pk)
    assert ended is not None
    assert ended.state == State.SUCCEEDED


def test_a_started_run_whose_executor_falls_silent_is_lost(monkeypatch: pytest.MonkeyPatch) -> None:
    registered()
    run = one_off()
    assert backend.start_run(run.pk, worker="pod-1", lease=HOUR)
    now = clock.now()
    runs.recover(now=now + HOUR - 2 * SECOND, reap=True)
    run.refresh_from_db()
    assert run.state == State.RUNNING
    set_time(monkeypatch, now + HOUR - 2 * SECOND)
    backend.renew([run.pk], worker="pod-1", lease=HOUR)
    runs.recover(now=now + HOUR + SECOND, reap=True)
    run.refresh_from_db()
    assert run.state == State.RUNNING
    runs.recover(now=now + 2 * HOUR, reap=True)
    run.refresh_from_db()
    assert (run.state, run.reason) == (State.FAILED, "lost")


def test_runs_that_wait_for_a_slot_may_be_claimed() -> None:
    job = registered(feed={"shares": {}, "max_queue_length": 1})
    make_target(job, "a")
    run = one_off(key="a", priority=1)
    assert backend.claim_ready("load", limit=5, lane="any") == [run]
    run.refresh_from_db()
    assert run.feed_at is None
    assert backend.start_run(run.pk) is not None


# --- the queue of others --------------------------------------------------------------------------


def test_a_job_that_others_execute_is_sent_to_no_worker(valkey: Valkey) -> None:
    Job.objects.all().delete()  # those that are declared in code fire, too
    job = registered("outside", queue=backend.OUTSIDE, schedule="every 1h", retries=1)
    target = job.targets.get()
    assert target.next_fire_at is not None
    fire = target.next_fire_at
    outbox.publish(app_or_default(), runs.claim(now=fire, limit=5).runs, epoch="e", now=fire)
    with valkey.client() as client:
        assert client.keys("*outside*") == []
    assert set(Run.objects.to_publish(fire + HOUR)) == set()
    assert evidence.forget_other_epochs("other", now=fire + HOUR) == 0
    (run,) = backend.claim_ready("outside", limit=5, at=fire)
    assert backend.claim_ready("outside", limit=5, at=fire) == []
    # Its claimer dies, a beat passes by, and it is there for the next one.
    publish(fire + HOUR)
    assert backend.claim_ready("outside", limit=5, at=fire + HOUR) == [run]
    # A retry, too.
    assert backend.start_run(run.pk, at=fire + HOUR)
    backend.end_run(run.pk, "failed", at=fire + HOUR)
    publish(fire + 2 * HOUR)
    assert backend.claim_ready("outside", limit=5, at=fire + 2 * HOUR) == [run]
    with valkey.client() as client:
        assert client.keys("*outside*") == []


# --- what cannot be -------------------------------------------------------------------------------


def test_a_claim_names_what_is_wrong() -> None:
    registered()
    with pytest.raises(UnknownJob, match="'lode'"):
        backend.claim_ready("lode", limit=1)
    with pytest.raises(InvalidRequest, match="-1; give a number"):
        backend.peek_ready("load", limit=-1)
    with pytest.raises(InvalidRequest, match="'high'"):
        backend.peek_ready("load", limit=1, lane="high")  # type: ignore[arg-type]
    run = one_off()
    wrong: list[Any] = [timedelta(0), timedelta(seconds=-5), timedelta.max, 60, None]
    for lease in wrong:
        for give in (
            partial(backend.claim_ready, "load", limit=1),
            partial(backend.schedule_run, "load"),
            partial(backend.schedule_runs, [backend.ScheduledRun(job="load")]),
            partial(backend.start_run, run.pk),
            partial(backend.start_runs, [run.pk]),
            partial(backend.renew, [run.pk]),
        ):
            with pytest.raises(InvalidRequest, match="lease"):
                give(lease=lease)
    assert list(Run.objects.values_list("state", flat=True)) == [State.QUEUED]


def test_nothing_is_ready_before_its_time() -> None:
    registered()
    one_off(due_at=clock.now() + HOUR)
    assert backend.claim_ready("load", limit=1) == []
    assert backend.peek_ready("load", limit=1, at=NOW) == []
