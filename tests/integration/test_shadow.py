"""Beside the stock scheduler: nothing is started, nothing is written into its rows."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import datetime, timedelta
from typing import Any
from uuid import uuid4

import pytest
from django_celery_beat.models import PeriodicTask, PeriodicTasks, SolarSchedule

from config.celery import app
from scheduling import checks, clock, health, runs, sync
from scheduling.beat import Scheduler
from scheduling.declarations import periodic
from scheduling.models import Cause, Job, Process, ProcessKind, Run, State, Target
from scheduling.policies import CatchUp
from scheduling.shadow import Report, begin_of_stretch, report
from scheduling.shadow_report import Comparison
from tests.factories import make_job
from tests.integration.cli import jobs
from tests.integration.periodic_rows import claim, cron, cursor, every, job, make_row
from tests.services import Valkey

pytestmark = pytest.mark.django_db

SECOND, MINUTE = timedelta(seconds=1), timedelta(minutes=1)
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


def stock_fires(row: PeriodicTask, at: datetime) -> None:
    """Put down what a worker does when it receives a message that was sent then."""
    runs.record_stock_fire(
        task_id=str(uuid4()),
        name=row.task,
        key=row.name,
        sent_at=at,
        received_at=at,
        worker="w@x",
    )


def hour_row(name: str = "mail", **fields: Any) -> tuple[PeriodicTask, datetime]:
    """Make a row that fires at every full hour; give it with its first fire time."""
    row = make_row(name, **cron(hour="*"), **fields)
    first = cursor(name)
    assert first is not None
    return row, first


def compared(after: datetime, until: datetime, *, now: datetime | None = None) -> Report:
    now = now or until + timedelta(days=1)
    return report(after=after, until=until, tolerance=10 * SECOND, now=now)


def only(found: Report) -> Comparison:
    (comparison,) = found.jobs
    return comparison


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
    with valkey.client() as client:
        assert client.llen("celery") == 0
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
    assert not Run.objects.exists()
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


# --- comparing ------------------------------------------------------------------------------------


@pytest.mark.usefixtures("shadow")
def test_the_same_fires_do_not_differ() -> None:
    row, first = hour_row()
    for hour in range(3):
        stock_fires(row, first + timedelta(hours=hour, seconds=2))
    found = only(compared(first - MINUTE, first + timedelta(hours=2, minutes=1)))
    assert (found.name, found.would, found.did, found.matched) == ("mail", 3, 3, 3)
    assert (found.differences, found.max_delay) == (0, 2 * SECOND)


@pytest.mark.usefixtures("shadow")
def test_a_fire_that_is_missing_and_one_too_many_are_named() -> None:
    row, first = hour_row()
    second, third = first + timedelta(hours=1), first + timedelta(hours=2)
    for fired in (first, third, third + 30 * MINUTE):
        stock_fires(row, fired)
    found = only(compared(first - MINUTE, third + timedelta(minutes=31)))
    assert (found.missing, found.extra) == ((second,), (third + 30 * MINUTE,))


@pytest.mark.usefixtures("shadow")
def test_an_interval_that_drifts_does_not_differ_and_its_gap_is_counted() -> None:
    row = make_row(**every(10, "seconds"))
    first = cursor()
    assert first is not None
    gaps = [10.4] * 200 + [73.0] + [10.4] * 20
    fired = [first + timedelta(seconds=sum(gaps[:count])) for count in range(len(gaps) + 1)]
    for moment in fired:
        stock_fires(row, moment)
    found = only(compared(first - SECOND, fired[-1] + SECOND))
    assert (found.did, found.extra) == (len(fired), ())
    # The last fire before the gap, then one every ten seconds; the seventh is the next fire.
    assert found.missing == tuple(fired[200] + 10 * k * SECOND for k in range(1, 7))
    later = only(compared(fired[110] + SECOND, fired[160] + SECOND))
    assert (later.would, later.did, later.differences) == (50, 50, 0)
    assert later.max_delay < SECOND


@pytest.mark.usefixtures("shadow")
def test_a_look_at_the_rows_just_after_a_fire_loses_none() -> None:
    row, first = hour_row()
    stock_fires(row, first)
    # Before the beat's next tick has moved the cursor.
    PeriodicTask.objects.filter(pk=row.pk).update(last_run_at=first + SECOND, description="new")
    periodic.sync_rows(None, now=first + SECOND)
    assert job().description == "new"
    found = only(compared(first - MINUTE, first + MINUTE))
    assert (found.would, found.matched, found.differences) == (1, 1, 0)


@pytest.mark.usefixtures("shadow")
def test_an_edit_is_honoured() -> None:
    row, first = hour_row()
    stock_fires(row, first)
    runs.claim(now=first + 5 * MINUTE, limit=10)
    edited = first + 10 * MINUTE
    type(row.crontab).objects.filter(pk=row.crontab.pk).update(minute="30")
    periodic.sync_rows(None, now=edited)
    stock_fires(row, first + 30 * MINUTE)
    found = only(compared(first - MINUTE, first + timedelta(hours=1)))
    assert (found.would, found.matched, found.differences) == (2, 2, 0)


@pytest.mark.usefixtures("shadow")
def test_an_edited_interval_counts_from_the_last_fire() -> None:
    row = make_row(**every(600, "seconds"))
    first = cursor()
    assert first is not None
    stock_fires(row, first + 7 * SECOND)
    edited = first + MINUTE
    PeriodicTask.objects.update(interval=every(120, "seconds")["interval"])
    periodic.sync_rows(None, now=edited)
    fired = [first + 7 * SECOND + number * 2 * MINUTE for number in (1, 2, 3)]
    for moment in fired:
        stock_fires(row, moment)
    found = only(compared(first - MINUTE, fired[-1] + SECOND))
    assert (found.would, found.matched, found.differences) == (4, 4, 0)


@pytest.mark.usefixtures("shadow")
def test_fires_within_a_pause_are_expected_of_nobody() -> None:
    row, first = hour_row()
    stock_fires(row, first)
    runs.claim(now=first + MINUTE, limit=10)
    PeriodicTask.objects.update(enabled=False)
    periodic.sync_rows(None, now=first + 2 * MINUTE)
    runs.claim(now=first + timedelta(hours=1, minutes=1), limit=10)
    during = only(compared(first - MINUTE, first + timedelta(hours=2)))
    PeriodicTask.objects.update(enabled=True)
    periodic.sync_rows(None, now=first + timedelta(hours=2, minutes=5))
    stock_fires(row, first + timedelta(hours=3))
    after = only(compared(first - MINUTE, first + timedelta(hours=3)))
    assert (during.would, during.differences) == (1, 0)
    assert (after.would, after.matched, after.differences) == (2, 2, 0)


@pytest.mark.usefixtures("shadow")
def test_a_one_off_would_fire_once() -> None:
    row = make_row(**every(10, "seconds"), one_off=True)
    first = cursor()
    assert first is not None
    stock_fires(row, first + SECOND)
    found = only(compared(first - MINUTE, first + 5 * MINUTE))
    assert (found.would, found.matched, found.differences) == (1, 1, 0)


@pytest.mark.usefixtures("shadow")
def test_the_newest_fires_are_not_judged_yet() -> None:
    _, first = hour_row()
    found = compared(first - MINUTE, first + MINUTE, now=first + 5 * SECOND)
    assert (found.until, found.differences) == (first - 5 * SECOND, 0)
    assert compared(first - MINUTE, first + MINUTE, now=first + MINUTE).differences == 1


@pytest.mark.usefixtures("shadow")
def test_a_fire_of_a_name_that_no_job_has_is_told() -> None:
    row, first = hour_row()
    row.name = "renamed while nobody looked"
    stock_fires(row, first)
    found = compared(first - MINUTE, first + MINUTE)
    assert {each.name: each.differences for each in found.jobs} == {"mail": 1, row.name: 1}


def test_the_stretch_begins_with_the_first_message_or_an_hour_ago() -> None:
    row, _ = hour_row()
    now = clock.now()
    assert begin_of_stretch(now) == now - timedelta(hours=1)
    stock_fires(row, now - 20 * MINUTE)
    assert begin_of_stretch(now) == now - 20 * MINUTE
    stock_fires(row, now - 61 * MINUTE)
    assert begin_of_stretch(now) == now - timedelta(hours=1)


# --- the command ----------------------------------------------------------------------------------


@pytest.mark.usefixtures("shadow")
def test_the_verb_answers_in_its_shape() -> None:
    row, first = hour_row()
    stock_fires(row, first + SECOND)
    # The clock has not come so far: only what is past is judged.
    told = jobs("shadow", "--json")
    assert (told.code, told.document()["differences"]) == (0, 0)
    past = clock.now() - timedelta(hours=2)
    stock_fires(row, past)
    bounds = [f"--from={(past - MINUTE).isoformat()}", f"--to={(past + MINUTE).isoformat()}"]
    told = jobs("shadow", *bounds, "--json")
    assert told.code == 1
    document = told.document()
    assert list(document) == ["from", "to", "jobs", "differences"]
    assert document["jobs"] == [
        {
            "name": "mail",
            "would": 0,
            "did": 1,
            "matched": 0,
            "missing": [],
            "extra": [past.isoformat()],
            "max_delay": 0.0,
        }
    ]
    said = jobs("shadow", *bounds)
    assert said.code == 1
    assert f"mail: stock fired {past:%Y-%m-%d %H:%M:%SZ}; Beatkeeper would not have" in said.stdout


def test_the_verb_says_what_is_wrong_with_its_bounds() -> None:
    told = jobs("shadow", "--from=2026-01-02T00:00:00Z", "--to=2026-01-01T00:00:00Z", "--json")
    assert told.code == 2
    assert "exchange them" in told.document()["error"]
    told = jobs("shadow", "--from=2020-01-01T00:00:00Z")
    assert (told.code, "at most 31 days" in told.stderr) == (2, True)


def test_without_any_message_the_verb_asks_for_the_settings() -> None:
    told = jobs("shadow")
    assert told.code == 0
    assert "JOBS_SHADOW is off here" in told.stdout
    assert "No message of the stock scheduler was seen" in told.stdout
