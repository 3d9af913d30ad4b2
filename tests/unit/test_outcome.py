"""What a job says it has found; and what schedules make of it."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from scheduling import Adaptive, Every, Found, Outcome
from scheduling.calendars import DaysOff, without

HOUR = timedelta(hours=1)


@pytest.mark.parametrize(
    "said",
    [
        {},
        {"outcome": Outcome.MISSING},
        {"fingerprint": "a" * 128},
        {"fingerprint": "a", "retry_after": HOUR},
    ],
)
def test_a_job_may_say_so(said: dict[str, Any]) -> None:
    assert Found(**said).retry_after == said.get("retry_after")


@pytest.mark.parametrize(
    ("said", "why"),
    [
        ({"fingerprint": ""}, "1 to 128"),
        ({"fingerprint": "a" * 129}, "1 to 128"),
        ({"fingerprint": "a\x00"}, "printable"),
        ({"fingerprint": 7}, "'7'"),
        ({"outcome": "better"}, "better"),
        ({"outcome": Outcome.CHANGED, "fingerprint": "a"}, "not both"),
        ({"retry_after": timedelta(0)}, "positive timedelta"),
        ({"retry_after": 60}, "60"),
    ],
)
def test_what_makes_no_sense_is_refused(said: dict[str, Any], why: str) -> None:
    with pytest.raises(ValueError, match=why):
        Found(**said)


def test_days_off_hold_for_an_adapted_schedule() -> None:
    friday = datetime(2026, 1, 2, 12, tzinfo=UTC)
    off = DaysOff.parse("2026-01-04", timezone="UTC")
    schedule = without(Adaptive("1d", between=("1h", "8d")), off)
    assert schedule.adapted_to(timedelta(days=2), level=4).after_end(friday) == datetime(
        2026, 1, 5, tzinfo=UTC
    )


def test_other_schedules_do_not_adapt() -> None:
    hourly = Every(HOUR)
    assert hourly.adapted_to(2 * HOUR, level=10) is hourly
    adaptive = Adaptive("1d", between=("1h", "8d"))
    assert adaptive.adapted_to(None, level=4) is adaptive
