"""Selecting by hand: dry runs, samples, other cooldowns, another time."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import pytest
from django.db import connection

from scheduling import runs
from scheduling.feeds import OLDEST_SCHEDULED, WITHOUT_HINT, Cooldowns
from scheduling.models import Feeder, Job, Run, Target
from scheduling.runs import selecting
from tests.factories import NOW, make_run, make_target
from tests.integration.fed_jobs import fed_job

pytestmark = pytest.mark.django_db
HOUR, DAY = timedelta(hours=1), timedelta(days=1)


@pytest.fixture
def job() -> Job:
    job = fed_job()
    Feeder.objects.get_or_create(job=job)
    return job


def pooled(job: Job, key: str, **fields: Any) -> Target:
    return make_target(job, key, **{"eligible_since": NOW - DAY, **fields})


def keys(job: Job, strategy: str, count: int = 100, **options: Any) -> list[str]:
    options.setdefault("now", NOW)
    return [pick.key for pick in runs.select(job, strategy, count, **options)]


def test_a_dry_run_gives_the_same_twice_and_marks_nothing(job: Job) -> None:
    for key in "abc":
        pooled(job, key)
    first = runs.select(job, OLDEST_SCHEDULED, 2, now=NOW, dry_run=True)
    assert first == runs.select(job, OLDEST_SCHEDULED, 2, now=NOW, dry_run=True)
    assert [pick.key for pick in first] == ["a", "b"]
    assert not Run.objects.exists()
    assert not Target.objects.exclude(last_scheduled_at=None).exists()


@pytest.mark.parametrize("overlap", ["skip", "allow"])
def test_a_dry_run_leaves_out_what_a_claim_leaves_out(job: Job, overlap: str) -> None:
    job.overlap = overlap
    job.save()
    make_run(pooled(job, "busy"))
    pooled(job, "free")
    assert keys(job, OLDEST_SCHEDULED, dry_run=True) == ["free"]
    assert keys(job, OLDEST_SCHEDULED) == ["free"]


def test_at_a_time_to_come_those_would_be_picked_whose_cooldown_is_over_by_then(job: Job) -> None:
    for key in "abc":
        pooled(job, key)
    assert keys(job, OLDEST_SCHEDULED) == ["a", "b", "c"]
    Run.objects.all().delete()  # nobody knows what has become of them
    assert keys(job, OLDEST_SCHEDULED, now=NOW + 7 * DAY, dry_run=True) == []
    assert len(keys(job, OLDEST_SCHEDULED, now=NOW + 8 * DAY, dry_run=True)) == 3


def test_at_a_time_gone_by_who_rested_then_would_not_be_picked(job: Job) -> None:
    make_target(job, "a", last_scheduled_at=NOW, eligible_since=NOW + 8 * DAY)
    assert keys(job, OLDEST_SCHEDULED, now=NOW + 8 * DAY, dry_run=True) == ["a"]
    assert keys(job, OLDEST_SCHEDULED, now=NOW + DAY, dry_run=True) == []


def test_a_clock_that_is_behind_takes_no_mark_back(job: Job) -> None:
    target = pooled(job, "a", last_scheduled_at=NOW)
    assert keys(job, OLDEST_SCHEDULED, now=NOW - HOUR) == ["a"]
    target.refresh_from_db()
    assert target.last_scheduled_at == NOW


def test_a_sample_is_part_of_the_pool_and_no_target_is_in_none(job: Job) -> None:
    for number in range(40):
        pooled(job, str(number))
    seen: set[str] = set()
    for _ in range(200):
        part = keys(job, OLDEST_SCHEDULED, sample=0.25, dry_run=True)
        assert len(part) == 10
        seen.update(part)
        if len(seen) == 40:
            return
    raise AssertionError("some targets are in no sample")


@pytest.mark.parametrize(
    ("fraction", "number"), [(0.67, 67), (0.9, 90), (0.75, 75), (0.4, 40), (0.1, 10), (0.01, 1)]
)
def test_a_sample_is_as_large_as_it_is_said_to_be(job: Job, fraction: float, number: int) -> None:
    Target.objects.bulk_create(
        Target(job=job, key=str(key), eligible_since=NOW) for key in range(100)
    )
    part = keys(job, OLDEST_SCHEDULED, sample=fraction, dry_run=True)
    assert len(part) == number


def test_one_in_many_is_a_sample(job: Job) -> None:
    Target.objects.bulk_create(
        Target(job=job, key=str(key), eligible_since=NOW) for key in range(1000)
    )
    assert len(keys(job, OLDEST_SCHEDULED, sample=0.001, dry_run=True)) == 1


def test_other_cooldowns_can_be_asked_for(job: Job) -> None:
    make_target(job, "a", last_scheduled_at=NOW - HOUR, eligible_at=NOW + DAY)
    assert keys(job, OLDEST_SCHEDULED) == []
    none = Cooldowns(absolute=None, in_flight=timedelta(minutes=59), failed=None, missing=None)
    assert keys(job, OLDEST_SCHEDULED, cooldowns=none, dry_run=True) == ["a"]
    assert keys(job, OLDEST_SCHEDULED, cooldowns=Cooldowns(in_flight=HOUR)) == []


@pytest.mark.django_db(transaction=True)
def test_a_selection_by_hand_does_not_wait_for_the_disk(
    job: Job, monkeypatch: pytest.MonkeyPatch
) -> None:
    if connection.vendor != "postgresql":
        pytest.skip("SQLite says for all transactions how it waits")
    real, seen = selecting._move_clock, []

    def watched(*given: Any) -> None:
        with connection.cursor() as cursor:
            cursor.execute("SHOW synchronous_commit")
            seen.append(cursor.fetchone()[0])
        real(*given)

    monkeypatch.setattr(selecting, "_move_clock", watched)
    pooled(job, "a", position=7)
    assert keys(job, WITHOUT_HINT) == ["a"]
    assert seen == ["off"]
    assert Feeder.objects.get(job=job).position == 7
