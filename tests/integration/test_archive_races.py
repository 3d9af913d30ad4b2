"""Taking runs out of the table while others work with it, with real threads."""

from __future__ import annotations

import gc
import threading
from collections.abc import Sequence
from datetime import timedelta
from typing import Any
from uuid import UUID

import pytest
from django.db import connection, transaction

from scheduling import runs
from scheduling.archive import cascade, deleting
from scheduling.archive.deleting import LEAST, LONG, SHORT, Deleter, Pace
from scheduling.archive.lines import Entry
from scheduling.models import Run, Seat, State, Target
from tests.factories import NOW, make_job, make_target
from tests.integration.old_runs import DAY, ended, left, prune
from tests.integration.rivals import in_thread, needs_row_locks

pytestmark = [
    pytest.mark.django_db(transaction=True),
    pytest.mark.usefixtures("keep_nothing"),
]

SECOND = timedelta(seconds=1)


def test_runs_are_claimed_started_and_ended_while_old_ones_of_their_target_leave() -> None:
    target = make_target(make_job(schedule="every 1s"), next_fire_at=NOW)
    Run.objects.bulk_create(
        Run(
            job=target.job,
            target=target,
            name="x",
            cause="schedule",
            state=State.SUCCEEDED,
            scheduled_at=NOW - 100 * DAY - n * SECOND,
            created_at=NOW - 100 * DAY - n * SECOND,
            ended_at=NOW - 100 * DAY,
        )
        for n in range(300)
    )
    errors: list[Exception] = []
    begun = threading.Event()

    def work() -> None:
        for n in range(20):
            now = NOW + n * SECOND
            for run in runs.claim(now=now, limit=10).runs:
                started = runs.start(run.pk, 1, worker="w", now=now)
                assert isinstance(started, runs.Started)
                token, result = started.run.token, runs.Result(state=State.SUCCEEDED)
                assert runs.finish(run.pk, 1, token=token, result=result, now=now)
            begun.set()

    thread = in_thread(work, errors)
    assert begun.wait(30)
    told = prune()
    thread.join(60)
    assert errors == []
    assert (told.deleted, told.left) == (300, 0)
    assert Run.objects.filter(target=target, state=State.SUCCEEDED).count() == 20
    assert Target.objects.get(pk=target.pk).next_fire_at == NOW + 20 * SECOND


@needs_row_locks
def test_a_run_that_somebody_holds_is_passed_over_and_goes_the_next_time() -> None:
    held, free = ended(), ended()
    errors: list[Exception] = []
    with transaction.atomic():
        Run.objects.select_for_update(no_key=True).get(pk=held.pk)
        thread = in_thread(prune, errors)
        thread.join(20)
        assert not thread.is_alive()
    assert errors == []
    assert left() == {held}
    assert not Run.objects.filter(pk=free.pk).exists()
    assert prune().deleted == 1


@needs_row_locks
def test_nobody_is_waited_for_who_holds_a_row_that_names_an_old_run() -> None:
    """The later run of the chain is being moved on; the earlier one goes the next time."""
    parent = ended()
    child = ended(ago=1 * DAY, parent=parent)
    errors: list[Exception] = []
    with transaction.atomic():
        Run.objects.select_for_update(no_key=True).get(pk=child.pk)
        thread = in_thread(prune, errors)
        thread.join(20)
        assert not thread.is_alive()
    assert errors == []
    assert left() == {parent, child}
    prune()
    assert left() == {child}


@needs_row_locks
def test_no_target_and_no_lock_is_waited_for() -> None:
    run = ended()
    Seat.objects.create(key="db")
    errors: list[Exception] = []
    with transaction.atomic():
        Target.objects.select_for_update(of=("self",)).get(runs=run)
        Seat.objects.select_for_update().get(key="db")
        thread = in_thread(prune, errors)
        thread.join(20)
        assert not thread.is_alive()
    assert errors == []
    assert left() == set()


@pytest.mark.skipif("connection.vendor != 'postgresql'", reason="SQLite cannot limit a statement")
def test_a_batch_that_takes_too_long_is_given_up_and_made_in_smaller_ones(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    made = [ended() for _ in range(2 * LEAST)]
    entries = [Entry(run.pk, run.state, run.attempt, run.ended_at) for run in made if run.ended_at]
    delete = cascade.delete_runs
    batches: list[int] = []

    def slowly(ids: Sequence[UUID]) -> None:
        delete(ids)
        if len(ids) > LEAST:
            with connection.cursor() as cursor:
                cursor.execute("SELECT pg_sleep(60)")

    monkeypatch.setattr(deleting, "delete_runs", slowly)
    deleter = Deleter(go_on=lambda: True, watch=lambda rows, seconds: batches.append(rows))
    told = deleter.delete(entries)
    assert batches == [2 * LEAST, LEAST, LEAST]
    assert (told.runs, told.left) == (2 * LEAST, 0)
    assert left() == set()


def test_no_garbage_is_collected_while_a_batch_holds_its_locks(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """It took 90 ms with 200,000 runs to delete."""
    run = ended()
    assert run.ended_at is not None
    enabled: list[bool] = []
    monkeypatch.setattr(deleting, "delete_runs", lambda ids: enabled.append(gc.isenabled()))
    assert gc.isenabled()
    Deleter(go_on=lambda: True).delete([Entry(run.pk, run.state, run.attempt, run.ended_at)])
    assert enabled == [False]
    assert gc.isenabled()


# --- the pace -------------------------------------------------------------------------------------


def test_batches_grow_while_they_are_quick_and_shrink_when_they_are_not(settings: Any) -> None:
    settings.JOBS_PRUNE_BATCH = 200
    pace = Pace()
    for _ in range(20):
        pace.took(SHORT / 2)
    assert pace.size == 200
    pace.took(2 * LONG)
    assert pace.size == 100
    pace.took(10 * LONG)  # somebody else had the disk
    assert pace.size == 50
    for _ in range(20):
        pace.took(10 * LONG)
    assert pace.size == LEAST


def test_a_batch_is_never_larger_than_it_may_be(settings: Any) -> None:
    settings.JOBS_PRUNE_BATCH = 3
    made = [ended() for _ in range(7)]
    batches: list[int] = []
    pauses: list[float] = []
    deleter = Deleter(
        go_on=lambda: True,
        watch=lambda rows, seconds: batches.append(rows),
        pause=pauses.append,
    )
    entries = [Entry(run.pk, run.state, run.attempt, run.ended_at) for run in made if run.ended_at]
    assert deleter.delete(entries).runs == 7
    assert batches == [3, 3, 1]
    assert len(pauses) == 3
    assert all(0 < pause <= deleting.PAUSE_MAX for pause in pauses)
