"""Whose runs meet ours, and want the same resources."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest

from scheduling.clashes import MOST_FIRES, MOST_OTHERS, MOST_SHOWN, Clash, Holder, clashes
from scheduling.schedules import parse

MINUTE = timedelta(minutes=1)
LEDGER = frozenset({"ledger"})


def at(clock: str) -> datetime:
    return datetime.fromisoformat(f"2026-01-05T{clock}").replace(tzinfo=UTC)


def holder(name: str = "backup", schedule: str = "times 03:00", **fields: object) -> Holder:
    fields = {"locks": LEDGER, "duration": 30 * MINUTE, **fields}
    return Holder(name=name, schedule=parse(schedule), **fields)  # type: ignore[arg-type]


def meeting(
    fire: str, *others: Holder, minutes: int = 10, locks: frozenset[str] = LEDGER
) -> list[Clash]:
    (found,) = clashes([at(fire)], others, locks=locks, duration=minutes * MINUTE)
    return found


#       02:50     03:00                         03:30
#                   |-------- backup -------------|
@pytest.mark.parametrize(
    ("fire", "is_met"),
    [
        pytest.param("02:49", False, id="ours ends before"),
        pytest.param("02:50", False, id="ours ends when theirs begins"),
        pytest.param("02:51", True, id="ours still runs when theirs begins"),
        pytest.param("03:00", True, id="together"),
        pytest.param("03:29", True, id="theirs still runs when ours begins"),
        pytest.param("03:30", False, id="theirs ends when ours begins"),
    ],
)
def test_runs_meet_while_both_are_going_on(fire: str, is_met: bool) -> None:
    expected = [Clash(name="backup", fire=at("03:00"), locks=("ledger",))]
    assert meeting(fire, holder()) == (expected if is_met else [])


def test_who_shares_nothing_is_not_met() -> None:
    assert meeting("03:00", holder(locks=frozenset({"printer"}))) == []
    assert meeting("03:00", holder(), locks=frozenset()) == []


def test_only_what_both_hold_is_named() -> None:
    other = holder(locks=frozenset({"vault", "ledger", "printer"}))
    (clash,) = meeting("03:00", other, locks=frozenset({"vault", "ledger", "moon"}))
    assert clash.locks == ("ledger", "vault")


def test_a_run_of_no_known_length_counts_a_minute() -> None:
    other = holder(duration=timedelta(0))
    assert meeting("03:00:59", other, minutes=0)
    assert not meeting("03:01", other, minutes=0)
    assert meeting("02:59:01", other, minutes=0)
    assert not meeting("02:59", other, minutes=0)


def test_a_frequent_job_is_told_once_for_a_fire() -> None:
    (clash,) = meeting("03:00", holder(schedule="every 10s", duration=MINUTE))
    assert clash.fire == at("02:59:10")


def test_a_life_that_has_not_begun_or_is_over_meets_nobody() -> None:
    assert meeting("03:00", holder(starts_at=at("03:00")))
    assert not meeting("03:00", holder(starts_at=at("03:00:01")))
    assert meeting("03:00", holder(ends_at=at("03:00")))
    assert not meeting("03:00", holder(ends_at=at("02:59:59")))


def test_each_fire_has_its_own_clashes_earliest_first() -> None:
    others = [
        holder("b"),
        holder("a"),
        holder("early", "times 02:45"),
        holder("noon", "times 12:00"),
    ]
    fires = [at("03:00"), at("05:00"), at("12:00")]
    found = clashes(fires, others, locks=LEDGER, duration=MINUTE)
    assert [[clash.name for clash in each] for each in found] == [["early", "a", "b"], [], ["noon"]]


def test_neither_the_question_nor_the_answer_grows_without_end() -> None:
    others = [holder(f"job {number:03}", "every 1m") for number in range(MOST_OTHERS)]
    fires = [at("03:00") + number * MINUTE for number in range(MOST_FIRES + 5)]
    found = clashes(fires, others, locks=LEDGER, duration=MINUTE)
    assert [len(each) for each in found] == [MOST_SHOWN] * MOST_FIRES
    quiet = [holder(schedule="times 12:00")] * MOST_OTHERS
    assert meeting("03:00", *quiet, holder("one too many")) == []
