"""The clock: the database's time, whatever the clocks of this machine do."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest

from scheduling import clock
from tests.factories import NOW

SECOND = timedelta(seconds=1)
HOUR = timedelta(hours=1)


class Faked:
    """A database's clock and a monotonic one, set by the test."""

    def __init__(self) -> None:
        self.database = NOW
        self.seconds = 0.0

    def passes(self, seconds: float) -> None:
        self.seconds += seconds
        self.database += timedelta(seconds=seconds)


@pytest.fixture
def faked(monkeypatch: pytest.MonkeyPatch) -> Faked:
    faked = Faked()
    monkeypatch.setattr(clock, "read_database_time", lambda: faked.database)
    monkeypatch.setattr(clock, "elapsed", lambda: faked.seconds)
    return faked


def test_between_samples_time_goes_on_by_the_monotonic_clock(faked: Faked) -> None:
    here = clock.Clock()
    assert here.now() == NOW
    faked.seconds += 10
    faked.database += HOUR  # nobody looks
    assert here.now() == NOW + 10 * SECOND
    assert here.sample() == NOW + HOUR


def test_a_step_of_the_hosts_wall_clock_changes_nothing(
    faked: Faked, monkeypatch: pytest.MonkeyPatch
) -> None:
    class Wrong(datetime):
        @classmethod
        def now(cls, tz: object = None) -> datetime:  # type: ignore[override]
            return datetime(2038, 1, 1, tzinfo=UTC)

    here = clock.Clock()
    here.sample()
    monkeypatch.setattr(clock, "datetime", Wrong)
    faked.passes(1)
    assert here.now() == here.sample() == NOW + SECOND


def test_a_small_step_back_of_the_databases_clock_is_waited_out(faked: Faked) -> None:
    here = clock.Clock()
    faked.passes(30)
    assert here.sample() == NOW + 30 * SECOND
    faked.database -= 20 * SECOND
    assert here.sample() == NOW + 30 * SECOND
    faked.passes(19)
    assert here.sample() == NOW + 30 * SECOND
    faked.passes(2)
    assert here.sample() == NOW + 31 * SECOND


def test_a_large_step_back_is_not_followed_and_time_goes_on(
    faked: Faked, caplog: pytest.LogCaptureFixture
) -> None:
    here = clock.Clock()
    here.sample()
    faked.database -= HOUR
    faked.passes(5)
    assert here.sample() == NOW + 5 * SECOND
    assert "went back" in caplog.text
    faked.passes(5)
    assert here.now() == NOW + 10 * SECOND


def test_a_step_forward_is_followed_at_the_next_sample(faked: Faked) -> None:
    here = clock.Clock()
    here.sample()
    faked.database += HOUR
    assert here.now() == NOW
    assert here.sample() == NOW + HOUR
