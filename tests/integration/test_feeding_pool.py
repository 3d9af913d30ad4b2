"""Who is in the pool of a fed job, and who cools down."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import pytest
from django.db import connection
from django.test.utils import CaptureQueriesContext

from scheduling import runs
from scheduling.cadence import Ended, Observation
from scheduling.errors import JobRetired
from scheduling.feeds import (
    OLDEST_SCHEDULED,
    Cooldowns,
    Feed,
)
from scheduling.models import Feeder, Reason, Run, State, Target
from scheduling.runs import Lengths, pool
from tests.factories import NOW, make_job, make_run, make_target
from tests.integration.fed_jobs import fed_job, feed, let_out, pooled, waiting

pytestmark = pytest.mark.django_db
HOUR, DAY = timedelta(hours=1), timedelta(days=1)
SECOND = timedelta(seconds=1)


@pytest.mark.parametrize("of", ["target", "resource"])
def test_a_paused_target_leaves_the_pool_and_comes_back(of: str) -> None:
    job = fed_job()
    target = make_target(job, "a", resource="a", eligible_since=NOW)
    assert target.resource is not None
    scope = target if of == "target" else target.resource
    runs.pause(scope, by="alice", reason="quiet", now=NOW)
    target.refresh_from_db()
    assert (target.eligible_at, target.eligible_since) == (None, None)
    assert not feed(job).picked
    runs.resume(scope, by="alice", now=NOW + HOUR)
    assert feed(job, now=NOW + HOUR).picked == {OLDEST_SCHEDULED: 1}


def test_a_retired_target_leaves_the_pool_and_comes_back() -> None:
    job = fed_job()
    (target,) = pooled(job, 1)
    runs.retire_target(target, now=NOW)
    assert (target.eligible_at, target.eligible_since) == (None, None)
    runs.revive_target(target, now=NOW)
    assert target.eligible_since == NOW


def test_a_new_target_may_be_picked_unless_it_has_fire_times_of_its_own() -> None:
    job = fed_job()
    runs.add_target(job, "picked", now=NOW)
    fires = runs.add_target(job, "fires", schedule="every 1h", now=NOW)
    assert fires.next_fire_at is not None
    assert fires.eligible_since is None
    feed(job)
    assert let_out() == ["picked"]


def test_the_pause_of_a_schedule_is_a_least_distance() -> None:
    job = fed_job(cooldowns=Cooldowns(absolute=None))
    job.schedule = "every 3h after end"
    job.save()
    target = runs.add_target(job, "a", now=NOW)
    assert (target.next_fire_at, target.eligible_since) == (None, NOW)
    Target.objects.filter(pk=target.pk).update(
        observed_at=NOW, last_state="succeeded", eligible_since=None
    )
    pool.place_all([target.pk], now=NOW + HOUR)
    target.refresh_from_db()
    assert target.eligible_at == NOW + 3 * HOUR


def test_edited_cooldowns_reach_what_cools_already() -> None:
    job = fed_job()
    target = make_target(job, "a", last_scheduled_at=NOW, eligible_at=NOW + 7 * DAY)
    feed(job)
    job.feed = Feed(cooldowns=Cooldowns(in_flight=HOUR, absolute=None)).as_json()
    job.save()
    feed(job, now=NOW + 2 * SECOND + timedelta(seconds=60))
    target.refresh_from_db()
    assert target.eligible_at == NOW + HOUR


def test_a_job_that_is_fed_no_more_has_no_pool() -> None:
    job = fed_job()
    (target,) = pooled(job, 1)
    job.feed = Feed(shares={}).as_json()
    job.save()
    feed(job)
    target.refresh_from_db()
    assert (target.eligible_at, target.eligible_since) == (None, None)


def test_a_job_that_loses_its_feed_lets_everything_go() -> None:
    job = fed_job()
    waiting(job, "later", None, NOW + HOUR)
    pooled(job, 2)
    feed(job, Lengths(normal=1000))
    job.feed, job.schedule = None, "every 3h after end"
    job.save()
    Feeder.objects.update(next_at=None)
    feed(job, now=NOW + SECOND)
    feed(job, now=NOW + 2 * SECOND)
    run = Run.objects.get()
    assert run.feed_at is None
    assert run.publish_at == NOW + HOUR
    free = Target.objects.filter(job=job).exclude(key="later")
    assert set(free.values_list("eligible_since", "eligible_at", "parked")) == {(None, None, "")}
    assert set(free.values_list("next_fire_at", flat=True)) == {NOW + SECOND + 3 * HOUR}
    # One with an open run waits for its end.
    assert Target.objects.get(job=job, key="later").parked == "open"
    assert not Feeder.objects.filter(job=job).exists()
    assert job not in runs.jobs_to_feed(NOW + 3 * SECOND)


def test_a_job_that_is_fed_from_now_on_has_no_cursors() -> None:
    job = make_job(schedule="every 3h after end")
    target = runs.add_target(job, "a", now=NOW)
    assert Target.objects.get(job=job).next_fire_at == NOW + 3 * HOUR
    job.feed = Feed().as_json()
    job.save()
    feed(job, Lengths(normal=1000))
    target.refresh_from_db()
    assert (target.next_fire_at, target.eligible_since) == (None, NOW)


def test_a_retired_job_goes_on_where_it_stood() -> None:
    job = fed_job()
    idle, cooling = pooled(job, 2)
    Target.objects.filter(pk=cooling.pk).update(
        eligible_since=None, eligible_at=NOW + DAY, last_scheduled_at=NOW - 6 * DAY
    )
    busy = make_target(job, "busy")
    run = make_run(busy, feed_at=NOW, publish_at=None)
    fires = runs.add_target(job, "fires", schedule="every 1h", now=NOW)
    assert runs.retire(job, now=NOW + SECOND)
    run.refresh_from_db()
    fires.refresh_from_db()
    assert (run.state, run.reason, fires.next_fire_at) == (State.SKIPPED, Reason.RETIRED, None)
    assert job not in runs.jobs_to_feed(NOW + SECOND)
    with pytest.raises(JobRetired):
        runs.select(job, OLDEST_SCHEDULED, 1, now=NOW + SECOND)

    assert runs.revive(job, now=NOW + HOUR)
    feed(job, Lengths(normal=1000), now=NOW + HOUR)
    fires.refresh_from_db()
    assert fires.next_fire_at == NOW + 2 * HOUR
    picks = runs.select(job, OLDEST_SCHEDULED, 9, now=NOW + HOUR)
    assert {pick.key for pick in picks} == {idle.key, "busy"}


def test_a_job_is_retired_without_a_look_at_each_of_a_million() -> None:
    counts = []
    for number in (1, 50):
        job = fed_job()
        pooled(job, number)
        with CaptureQueriesContext(connection) as queries:
            runs.retire(job, now=NOW)
            runs.revive(job, now=NOW)
        counts.append(len(queries))
    assert counts[0] == counts[1]


@pytest.mark.parametrize("together", [False, True])
def test_a_run_that_ends_without_a_cooldown_wakes_a_feeder_that_had_nothing_to_pick(
    together: bool, django_capture_on_commit_callbacks: Any
) -> None:
    job = fed_job(cooldowns=Cooldowns(absolute=None))
    target = make_target(job, "a")
    run = make_run(target, state=State.RUNNING, token=1, worker="here/1")
    Target.objects.filter(pk=target.pk).update(token=1)
    Feeder.objects.create(job=job, next_at=NOW + DAY)
    result = runs.Result(state=State.SUCCEEDED)
    with django_capture_on_commit_callbacks(execute=True):
        if together:
            assert runs.finish_batch({run.pk: (1, 1, result)}, now=NOW) == set()
        else:
            assert runs.finish(run.pk, 1, token=1, result=result, now=NOW)
    target.refresh_from_db()
    assert target.eligible_since == NOW
    assert Feeder.objects.get().next_at is None


def test_a_target_that_is_put_back_into_use_wakes_it(
    django_capture_on_commit_callbacks: Any,
) -> None:
    job = fed_job()
    target = make_target(job, "a")
    assert runs.retire_target(target, now=NOW)
    Feeder.objects.create(job=job, next_at=NOW + DAY)
    with django_capture_on_commit_callbacks(execute=True):
        assert runs.revive_target(target, now=NOW)
    target.refresh_from_db()
    assert target.eligible_since == NOW
    assert Feeder.objects.get().next_at is None


def test_a_result_from_elsewhere_that_ends_a_cooldown_wakes_it(
    django_capture_on_commit_callbacks: Any,
) -> None:
    job = fed_job(cooldowns=Cooldowns(absolute=HOUR))
    picked = NOW - 2 * HOUR
    make_target(job, "a", last_scheduled_at=picked, eligible_at=NOW + 5 * DAY)
    Feeder.objects.create(job=job, next_at=NOW + DAY)
    found = Observation(at=NOW - HOUR, ended=Ended.FOUND)
    with django_capture_on_commit_callbacks(execute=True):
        assert runs.observe(job, [("a", found)], now=NOW).folded == 1
    assert Target.objects.get(key="a").eligible_since == NOW
    assert Feeder.objects.get().next_at is None
