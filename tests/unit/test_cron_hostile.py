"""The most expensive expressions that we can think of are answered at once."""

from __future__ import annotations

from datetime import UTC, datetime

import pytest

from scheduling.schedules import parse
from tests.benchmarks.bench_next import HOSTILE, LIMIT, MOMENTS, REFUSED, refusal, slowest


@pytest.mark.parametrize("text", HOSTILE, ids=lambda text: text[:40])
def test_the_next_fire_is_found_at_once(text: str) -> None:
    assert slowest(text) < LIMIT
    # The benchmark holds this one to the same limit; here is room for a busy machine.
    assert slowest(text, cold=True) < 5 * LIMIT


@pytest.mark.parametrize("text", HOSTILE, ids=lambda text: text[:40])
@pytest.mark.parametrize("moment", MOMENTS, ids=lambda moment: str(moment.year))
def test_the_next_fire_is_later_and_within_the_calendar(text: str, moment: datetime) -> None:
    fire = parse(text).next(moment, name="job")
    assert fire is None or moment < fire < datetime(2100, 1, 1, 12, tzinfo=UTC)


@pytest.mark.parametrize("expression", REFUSED)
def test_what_never_fires_is_refused_at_once(expression: str) -> None:
    assert refusal(expression) < 5 * LIMIT


@pytest.mark.parametrize(
    ("text", "fire"),
    [
        ("cron 0 0 29 2 1 and", "2044-02-29T00:00"),
        ("cron 0 0 * 2 7#5", "2032-02-29T00:00"),
        ("cron * * * 29 2 * 2096 tz Africa/Casablanca", "2096-02-28T23:00"),
        ("cron 0 0 29 2 *", "2028-02-29T00:00"),
    ],
)
def test_a_fire_many_years_away_is_the_right_one(text: str, fire: str) -> None:
    expected = datetime.fromisoformat(fire).replace(tzinfo=UTC)
    assert parse(text).next(datetime(2024, 3, 1, tzinfo=UTC)) == expected
