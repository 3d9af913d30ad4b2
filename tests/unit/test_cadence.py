"""How soon a target deserves another look: the arithmetic, in tables and for any order."""

from __future__ import annotations

from dataclasses import replace
from datetime import UTC, datetime, timedelta
from itertools import permutations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from scheduling import Adaptive, Outcome
from scheduling.cadence import (
    Ended,
    Observation,
    Standing,
    days,
    fold,
    next_interval,
    noise_of,
    staleness_of,
)
from scheduling.errors import InvalidSchedule, NaiveTime

NOW = datetime(2026, 1, 5, 12, 0, tzinfo=UTC)
DAY = timedelta(days=1)
HOUR = timedelta(hours=1)
BOUNDED = Adaptive("64d", between=("12h", "64d"))
LADDER = Adaptive()


def seen(at: int, ended: Ended = Ended.FOUND, fingerprint: str = "") -> Observation:
    return Observation(at=NOW + at * HOUR, ended=ended, fingerprint=fingerprint)


def found(outcome: Outcome | None, at: int = 1) -> Observation:
    return Observation(at=NOW + at * HOUR, ended=Ended.FOUND, outcome=outcome)


def folded(
    *observations: Observation,
    since: Standing | None = None,
    adaptive: Adaptive | None = None,
    clock: int = 0,
    noise: float = 0.0,
) -> Standing:
    standing = since or Standing()
    for each in observations:
        standing = fold(standing, each, clock=clock, noise=noise, adaptive=adaptive)
    return standing


FAILED, MISSING = Ended.FAILED, Ended.MISSING


class TestTheCasesOfTheReference:
    def test_b50_missing_once_stays_on_the_level_where_it_began(self) -> None:
        standing = folded(seen(1, MISSING))
        assert (standing.level, standing.streak, standing.misses) == (4, 1, 1)

    def test_b50_missing_three_times_is_a_streak_of_three_two_levels_up(self) -> None:
        standing = folded(*(seen(n, MISSING) for n in (1, 2, 3)))
        assert (standing.level, standing.streak, standing.misses) == (6, 3, 3)
        assert standing.last_outcome == Outcome.MISSING

    def test_b51_a_success_without_its_fingerprint_has_failed(self) -> None:
        standing = folded(*(Observation.of("", at=NOW + n * HOUR) for n in (1, 2, 3)))
        assert (standing.last_ended, standing.level, standing.streak) == (FAILED, 6, 3)
        assert standing.found_at is None

    def test_b52_three_fingerprints_go_down_to_the_lowest_level(self) -> None:
        standing = folded(*(Observation.of(f, at=NOW + n * HOUR) for n, f in enumerate("abc")))
        assert (standing.level, standing.streak, standing.misses) == (0, 3, 0)
        assert (standing.last_ended, standing.fingerprint) == (Ended.FOUND, "c")

    def test_b54_the_same_result_twice_and_an_older_one_change_nothing(self) -> None:
        once = folded(seen(2, MISSING))
        assert folded(seen(2, MISSING), since=once) is once
        assert folded(seen(1, FAILED), since=once) is once

    def test_b55_any_order_of_four_results_tells_the_same(self) -> None:
        results = [seen(n, fingerprint=each) for n, each in enumerate("aabb")]
        for order in permutations(results):
            standing = folded(*order)
            assert standing.observed_at == standing.found_at == NOW + 3 * HOUR
            assert standing.fingerprint == "b"
            assert 2 <= standing.level <= 5

    @pytest.mark.parametrize(
        ("level", "expected"),
        [
            *[(0, 1), (1, 1), (2, 2), (3, 2), (4, 2), (5, 4), (6, 16), (7, 64), (8, 256)],
            *[(9, 1024), (10, 4096), (11, 16384)],
        ],
    )
    def test_b57_the_ladder(self, level: int, expected: int) -> None:
        assert days(level) == expected

    def test_b11_without_a_change_the_interval_doubles_and_with_one_it_halves(self) -> None:
        between = Standing(interval=8 * DAY)
        unchanged = folded(found(Outcome.UNCHANGED), since=between, adaptive=BOUNDED)
        changed = folded(found(Outcome.CHANGED), since=between, adaptive=BOUNDED)
        assert (unchanged.interval, changed.interval) == (16 * DAY, 4 * DAY)

    def test_b11_the_interval_stays_within_its_bounds(self) -> None:
        unchanged = folded(*(found(Outcome.UNCHANGED, n) for n in range(3)), adaptive=BOUNDED)
        changed = folded(*(found(Outcome.CHANGED, n) for n in range(20)), adaptive=BOUNDED)
        assert (unchanged.interval, changed.interval) == (64 * DAY, 12 * HOUR)

    def test_b11_a_repeated_result_does_not_adapt_again(self) -> None:
        once = folded(found(Outcome.CHANGED), adaptive=BOUNDED)
        assert folded(found(Outcome.CHANGED), since=once, adaptive=BOUNDED).interval == 32 * DAY

    @pytest.mark.parametrize("observation", [seen(1, FAILED), seen(1, MISSING), found(None)])
    def test_what_says_nothing_of_a_change_keeps_the_interval(
        self, observation: Observation
    ) -> None:
        standing = folded(observation, since=Standing(interval=8 * DAY), adaptive=BOUNDED)
        assert next_interval(BOUNDED, standing) == 8 * DAY
        assert next_interval(BOUNDED, folded(observation, adaptive=BOUNDED)) == 64 * DAY


