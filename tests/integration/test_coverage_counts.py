"""Coverage is counted while targets change, and is what a count of the targets gives."""

from __future__ import annotations

from contextlib import suppress
from datetime import datetime, timedelta
from typing import Any

import pytest
from django.db import transaction

from scheduling import runs
from scheduling.coverage import coverage
from scheduling.measures import Facts
from scheduling.models import CoverageChange, CoverageCount, Job, Source, Target
from scheduling.runs import coverage as counting
from scheduling.runs.recounting import Drift, recount
from tests.factories import NOW, make_job, make_target
from tests.integration.coverage_rows import change, figures, sum_up_all

pytestmark = pytest.mark.django_db(transaction=True)

HOUR, DAY = timedelta(hours=1), timedelta(days=1)


def inventory(job: Job, source: Source | None = None) -> list[Target]:
    """One disabled, one changed since it was found, one not, one that only failed, one new."""
    rows: dict[str, dict[str, Any]] = {
        "disabled": {"paused_at": NOW},
        "changed": {"found_at": NOW, "hint_at": NOW + DAY, "staleness": DAY},
        "fresh": {"found_at": NOW + DAY, "hint_at": NOW},
        "failed": {"misses": 1},
        "unknown": {},
    }
    return [make_target(job, key, source=source, **columns) for key, columns in rows.items()]


# --- reading --------------------------------------------------------------------------------------


def test_of_five_known_targets_four_are_active_two_never_checked_and_one_is_stale() -> None:
    """The example of the crawler that keeps 200 million."""
    source = Source.objects.create(name="forge")
    inventory(make_job("load"), source)
    recount()
    assert figures("load") == figures("load", "forge") == {"load": (5, 4, 2, 1)}


def test_a_source_or_a_job_that_is_not_known_gives_nothing() -> None:
    inventory(make_job("load"), Source.objects.create(name="forge"))
    recount()
    assert figures(source="forg") == figures("lod") == figures("load", "") == {}


def test_each_source_has_its_part_and_the_job_all_of_them() -> None:
    job = make_job("load")
    a, b = (Source.objects.create(name=name) for name in "ab")
    a.listing_ended_at = NOW
    a.save()
    for key, source in (("1", a), ("2", b), ("3", b), ("4", None)):
        make_target(job, key, source=source)
    recount()
    (found,) = coverage(now=NOW)
    assert (found.source, found.known) == (None, 4)
    assert [(part.source, part.known) for part in found.sources] == [("", 1), ("a", 1), ("b", 2)]
    assert [part.listed_at for part in found.sources] == [None, NOW, None]


def test_what_is_noted_counts_before_it_is_added_up_and_once_after() -> None:
    job = make_job("load")
    for key in "abc":
        runs.add_target(job, key, now=NOW)
    assert figures() == {"load": (3, 3, 3, 0)}
    assert not CoverageCount.objects.exists()
    counting.sum_up(limit=2)
    assert figures() == {"load": (3, 3, 3, 0)}
    sum_up_all()
    assert figures() == {"load": (3, 3, 3, 0)}
    assert not CoverageChange.objects.exists()


def test_the_oldest_that_was_never_checked_is_told_by_its_age() -> None:
    job = make_job("load")
    rows: list[tuple[str, datetime, dict[str, Any]]] = [
        ("found", NOW - 9 * DAY, {"found_at": NOW}),
        ("paused", NOW - 8 * DAY, {"paused_at": NOW}),
        ("retired", NOW - 7 * DAY, {"retired_at": NOW}),
        ("old", NOW - 6 * DAY, {}),
        ("new", NOW, {}),
    ]
    for key, created, columns in rows:
        target = make_target(job, key, **columns)
        Target.objects.filter(pk=target.pk).update(created_at=created)
    recount()
    assert [each.oldest_never_checked for each in coverage(now=NOW)] == [6 * DAY]


def test_a_retired_job_is_told_of_only_when_it_is_named() -> None:
    job = make_job("load")
    runs.add_target(job, "a", now=NOW)
    runs.retire(job, now=NOW)
    assert figures() == {}
    assert figures("load") == {"load": (1, 1, 1, 0)}


def test_a_plain_job_has_no_coverage() -> None:
    job = make_job()
    target = runs.adopt(job, now=NOW)
    runs.pause(target, by="eve", reason="", now=NOW)
    assert not CoverageChange.objects.exists()
    recount()
    assert coverage(now=NOW) == []


# --- writers --------------------------------------------------------------------------------------


def test_pausing_a_target_counts_it_as_paused_until_it_is_resumed() -> None:
    target = runs.add_target(make_job("load"), "a", now=NOW)
    runs.pause(target, by="eve", reason="", now=NOW)
    assert figures() == {"load": (1, 0, 0, 0)}
    runs.pause(target, by="eve", reason="again", now=NOW)
    assert figures() == {"load": (1, 0, 0, 0)}
    runs.resume(target, by="eve", now=NOW)
    assert figures() == {"load": (1, 1, 1, 0)}


def test_pausing_the_job_changes_no_count_and_is_told_beside_them() -> None:
    job = make_job("load")
    runs.add_target(job, "a", now=NOW)
    runs.pause(job, by="eve", reason="", now=NOW)
    (found,) = coverage(now=NOW)
    assert (found.active, found.paused, found.job_is_paused) == (1, 0, True)


