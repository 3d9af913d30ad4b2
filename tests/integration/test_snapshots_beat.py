"""What beats do about checkpoints, and about clocks that are wrong; what `jobs health` says."""

from __future__ import annotations

import logging
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from celery.app import app_or_default
from django.db import OperationalError
from pytest_django import Settings

from scheduling import clock, health, runs, snapshots
from scheduling.beat import Scheduler
from scheduling.models import Installation, Job, Process, ProcessKind, Run, State, Target
from scheduling.snapshots import FileStore, Keeper
from tests.factories import NOW, make_job, make_target
from tests.services import Valkey

pytestmark = pytest.mark.django_db

SECOND = timedelta(seconds=1)
MINUTE = timedelta(minutes=1)
HOUR = timedelta(hours=1)


@pytest.fixture(autouse=True)
def no_other_jobs() -> None:
    """Those that the code declares are made by migrating."""
    Job.objects.all().delete()


@pytest.fixture
def file(tmp_path: Path, settings: Settings) -> Path:
    """The place of checkpoints, as JOBS_SNAPSHOT names it."""
    path = tmp_path / "checkpoint.json"
    settings.JOBS_SNAPSHOT = str(path)
    return path


def stored(file: Path) -> int:
    """The number of the stored checkpoint; 0 if there is none."""
    found = FileStore(file, str(runs.installation().key)).read()
    return 0 if found is None else found.sequence


def older_database(file: Path) -> Target:
    """A target whose fires of the last hour are known to the checkpoint only."""
    target = make_target(make_job(schedule="every 1m", catch_up="all"), next_fire_at=NOW + MINUTE)
    snapshots.take(FileStore(file, str(runs.installation().key)), now=NOW)
    Installation.objects.update(checkpoints=0)
    target.next_fire_at = NOW - HOUR
    target.save()
    return target


def ticking(monkeypatch: pytest.MonkeyPatch) -> tuple[Scheduler, list[datetime]]:
    """A beat, and the list whose last element is its time."""
    times = [NOW]
    monkeypatch.setattr(clock, "sample", lambda: times[-1])
    monkeypatch.setattr(clock, "now", lambda: times[-1])
    return Scheduler(app_or_default(), lazy=True), times


def tick_once(beat: Scheduler, monkeypatch: pytest.MonkeyPatch) -> None:
    # A loop that goes on until the time has come would not end: time stands still.
    monkeypatch.setattr("scheduling.beat.LONGEST_IN_A_ROW", SECOND)
    beat._pass()


# --- comparing ------------------------------------------------------------------------------------