def test_missing_settings_are_refused() -> None:
    between = ("12h", "64d")
    for refused in (
        lambda: Adaptive("64d"),
        lambda: Adaptive(between=between),
        lambda: Adaptive("64d", between=("12h",)),  # type: ignore[arg-type]
        lambda: Adaptive("64d", between=("12h", None)),  # type: ignore[arg-type]
        lambda: Adaptive("64d", between=between, factor=None),  # type: ignore[arg-type]
        lambda: Adaptive("64d", between=between, factor=1),
        lambda: Adaptive("64d", between=between, factor=0.5),
    ):
        with pytest.raises(InvalidSchedule):
            refused()


def test_the_first_fingerprint_is_a_change_and_an_equal_one_is_none() -> None:
    first = folded(seen(1, fingerprint="a"))
    assert first.last_outcome == Outcome.CHANGED
    assert folded(seen(2, fingerprint="a"), since=first).last_outcome == Outcome.UNCHANGED


def test_a_failure_in_between_does_not_forget_the_fingerprint() -> None:
    standing = folded(seen(1, fingerprint="a"), seen(2, FAILED), seen(3, fingerprint="a"))
    assert standing.last_outcome == Outcome.UNCHANGED


def test_a_find_that_becomes_known_late_counts_as_found_and_for_nothing_else() -> None:
    before = folded(seen(1, fingerprint="a"), seen(5, FAILED))
    after = folded(seen(3, fingerprint="b"), since=before)
    assert after == replace(before, found_at=NOW + 3 * HOUR, fingerprint="b")


def test_failed_and_missing_are_misses_alike_but_no_streak() -> None:
    standing = folded(seen(1, FAILED), seen(2, MISSING), seen(3, FAILED))
    assert (standing.misses, standing.streak) == (3, 1)
    assert folded(seen(4), since=standing).misses == 0


def test_it_is_ok_since_the_first_find_after_a_miss() -> None:
    assert folded(seen(1), seen(2)).ok_since == NOW + HOUR
    assert folded(seen(1), seen(2, FAILED)).ok_since is None
    assert folded(seen(1), seen(2, FAILED), seen(3)).ok_since == NOW + 3 * HOUR


def test_a_place_is_counted_from_the_clock_and_then_from_itself() -> None:
    first = folded(seen(1), clock=1000)
    assert first.position == 1000 + 2 * 86_400
    assert folded(seen(2), since=first, clock=5).position == 1000 + 2 * 86_400 + 4 * 86_400


def test_the_place_zero_is_a_place() -> None:
    assert folded(seen(1), since=Standing(position=0), clock=10**9).position == 2 * 86_400


def test_places_lie_off_by_a_tenth_at_most() -> None:
    assert folded(seen(1), noise=1.0).position == int(2.2 * 86_400)
    assert folded(seen(1), noise=-1.0).position == int(1.8 * 86_400)


