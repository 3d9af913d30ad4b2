"""Clocks that are wrong: nothing fires twice, nothing is silenced, and the host is named."""

from __future__ import annotations

from collections.abc import Callable
from datetime import datetime, timedelta
from typing import Any

import pytest
from celery.app import app_or_default
from pytest_django import Settings

from scheduling import clock, health, runs
from scheduling.beat import Scheduler
from scheduling.models import Job, Process, ProcessKind, Run
from tests.factories import NOW, make_job

pytestmark = pytest.mark.django_db

SECOND = timedelta(seconds=1)
MINUTE = timedelta(minutes=1)
HOUR = timedelta(hours=1)


@pytest.fixture(autouse=True)
def no_other_jobs() -> None:
    """Those that the code declares are made by migrating."""
    Job.objects.all().delete()


# --- telling --------------------------------------------------------------------------------------


def process(kind: ProcessKind = ProcessKind.BEAT, *, host: str, skew: float) -> None:
    Process.objects.create(
        kind=kind,
        name=f"{kind}@{host}",
        host=host,
        pid=1,
        started_at=NOW,
        seen_at=NOW,
        detail={"clock_skew": skew},
    )


def clocks() -> tuple[bool, str]:
    (check,) = health.checks(NOW, ["clocks"])
    return check.ok, check.detail


@pytest.mark.parametrize("kind", list(ProcessKind))
@pytest.mark.parametrize(
    ("skew", "ok", "said"),
    [
        (4.9, True, "all agree"),
        (5.1, False, "db7 is 5.1 s ahead"),
        (-3600.0, False, "db7 is 3600.0 s behind"),
    ],
)
def test_health_names_the_host_whose_clock_is_off(
    kind: ProcessKind, skew: float, ok: bool, said: str
) -> None:
    process(host="fine", skew=0.1)
    process(kind, host="db7", skew=skew)
    assert clocks()[0] is ok
    assert said in clocks()[1]


def test_how_far_a_clock_may_be_off_is_a_setting(settings: Settings) -> None:
    process(host="db7", skew=2.0)
    settings.JOBS_CLOCK_SKEW = SECOND
    assert clocks()[0] is False


def test_a_beat_tells_how_far_its_machine_is_off(monkeypatch: pytest.MonkeyPatch) -> None:
    class Ahead(datetime):
        @classmethod
        def now(cls, tz: Any = None) -> Any:
            return NOW + HOUR

    beat = Scheduler(app_or_default(), lazy=True)
    monkeypatch.setattr("scheduling.beat.datetime", Ahead)
    beat._say_alive(NOW)
    assert Process.objects.get().detail["clock_skew"] == 3600.0


# --- steps ----------------------------------------------------------------------------------------


@pytest.fixture
def database_clock(monkeypatch: pytest.MonkeyPatch) -> Callable[[float, float], datetime]:
    """Give a function that lets seconds pass, sets the database's clock off by others, and samples.

    The clock is a fresh one, as in a process that has just started.
    """
    passed = [0.0]
    off = [0.0]
    monkeypatch.setattr(clock, "elapsed", lambda: passed[0])
    monkeypatch.setattr(
        clock, "read_database_time", lambda: NOW + timedelta(seconds=passed[0] + off[0])
    )
    fresh = clock.Clock()

    def later(seconds: float, step: float = 0.0) -> datetime:
        passed[0] += seconds
        off[0] += step
        return fresh.sample()

    return later


@pytest.mark.parametrize("step", [-30.0, -3600.0])
def test_a_clock_that_goes_back_refires_and_silences_nothing(
    database_clock: Callable[[float, float], datetime], step: float
) -> None:
    target = runs.adopt(make_job(schedule="every 1m", overlap="allow"), now=NOW)
    for seconds, by in ((60, 0), (60, 0), (1, step), (59, 0), (60, 0), (60, 0)):
        runs.claim(now=database_clock(seconds, by), limit=10)
    fires = list(Run.objects.order_by("scheduled_at").values_list("scheduled_at", flat=True))
    assert len(fires) == len(set(fires))
    # A small step back is waited out, a large one is not followed.
    assert fires == [NOW + n * MINUTE for n in range(1, 5 if step == -30.0 else 6)]
    target.refresh_from_db()
    assert target.next_fire_at == fires[-1] + MINUTE


def test_a_process_that_starts_with_an_earlier_time_claims_nothing_twice(
    database_clock: Callable[[float, float], datetime],
) -> None:
    runs.adopt(make_job(schedule="every 1m", overlap="allow"), now=NOW)
    runs.claim(now=database_clock(120, 0), limit=10)
    assert Run.objects.count() > 0
    before = set(Run.objects.values_list("pk", flat=True))
    runs.claim(now=NOW, limit=10)
    runs.claim(now=NOW + 2 * MINUTE, limit=10)
    assert set(Run.objects.values_list("pk", flat=True)) == before


def test_a_clock_that_jumps_ahead_loses_no_fire(
    database_clock: Callable[[float, float], datetime],
) -> None:
    target = runs.adopt(make_job(schedule="every 1m"), now=NOW)
    runs.claim(now=database_clock(60, 0), limit=10)
    runs.claim(now=database_clock(1, 3599), limit=10)
    assert sum(Run.objects.values_list("fires", flat=True)) == 61
    target.refresh_from_db()
    assert target.next_fire_at == NOW + 62 * MINUTE
