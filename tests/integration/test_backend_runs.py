"""One-off runs through the backend: made, looked up, searched, cancelled, made again."""

from __future__ import annotations

from datetime import timedelta
from uuid import UUID, uuid4

import pytest
from django.test import TestCase

from scheduling import backend, clock, runs
from scheduling.errors import (
    InvalidRequest,
    JobRetired,
    NaiveTime,
    UnknownJob,
    UnknownRun,
    UnknownTarget,
)
from scheduling.models import Cause, Feeder, Reason, Run, State
from scheduling.runs.one_offs import create
from tests.factories import NOW, make_job, make_run, make_target
from tests.integration.backend_jobs import HOUR, one_off, one_offs, registered, started

pytestmark = pytest.mark.django_db

FEED = {"shares": {}, "max_queue_length": 10}


def ids(found: list[Run]) -> list[UUID]:
    return [run.pk for run in found]


# --- making ---------------------------------------------------------------------------------------


def test_equal_runs_that_are_queued_are_not_made_twice() -> None:
    registered()
    lanes = [(None, 100), (1, 60), (5, 30), (9, 20)]
    wanted = [
        run for priority, number in lanes for run in one_offs(number, priority=priority, retries=7)
    ]
    first = backend.create_runs(wanted)
    again = backend.create_runs(wanted)
    assert ids(first) == ids(again)
    assert Run.objects.count() == len(set(ids(first))) == 210
    assert {(run.state, run.retry_limit, run.cause) for run in Run.objects.all()} == {
        (State.QUEUED, 7, Cause.MANUAL)
    }


def test_nor_are_they_for_somebody_whose_clock_is_behind() -> None:
    registered()
    first, again = (
        create(one_offs(3), by="somebody", now=moment)
        for moment in (NOW, NOW - timedelta(milliseconds=1))
    )
    assert ids(first) == ids(again)


def test_equal_runs_inside_of_a_call_are_made_once() -> None:
    registered()
    twice = backend.create_runs([*one_offs(3), *one_offs(3)])
    assert ids(twice[:3]) == ids(twice[3:])
    assert Run.objects.count() == 3


@pytest.mark.parametrize(
    "other",
    [{"kwargs": {"a": 2}}, {"priority": 2}, {"due_at": NOW}, {"key": "other"}, {"job": "another"}],
    ids=lambda other: next(iter(other)),
)
def test_runs_that_differ_are_two(other: dict[str, object]) -> None:
    for name in ("load", "another"):
        job = make_job(name)
        make_target(job, "")
        make_target(job, "other")
    one: dict[str, object] = {"kwargs": {"a": 1}, "priority": 1}
    assert one_off(**one).pk != one_off(**{**one, **other}).pk


@pytest.mark.parametrize("due_in", [None, HOUR])
def test_a_run_that_has_to_wait_for_its_turn_is_not_made_twice(due_in: timedelta | None) -> None:
    registered()
    now = clock.now()
    due = None if due_in is None else now + due_in
    run = one_off(due_at=due)
    assert runs.postpone(run.pk, 1, until=now + 2 * HOUR, detail="full", now=now)
    assert one_off(due_at=due) == run
    assert runs.hurry(run.pk, 1, now=clock.now())
    assert one_off(due_at=due) == run
    assert one_off(due_at=now + 5 * HOUR) != run


def test_a_run_that_was_put_off_is_one_of_its_new_time() -> None:
    registered()
    run, later = one_off(), clock.now() + HOUR
    backend.respawn([run.pk], due_at=later)
    assert one_off(due_at=later) == run
    at_once = one_off()
    assert at_once != run
    backend.respawn([at_once.pk])
    assert one_off() == at_once


def test_a_run_by_hand_after_a_while_is_none_of_now() -> None:
    job = registered()
    delayed = runs.trigger(job, delay=HOUR, by="ann", now=clock.now())
    assert one_off() != delayed


def test_a_run_that_is_no_longer_queued_is_made_again() -> None:
    registered()
    running = started(kwargs={"a": 1})
    assert one_off(kwargs={"a": 1}).pk != running.pk


def test_a_run_with_an_id_is_known_by_that_alone() -> None:
    registered()
    run_id = uuid4()
    first = one_off(id=run_id, kwargs={"a": 1})
    backend.end_run(run_id)
    again = one_off(id=run_id, kwargs={"a": 2})
    assert (again.pk, again.kwargs, again.state) == (first.pk, {"a": 1}, State.SUCCEEDED)
    assert Run.objects.count() == 1


def test_a_run_is_due_when_it_is_said() -> None:
    registered()
    due = clock.now() + HOUR
    run = one_off(due_at=due)
    assert (run.scheduled_at, run.ready_at, run.publish_at) == (due, due, due)
    assert backend.start_run(run.pk) is None
    assert backend.start_run(run.pk, at=due) is not None


