"""Several runs of one message: accepted together, each a run of its own in everything else."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator, Sequence
from datetime import timedelta
from typing import Any

import pytest
from billiard.exceptions import TimeLimitExceeded, WorkerLostError
from celery.exceptions import WorkerShutdown
from django.db import connection
from django.test.utils import CaptureQueriesContext

from scheduling import clock, runs
from scheduling.models import FollowUp, Job, Reason, Run, Seat, State
from tests.factories import make_job, make_run, make_target
from tests.integration.rivals import in_thread
from tests.integration.workers import tasks
from tests.integration.workers.conftest import send
from tests.waiting import wait_for
from workers import handlers, lease, stopping
from workers.ticket import Ticket, tickets_of

pytestmark = pytest.mark.django_db(transaction=True)


@pytest.fixture(autouse=True)
def quick(settings: Any, monkeypatch: pytest.MonkeyPatch) -> Iterator[None]:
    settings.JOBS_LEASE_RENEWAL = timedelta(seconds=0.05)
    monkeypatch.setattr(lease, "POLL", 0.02)
    tasks.seen.clear()
    tasks.act.clear()
    yield
    stopping.reset()


def several(number: int = 3, job: Job | None = None, **fields: Any) -> list[Run]:
    job = job or make_job(task=f"{tasks.PATH}.remember", batch=10)
    return [make_run(make_target(job, f"key {at}"), **fields) for at in range(number)]


def deliver(rows: Sequence[Run], **headers: Any) -> list[Run]:
    """Deliver one message for all of them; give them as they are then."""
    job = rows[0].job
    assert job is not None
    names = [[str(run.pk), run.attempt] for run in rows]
    request = {"jobs_run": names[0], "jobs_batch": names, **headers}
    send(job.task, *names[0], task_id=str(rows[0].pk), **request)
    known = Run.objects.in_bulk([run.pk for run in rows])
    return [known[run.pk] for run in rows]


def acting(*acts: Callable[[], Any]) -> None:
    """Let the bodies do this, the first one first."""
    tasks.act.extend(reversed(acts))


def nothing() -> None:
    pass


def states(rows: Sequence[Run]) -> list[tuple[str, str]]:
    return [(run.state, run.reason) for run in rows]


WELL = (State.SUCCEEDED, "")


def fail() -> None:
    raise KeyError("gone")


def test_each_is_executed_as_itself_in_the_order_of_the_message() -> None:
    rows = deliver(several(kwargs={"n": 1}))
    assert states(rows) == [WELL] * 3
    assert [run.id for _, _, run in tasks.seen] == [run.pk for run in rows]
    assert [run.key for _, _, run in tasks.seen] == ["key 0", "key 1", "key 2"]
    assert [kwargs for _, kwargs, _ in tasks.seen] == [{"n": 1}] * 3
    for row in rows:
        assert row.target is not None
        assert row.token == row.target.token == 1
        assert row.target.last_state == State.SUCCEEDED
        assert row.target.last_started_at == row.started_at
        assert row.target.last_succeeded_at == row.ended_at


def test_a_hundred_take_no_more_statements_than_two() -> None:
    def taken(rows: list[Run]) -> int:
        with CaptureQueriesContext(connection) as queries:
            assert states(deliver(rows)) == [WELL] * len(rows)
        return len(queries)

    job = make_job(task=f"{tasks.PATH}.remember", batch=100)
    deliver(several(2, job))  # statements of this process's first
    assert taken([make_run(make_target(job, f"a {at}")) for at in range(100)]) <= 1 + taken(
        [make_run(make_target(job, f"b {at}")) for at in range(2)]
    )


def test_one_that_fails_fails_alone_and_is_retried_alone() -> None:
    job = make_job(task=f"{tasks.PATH}.remember", batch=10, retries=1)
    acting(nothing, fail, nothing)
    rows = deliver(several(job=job))
    assert states(rows) == [WELL, (State.QUEUED, Reason.RETRY), WELL]
    assert (rows[1].attempt, rows[1].failures) == (2, 1)
    assert "KeyError" in rows[1].error


def test_a_second_delivery_changes_nothing() -> None:
    rows = several()
    first = deliver(rows)
    assert states(deliver(rows)) == states(first)
    assert len(tasks.seen) == 3


def test_those_that_were_begun_elsewhere_are_left_out() -> None:
    rows = several()
    runs.start(rows[1].pk, 1, worker="other", now=clock.sample())
    assert states(deliver(rows)) == [WELL, (State.RUNNING, ""), WELL]
    assert len(tasks.seen) == 2


def test_two_of_one_target_are_executed_one_after_the_other() -> None:
    first, *_ = several(1)
    second = make_run(first.target)
    assert states(deliver([first, second])) == [WELL, WELL]
    assert [run.id for _, _, run in tasks.seen] == [first.pk, second.pk]


def test_one_whose_lock_is_taken_waits_and_the_others_go_on() -> None:
    job = make_job(task=f"{tasks.PATH}.remember", batch=10)
    held = make_run(make_target(job, "held", resource="db"))
    holder = make_run(make_target(make_job(), "x", resource="db"))
    assert runs.start(holder.pk, 1, worker="other", now=clock.sample()) is not None
    rows = deliver([held, *several(job=job)])
    assert states(rows) == [(State.QUEUED, "")] + [WELL] * 3
    assert rows[0].waiting_for == "db"


def test_one_whose_own_lock_was_named_takes_its_seat() -> None:
    rows = several()
    assert rows[0].target is not None
    key = f"job:{rows[0].target.name}"
    Seat.objects.create(key=key)
    acting(lambda: held.append(Seat.objects.get(key=key).run_id), nothing, nothing)
    held: list[Any] = []
    # It takes its turn after those that nothing is in the way of.
    tasks.act.reverse()
    assert states(deliver(rows)) == [WELL] * 3
    assert held == [rows[0].pk]
    assert Seat.objects.get(key=key).run_id is None


@pytest.mark.parametrize("scope", ["job", "target"])
def test_what_was_paused_meanwhile_is_skipped(scope: str) -> None:
    rows = several(cause="schedule")
    paused = rows[1].job if scope == "job" else rows[1].target
    assert paused is not None
    runs.pause(paused, by="ann", reason="", now=clock.sample())
    skipped = (State.SKIPPED, Reason.PAUSED)
    expected = [skipped] * 3 if scope == "job" else [WELL, skipped, WELL]
    assert states(deliver(rows)) == expected


def test_follow_ups_come_of_each() -> None:
    rows = several()
    follower = make_job("follower")
    make_target(follower, "key 1")
    make_target(follower)
    assert rows[0].job is not None
    FollowUp.objects.create(job=rows[0].job, follower=follower)
    deliver(rows)
    followers = Run.objects.filter(job=follower)
    assert {run.parent_id for run in followers} == {run.pk for run in rows}
    assert sorted(run.key for run in followers) == ["", "", "key 1"]


def test_who_waits_for_one_of_them_is_woken_by_its_end() -> None:
    rows = several()
    waiter = make_run(rows[1].target, waiting_on=rows[1])
    deliver(rows)
    waiter.refresh_from_db()
    assert waiter.waiting_on is None
    assert waiter.publish_at is not None


# --- stopping -------------------------------------------------------------------------------------


def test_one_that_is_cancelled_before_its_turn_never_begins() -> None:
    rows = several()

    def cancel() -> None:
        runs.cancel(rows[1].pk, by="ann", now=clock.sample())
        wait_for(lambda: Run.objects.get(pk=rows[1].pk).stop_requested_at)
        # The heartbeat looks again and again; the next turn comes after its look.
        looks = iter(range(3))
        wait_for(lambda: next(looks, None) is None, interval=0.1)

    acting(cancel, nothing)
    assert states(deliver(rows)) == [WELL, (State.FAILED, Reason.CANCELLED), WELL]
    assert [run.key for _, _, run in tasks.seen] == ["key 0", "key 2"]


def test_a_stopping_worker_hands_back_what_has_not_begun() -> None:
    acting(stopping.begin)
    rows = deliver(several())
    assert states(rows) == [WELL] + [(State.QUEUED, Reason.HANDED_BACK)] * 2
    assert [run.attempt for run in rows] == [1, 2, 2]
    assert Run.objects.to_publish(clock.now()).count() == 2


def test_a_message_that_reaches_a_stopping_worker_is_left_to_another() -> None:
    rows = several()
    Run.objects.update(published_at=clock.now())
    stopping.begin()
    assert states(deliver(rows)) == [(State.QUEUED, "")] * 3
    assert Run.objects.to_publish(clock.now()).count() == 3


def test_what_has_not_begun_by_a_tenth_of_the_limit_is_given_back() -> None:
    acting(lambda: busy(0.2))
    rows = deliver(several(), timelimit=[1.0, 0.9])
    assert states(rows) == [WELL] + [(State.QUEUED, Reason.HANDED_BACK)] * 2


def busy(seconds: float) -> None:
    until = clock.elapsed() + seconds
    wait_for(lambda: clock.elapsed() >= until)


def test_ends_are_recorded_while_a_long_body_goes_on() -> None:
    rows = several()

    def look() -> None:
        wait_for(lambda: Run.objects.filter(state=State.SUCCEEDED).count() == 1)

    acting(nothing, look)
    assert states(deliver(rows)) == [WELL] * 3


def test_of_two_messages_in_one_process_the_ends_of_neither_wait_for_a_long_body() -> None:
    """A pool of threads: the second begins while the first goes on."""
    first, second = several(), several()
    inside, go = threading.Event(), threading.Event()
    errors: list[Exception] = []

    def begin_second() -> None:
        threads.append(in_thread(lambda: deliver(second), errors))
        assert inside.wait(20)

    def hold() -> None:
        inside.set()
        assert go.wait(20)

    def look() -> None:
        try:
            wait_for(lambda: Run.objects.get(pk=first[0].pk).state == State.SUCCEEDED)
        finally:
            go.set()
            threads[0].join(20)

    threads: list[threading.Thread] = []
    acting(begin_second, hold, look)
    assert states(deliver(first)) == [WELL] * 3
    assert states(fresh(second)) == [WELL] * 3
    assert errors == []


def test_a_process_that_is_ended_records_what_has_ended_and_gives_back_the_rest() -> None:
    def end() -> None:
        raise WorkerShutdown(0)

    rows = several(4)
    acting(nothing, end)
    with pytest.raises(SystemExit):
        deliver(rows)
    known = Run.objects.in_bulk([run.pk for run in rows])
    found = states([known[run.pk] for run in rows])
    assert found == [WELL, (State.RUNNING, "")] + [(State.QUEUED, Reason.HANDED_BACK)] * 2


# --- the main process -----------------------------------------------------------------------------


class Request:
    hostname = "tester@here"
    worker_pid = 4711

    def __init__(self, rows: Sequence[Run]) -> None:
        names = [[str(run.pk), run.attempt] for run in rows]
        self.request_dict = {"jobs_run": names[0], "jobs_batch": names}


def begun(rows: Sequence[Run], **fields: Any) -> list[Run]:
    started = runs.start_batch(
        {run.pk: run.attempt for run in rows},
        worker="tester@here/4711",
        now=clock.sample(),
        may_begin=lambda job: True,
    )
    assert len(started) == len(rows)
    return list(rows)


def fresh(rows: Sequence[Run]) -> list[Run]:
    known = Run.objects.in_bulk([run.pk for run in rows])
    return [known[run.pk] for run in rows]


def test_at_the_hard_limit_the_first_that_runs_was_it_and_the_others_come_again() -> None:
    rows = begun(several())
    done = runs.Result(state=State.SUCCEEDED)
    runs.finish(rows[0].pk, 1, token=1, result=done, now=clock.now())
    handlers.child_gone(Request(rows), TimeLimitExceeded(7.0))
    assert states(fresh(rows)) == [
        WELL,
        (State.FAILED, Reason.HARD_LIMIT),
        (State.QUEUED, Reason.HANDED_BACK),
    ]


@pytest.mark.parametrize(
    ("rerun", "end"),
    [
        (True, (State.QUEUED, Reason.LOST)),
        (False, (State.FAILED, Reason.LOST)),
    ],
)
def test_when_their_process_dies_each_is_lost_by_the_policy(
    rerun: bool, end: tuple[str, str]
) -> None:
    job = make_job(task=f"{tasks.PATH}.remember", batch=10, rerun_if_lost=rerun)
    rows = begun(several(job=job))
    handlers.child_gone(Request(rows), WorkerLostError("gone"))
    assert states(fresh(rows)) == [end] * 3


# --- headers --------------------------------------------------------------------------------------


def test_a_message_names_all_of_its_runs() -> None:
    rows = several(2)
    names = [[str(run.pk), 1] for run in rows]
    assert tickets_of({"jobs_run": names[0], "jobs_batch": names}) == [
        Ticket(run.pk, 1) for run in rows
    ]
    assert tickets_of({"jobs_run": names[0]}) == [Ticket(rows[0].pk, 1)]


@pytest.mark.parametrize("others", ["x", [1], [["x", 1]], {"a": 1}, [[None, None]]])
def test_a_message_that_names_them_badly_names_none(others: Any) -> None:
    run = several(1)[0]
    assert tickets_of({"jobs_run": [str(run.pk), 1], "jobs_batch": others}) == []


def test_another_task_than_their_jobs_executes_none(caplog: pytest.LogCaptureFixture) -> None:
    rows = several()
    names = [[str(run.pk), 1] for run in rows]
    send(f"{tasks.PATH}.counted", task_id="x", jobs_run=names[0], jobs_batch=names)
    assert states(fresh(rows)) == [(State.QUEUED, "")] * 3
    assert tasks.seen == []
    assert "Dropped a message" in caplog.text
