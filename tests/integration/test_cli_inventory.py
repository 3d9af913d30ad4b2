"""`jobs targets`, `jobs resources` and `jobs coverage`."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import pytest

from scheduling import runs
from scheduling.models import Cause, CoverageCount, Listing, Resource, Source, Target
from tests.factories import NOW, make_job, make_run, make_target
from tests.integration.cli import jobs

pytestmark = pytest.mark.django_db

DAY = timedelta(days=1)


@pytest.fixture
def source() -> Source:
    return Source.objects.create(name="forge", listing_ended_at=NOW)


@pytest.fixture
def inventory(source: Source) -> list[Target]:
    job = make_job("load", feed={})
    rows: dict[str, dict[str, Any]] = {
        "cooling": {"found_at": NOW, "eligible_at": NOW + DAY, "source": source},
        "failing": {"failing_since": NOW, "misses": 2, "eligible_since": NOW},
        "new": {"eligible_since": NOW, "resource": "thing"},
        "paused": {"paused_at": NOW, "paused_by": "eve", "pause_reason": "rude"},
        "retired": {"retired_at": NOW},
        "stale": {"found_at": NOW, "staleness": DAY, "eligible_since": NOW},
    }
    return [make_target(job, key, **columns) for key, columns in rows.items()]


def keys(*words: str) -> list[str]:
    return [row["key"] for row in jobs("targets", *words, "--json").document()]


# --- targets --------------------------------------------------------------------------------------


def test_targets_are_given_by_job_and_key_without_the_retired(inventory: list[Target]) -> None:
    make_target(make_job("other"), "else")
    assert keys("load") == ["cooling", "failing", "new", "paused", "stale"]
    assert keys("load", "--limit", "2") == ["cooling", "failing"]
    assert "else" in keys()


@pytest.mark.parametrize(
    ("state", "found"),
    [
        ("failing", ["failing"]),
        ("never_found", ["failing", "new"]),
        ("stale", ["stale"]),
        ("cooling", ["cooling"]),
        ("in_pool", ["failing", "new", "stale"]),
        ("paused", ["paused"]),
        ("retired", ["retired"]),
    ],
)
def test_targets_are_found_by_how_they_stand(
    inventory: list[Target], state: str, found: list[str]
) -> None:
    assert keys("load", "--state", state) == found


def test_targets_are_found_by_key_and_source(inventory: list[Target]) -> None:
    assert keys("--key", "new") == ["new"]
    assert keys("load", "--key", "ne") == []
    assert keys("load", "--key", "ne*") == ["new"]
    assert keys("--source", "forge") == ["cooling"]
    assert "new" in keys("load", "--source", "")


def test_a_target_is_told_with_all_that_is_known_of_it(source: Source) -> None:
    target = make_target(
        make_job("load", schedule="manual"),
        "thing",
        resource="thing",
        source=source,
        last_state="succeeded",
        last_outcome="changed",
        fingerprint="a1",
        observed_at=NOW,
        found_at=NOW,
        ok_since=NOW - DAY,
        hint_at=NOW + DAY,
        staleness=DAY,
        streak=3,
        misses=0,
        level=5,
        position=7,
        interval=2 * DAY,
        eligible_at=NOW + DAY,
        paused_at=NOW,
        paused_by="Beatkeeper",
        pause_reason="3 failures in a row",
    )
    for number, strategy in enumerate(("oldest_scheduled", "stalest", "")):
        make_run(target, cause=Cause.SCHEDULE, strategy=strategy, scheduled_at=NOW + number * DAY)
    (row,) = jobs("targets", "load", "--json").document()
    del row["created_at"]
    stamp, later = NOW.isoformat(), (NOW + DAY).isoformat()
    assert row == {
        "job": "load",
        "key": "thing",
        "resource": "thing",
        "source": "forge",
        "schedule": "manual",
        "kwargs": {},
        "paused": {
            "by": "Beatkeeper",
            "reason": "3 failures in a row",
            "since": stamp,
            "until": None,
        },
        "parked": None,
        "next_fire_at": None,
        "last_scheduled_at": None,
        "last_started_at": None,
        "last_ended_at": None,
        "last_succeeded_at": None,
        "last_state": "succeeded",
        "failing_since": None,
        "outcome": "changed",
        "fingerprint": "a1",
        "observed_at": stamp,
        "found_at": stamp,
        "ok_since": (NOW - DAY).isoformat(),
        "streak": 3,
        "misses": 0,
        "level": 5,
        "position": 7,
        "interval": 172800.0,
        "hint_at": later,
        "staleness": 86400.0,
        "eligible_at": later,
        "eligible_since": None,
        "strategy": "stalest",
        "retired_at": None,
    }
    told = jobs("targets", "load").stdout
    for word in ("thing", "succeeded changed", "2 d", "stalest", "3 failures in a row"):
        assert word in told


def test_a_state_or_job_that_is_not_known_is_refused() -> None:
    assert jobs("targets", "--state", "hungry").code == 2
    make_job("load")
    told = jobs("targets", "lod", "--json")
    assert (told.code, "did you mean 'load'" in told.document()["error"]) == (2, True)


def test_pages_of_targets_take_one_query_whatever_their_number(
    inventory: list[Target], django_assert_max_num_queries: object
) -> None:
    with django_assert_max_num_queries(2):  # type: ignore[operator]
        jobs("targets", "load", "--json")


# --- resources ------------------------------------------------------------------------------------


def test_a_resource_is_told_with_its_targets_and_how_each_source_lists_it(source: Source) -> None:
    target = make_target(make_job(), "thing", resource="thing")
    make_target(make_job(), "thing", resource="thing", retired_at=NOW)
    resource = target.resource
    assert resource is not None
    Resource.objects.filter(pk=resource.pk).update(
        labels={"team": "a", "a__b": "1"}, paused_at=NOW, paused_by="eve"
    )
    Listing.objects.create(
        source=source, resource=resource, kwargs={"a": 1}, first_seen_at=NOW, last_seen_at=NOW
    )
    make_target(make_job(), "other", resource="other")
    told = jobs("resources", "--label", "team=a", "--json")
    (row,) = told.document()
    del row["first_seen_at"], row["last_seen_at"]
    stamp = NOW.isoformat()
    assert row == {
        "key": "thing",
        "description": "",
        "labels": {"team": "a", "a__b": "1"},
        "seats": None,
        "paused": {"by": "eve", "reason": "", "since": stamp, "until": None},
        "targets": 1,
        "sources": [
            {
                "source": "forge",
                "enabled": True,
                "kwargs": {"a": 1},
                "hint_at": None,
                "first_seen_at": stamp,
                "last_seen_at": stamp,
                "gone_at": None,
            }
        ],
    }
    for words in (("--label", "a__b=1"), ("--key", "thing"), ("--key", "th*")):
        found = jobs("resources", *words, "--json").document()
        assert [each["key"] for each in found] == ["thing"]
    assert jobs("resources", "--label", "team__contains=a", "--json").document() == []
    assert "forge" in jobs("resources").stdout


def test_a_label_without_a_value_is_refused() -> None:
    assert jobs("resources", "--label", "team").code == 2


# --- coverage -------------------------------------------------------------------------------------


def test_coverage_is_told_for_the_job_and_for_each_source(source: Source) -> None:
    job = make_job("load")
    for key in "abc":
        runs.add_target(job, key, now=NOW)
    Target.objects.filter(key="a").update(source=source, created_at=NOW)
    CoverageCount.objects.create(job=job, source=source.pk, measure="known", value=1)
    (row,) = jobs("coverage", "load", "--json").document()
    assert (row["job"], row["job_paused"], row["known"]) == ("load", False, 4)
    assert row["oldest_never_checked"] > 0
    assert [(part["source"], part["known"]) for part in row["sources"]] == [
        (None, 3),
        ("forge", 1),
    ]
    assert row["sources"][1]["listed_at"] == NOW.isoformat()
    (part,) = jobs("coverage", "--source", "forge", "--json").document()
    assert (part["job"], part["source"], part["known"]) == ("load", "forge", 1)
    told = jobs("coverage").stdout
    assert "KNOWN" in told
    assert "forge" in told


def test_coverage_of_a_source_that_is_not_known_is_empty() -> None:
    assert jobs("coverage", "--source", "nothing", "--json").document() == []
    assert jobs("coverage").stdout == "No target with a key, so nothing is counted.\n"


@pytest.mark.django_db(transaction=True)
def test_a_recount_says_what_was_wrong_and_is_a_problem_found() -> None:
    job = make_job("load")
    make_target(job, "a")
    CoverageCount.objects.create(job=job, source=0, measure="known", value=3)
    told = jobs("coverage", "--recount")
    assert told.code == 1
    assert "load, source -: known was 3, is 1\n" in told.stdout
    again = jobs("coverage", "load", "--recount", "--json")
    assert again.code == 0
    assert [row["corrected"] for row in again.document()] == [0]
    assert jobs("coverage", "--recount", "--source", "x").code == 2
