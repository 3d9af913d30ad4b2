"""New targets, one by one and in bulk: their first runs, and who hears of them."""

from __future__ import annotations

from collections.abc import Callable
from datetime import timedelta
from typing import Any

import pytest

from scheduling import backend, runs
from scheduling.models import Feeder, Job, Resource, Run, Target
from tests.factories import NOW
from tests.integration.naming import make_fed_job, make_source, names, target

pytestmark = pytest.mark.django_db

DAY = timedelta(days=1)


def one_by_one(job: Job) -> None:
    runs.add_target(job, "a", now=NOW)


def in_bulk(job: Job) -> None:
    backend.create_targets([backend.NewTarget(job=job.name, key="a")])


def by_a_source(job: Job) -> None:
    runs.record(make_source("customers", job), names("a"), now=NOW)


EVERY_WAY = pytest.mark.parametrize("add", [one_by_one, in_bulk, by_a_source])


@EVERY_WAY
@pytest.mark.parametrize("first_run", ["now", (NOW + 9000 * DAY).isoformat()])
def test_what_strategies_pick_has_no_first_run_besides(
    first_run: str, add: Callable[[Job], None]
) -> None:
    add(make_fed_job(first_run=first_run))
    assert target("a").eligible_since is not None
    assert not Run.objects.exists()


@EVERY_WAY
def test_what_fires_has_its_first_run_also_if_its_job_is_fed(add: Callable[[Job], None]) -> None:
    add(make_fed_job(first_run="now", schedule="every 1h"))
    found = target("a")
    assert (found.eligible_since, found.next_fire_at is None) == (None, False)
    assert Run.objects.get().requested_by == "first run"


def test_what_is_held_is_picked_once_it_goes_on_and_has_no_first_run_before() -> None:
    job = make_fed_job(first_run="now")
    shared = Resource.objects.create(key="shared")
    runs.pause(shared, by="ann", reason="moving house", now=NOW)
    backend.create_targets([backend.NewTarget(job=job.name, key="a", resource="shared")])
    assert target("a").eligible_since is None
    assert not Run.objects.exists()


@EVERY_WAY
def test_a_feeder_that_had_nothing_to_pick_does_not_sleep_on(
    add: Callable[[Job], None], django_capture_on_commit_callbacks: Any
) -> None:
    job, other = make_fed_job(), make_fed_job("other")
    for each in (job, other):
        Feeder.objects.create(job=each, next_at=NOW + DAY)
    with django_capture_on_commit_callbacks(execute=True):
        add(job)
    assert Feeder.objects.get(job=job).next_at is None
    assert Feeder.objects.get(job=other).next_at == NOW + DAY


@pytest.mark.parametrize("add", [one_by_one, in_bulk])
def test_a_target_that_there_was_wakes_nobody(
    add: Callable[[Job], None], django_capture_on_commit_callbacks: Any
) -> None:
    job = make_fed_job()
    add(job)
    Feeder.objects.create(job=job, next_at=NOW + DAY)
    Target.objects.update(eligible_since=None, eligible_at=NOW + DAY)
    with django_capture_on_commit_callbacks(execute=True):
        add(job)
    assert Feeder.objects.get().next_at == NOW + DAY
