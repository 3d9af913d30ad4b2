"""A health checker's cases: when checks come, who is checked, and what a small pool gets done."""

from __future__ import annotations

from datetime import datetime, timedelta

import pytest

from scheduling import runs
from scheduling.models import Job, Notification, Reason, Resource, Run, State, Target
from tests.factories import NOW, make_job, make_target

pytestmark = pytest.mark.django_db

SECOND, MINUTE = timedelta(seconds=1), timedelta(minutes=1)
DONE = runs.Result(state=State.SUCCEEDED)


def checks(number: int, *, schedule: str = "every 10m", **fields: object) -> Job:
    """A job with so many targets, each with a resource of its own, known since NOW."""
    job = make_job("check", schedule=schedule, **fields)
    for n in range(number):
        resource = Resource.objects.create(key=f"site {n}")
        runs.add_target(job, f"{n:03}", now=NOW, resource=resource)
    return job


def in_a_pool(job: Job, places: int, *, takes: timedelta, at: datetime) -> dict[str, int]:
    """Let so many work at once through what waits; give how many runs came to what."""
    while queued := list(Run.objects.queued().filter(job=job).order_by("pk")):
        working: list[runs.Started] = []
        for run in queued:
            if len(working) < places:
                begun = runs.start(run.pk, 1, worker="w", now=at)
                if begun is not None:
                    working.append(begun)
        at += takes
        for begun in working:
            assert runs.finish(begun.run.pk, 1, token=begun.token, result=DONE, now=at)
    ended = Run.objects.filter(job=job)
    return {
        "done": ended.filter(state=State.SUCCEEDED).count(),
        "late": ended.filter(state=State.SKIPPED, reason=Reason.LATE).count(),
    }


@pytest.mark.parametrize(
    ("number", "came_to"),
    [
        (30, {"done": 30, "late": 0}),
        # Whoever starts just as late as it may is not late: six rounds of ten.
        (200, {"done": 60, "late": 140}),
    ],
)
def test_of_a_burst_a_small_pool_works_what_starts_within_its_limit(
    number: int, came_to: dict[str, int]
) -> None:
    job = checks(number, start_within=5 * MINUTE)
    fire = NOW + 10 * MINUTE
    runs.claim(now=fire, limit=1000)
    assert Run.objects.queued().filter(job=job).count() == number
    assert in_a_pool(job, 10, takes=MINUTE, at=fire) == came_to


def test_a_hundred_of_one_frequency_come_first_all_over_it() -> None:
    job = checks(100, schedule="every 10m spread")
    waits = sorted(
        (each.next_fire_at - NOW) / (10 * MINUTE)
        for each in Target.objects.filter(job=job)
        if each.next_fire_at is not None
    )
    assert len(waits) == 100
    assert 0 < waits[0] <= waits[-1] <= 1
    assert len(set(waits)) > 80
    assert all(10 < sum(low <= each < low + 0.25 for each in waits) < 40 for low in (0, 0.25, 0.5))


def test_what_is_gone_between_two_fires_comes_no_more() -> None:
    job = checks(2)
    gone = Target.objects.get(job=job, key="000")
    runs.retire_target(gone, now=NOW + MINUTE)
    for at in (NOW + 10 * MINUTE, NOW + 20 * MINUTE):
        runs.claim(now=at, limit=10)
        in_a_pool(job, 1, takes=SECOND, at=at)
    assert [run.key for run in Run.objects.filter(job=job)] == ["001", "001"]
    gone.refresh_from_db()
    assert (gone.next_fire_at, gone.retired_at) == (None, NOW + MINUTE)


def test_what_is_not_active_is_neither_checked_nor_told_of() -> None:
    job = checks(1, notify_still_failing=True)
    resource = Resource.objects.get()
    runs.pause(resource, by="ann", reason="moved", now=NOW)
    for minute in range(10, 60, 10):
        runs.claim(now=NOW + minute * MINUTE, limit=10)
    runs.recover(now=NOW + 60 * MINUTE, reap=True)
    assert in_a_pool(job, 1, takes=SECOND, at=NOW + 60 * MINUTE) == {"done": 0, "late": 0}
    assert not Notification.objects.exists()
    runs.resume(resource, by="ann", now=NOW + 65 * MINUTE)
    runs.claim(now=NOW + 70 * MINUTE, limit=10)
    assert Run.objects.queued().filter(job=job).count() == 1


def test_after_five_fires_in_a_stall_one_check_comes() -> None:
    job = make_job("check", schedule="every 10m", catch_up="latest")
    target = make_target(job, "a", next_fire_at=NOW)
    now = NOW + 44 * MINUTE
    runs.claim(now=now, limit=10)
    assert in_a_pool(job, 1, takes=SECOND, at=now) == {"done": 1, "late": 0}
    assert Run.objects.get(state=State.SUCCEEDED).scheduled_at == NOW + 40 * MINUTE
    target.refresh_from_db()
    assert target.next_fire_at == NOW + 50 * MINUTE


def test_another_frequency_counts_at_once_whatever_the_one_before() -> None:
    job = checks(1, schedule="every 1d")
    runs.reschedule(job, schedule="every 10m", now=NOW + MINUTE)
    runs.claim(now=NOW + 10 * MINUTE, limit=10)
    assert [run.scheduled_at for run in Run.objects.filter(job=job)] == [NOW + 10 * MINUTE]
