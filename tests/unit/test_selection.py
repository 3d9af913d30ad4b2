"""How many targets are picked, and after which moment: the pure rules."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest
from hypothesis import given
from hypothesis import strategies as st

from scheduling.cadence import Ended
from scheduling.feeds import Cooldowns
from scheduling.selection import (
    Candidate,
    after_shortfall,
    eligible_from,
    free_slots,
    is_eligible,
    is_worth_it,
    next_look,
    order_of,
    shares_of,
)

NOW = datetime(2026, 1, 5, 12, 0, tzinfo=UTC)
HOUR, DAY = timedelta(hours=1), timedelta(days=1)
TICK = timedelta(microseconds=1)
COOLDOWNS = Cooldowns()


def may_be_picked(at: datetime, **known: object) -> bool:
    facts = {"scheduled_at": None, "observed_at": None, "ended": None} | known
    return is_eligible(eligible_from(COOLDOWNS, **facts), at)  # type: ignore[arg-type]


def test_what_was_never_picked_may_be_picked_at_once() -> None:
    assert may_be_picked(NOW)


@pytest.mark.parametrize(
    ("known", "span"),
    [
        # A result that came with the pick's own time is not newer than the pick.
        ({"scheduled_at": NOW}, 7 * DAY),
        ({"scheduled_at": NOW, "observed_at": NOW, "ended": Ended.FOUND}, 7 * DAY),
        ({"scheduled_at": NOW, "observed_at": NOW - HOUR, "ended": Ended.FOUND}, 7 * DAY),
        # A newer one ends that hold, but not the least distance.
        ({"scheduled_at": NOW, "observed_at": NOW + TICK, "ended": Ended.FOUND}, 12 * HOUR),
        # So does the end of a run without a result.
        ({"scheduled_at": NOW, "over_at": NOW}, 7 * DAY),
        ({"scheduled_at": NOW, "over_at": NOW + TICK}, 12 * HOUR),
        ({"scheduled_at": NOW - DAY, "observed_at": NOW, "ended": Ended.FAILED}, 14 * DAY),
        ({"scheduled_at": NOW - DAY, "observed_at": NOW, "ended": Ended.MISSING}, 31 * DAY),
    ],
)
def test_a_cooldown_ends_strictly_after_its_span(known: dict[str, object], span: timedelta) -> None:
    assert not may_be_picked(NOW + span - TICK, **known)
    assert not may_be_picked(NOW + span, **known)
    assert may_be_picked(NOW + span + TICK, **known)


def test_a_failure_without_a_date_holds_nothing_for_ever() -> None:
    assert may_be_picked(NOW, ended=Ended.FAILED)


def test_cooldowns_that_are_none_hold_nothing() -> None:
    none = Cooldowns(absolute=None, in_flight=None, failed=None, missing=None)
    for ended in Ended:
        assert eligible_from(none, scheduled_at=NOW, observed_at=NOW, ended=ended) is None


def test_what_the_result_asks_for_counts_besides() -> None:
    found = {"scheduled_at": NOW - DAY, "observed_at": NOW, "ended": Ended.FOUND}
    moment = eligible_from(COOLDOWNS, **found, not_before=NOW + HOUR)  # type: ignore[arg-type]
    assert moment == NOW + HOUR


@pytest.mark.parametrize(
    ("maximum", "length", "slots"),
    [
        (100, 90, 10),
        (100, 9000, 0),
        (20_000, 0, 10_000),
        (None, 50, 10_000),
        (0, 50, 10_000),
        # Nobody knows: a trickle, not all of it.
        (100, None, 10),
        (5, None, 5),
    ],
)
def test_free_slots(maximum: int | None, length: int | None, slots: int) -> None:
    assert free_slots(maximum, length, trickle=10) == slots


def test_a_threshold_is_to_be_passed() -> None:
    assert not is_worth_it(20, 100, 0.2)
    assert is_worth_it(21, 100, 0.2)
    assert is_worth_it(1, 1, 0.05)
    assert not is_worth_it(0, 1, 0.0)
    # Of the most that is ever let out at once
    assert is_worth_it(2001, 1_000_000, 0.2)


def test_with_nothing_to_pick_a_job_is_looked_at_again_after_a_while() -> None:
    epoch = datetime.fromtimestamp(0, UTC)
    minute = timedelta(seconds=60)
    assert next_look(epoch, picked=0, wanted=10, idle=minute) == epoch + minute
    assert next_look(epoch, picked=10, wanted=10, idle=minute) is None


def test_small_shares_have_their_turn() -> None:
    weights = {"stalest": 49.0, "never": 49.0, "rest": 2.0}
    picks, _ = shares_of(1000, weights, {})
    assert picks == {"stalest": 490, "never": 490, "rest": 20}
    total = dict.fromkeys(weights, 0)
    credits: dict[str, float] = {}
    for _ in range(100):
        picks, credits = shares_of(10, weights, credits)
        assert sum(picks.values()) == 10
        total = {name: total[name] + picks[name] for name in weights}
    assert total == {"stalest": 490, "never": 490, "rest": 20}


def test_a_weight_of_zero_is_never() -> None:
    picks, owed = shares_of(7, {"a": 1.0, "b": 0.0}, {"b": 0.9})
    assert picks == {"a": 7, "b": 0}
    assert owed["b"] == 0
    assert shares_of(7, {"a": 0.0}, {}) == ({"a": 0}, {})


def test_who_has_too_few_targets_is_owed_nothing() -> None:
    assert after_shortfall({"a": 0.5, "b": -0.5}, {"a": 4, "b": 6}, {"a": 1, "b": 6}) == {
        "a": 0.0,
        "b": -0.5,
    }


@given(
    slots=st.integers(0, 500),
    weights=st.dictionaries(st.sampled_from("abcde"), st.floats(0, 1000), min_size=1),
    credits=st.dictionaries(st.sampled_from("abcde"), st.floats(-1, 1)),
)
def test_all_slots_are_spent_and_no_debt_grows(
    slots: int, weights: dict[str, float], credits: dict[str, float]
) -> None:
    picks, owed = shares_of(slots, weights, credits)
    assert sum(picks.values()) == (slots if any(weights.values()) else 0)
    assert all(count >= 0 for count in picks.values())
    assert all(not picks[name] for name, weight in weights.items() if not weight)
    if slots and any(weights.values()):
        assert all(-1 <= each <= 1 for each in owed.values())


def one(number: int, **known: object) -> Candidate:
    return Candidate(id=number, created_at=NOW + number * HOUR, **known)  # type: ignore[arg-type]


@pytest.mark.parametrize(
    ("name", "in_order", "left_out"),
    [
        (
            "oldest_scheduled",
            [one(3), one(4), one(2, last_scheduled_at=NOW - DAY), one(1, last_scheduled_at=NOW)],
            [],
        ),
        (
            "never_checked",
            [one(2, hint_at=NOW - DAY), one(1, hint_at=NOW)],
            [one(3), one(4, hint_at=NOW, found_at=NOW)],
        ),
        (
            "stalest",
            [one(2, staleness=DAY), one(1, staleness=HOUR), one(3, staleness=HOUR)],
            [one(4)],
        ),
        (
            "without_hint",
            [one(4), one(5), one(2, position=0), one(1, position=7)],
            [one(3, hint_at=NOW)],
        ),
        (
            "until_success",
            [one(2, hint_at=NOW - DAY), one(3, hint_at=NOW, found_at=NOW), one(1), one(4)],
            [one(5, ok_since=NOW)],
        ),
    ],
)
def test_each_strategy_has_its_order(
    name: str, in_order: list[Candidate], left_out: list[Candidate]
) -> None:
    order = order_of(name)
    assert sorted([*in_order[1:], in_order[0]], key=order) == in_order  # type: ignore[arg-type]
    assert [order(each) for each in left_out] == [None] * len(left_out)


def test_a_strategy_that_is_not_built_in_has_no_pure_order() -> None:
    with pytest.raises(KeyError, match="newest"):
        order_of("newest")
