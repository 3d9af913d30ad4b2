"""What one target adds to the counts of coverage."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from scheduling.measures import BUCKETS, Facts, bucket_of, difference, measures_of

NOW = datetime(2026, 1, 5, 12, 0, tzinfo=UTC)
DAY = timedelta(days=1)

facts = st.none() | st.builds(
    Facts,
    created_at=st.just(NOW),
    retired_at=st.none() | st.just(NOW),
    paused_at=st.none() | st.just(NOW),
    found_at=st.none() | st.just(NOW + DAY),
    staleness=st.none() | st.timedeltas(min_value=timedelta(0), max_value=1000 * DAY),
    misses=st.integers(0, 2),
)


@pytest.mark.parametrize(
    ("columns", "counted"),
    [
        pytest.param({}, {"known", "active", "never_checked"}, id="unknown"),
        pytest.param(
            {"misses": 2}, {"known", "active", "never_checked", "missed"}, id="only failed"
        ),
        pytest.param({"found_at": NOW}, {"known", "active"}, id="fresh"),
        pytest.param(
            {"found_at": NOW, "staleness": DAY},
            {"known", "active", "stale", "lag:1d"},
            id="changed since",
        ),
        pytest.param({"paused_at": NOW, "staleness": DAY}, {"known", "paused"}, id="paused"),
        pytest.param({"retired_at": NOW}, set(), id="retired"),
    ],
)
def test_a_target_counts_by_how_it_stands(columns: dict[str, object], counted: set[str]) -> None:
    assert measures_of(Facts(created_at=NOW, **columns)) == dict.fromkeys(counted, 1)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("span", "bucket"),
    [
        (timedelta(0), "1h"),
        (timedelta(hours=1), "1h"),
        (timedelta(hours=1, microseconds=1), "6h"),
        (DAY, "1d"),
        (7 * DAY, "1w"),
        (30 * DAY, "30d"),
        (90 * DAY, "90d"),
        (365 * DAY, "1y"),
        (365 * DAY + timedelta(microseconds=1), "more"),
    ],
)
def test_the_upper_bound_of_a_bucket_belongs_to_it(span: timedelta, bucket: str) -> None:
    assert bucket_of(span) == bucket


def test_the_first_success_is_counted_when_it_happens_and_never_again() -> None:
    new = Facts(created_at=NOW)
    found = Facts(created_at=NOW, found_at=NOW + 2 * DAY)
    again = Facts(created_at=NOW, found_at=NOW + 3 * DAY)
    assert difference(new, found) == {
        "never_checked": -1,
        "first_success:1w": 1,
        "first_success_seconds": 2 * 86400,
    }
    assert difference(found, again) == {}


def test_a_result_older_than_the_target_took_no_time() -> None:
    deltas = difference(Facts(created_at=NOW), Facts(created_at=NOW, found_at=NOW - DAY))
    assert (deltas["first_success:1h"], deltas["first_success_seconds"]) == (1, 0)


def test_a_target_that_comes_to_another_source_is_not_found_anew() -> None:
    found = Facts(created_at=NOW, found_at=NOW)
    assert difference(None, found) == {"known": 1, "active": 1}
    assert difference(found, None) == {"known": -1, "active": -1}


@given(steps=st.lists(facts, min_size=1))
def test_differences_of_one_target_add_up_to_how_it_stands(steps: list[Facts | None]) -> None:
    sums: dict[str, int] = {}
    for before, after in zip([None, *steps], steps, strict=False):
        for measure, delta in difference(before, after).items():
            sums[measure] = sums.get(measure, 0) + delta
    standing = {
        name: value for name, value in sums.items() if value and "first_success" not in name
    }
    assert standing == measures_of(steps[-1])


@given(facts=facts)
def test_what_is_known_is_active_or_paused_and_what_is_stale_has_one_lag(
    facts: Facts | None,
) -> None:
    counts = measures_of(facts)
    assert counts.get("known", 0) == counts.get("active", 0) + counts.get("paused", 0)
    assert counts.get("stale", 0) == sum(counts.get(f"lag:{name}", 0) for name in BUCKETS)