def test_runs_of_a_fed_job_wait_for_a_slot_and_wake_its_feeder() -> None:
    job = registered(feed=FEED)
    make_target(job, "a")
    Feeder.objects.create(job=job, next_at=clock.now() + HOUR)
    with TestCase.captureOnCommitCallbacks(execute=True):
        run = one_off(key="a", priority=3)
    assert (run.feed_at, run.publish_at) == (run.ready_at, None)
    assert Feeder.objects.get().next_at is None


@pytest.mark.parametrize(
    ("wanted", "error", "words"),
    [
        ({"job": "lode"}, UnknownJob, "'lode'"),
        ({"key": "x"}, UnknownTarget, "'x'"),
        ({"job": "old"}, JobRetired, "'old'"),
        ({"priority": 0}, InvalidRequest, "0; give 1 to 9"),
        ({"retries": -1}, InvalidRequest, "-1"),
        ({"kwargs": {"a": "b\x00c"}}, InvalidRequest, "NUL"),
        ({"kwargs": {"a": object()}}, InvalidRequest, "JSON"),
        ({"due_at": NOW.replace(tzinfo=None)}, NaiveTime, "zone"),
    ],
    ids=lambda value: value if isinstance(value, str) else None,
)
def test_what_cannot_be_made_is_named_and_nothing_is_made(
    wanted: dict[str, object], error: type[Exception], words: str
) -> None:
    registered()
    runs.retire(registered("old"), now=clock.now())
    with pytest.raises(error, match=words):
        backend.create_runs([*one_offs(2), backend.NewRun(**{"job": "load", **wanted})])  # type: ignore[arg-type]
    assert not Run.objects.exists()


def test_a_job_without_a_schedule_has_one_off_runs() -> None:
    registered(schedule="manual")
    assert one_off().state == State.QUEUED


def test_its_own_number_of_retries_counts() -> None:
    registered(retries=0)
    run = started(retries=1)
    backend.end_run(run.pk, "failed")
    run.refresh_from_db()
    assert (run.state, run.reason, run.attempt) == (State.QUEUED, Reason.RETRY, 2)


# --- looking up -----------------------------------------------------------------------------------


def test_runs_are_given_in_the_order_of_their_ids() -> None:
    registered()
    made = backend.create_runs(one_offs(3))
    wanted = [made[2].pk, uuid4(), made[0].pk]
    assert ids(backend.get_runs(wanted)) == [made[2].pk, made[0].pk]


def test_what_is_no_id_is_named() -> None:
    with pytest.raises(InvalidRequest, match="'fred'"):
        backend.get_runs(["fred"])


def test_the_runs_of_targets_are_given_newest_first_up_to_a_limit() -> None:
    target = make_target()
    for number in range(24):
        make_run(target, created_at=NOW + timedelta(seconds=number))
    assert backend.get_runs_of([0]) == []
    assert len(backend.get_runs_of([target.pk])) == 24
    assert len(backend.get_runs_of([target.pk], limit=10_000)) == 24
    for limit in (0, 10_001, None):
        with pytest.raises(InvalidRequest, match="limit"):
            backend.get_runs_of([target.pk], limit=limit)  # type: ignore[arg-type]
    newest = backend.get_runs_of([target.pk], limit=2)
    assert [run.created_at for run in newest] == [NOW + timedelta(seconds=n) for n in (23, 22)]


# --- searching ------------------------------------------------------------------------------------


def test_every_filter_of_runs_holds_together_with_the_others() -> None:
    job = make_job("load")
    one = make_run(
        make_target(job, "a"),
        created_at=NOW,
        scheduled_at=NOW - HOUR,
        ready_at=NOW + HOUR,
        ended_at=NOW + 2 * HOUR,
        state=State.FAILED,
        reason=Reason.ERROR,
        priority=2,
        metadata={"ticket": 7, "by": "ann", "more": {"a": [1]}, "none": None},
    )
    other = make_run(make_target(job, "b"), created_at=NOW + HOUR, root=one, parent=one)
    filters: list[dict[str, object]] = [
        {"key": "a"},
        {"key": ["a", "c"]},
        {"job": "load", "state": "failed"},
        {"state": ["failed", "succeeded"]},
        {"reason": "error", "cause": "manual"},
        {"priority": 2},
        {"priority": [2, 3]},
        {"created_before": NOW},
        {"scheduled_after": NOW - HOUR, "scheduled_before": NOW - HOUR},
        {"scheduled_before": NOW - timedelta.resolution},
        {"due_after": NOW + HOUR, "due_before": NOW + HOUR},
        {"ended_after": NOW, "ended_before": NOW + 2 * HOUR},
        {"metadata": {"ticket": 7}},
        {"metadata": {"more": {"a": [1]}, "by": "ann"}},
        {"metadata": {"none": None}},
    ]
    for asked in filters:
        assert backend.search_runs(**asked).rows == [one], asked  # type: ignore[arg-type]
    assert backend.search_runs(priority=None).rows == [other]
    assert backend.search_runs(priority=[None, 2]).rows == [one, other]
    assert backend.search_runs(root=one.pk).rows == [one, other]
    assert backend.search_runs(metadata={"ticket": "7"}).rows == []
    assert backend.search_runs(job=[]).rows == []
    assert backend.search_runs(scheduled_after=NOW).rows == [other]


