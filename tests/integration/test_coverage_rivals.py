"""Coverage stays right whatever happens to targets, and whoever is at it at the same time."""

from __future__ import annotations

import random
import threading
from collections.abc import Callable
from datetime import timedelta

import pytest
from django.db import transaction

from scheduling import runs
from scheduling.coverage import coverage
from scheduling.models import CoverageChange, CoverageCount, Job, Source, Target
from scheduling.runs import coverage as counting
from scheduling.runs import recounting
from scheduling.runs.recounting import recount
from tests.factories import NOW, make_job
from tests.integration.coverage_rows import change, figures, sum_up_all
from tests.integration.rivals import needs_row_locks, side_by_side

pytestmark = pytest.mark.django_db(transaction=True)

DAY = timedelta(days=1)


def storm(dice: random.Random, jobs: list[Job], sources: list[Source | None]) -> None:
    """Do one of what happens to targets."""
    targets = list(Target.objects.exclude(key="").order_by("pk"))
    target = dice.choice(targets) if targets else None
    number = dice.randrange(9)
    if target is None or number == 0:
        runs.add_target(dice.choice(jobs), str(dice.randrange(40)), now=NOW)
    elif number == 1:
        runs.pause(target, by="eve", reason="", now=NOW)
    elif number == 2:
        runs.resume(target, by="eve", now=NOW)
    elif number == 3:
        runs.retire_target(target, now=NOW)
    elif number == 4:
        runs.revive_target(target, now=NOW)
    elif number == 5:
        change(target, found_at=NOW + dice.random() * DAY, misses=0, staleness=None)
    elif number == 6:
        change(target, misses=target.misses + 1)
    elif number == 7:
        change(target, staleness=dice.random() * 500 * DAY)
    else:
        move(target, dice.choice(sources))


def move(target: Target, source: Source | None) -> None:
    with transaction.atomic():
        locked = Target.objects.select_for_update(no_key=True).get(pk=target.pk)
        facts = counting.facts_of(locked)
        counting.note(locked.job_id, locked.source_id, facts, None)
        locked.source = source
        locked.save(update_fields=("source",))
        counting.note(locked.job_id, locked.source_id, None, facts)


@pytest.mark.parametrize("seed", range(3))
def test_after_a_storm_of_all_writers_a_recount_finds_nothing_wrong(seed: int) -> None:
    dice = random.Random(seed)
    jobs = [make_job(feed={}), make_job()]
    sources = [None, *(Source.objects.create(name=name) for name in "ab")]
    for step in range(150):
        storm(dice, jobs, sources)
        if step % 20 == 0:
            counting.sum_up(limit=dice.randrange(1, 30))
    assert recount() == []
    assert sum(each.known for each in coverage(now=NOW)) > 0


@needs_row_locks
def test_several_who_add_up_at_once_lose_nothing_and_count_nothing_twice() -> None:
    jobs = [make_job(f"job {number}") for number in range(3)]
    CoverageChange.objects.bulk_create(
        CoverageChange(job=job, source=number % 2, measure=measure, delta=1)
        for number in range(500)
        for job in jobs
        for measure in ("known", "active")
    )
    side_by_side(sum_up_all, sum_up_all, sum_up_all)
    assert not CoverageChange.objects.exists()
    counts = CoverageCount.objects.values_list("value", flat=True)
    assert list(counts) == [250] * 12


@needs_row_locks
def test_counts_are_right_after_writers_those_who_add_up_and_recounts_at_once() -> None:
    jobs = [make_job(feed={}), make_job()]
    sources = [None, Source.objects.create(name="a")]
    over = threading.Event()

    def write(seed: int) -> Callable[[], None]:
        dice = random.Random(seed)

        def body() -> None:
            for _ in range(100):
                storm(dice, jobs, sources)

        return body

    def until_over(act: Callable[[], object]) -> Callable[[], None]:
        def body() -> None:
            while not over.is_set():
                act()

        return body

    def writers() -> None:
        try:
            side_by_side(write(1), write(2))
        finally:
            over.set()

    def recount_all() -> None:
        assert recount() == []

    side_by_side(writers, until_over(counting.sum_up), until_over(recount_all))
    assert recount() == []


@needs_row_locks
def test_while_a_recount_is_under_way_nobody_waits_for_it(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    job = make_job("load")
    runs.add_target(job, "a", now=NOW)
    during: list[int] = []

    def meanwhile() -> None:
        runs.add_target(job, "b", now=NOW)
        during.append(counting.sum_up())

    exact = recounting._exact

    def slowly(targets: object) -> object:
        found = exact(targets)  # type: ignore[arg-type]
        side_by_side(meanwhile)
        return found

    monkeypatch.setattr(recounting, "_exact", slowly)
    assert recount() == []
    assert during == [0]
    assert figures() == {"load": (2, 2, 2, 0)}
    sum_up_all()
    assert figures() == {"load": (2, 2, 2, 0)}
