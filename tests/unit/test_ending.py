"""A schedule that is cut off at the end of its job keeps what it owes until then."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

from scheduling.policies import CatchUp, Fire, plan_fires
from scheduling.runs.cursors import Ending
from scheduling.schedules import Every

HOUR = timedelta(hours=1)
START = datetime(2024, 1, 10, 6, tzinfo=UTC)


def test_a_pause_that_was_over_before_the_end_is_still_due() -> None:
    schedule = Ending(Every("30m", after_end=True), START + HOUR)
    made = plan_fires(
        schedule, cursor=START, now=START + 2 * HOUR, catch_up=CatchUp.NONE, window=HOUR
    )

    assert made.start == (Fire(at=START, cause="schedule"),)
    assert made.cursor is None


def test_the_period_does_not_end() -> None:
    assert Ending(Every("1h"), START).period(START) == HOUR
