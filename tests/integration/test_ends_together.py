"""Ends in bulk: as many statements for many as for a few, and one answer for each run."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import pytest
from django.db import connection
from django.test.utils import CaptureQueriesContext

from scheduling import backend, clock, runs
from scheduling.feeds import OLDEST_SCHEDULED, Cooldowns, Feed
from scheduling.models import Cause, Circuit, Feeder, Job, Resource, Run, Seat, State, Target
from scheduling.runs import circuits, seats
from tests.factories import NOW, make_job, make_run, make_target
from tests.integration.rivals import needs_row_locks, side_by_side

pytestmark = pytest.mark.django_db

END = backend.RunEnd
FEED = Feed(cooldowns=Cooldowns(absolute=None)).as_json()
JOBS: list[dict[str, Any]] = [{}, {"feed": FEED}, {"schedule": "every 3h after end"}]
of_any_job = pytest.mark.parametrize("how", JOBS, ids=["plain", "fed", "after end"])


def begun(job: Job, number: int) -> list[Run]:
    have = Target.objects.filter(job=job).count()
    made = [make_run(make_target(job, f"{have + n:03}")) for n in range(number)]
    for run in made:
        assert runs.start(run.pk, 1, worker="w", now=NOW) is not None
    return [Run.objects.get(pk=run.pk) for run in made]


def made_job(how: dict[str, Any]) -> Job:
    job = make_job(**how)
    if job.feed is not None:
        Feeder.objects.create(job=job, position=7 * 86_400)
    return job


def statements(act: Any) -> int:
    with CaptureQueriesContext(connection) as queries:
        act()
    return len(queries)


@of_any_job
def test_workers_end_fifty_in_as_many_statements_as_five(how: dict[str, Any]) -> None:
    job = made_job(how)
    result = runs.Result(state=State.SUCCEEDED, fingerprint="a")

    def end(number: int) -> int:
        given = {run.pk: (run.attempt, run.token or 0, result) for run in begun(job, number)}
        return statements(lambda: runs.finish_batch(given, now=NOW))

    end(2)
    assert end(50) == end(5)
    assert not Run.objects.open().exists()


@of_any_job
def test_executors_end_fifty_in_as_many_statements_as_five(how: dict[str, Any]) -> None:
    job = made_job(how)

    def end(number: int) -> int:
        reports = [END(id=run.pk, fingerprint="a") for run in begun(job, number)]
        return statements(lambda: backend.end_runs(reports))

    end(2)
    assert end(50) == end(5)
    assert not Run.objects.open().exists()


def test_what_is_asked_once_is_what_each_would_have_asked() -> None:
    job = made_job({"feed": FEED, "overlap": "allow"})
    first, second = begun(job, 2)
    assert first.target is not None
    open_one = make_run(first.target)
    told = backend.end_runs([END(id=first.pk), END(id=second.pk)])
    assert told.changed == [first.pk, second.pk]
    busy, free = Target.objects.filter(job=job).order_by("key")
    assert busy.eligible_since is None
    assert free.eligible_since is not None
    for target in (busy, free):
        assert target.position is not None
        assert target.position > 7 * 86_400  # from the clock of its feeder on
    backend.end_runs([END(id=open_one.pk)])
    busy.refresh_from_db()
    assert busy.eligible_since is not None


# --- one answer -----------------------------------------------------------------------------------


def test_each_run_is_in_one_answer_once() -> None:
    job = make_job()
    again, mended, wrong, ended = begun(job, 4)
    backend.end_run(ended.pk)
    told = backend.end_runs(
        [
            END(id=again.pk),
            END(id=mended.pk, state="eventful"),
            END(id=wrong.pk, state="eventful"),
            END(id=ended.pk),
            END(id=ended.pk),
            END(id=again.pk, state="failed"),
            END(id=mended.pk, outcome="changed"),
            END(id=wrong.pk, retry_after=timedelta(0)),
            END(id=again.pk, state="eventful"),
        ]
    )
    assert (sorted(told.changed), told.unchanged) == (sorted([again.pk, mended.pk]), [ended.pk])
    assert (told.unknown, list(told.refused)) == ([], [wrong.pk])
    assert "eventful" in told.refused[wrong.pk]
    again.refresh_from_db()
    assert again.state == State.SUCCEEDED


@pytest.mark.parametrize(
    "said",
    [
        *({"metadata": ["a"]}, {"metadata": None}, {"fingerprint": 5}, {"error": None}),
        *({"state": ["lost"]}, {"outcome": []}, {"at": "today"}, {"retry_after": 5}),
    ],
    ids=str,
)
def test_what_is_of_a_wrong_kind_is_named_and_stops_no_other(said: dict[str, Any]) -> None:
    wrong, right = begun(make_job(), 2)
    told = backend.end_runs([END(id=wrong.pk, **said), END(id=right.pk)])
    assert (told.changed, list(told.refused)) == ([right.pk], [wrong.pk])
    assert next(iter(said)) in told.refused[wrong.pk]


# --- who locks what -------------------------------------------------------------------------------


def with_locks() -> list[list[Run]]:
    """Two batches, each of two runs that hold a seat of two locks, in another order."""
    for key in ("disk", "tape"):
        Resource.objects.create(key=key, seats=2)
    return crosswise(make_job("disk", locks=["disk"]), make_job("tape", locks=["tape"]))


def crosswise(one: Job, other: Job) -> list[list[Run]]:
    """Two batches, each of a run of both jobs; by job, key and as they stand in another order."""
    (one_a, one_b), (other_a, other_b) = begun(one, 2), begun(other, 2)
    return [[one_a, other_b], [other_a, one_b]]


def test_runs_with_seats_end_all_the_same() -> None:
    first, second = with_locks()
    told = backend.end_runs([END(id=run.pk) for run in (*first, *second)])
    assert len(told.changed) == 4
    assert not Seat.objects.filter(run__isnull=False).exists()


def test_a_batch_of_a_worker_leaves_out_what_has_a_seat() -> None:
    (held, *_), _ = with_locks()
    plain = begun(make_job(), 1)[0]
    given = {
        run.pk: (1, run.token or 0, runs.Result(state=State.SUCCEEDED)) for run in (held, plain)
    }
    assert runs.finish_batch(given, now=NOW) == {held.pk}


@needs_row_locks
@pytest.mark.django_db(transaction=True)
def test_two_batches_with_seats_of_the_same_locks_do_not_wait_for_each_other(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    first, second = with_locks()
    real = seats.release

    def slowly(run: Run, **how: Any) -> list[str]:
        freed = real(run, **how)
        # The other one is given time to lock what this one would want next.
        with connection.cursor() as cursor:
            cursor.execute("SELECT pg_sleep(0.3)")
        return freed

    monkeypatch.setattr(seats, "release", slowly)
    told: list[Any] = []

    def end(batch: list[Run]) -> None:
        told.append(backend.end_runs([END(id=run.pk) for run in batch]))

    side_by_side(lambda: end(first), lambda: end(second))
    assert sorted(len(each.changed) for each in told) == [2, 2]
    assert not Run.objects.open().exists()


@needs_row_locks
@pytest.mark.django_db(transaction=True)
def test_two_batches_that_open_the_same_circuits_do_not_wait_for_each_other(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    jobs = []
    for name in ("east", "west"):
        Circuit.objects.create(name=name)
        jobs.append(make_job(name, circuit_id=name, schedule="every 1h"))
    batches = crosswise(*jobs)
    Run.objects.update(cause=Cause.FOLLOW_UP)
    real = circuits.after_failure

    def slowly(*given: Any, **how: Any) -> None:
        real(*given, **how)
        with connection.cursor() as cursor:
            cursor.execute("SELECT pg_sleep(0.3)")

    monkeypatch.setattr(circuits, "after_failure", slowly)
    side_by_side(
        *(
            lambda batch=batch: backend.end_runs([END(id=run.pk, state="failed") for run in batch])
            for batch in batches
        )
    )
    assert Circuit.objects.filter(opened_at__isnull=False).count() == 2


# --- picks that come to nothing -------------------------------------------------------------------


def picked(**how: Any) -> tuple[Target, Run]:
    feed = Feed(cooldowns=Cooldowns(absolute=timedelta(hours=12))).as_json()
    job = make_job(feed=feed, **how)
    target = make_target(job, "a", eligible_since=NOW)
    assert runs.select(job, OLDEST_SCHEDULED, 1, now=NOW)
    return target, Run.objects.get(target=target)


def cancel(run: Run) -> None:
    runs.cancel(run.pk, by="ann", now=NOW)


def decline(run: Run) -> None:
    begun = runs.start(run.pk, 1, worker="w", now=NOW)
    assert begun is not None
    assert runs.decline(run.pk, 1, token=begun.token, detail="not today", now=NOW)


def stop(run: Run) -> None:
    assert runs.start(run.pk, 1, worker="w", now=NOW) is not None
    runs.cancel(run.pk, by="ann", now=NOW)
    assert runs.hand_back(run.pk, 1, token=None, now=NOW)


def come_too_late(run: Run) -> None:
    Run.objects.filter(pk=run.pk).update(start_by=NOW - timedelta(seconds=1))
    assert runs.recover(now=NOW, reap=False).late == 1


@pytest.mark.parametrize("act", [cancel, decline, stop, come_too_late])
def test_a_pick_that_ended_without_a_result_is_in_flight_no_more(act: Any) -> None:
    """It has had its turn: it is left alone as after any pick, and that stays so."""
    target, run = picked()
    act(run)
    until = NOW + timedelta(hours=12)
    target.refresh_from_db()
    assert (target.eligible_at, target.eligible_since) == (until, None)
    assert (target.last_scheduled_at, target.misses) == (NOW, 0)
    runs.pause(target, by="ann", reason="", now=NOW)
    runs.resume(target, by="ann", now=NOW)
    target.refresh_from_db()
    assert target.eligible_at == until
    everything = Cooldowns(absolute=None)
    assert runs.select(target.job, OLDEST_SCHEDULED, 1, now=until, cooldowns=everything)


# --- postponed ------------------------------------------------------------------------------------


def test_who_is_called_comes_at_once_but_not_before_a_time_that_somebody_has_named() -> None:
    target = make_target(make_job(), "a")
    run = make_run(target, ready_at=NOW, publish_at=NOW)
    now, later = clock.now(), clock.now() + timedelta(days=3)
    minute = timedelta(minutes=1)
    assert runs.hurry(run.pk, 1, now=now)  # it is on its way
    assert runs.postpone(run.pk, 1, until=now + minute, detail="full", now=now)
    assert runs.hurry(run.pk, 1, now=now)
    run.refresh_from_db()
    assert (run.ready_at, run.publish_at) == (now, now)
    assert runs.postpone(run.pk, 1, until=now + minute, detail="full", now=now)
    backend.respawn([run.pk], due_at=later)
    assert not runs.hurry(run.pk, 1, now=now)
    run.refresh_from_db()
    assert (run.ready_at, run.publish_at) == (later, later)
