"""What the stock scheduler fired against what Beatkeeper would have fired."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import pytest
from django_celery_beat.models import PeriodicTask

from scheduling import clock, runs
from scheduling.declarations import periodic
from scheduling.shadow import begin_of_stretch
from tests.integration.cli import jobs
from tests.integration.periodic_rows import cursor, every, job, make_row
from tests.integration.stock_rows import MINUTE, SECOND, compared, hour_row, only, stock_fires

pytestmark = pytest.mark.django_db


@pytest.fixture
def shadow(settings: Any) -> None:
    settings.JOBS_SHADOW = True


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
