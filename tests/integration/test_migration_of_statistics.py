"""What an upgrade makes of targets that were there before their results were counted."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from datetime import datetime, timedelta
from importlib import import_module
from typing import Any

import pytest
from django.db import connection
from django.db.migrations.executor import MigrationExecutor

from scheduling import measures, runs
from scheduling.cadence import Ended, Observation, Standing, fold
from scheduling.coverage import coverage
from scheduling.models import CoverageChange, CoverageCount, Target
from scheduling.runs.observing import standing_of
from scheduling.runs.recounting import recount
from tests.factories import NOW, make_job, make_target

pytestmark = pytest.mark.django_db(transaction=True)

HOUR = timedelta(hours=1)
EARLIER, LATER = NOW - 2 * HOUR, NOW - HOUR
WELL: dict[str, Any] = {
    "last_state": "succeeded",
    "last_succeeded_at": EARLIER,
    "last_ended_at": EARLIER,
}
FAILED: dict[str, Any] = {"last_state": "failed", "last_ended_at": LATER, "failing_since": LATER}
# What the old columns say of a target, by its key.
OLD: dict[str, dict[str, Any]] = {
    "new": {},
    "cancelled": {"last_ended_at": EARLIER},
    "found": WELL,
    "found, then cancelled": {**WELL, "last_ended_at": LATER},
    "missing": {**WELL, "last_outcome": "missing"},
    "failed": {**FAILED, "failures_in_a_row": 1},
    "found, then failed": {**FAILED, "last_succeeded_at": EARLIER, "failures_in_a_row": 3},
    "failed, then resumed": {**FAILED, "failures_in_a_row": 0},
}
# observed_at, found_at, ok_since, misses, streak
NEW: dict[str, tuple[datetime | None, datetime | None, datetime | None, int, int]] = {
    "new": (None, None, None, 0, 0),
    "cancelled": (None, None, None, 0, 0),
    "found": (EARLIER, EARLIER, EARLIER, 0, 1),
    "found, then cancelled": (EARLIER, EARLIER, EARLIER, 0, 1),
    "missing": (EARLIER, None, None, 1, 1),
    "failed": (LATER, None, None, 1, 1),
    "found, then failed": (LATER, EARLIER, None, 3, 3),
    "failed, then resumed": (LATER, None, None, 0, 0),
}

Migrate = Callable[[str], Any]


@pytest.fixture
def migrate(monkeypatch: pytest.MonkeyPatch) -> Iterator[Migrate]:
    """Give a function that migrates, forward or back, and gives the models as they are there."""
    monkeypatch.setattr(import_module("scheduling.migrations.0005_statistics"), "BATCH", 3)

    def migrate(name: str) -> Any:
        there = [("scheduling", name)]
        return MigrationExecutor(connection).migrate(there).apps

    yield migrate
    executor = MigrationExecutor(connection)
    executor.migrate(executor.loader.graph.leaf_nodes())


def add_old(apps: Any) -> None:
    job = apps.get_model("scheduling", "Job").objects.create(name="load", kind="task", task="load")
    targets = apps.get_model("scheduling", "Target").objects
    for key, columns in OLD.items():
        targets.create(job=job, key=key, **columns)
    targets.create(job=job, key="retired", retired_at=LATER, **WELL)
    targets.create(job=job, key="paused", paused_at=LATER, **WELL)
    targets.create(job=job, key="", **WELL)


def figures() -> dict[str, int]:
    (found,) = (each for each in coverage(now=NOW) if each.job == "load")
    return {name: found.counts.get(name, 0) for name in measures.STANDING}


def test_each_target_has_the_statistics_that_its_newest_result_would_have_left(
    migrate: Migrate,
) -> None:
    add_old(migrate("0003_running"))
    migrate("0005_statistics")
    columns = ("observed_at", "found_at", "ok_since", "misses", "streak")
    targets = Target.objects.filter(job__name="load", key__in=OLD)
    assert {key: tuple(rest) for key, *rest in targets.values_list("key", *columns)} == NEW
    assert Target.objects.get(job__name="load", key="").found_at == EARLIER
    # What workers note before the first beat is there keeps it from nothing.
    new = Target.objects.get(key="new")
    runs.retire_target(new, now=NOW)
    runs.count_coverage_at_first()
    assert figures() == {
        "known": 9 - 1,
        "active": 8 - 1,
        "paused": 1,
        "never_checked": 5 - 1,
        "missed": 3,
        "stale": 0,
    }
    assert recount() == []


@pytest.mark.parametrize(
    ("key", "result"),
    [
        ("found", Observation(at=EARLIER, ended=Ended.FOUND)),
        ("missing", Observation(at=EARLIER, ended=Ended.MISSING)),
        ("failed", Observation(at=LATER, ended=Ended.FAILED)),
    ],
)
def test_it_keeps_the_rules_of_a_single_result(
    migrate: Migrate, key: str, result: Observation
) -> None:
    migrate("0004_resources")
    target = make_target(key=key, **OLD[key])
    migrate("0005_statistics")
    target.refresh_from_db()
    expected = fold(Standing(), result, clock=0, noise=0, adaptive=None)
    found = standing_of(target)
    for name in ("observed_at", "found_at", "ok_since", "last_ended", "streak", "misses", "level"):
        assert getattr(found, name) == getattr(expected, name), name


def test_counts_that_are_there_already_stay_right(migrate: Migrate) -> None:
    migrate("0004_resources")
    job = make_job("load")
    for key, columns in OLD.items():
        make_target(job, key, **columns)
    recount()
    before = figures()
    migrate("0005_statistics")
    assert CoverageChange.objects.exists()
    after = figures()
    assert (before["never_checked"], before["missed"]) == (8, 0)
    assert (after["never_checked"], after["missed"]) == (5, 3)
    assert recount() == []


def test_what_has_a_newer_result_by_then_keeps_it(migrate: Migrate) -> None:
    migrate("0004_resources")
    target = make_target(key="a", observed_at=NOW, found_at=NOW, streak=7, **WELL)
    migrate("0005_statistics")
    target.refresh_from_db()
    assert (target.observed_at, target.found_at, target.streak) == (NOW, NOW, 7)
    assert not CoverageCount.objects.exists()