def test_the_ladder_waits_the_days_of_the_level_spread_by_a_tenth() -> None:
    assert next_interval(LADDER, Standing()) == 2 * DAY
    assert next_interval(LADDER, Standing(level=7)) == 64 * DAY
    up = folded(seen(1), seen(2), seen(3), adaptive=LADDER, noise=0.5)
    assert (up.level, next_interval(LADDER, up)) == (6, 16 * DAY * 1.05)


def test_noise_is_the_same_for_the_same_target_and_time_and_covers_its_range() -> None:
    assert noise_of("feeds/a", NOW) == noise_of("feeds/a", NOW.astimezone(UTC))
    drawn = [noise_of(f"feeds/{n}", NOW) for n in range(1000)]
    assert -1 <= min(drawn) < -0.9
    assert 0.9 < max(drawn) <= 1
    assert abs(sum(drawn)) < 100


@pytest.mark.parametrize(
    "wrong",
    [
        lambda: Observation(at=NOW, ended=FAILED, fingerprint="a"),
        lambda: Observation(at=NOW, ended=MISSING, outcome=Outcome.MISSING),
        lambda: Observation(at=NOW, ended=Ended.FOUND, outcome=Outcome.MISSING),
        lambda: Observation(at=NOW, ended=Ended.FOUND, outcome=Outcome.CHANGED, fingerprint="a"),
        lambda: Observation(at=NOW, ended=Ended.FOUND, fingerprint="x" * 129),
        lambda: Observation(at=NOW, ended=Ended.FOUND, fingerprint="a\x00b"),
        lambda: Observation(at=NOW, ended="gone"),  # type: ignore[arg-type]
    ],
)
def test_a_result_that_contradicts_itself_is_refused(wrong: object) -> None:
    with pytest.raises(ValueError, match=r"."):
        wrong()  # type: ignore[operator]


def test_a_result_without_a_zone_is_refused() -> None:
    with pytest.raises(NaiveTime):
        Observation(at=datetime(2026, 1, 1), ended=FAILED)  # noqa: DTZ001


def test_the_newest_result_says_when_it_wants_to_be_looked_at_again() -> None:
    asks = replace(seen(2), retry_after=30 * DAY)
    older = replace(seen(1), retry_after=DAY)
    for order in permutations([asks, older]):
        assert folded(*order).not_before == asks.at + 30 * DAY
    assert folded(asks, seen(1), seen(2)).not_before == asks.at + 30 * DAY
    assert folded(asks, seen(3, FAILED)).not_before is None


@pytest.mark.parametrize("wait", [timedelta(0), -DAY, timedelta.max, 5, "1d"])
def test_a_wait_that_is_none_is_refused(wait: object) -> None:
    with pytest.raises(ValueError, match="retry_after is"):
        Observation(at=NOW, ended=FAILED, retry_after=wait)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("hint", "found_after", "expected"),
    [(None, 0, None), (2, None, None), (1, 1, None), (1, 2, None), (3, 1, 2 * HOUR)],
)
def test_what_has_changed_since_it_was_found_is_out_of_date_by_so_much(
    hint: int | None, found_after: int | None, expected: timedelta | None
) -> None:
    hint_at, found_at = (
        None if hours is None else NOW + hours * HOUR for hours in (hint, found_after)
    )
    assert staleness_of(hint_at, found_at) == expected


any_result = st.tuples(st.sampled_from(Ended), st.sampled_from("abc")).map(
    lambda drawn: (drawn[0], drawn[1] if drawn[0] == Ended.FOUND else "")
)


@given(data=st.data(), results=st.lists(any_result, min_size=1, max_size=8))
def test_the_order_and_repetitions_of_results_do_not_matter(
    data: st.DataObject, results: list[tuple[Ended, str]]
) -> None:
    ascending = [seen(n, ended, fingerprint) for n, (ended, fingerprint) in enumerate(results)]
    shuffled = data.draw(st.permutations(ascending * 2))
    expected, standing = folded(*ascending), folded(*shuffled)
    for name in ("observed_at", "found_at", "fingerprint", "last_ended"):
        assert getattr(standing, name) == getattr(expected, name)
    assert 0 <= standing.level <= 10
    assert (standing.misses == 0) == (standing.last_ended == Ended.FOUND)
    assert 1 <= standing.streak <= len(results)
