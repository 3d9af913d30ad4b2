"""What a fourth reading of the engine found: targets and runs that nobody let go on."""

from __future__ import annotations

import threading
from collections.abc import Sequence
from datetime import datetime, timedelta
from functools import partial
from typing import Any

import pytest
from django.db import OperationalError, connection, transaction

from config.celery import app
from scheduling import clock, feeding, runs
from scheduling.errors import JobRetired
from scheduling.feeds import EXPRESS, WITHOUT_HINT, Cooldowns, Express
from scheduling.models import Circuit, Feeder, Job, Run, Source, State, Target
from scheduling.models.target import TargetQuerySet
from scheduling.runs import Lengths, Result, one_offs, pool, reported, selecting
from scheduling.runs.new_run import NewRun
from scheduling.strategies import Strategy
from tests.factories import NOW, make_target
from tests.integration.fed_jobs import fed_job, feed, let_out, pooled, waiting
from tests.integration.rivals import needs_row_locks
from tests.waiting import wait_for

pytestmark = pytest.mark.django_db(transaction=True)

SECOND, HOUR, DAY = timedelta(seconds=1), timedelta(hours=1), timedelta(days=1)
ADAPTIVE = "adaptive 1h between 30m and 4h factor 2"
NONE = Cooldowns(absolute=None, in_flight=DAY, failed=None, missing=None)
DONE = Result(state=State.SUCCEEDED)


def start(run: Run, at: datetime = NOW) -> Run:
    assert runs.start(run.pk, run.attempt, worker="host/1", now=at) is not None
    run.refresh_from_db()
    return run


def test_a_job_that_was_edited_while_paused_does_not_both_pick_and_fire_a_target() -> None:
    job = fed_job()
    runs.reschedule(job, schedule=ADAPTIVE, now=NOW)
    target = runs.add_target(job, "a", now=NOW)
    feed(job)
    run = start(Run.objects.get())
    runs.pause(job, by="alice", reason="edit", now=NOW)
    runs.reschedule(job, schedule=ADAPTIVE.replace("4h", "8h"), now=NOW)
    runs.resume(job, by="alice", now=NOW + SECOND)
    assert runs.finish(run.pk, 1, token=run.token, result=DONE, now=NOW + HOUR)
    target.refresh_from_db()
    assert target.eligible_at is not None
    assert target.next_fire_at is None


