"""Beside the stock scheduler: nothing is started, nothing is written into its rows."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import timedelta
from typing import Any

import pytest
from django_celery_beat.models import PeriodicTask, PeriodicTasks, SolarSchedule

from config.celery import app
from scheduling import checks, clock, health, runs, sync
from scheduling.beat import Scheduler
from scheduling.declarations import periodic
from scheduling.models import Cause, Job, Process, ProcessKind, Run, State, Target
from scheduling.policies import CatchUp
from tests.factories import make_job
from tests.integration.periodic_rows import claim, cursor, every, job, make_row
from tests.integration.stock_rows import MINUTE, SECOND, compared, hour_row, only, stock_fires
from tests.services import Valkey

pytestmark = pytest.mark.django_db

# The columns of a row that say what has fired.
WRITTEN = ("last_run_at", "total_run_count", "enabled", "date_changed")


@pytest.fixture
def shadow(settings: Any) -> None:
    settings.JOBS_SHADOW = True


@pytest.fixture
def beat() -> Iterator[Scheduler]:
    scheduler = Scheduler(app, lazy=True)
    yield scheduler
    scheduler.close()


# --- nothing is started ---------------------------------------------------------------------------


@pytest.mark.usefixtures("shadow")
@pytest.mark.parametrize("catch_up", list(CatchUp))
def test_fires_pass_without_runs(catch_up: CatchUp) -> None:
    row, first = hour_row()
    make_job("ours", schedule="every 1m", catch_up=catch_up.value)
    ours = runs.adopt(Job.objects.get(name="ours"), now=first - MINUTE)
    Job.objects.update(catch_up=catch_up.value)
    before = PeriodicTask.objects.values(*WRITTEN).get(pk=row.pk)
    now = first + timedelta(hours=5, minutes=30)
    claimed = runs.claim(now=now, limit=100)
    assert (claimed.runs, claimed.skips, claimed.fires) == ([], [], [])
    assert not Run.objects.exists()
    assert cursor() == first + timedelta(hours=6)
    ours.refresh_from_db()
    assert ours.next_fire_at is not None
    assert ours.next_fire_at > now
    assert PeriodicTask.objects.values(*WRITTEN).get(pk=row.pk) == before


@pytest.mark.usefixtures("shadow")
def test_an_edit_settles_nothing() -> None:
    _, first = hour_row()
    now = first + timedelta(hours=3)
    Target.objects.update(next_fire_at=first)
    PeriodicTask.objects.update(interval=every(7)["interval"], crontab=None)
    periodic.sync_rows(None, now=now)
    assert not Run.objects.exists()
    assert job().schedule.startswith("every 7m")


@pytest.mark.usefixtures("shadow")
def test_a_resume_runs_nothing_that_stock_beat_has_run() -> None:
    _, first = hour_row()
    runs.pause(job(), by="ann", reason="quiet", now=first - MINUTE)
    runs.claim(now=first, limit=10)
    runs.resume(job(), by="ann", now=first + timedelta(hours=2, minutes=1), missed=CatchUp.ALL)
    assert not Run.objects.exclude(state=State.SKIPPED).exists()


@pytest.mark.usefixtures("shadow")
def test_a_one_off_is_left_for_stock_beat_to_disable() -> None:
    row = make_row(**every(10, "seconds"), one_off=True)
    PeriodicTask.objects.filter(pk=row.pk).update(total_run_count=1, last_run_at=clock.now())
    before = PeriodicTask.objects.values(*WRITTEN).get(pk=row.pk)
    periodic.sync_rows(None, now=clock.now())
    assert PeriodicTask.objects.values(*WRITTEN).get(pk=row.pk) == before


@pytest.mark.django_db(transaction=True)
@pytest.mark.usefixtures("shadow")
def test_a_beat_in_shadow_mode_sends_nothing_and_says_so(
    valkey: Valkey, beat: Scheduler, caplog: pytest.LogCaptureFixture
) -> None:
    make_row(**every(1, "seconds"))
    Target.objects.update(next_fire_at=clock.now() - MINUTE)
    # Somebody asks for a run, too: it waits for the beat that will be in charge.
    asked_for = runs.trigger(job(), by="ann", now=clock.now())
    beat._pass()
    assert beat._pass() > 0
    asked_for.refresh_from_db()
    assert (asked_for.state, asked_for.published_at) == (State.QUEUED, None)
    assert list(Run.objects.all()) == [asked_for]
    assert valkey.messages() == []
    assert "SHADOW MODE" in caplog.text
    (check,) = health.checks(clock.now(), ["beat"])
    assert check.ok
    assert "SHADOW MODE" in check.detail


def test_beats_of_both_modes_side_by_side_are_not_well() -> None:
    now = clock.now()
    for name, detail in (("one", {"shadow": True}), ("other", {})):
        Process.objects.create(
            name=name, kind=ProcessKind.BEAT, host="x", pid=1, started_at=now, seen_at=now,
            detail=detail,
        )  # fmt: skip
    (check,) = health.checks(now, ["beat"])
    assert not check.ok


@pytest.mark.usefixtures("shadow")
def test_a_beat_in_shadow_mode_follows_bulk_edits(beat: Scheduler) -> None:
    row = make_row(**every(10))
    beat._pass()
    PeriodicTask.objects.filter(pk=row.pk).update(interval=every(20)["interval"])
    PeriodicTasks.update_changed()
    beat._pass()
    assert job().schedule.startswith("every 20m")


@pytest.mark.usefixtures("shadow")
def test_a_solar_row_goes_on_to_its_next_event_when_stock_beat_has_run_one() -> None:
    pytest.importorskip("ephem")
    noon = SolarSchedule.objects.create(event="solar_noon", latitude=52, longitude=13)
    row = make_row(solar=noon)
    first = cursor()
    assert first is not None
    runs.claim(now=first, limit=10)
    PeriodicTask.objects.filter(pk=row.pk).update(last_run_at=first + SECOND)
    stock_fires(row, first + SECOND)
    periodic.follow_solar_rows(now=first + MINUTE)
    second = cursor()
    assert second is not None
    assert timedelta(hours=23) < second - first < timedelta(hours=25)
    stock_fires(row, second)
    found = only(compared(first - MINUTE, second + MINUTE))
    assert (found.would, found.matched, found.differences) == (2, 2, 0)


@pytest.mark.usefixtures("shadow")
def test_a_check_says_that_nothing_is_fired() -> None:
    assert [found.id for found in checks.check_celery(None)] == ["scheduling.W009"]


# --- taking over ----------------------------------------------------------------------------------


def test_whoever_takes_over_repeats_nothing_and_catches_up_what_stock_beat_left(
    settings: Any,
) -> None:
    row, first = hour_row()
    settings.JOBS_SHADOW = True
    runs.claim(now=first + timedelta(hours=3, minutes=5), limit=10)
    # Stock beat ran the first two and died.
    PeriodicTask.objects.filter(pk=row.pk).update(last_run_at=first + timedelta(hours=1, seconds=1))
    settings.JOBS_SHADOW = False
    back = first + timedelta(hours=3, minutes=6)
    periodic.resume_after_stock(now=back)
    assert [(run.scheduled_at, run.cause) for run in claim(back)] == [
        (first + timedelta(hours=3), Cause.CATCH_UP)
    ]
    assert claim(back + MINUTE) == []


def test_an_interval_goes_on_from_the_last_run_of_stock_beat(settings: Any) -> None:
    row = make_row(**every(60, "seconds"))
    first = cursor()
    assert first is not None
    settings.JOBS_SHADOW = True
    # It has drifted by a third.
    last = first + 100 * MINUTE + 20 * SECOND
    PeriodicTask.objects.filter(pk=row.pk).update(last_run_at=last)
    runs.claim(now=last + SECOND, limit=10)
    settings.JOBS_SHADOW = False
    back = last + 50 * SECOND
    sync.sync(now=back)  # as `migrate` does, and the start of a beat
    periodic.resume_after_stock(now=back)
    assert claim(back) == []
    # Jobs that are always there may fire at this time of the day.
    assert not Run.objects.filter(job=job()).exists()
    assert cursor() == last + MINUTE


def test_a_beat_that_restarts_repeats_nothing_of_its_own() -> None:
    _, first = hour_row()
    assert len(claim(first)) == 1
    Run.objects.update(state=State.SUCCEEDED, ended_at=first)
    stands = cursor()
    periodic.resume_after_stock(now=first + MINUTE)
    assert (claim(first + MINUTE), cursor()) == ([], stands)


def test_a_beat_that_restarts_after_an_edit_does_not_go_back_behind_it() -> None:
    row, first = hour_row()
    claim(first)
    row.crontab.minute = "*/10"
    edited_at = first + 35 * MINUTE
    row.crontab.save()
    runs.reschedule(job(), now=edited_at, schedule=job().schedule)
    stands = cursor()
    Run.objects.all().delete()
    periodic.resume_after_stock(now=edited_at + MINUTE)
    assert cursor() == stands