def test_what_runs_wrote_is_read_when_it_is_asked_for() -> None:
    registered()
    run = one_off()
    Run.objects.filter(pk=run.pk).update(output="long", error="longer")
    assert run.target_id is not None
    for found in (
        backend.search_runs().rows,
        backend.get_runs([run.pk]),
        backend.get_runs_of([run.target_id]),
        backend.respawn([run.pk]),
    ):
        (known,) = found
        assert known.get_deferred_fields() == {"output", "error"}
        assert (known.output, known.error) == ("long", "longer")


@pytest.mark.parametrize("name", ["a__b", "a-0", "quo'te", "$.x", ""])
def test_metadata_are_searched_by_any_name(name: str) -> None:
    registered()
    run = one_off(metadata={name: "x"})
    one_off(kwargs={"a": 2}, metadata={"other": "x"})
    assert backend.search_runs(metadata={name: "x"}).rows == [run]


@pytest.mark.parametrize(
    ("asked", "words"),
    [
        ({"state": "done"}, "'done'; known are queued"),
        ({"cause": ["manual", "fun"]}, "'fun'"),
        ({"order": "colour"}, "'colour'; known are created_at"),
        ({"limit": 0}, "0; give a number from 1 to"),
        ({"priority": "high"}, "'high'"),
        ({"metadata": {"0": 1}}, "'0', a number"),
        ({"metadata": {'"': 1}}, "a quotation mark"),
        ({"created_after": NOW.replace(tzinfo=None)}, "zone"),
    ],
)
def test_what_cannot_be_searched_is_named(asked: dict[str, object], words: str) -> None:
    with pytest.raises(ValueError, match=words):
        backend.search_runs(**asked)  # type: ignore[arg-type]


# --- cancelling, making again ---------------------------------------------------------------------


def test_runs_are_cancelled_in_bulk() -> None:
    registered()
    queued, running, ended = one_off(kwargs={"a": 1}), started(kwargs={"a": 2}), started()
    backend.end_run(ended.pk)
    found = backend.set_runs([queued.pk, uuid4(), running.pk, ended.pk], by="ann")
    assert [run.pk for run in found] == [queued.pk, running.pk, ended.pk]
    assert (found[0].state, found[0].reason) == (State.SKIPPED, Reason.CANCELLED)
    assert found[1].stop_requested_by == "ann"
    assert found[2].state == State.SUCCEEDED


def test_what_has_ended_is_run_again_as_it_was_asked_for() -> None:
    registered()
    run = started(kwargs={"a": 1}, priority=4, retries=2, metadata={"ticket": 7})
    backend.end_run(run.pk, "permanent")
    (again,) = backend.respawn([run.pk])
    assert again.pk != run.pk
    assert (again.kwargs, again.priority, again.retry_limit) == ({"a": 1}, 4, 2)
    assert (again.state, again.metadata) == (State.QUEUED, {"ticket": 7})
    assert backend.respawn([run.pk]) == [again]


def test_what_is_queued_is_due_then_instead() -> None:
    registered(start_within=HOUR)
    run = one_off(due_at=clock.now() + 10 * HOUR)
    assert run.start_by == run.scheduled_at + HOUR
    (moved,) = backend.respawn([run.pk])
    assert moved.pk == run.pk
    assert backend.peek_ready("load", limit=5) == [run]
    later = clock.now() + HOUR
    (moved,) = backend.respawn([run.pk], due_at=later)
    assert (moved.ready_at, moved.publish_at, moved.start_by) == (later, later, later + HOUR)


def test_what_runs_is_not_made_again() -> None:
    registered()
    run = started()
    (found,) = backend.respawn([run.pk])
    assert (found.pk, found.state) == (run.pk, State.RUNNING)


def test_an_unknown_run_cannot_be_made_again() -> None:
    with pytest.raises(UnknownRun):
        backend.respawn([uuid4()])


@pytest.mark.parametrize(
    "kwargs", [{"b": 1, "a": {"d": 1, "c": [2]}}, {}, {"a": "ü"}, {"a": None}, {"a": 1.5}]
)
def test_equal_kwargs_are_equal_however_they_are_written(kwargs: dict[str, object]) -> None:
    registered()
    first = one_off(kwargs=kwargs)
    assert one_off(kwargs=dict(reversed(kwargs.items()))) == first