@needs_row_locks
def test_a_selection_by_hand_and_a_feeder_do_not_wait_for_each_other(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    job = fed_job(cooldowns=NONE)
    pooled(job, 1, position=5)
    feeder = Feeder.objects.create(job=job, next_at=NOW)
    real, errors = selecting._move_clock, []
    began = threading.Event()

    def edit_and_feed() -> None:
        try:
            # The feeder has its row, and lets the targets follow an edited feed.
            with transaction.atomic():
                assert Feeder.objects.select_for_update(no_key=True).get(pk=feeder.pk)
                began.set()
                runs.feed(job, Lengths(), now=NOW)
        except OperationalError as error:
            errors.append(error)
        finally:
            connection.close()

    other = threading.Thread(target=edit_and_feed)

    def once_the_feeder_waits(*given: Any) -> None:
        other.start()
        assert began.wait(10)
        wait_for(lambda: _waiting_for_locks() or not other.is_alive(), timeout=10)
        real(*given)

    monkeypatch.setattr(selecting, "_move_clock", once_the_feeder_waits)
    assert len(runs.select(job, WITHOUT_HINT, 1, now=NOW)) == 1
    other.join()
    assert not errors
    feeder.refresh_from_db()
    assert feeder.position == 5


def _waiting_for_locks() -> bool:
    with connection.cursor() as cursor:
        cursor.execute("SELECT count(*) FROM pg_locks WHERE NOT granted")
        return bool(cursor.fetchone()[0])


class Broken(Strategy):
    def filter(self, targets: TargetQuerySet, now: datetime) -> TargetQuerySet:
        raise RuntimeError("no such table of ours")


class Misspelt(Strategy):
    ordering: Sequence[str] = ("last_shceduled_at",)  # type: ignore[misc]


@pytest.mark.parametrize("strategy", [Broken, Misspelt])
def test_a_strategy_that_raises_stops_no_other_job(
    strategy: type[Strategy], caplog: pytest.LogCaptureFixture
) -> None:
    wrong = fed_job("a", shares={f"{__name__}:{strategy.__name__}": 1.0})
    pooled(wrong, 1)
    pooled(fed_job("b"), 1)
    feeding.feed_all(app, now=NOW, until=datetime.max.replace(tzinfo=NOW.tzinfo))
    assert Run.objects.get().name == "b"
    assert "Job a is fed without a strategy" in caplog.text
    assert Feeder.objects.get(job=wrong).last_round["why"]


@pytest.mark.parametrize("life", [{"runs_left": 0}, {"ends_at": NOW - DAY}])
def test_what_is_asked_for_once_is_let_out_when_the_job_fires_no_more(life: dict[str, Any]) -> None:
    job = fed_job()
    Job.objects.filter(pk=job.pk).update(**life)
    waiting(job, "normal")
    waiting(job, "lane", priority=1)
    pooled(job, 1)
    assert not feed(job).picked
    assert set(let_out()) == {"normal", "lane"}


def test_a_job_that_is_retired_meanwhile_gets_no_run_that_would_wait_for_ever(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    job = fed_job()
    runs.add_target(job, "a", now=NOW)
    real = one_offs.lock_in_order

    def once_it_is_retired(ids: Any) -> dict[int, Target]:
        runs.retire(job, now=NOW)
        return real(ids)

    monkeypatch.setattr(one_offs, "lock_in_order", once_it_is_retired)
    with pytest.raises(JobRetired):
        one_offs.create([NewRun(job=job.name, key="a")], by="alice", now=NOW)
    assert not Run.objects.open().exists()


def test_an_edit_reaches_all_targets_tick_by_tick_though_nothing_can_be_picked(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(pool, "reckon_anew", partial(pool.reckon_anew, limit=2))
    job = fed_job(cooldowns=Cooldowns(absolute=DAY))
    for key in range(6):
        make_target(
            job, str(key), last_scheduled_at=NOW, observed_at=NOW + SECOND, eligible_at=NOW + DAY
        )
    for _ in range(5):
        feed(job, now=NOW + SECOND)
        feeder = Feeder.objects.get(job=job)
        if feeder.cooldowns["after"] is None:
            break
        assert feeder.is_due(NOW + SECOND)
    assert feeder.cooldowns["after"] is None


def test_each_job_of_a_source_has_its_express_first_looks() -> None:
    lane = {"express": Express(queue="fast", limit=10)}
    first, second = fed_job("a", **lane), fed_job("b", **lane)
    source = Source.objects.create(name="s", is_express=True, listing_ended_at=NOW - HOUR)
    source.jobs.set([first, second])
    pooled(first, 1, source=source)
    pooled(second, 2, source=source)
    Feeder.objects.bulk_create([Feeder(job=first), Feeder(job=second)])
    feed(first)
    assert feed(first, now=NOW + HOUR).picked.total() == 0
    assert feed(second, now=NOW + HOUR).picked[EXPRESS] == 2


@pytest.mark.parametrize("by", ["pause", "circuit"])
def test_a_pick_that_was_held_up_is_not_in_flight_any_more(by: str) -> None:
    circuit = Circuit.objects.create(name="bank")
    job = fed_job(cooldowns=NONE)
    Job.objects.filter(pk=job.pk).update(circuit=circuit)
    target = runs.add_target(job, "a", now=NOW)
    feed(job)
    if by == "pause":
        runs.pause(job, by="alice", reason="lunch", now=NOW)
        run = Run.objects.get()
        assert runs.start(run.pk, 1, worker="host/1", now=NOW + SECOND) is None
    else:
        runs.open_circuit(circuit, by="alice", reason="down", now=NOW)
        runs.recover(now=NOW + SECOND, reap=True)
    assert Run.objects.get().state == State.SKIPPED
    target.refresh_from_db()
    assert target.eligible_since is not None


def test_a_result_by_a_clock_that_is_behind_ends_the_hold_of_what_is_in_flight() -> None:
    job = fed_job(cooldowns=NONE)
    target = runs.add_target(job, "a", now=NOW)
    feed(job)
    behind = NOW - SECOND / 10
    Run.objects.update(ready_at=behind)
    run = start(Run.objects.get(), at=behind)
    assert runs.finish(run.pk, 1, token=run.token, result=DONE, now=behind)
    target.refresh_from_db()
    assert target.eligible_at is None or target.eligible_at < NOW + HOUR


def test_express_first_looks_count_as_runs_of_the_job() -> None:
    job = fed_job(express=Express(queue="fast", limit=10))
    Job.objects.filter(pk=job.pk).update(runs_left=3)
    source = Source.objects.create(name="s", is_express=True, listing_ended_at=NOW - HOUR)
    source.jobs.set([job])
    pooled(job, 5, source=source)
    feed(job)
    assert Run.objects.count() == 3
    job.refresh_from_db()
    assert job.runs_left == 0


def test_who_waits_for_a_run_before_it_does_not_wait_for_a_slot_as_well() -> None:
    job = fed_job()
    target = runs.add_target(job, "a", now=NOW)
    before = start(runs.trigger(job, key="a", by="alice", now=NOW))
    (run,) = one_offs.create([NewRun(job=job.name, key="a")], by="bob", now=NOW)
    begun = reported.start(run.pk, worker="x", metadata={}, lease=HOUR, at=NOW, now=NOW)
    assert begun is None
    run.refresh_from_db()
    assert run.waiting_on == before
    assert runs.finish(before.pk, 1, token=before.token, result=DONE, now=NOW + SECOND)
    run.refresh_from_db()
    assert run.publish_at is not None
    # Else it would count as waiting for a slot while it runs.
    assert run.feed_at is None
    assert target.pk == run.target_id


def test_many_whose_cooldown_is_over_leave_time_to_feed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(runs, "thaw", lambda now, limit: limit)
    pooled(fed_job(), 1)
    now = clock.now()
    feeding.feed_all(app, now=now, until=now + SECOND)
    assert Run.objects.count() == 1