def test_resuming_forgives_misses() -> None:
    target = runs.add_target(make_job("load", feed={}), "a", now=NOW)
    change(target, misses=3, streak=3)
    assert [each.missed for each in coverage(now=NOW)] == [1]
    runs.pause(target, by="Beatkeeper", reason="3 misses", now=NOW)
    runs.resume(target, by="eve", now=NOW)
    target.refresh_from_db()
    assert (target.misses, target.streak) == (0, 0)
    assert [(each.active, each.missed) for each in coverage(now=NOW)] == [(1, 0)]


def test_a_target_retired_and_revived_counts_once() -> None:
    target = runs.add_target(make_job("load"), "a", now=NOW)
    change(target, found_at=NOW + DAY)
    runs.retire_target(target, now=NOW)
    assert figures("load") == {"load": (0, 0, 0, 0)}
    runs.revive_target(target, now=NOW)
    change(target, found_at=NOW + 2 * DAY)
    assert figures() == {"load": (1, 1, 0, 0)}
    (found,) = coverage(now=NOW)
    assert sum(found.first_success.values()) == 1


def test_the_time_to_the_first_success_has_a_bucket_and_a_mean() -> None:
    job = make_job("load")
    for key, took in (("a", HOUR), ("b", 3 * HOUR)):
        target = runs.add_target(job, key, now=NOW)
        Target.objects.filter(pk=target.pk).update(created_at=NOW)
        change(target, found_at=NOW + took)
    (found,) = coverage(now=NOW)
    assert {name: n for name, n in found.first_success.items() if n} == {"1h": 1, "6h": 1}
    assert found.first_success_mean == 2 * HOUR


def test_changes_of_one_transaction_are_one_row_for_each_measure() -> None:
    job = make_job()
    new = Facts(created_at=NOW)
    with transaction.atomic():
        counting.note_many(
            [
                *(
                    counting.Change(job_id=job.pk, source_id=None, before=None, after=new)
                    for _ in range(50)
                ),
                counting.Change(job_id=job.pk, source_id=None, before=new, after=None),
            ]
        )
    changes = CoverageChange.objects.order_by("measure").values_list("measure", "delta")
    assert list(changes) == [("active", 49), ("known", 49), ("never_checked", 49)]


def test_what_is_rolled_back_is_not_counted() -> None:
    job = make_job("load")
    with suppress(ZeroDivisionError), transaction.atomic():
        runs.add_target(job, "a", now=NOW)
        raise ZeroDivisionError
    assert figures() == {}


# --- adding up ------------------------------------------------------------------------------------


def test_whoever_dies_while_adding_up_has_added_nothing(monkeypatch: pytest.MonkeyPatch) -> None:
    runs.add_target(make_job("load"), "a", now=NOW)
    add = counting._add

    def add_and_die(changes: list[CoverageChange]) -> None:
        add(changes)
        raise KeyboardInterrupt

    monkeypatch.setattr(counting, "_add", add_and_die)
    with pytest.raises(KeyboardInterrupt):
        counting.sum_up()
    assert figures() == {"load": (1, 1, 1, 0)}
    monkeypatch.undo()
    sum_up_all()
    assert figures() == {"load": (1, 1, 1, 0)}


def test_changes_of_a_job_that_was_deleted_go_without_a_count() -> None:
    CoverageChange.objects.create(job_id=10**9, source=0, measure="known", delta=1)
    sum_up_all()
    assert not CoverageChange.objects.exists()
    assert not CoverageCount.objects.exists()


def test_as_many_as_are_taken_at_once_are_added_up_at_once() -> None:
    job = make_job("load")
    CoverageChange.objects.bulk_create(
        CoverageChange(job=job, source=0, measure="known", delta=1)
        for _ in range(counting.SUM_UP_BATCH + 1)
    )
    assert [counting.sum_up(), counting.sum_up(), counting.sum_up()] == [10_000, 1, 0]
    assert CoverageCount.objects.get().value == 10_001


def test_with_nothing_noted_adding_up_is_one_query(django_assert_num_queries: Any) -> None:
    with django_assert_num_queries(1):
        assert counting.sum_up() == 0


# --- recounting -----------------------------------------------------------------------------------


def test_a_recount_tells_of_what_was_wrong_and_puts_it_right() -> None:
    job = make_job("load")
    make_target(job, "a")
    CoverageCount.objects.create(job=job, source=0, measure="known", value=3)
    CoverageCount.objects.create(job=job, source=7, measure="stale", value=2)
    CoverageChange.objects.create(job=job, source=0, measure="active", delta=1)
    assert [(each.source, each.measure, each.counted, each.exact) for each in recount()] == [
        (0, "known", 3, 1),
        (0, "never_checked", 0, 1),
        (7, "stale", 2, 0),
    ]
    assert recount() == []
    assert figures() == {"load": (1, 1, 1, 0)}


def test_a_recount_of_one_job_leaves_the_others_alone() -> None:
    job, other = make_job("load"), make_job("other")
    CoverageCount.objects.create(job=other, source=0, measure="known", value=3)
    assert recount(job) == []
    assert recount(other) == [Drift(job_id=other.pk, source=0, measure="known", counted=3, exact=0)]


def test_a_recount_keeps_first_successes() -> None:
    target = runs.add_target(make_job(), "a", now=NOW)
    change(target, found_at=NOW + DAY)
    sum_up_all()
    change(runs.add_target(target.job, "b", now=NOW), found_at=NOW + DAY)
    before = [each.first_success for each in coverage(now=NOW)]
    assert recount() == []
    assert [each.first_success for each in coverage(now=NOW)] == before
