"""Pairing what would fire with what did."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from functools import cache
from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from scheduling.shadow_report import compare, interval_fires, match

BEGIN = datetime(2026, 1, 5, 12, 0, tzinfo=UTC)


def at(*seconds: float) -> list[datetime]:
    return [BEGIN + timedelta(seconds=each) for each in seconds]


def seconds(moments: tuple[datetime, ...] | list[datetime]) -> list[float]:
    return [(moment - BEGIN).total_seconds() for moment in moments]


SECOND = timedelta(seconds=1)


@pytest.mark.parametrize(
    ("would", "did", "pairs"),
    [
        pytest.param([], [], [], id="nothing"),
        pytest.param([0, 10], [0.1, 10.2], [(0, 0), (1, 1)], id="a little late"),
        pytest.param([0, 10], [9.8], [(1, 0)], id="one is missing"),
        pytest.param([10], [0, 10], [(0, 1)], id="one is extra"),
        pytest.param([10], [9.1, 10.1], [(0, 1)], id="the nearest"),
        pytest.param([10], [9.9, 10.8], [(0, 0)], id="the nearest comes first"),
        pytest.param([0, 1, 2], [0.9, 1.9, 2.9], [(0, 0), (1, 1), (2, 2)], id="as many as can be"),
        pytest.param([0], [1.1], [], id="too late"),
        pytest.param([0], [1], [(0, 0)], id="just in time"),
        pytest.param([0], [0, 0], [(0, 0)], id="twice"),
    ],
)
def test_fires_are_paired(would, did, pairs):
    assert match(at(*would), at(*did), tolerance=SECOND) == pairs


rows = st.lists(st.integers(0, 40), max_size=7).map(sorted)
tolerances = st.integers(0, 6)


def best_by_brute_force(would: list[int], did: list[int], tolerance: int) -> tuple[int, int]:
    """Return minus the number of pairs, and the sum of their distances."""

    @cache
    def best(i: int, j: int) -> tuple[int, int]:
        if i == len(would) or j == len(did):
            return 0, 0
        found = min(best(i + 1, j), best(i, j + 1))
        distance = abs(would[i] - did[j])
        if distance <= tolerance:
            pairs, total = best(i + 1, j + 1)
            found = min(found, (pairs - 1, total + distance))
        return found

    return best(0, 0)


@given(rows, rows, tolerances)
def test_a_pairing_is_one_to_one_in_order_and_the_best(would, did, tolerance):
    pairs = match(at(*would), at(*did), tolerance=timedelta(seconds=tolerance))
    assert all(i < k and j < m for (i, j), (k, m) in pairwise(pairs))
    distances = [abs(would[i] - did[j]) for i, j in pairs]
    assert max(distances, default=0) <= tolerance
    assert (-len(pairs), sum(distances)) == best_by_brute_force(would, did, tolerance)


@given(rows, rows, tolerances, st.integers(0, 40), st.integers(0, 40))
def test_every_fire_is_counted_once(would, did, tolerance, one, other):
    after, until = at(min(one, other), max(one, other))
    found = compare(
        "job", at(*would), at(*did), after=after, until=until,
        tolerance=timedelta(seconds=tolerance),
    )  # fmt: skip
    inside = [moment for moment in at(*would) if after < moment <= until]
    assert found.would == len(inside) == found.matched + len(found.missing)
    assert set(found.missing) <= set(inside)
    assert all(after < moment <= until and moment in at(*did) for moment in found.extra)
    assert found.differences == len(found.missing) + len(found.extra)


@given(rows, tolerances)
def test_what_fires_as_it_should_does_not_differ(would, tolerance):
    bounds = at(-1, 41)
    found = compare(
        "job", at(*would), at(*would), after=bounds[0], until=bounds[1],
        tolerance=timedelta(seconds=tolerance),
    )  # fmt: skip
    assert (found.differences, found.max_delay) == (0, timedelta(0))


def test_a_late_fire_finds_its_match_across_the_bounds():
    after, until = at(0, 20)
    found = compare(
        "job", at(0, 10, 20), at(0.5, 10.5, 20.5), after=after, until=until, tolerance=SECOND
    )
    assert (found.would, found.did, found.differences) == (2, 2, 0)
    assert found.max_delay == timedelta(seconds=0.5)


def due(did: list[float], *, first: float = 10, until: float = 50, slack: float = 5) -> list[float]:
    fires = interval_fires(
        timedelta(seconds=10),
        at(*did),
        first=at(first)[0],
        until=at(until)[0],
        slack=timedelta(seconds=slack),
    )
    return seconds(list(fires))


@pytest.mark.parametrize(
    ("did", "expected"),
    [
        pytest.param([], [10, 20, 30, 40, 50], id="never fired"),
        pytest.param([10, 20, 30, 40, 50], [10, 20, 30, 40, 50], id="to the point"),
        pytest.param([11, 22, 33, 44], [10, 21, 32, 43], id="drifting"),
        pytest.param([10, 34, 44], [10, 20, 30, 44], id="away for a while"),
        pytest.param([10, 12, 22, 32, 42], [10, 22, 32, 42], id="fired between"),
        pytest.param([3, 13, 23, 33, 43], [13, 23, 33, 43], id="counts from what it fired before"),
        pytest.param([60], [10, 20, 30, 40, 50], id="back after the end"),
    ],
)
def test_intervals_count_from_the_last_fire(did, expected):
    assert due(did) == expected


@given(st.lists(st.integers(8, 12), min_size=1, max_size=30))
def test_drift_is_no_difference_however_long_it_goes_on(gaps):
    did = [10 + sum(gaps[:number]) for number in range(len(gaps) + 1)]
    assert len(due(did, until=did[-1] + 4)) == len(did)


def test_an_hour_of_seconds_is_paired_quickly():
    would = at(*range(3600))
    did = [moment + timedelta(seconds=0.3) for moment in would]
    assert len(match(would, did, tolerance=timedelta(seconds=10))) == 3600