def test_a_beat_compares_before_it_claims(
    file: Path, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    older_database(file)
    beat, _ = ticking(monkeypatch)
    tick_once(beat, monkeypatch)
    (row,) = Run.objects.all()
    assert (row.state, row.fires) == (State.SKIPPED, 61)
    warnings = [r.getMessage() for r in caplog.records if r.levelno == logging.WARNING]
    assert any("older than the checkpoint of 2026-01-05 12:00:00 UTC" in line for line in warnings)
    assert any("61 fires are not fired again" in line for line in warnings)
    assert any("61 fires of 1 jobs" in line for line in warnings)


def test_a_living_beat_compares_again_when_the_database_was_away(file: Path) -> None:
    keeper = Keeper()
    keeper.compare(now=NOW)
    target = older_database(file)
    keeper.doubt()
    keeper.compare(now=NOW)
    target.refresh_from_db()
    assert target.next_fire_at == NOW + MINUTE


def test_a_living_beat_notices_a_database_that_has_counted_less(file: Path) -> None:
    keeper = Keeper()
    keeper.compare(now=NOW)
    keeper.keep(now=NOW)
    keeper.compare(now=NOW)
    target = older_database(file)
    keeper.compare(now=NOW)
    target.refresh_from_db()
    assert target.next_fire_at == NOW + MINUTE


def test_a_tick_that_the_database_broke_off_is_followed_by_a_comparison(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    beat, _ = ticking(monkeypatch)
    doubted: list[bool] = []
    monkeypatch.setattr(beat._checkpoints, "doubt", lambda: doubted.append(True))
    monkeypatch.setattr("scheduling.beat.BACK_OFF_MAX", 0.0)
    monkeypatch.setattr("scheduling.beat.connection.close", lambda: None)

    def down() -> float:
        raise OperationalError

    monkeypatch.setattr(beat, "_pass", down)
    beat.tick()
    assert doubted == [True]


def test_a_comparison_that_broke_off_is_done_again_before_anything_is_claimed(
    file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    target = older_database(file)
    keeper = Keeper()

    def down(*args: Any, **kwargs: Any) -> int:
        raise OperationalError

    with monkeypatch.context() as patched:
        patched.setattr(runs, "refuse_fired", down)
        with pytest.raises(OperationalError):
            keeper.compare(now=NOW)
    keeper.compare(now=NOW)
    target.refresh_from_db()
    assert target.next_fire_at == NOW + MINUTE


# --- taking ---------------------------------------------------------------------------------------


def test_a_checkpoint_is_taken_at_the_start_and_then_at_the_interval(
    file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    beat, times = ticking(monkeypatch)
    found = {}
    for seconds in (0, 1, 29, 31, 32, 60, 62):
        times.append(NOW + seconds * SECOND)
        tick_once(beat, monkeypatch)
        found[seconds] = stored(file)
    assert found == {0: 1, 1: 1, 29: 1, 31: 2, 32: 2, 60: 2, 62: 3}


def test_of_several_beats_one_takes_each(file: Path) -> None:
    keepers = [Keeper() for _ in range(3)]
    for seconds in range(100):
        for keeper in keepers:
            keeper.compare(now=NOW + seconds * SECOND)
        for keeper in keepers:
            keeper.keep(now=NOW + seconds * SECOND)
    assert stored(file) == 4


def test_an_expensive_checkpoint_is_taken_less_often(
    file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    seconds = iter(range(0, 10_000, 10))
    monkeypatch.setattr(clock, "elapsed", lambda: float(next(seconds)))
    keeper = Keeper()
    for moment in range(0, 400, 10):
        keeper.compare(now=NOW + moment * SECOND)
        keeper.keep(now=NOW + moment * SECOND)
    assert stored(file) == 2


def test_without_a_place_nothing_is_looked_at(
    settings: Settings, django_assert_num_queries: Any
) -> None:
    settings.JOBS_SNAPSHOT = ""
    keeper = Keeper()
    with django_assert_num_queries(0):
        keeper.compare(now=NOW)
        keeper.keep(now=NOW)
    assert keeper.detail() == {}


# --- trouble --------------------------------------------------------------------------------------


def errors(caplog: pytest.LogCaptureFixture) -> list[str]:
    return [r.getMessage() for r in caplog.records if r.levelno == logging.ERROR]


def minutes_of(keeper: Keeper, minutes: int = 2) -> None:
    for seconds in range(60 * minutes):
        keeper.compare(now=NOW + seconds * SECOND)
        keeper.keep(now=NOW + seconds * SECOND)


def test_what_cannot_be_read_is_kept_aside_and_beats_go_on(
    file: Path, tmp_path: Path, caplog: pytest.LogCaptureFixture
) -> None:
    file.write_text("{")
    minutes_of(Keeper())
    (line,) = errors(caplog)
    assert str(file) in line
    assert "jobs restore --from FILE" in line
    (aside,) = tmp_path.glob("*.unreadable")
    assert aside.read_text() == "{"
    assert stored(file) > 0


def test_the_checkpoint_of_another_installation_is_left_alone_and_told_once(
    file: Path, caplog: pytest.LogCaptureFixture
) -> None:
    snapshots.take(FileStore(file, str(runs.installation().key)), now=NOW)
    text = file.read_text()
    Installation.objects.all().delete()
    keeper = Keeper()
    minutes_of(keeper)
    (line,) = errors(caplog)
    assert "belongs to the installation" in line
    assert file.read_text() == text
    assert "belongs to the installation" in keeper.detail()["checkpoint_error"]


def test_without_redis_beats_go_on_and_compare_as_soon_as_it_is_back(
    settings: Settings, valkey: Valkey, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level(logging.INFO)
    settings.JOBS_SNAPSHOT = "redis"
    keeper = Keeper()
    valkey.kill()
    try:
        minutes_of(keeper)
    finally:
        valkey.start()
    (line,) = errors(caplog)
    assert "out of reach" in line
    assert runs.installation().checkpoints == 0
    for seconds in range(120, 130):
        keeper.compare(now=NOW + seconds * SECOND)
        keeper.keep(now=NOW + seconds * SECOND)
    assert runs.installation().checkpoints == 1
    assert "Checkpoints are kept again" in caplog.messages


def test_a_checkpoint_that_a_beat_finds_newer_than_the_database_is_not_overwritten(
    file: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    keeper = Keeper()
    keeper.compare(now=NOW)
    target = older_database(file)
    keeper.keep(now=NOW)
    assert stored(file) == 1
    keeper.compare(now=NOW)
    target.refresh_from_db()
    assert target.next_fire_at == NOW + MINUTE


# --- health: the age of the newest checkpoint -----------------------------------------------------


def beat(name: str, detail: dict[str, object]) -> None:
    Process.objects.create(
        kind=ProcessKind.BEAT,
        name=name,
        host="here",
        pid=1,
        started_at=NOW - HOUR,
        seen_at=NOW,
        detail=detail,
    )


def asked(name: str) -> tuple[bool, str]:
    (check,) = health.checks(NOW, [name])
    return check.ok, check.detail


def taken(ago: timedelta, error: str = "") -> dict[str, object]:
    return {"checkpoint_at": (NOW - ago).isoformat(), "checkpoint_error": error}


@pytest.mark.parametrize(
    ("beats", "ok", "said"),
    [
        ([], True, "no beat"),
        ([taken(20 * SECOND)], True, "20 seconds ago"),
        ([taken(10 * MINUTE), taken(20 * SECOND)], True, "20 seconds ago"),
        ([taken(10 * MINUTE)], False, "10 minutes ago"),
        ([taken(20 * SECOND), taken(HOUR, "out of reach")], False, "out of reach"),
        ([{"checkpoint_at": None, "checkpoint_error": ""}], False, "none was taken"),
        ([{"shadow": True}], True, "no beat"),
    ],
)
def test_health_tells_the_age_of_the_newest_checkpoint(
    file: Path, beats: list[dict[str, object]], ok: bool, said: str
) -> None:
    for number, detail in enumerate(beats):
        beat(f"beat{number}", detail)
    assert asked("checkpoint")[0] is ok
    assert said in asked("checkpoint")[1]


def test_health_says_when_checkpoints_are_off(settings: Settings) -> None:
    settings.JOBS_SNAPSHOT = ""
    assert asked("checkpoint") == (True, "off")


def test_a_beat_says_when_it_last_saw_one(file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    beat, times = ticking(monkeypatch)
    for seconds in (0, 1, 4):
        times.append(NOW + seconds * SECOND)
        tick_once(beat, monkeypatch)
    assert Process.objects.get().detail["checkpoint_at"] == (NOW + SECOND).isoformat()
