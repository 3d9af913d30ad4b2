"""What a third reading of the engine found: locks, lines and ends in unlucky moments."""

from __future__ import annotations

import threading
from collections.abc import Callable
from datetime import timedelta
from typing import Any

import pytest
from django.db import connection, transaction

from scheduling import clock, lock, runs
from scheduling.context import running
from scheduling.errors import RunIsOver
from scheduling.models import Cause, Job, Reason, Resource, Run, Seat, State, Target, Ticket
from scheduling.runs import Result, held, tickets
from tests.factories import NOW, make_job, make_run, make_target
from tests.integration.rivals import needs_row_locks

pytestmark = pytest.mark.django_db(transaction=True)

SECOND = timedelta(seconds=1)
HOUR = timedelta(hours=1)
DONE = Result(state=State.SUCCEEDED)


def queued(*locks: str, **fields: Any) -> Run:
    return make_run(make_target(make_job(locks=list(locks), **fields)), published_at=NOW)


def start(run: Run, at: Any = NOW, attempt: int = 1) -> runs.Started | None:
    Run.objects.filter(pk=run.pk, state=State.QUEUED).update(published_at=NOW, publish_at=None)
    return runs.start(run.pk, attempt, worker="host/1", now=at)


def finish(run: Run, at: Any = NOW, result: Result = DONE) -> None:
    run.refresh_from_db()
    assert runs.finish(run.pk, run.attempt, token=run.token, result=result, now=at)


def woken() -> set[object]:
    found = Run.objects.filter(state=State.QUEUED, publish_at__isnull=False, published_at=None)
    return set(found.values_list("pk", flat=True))


def tick(at: Any) -> None:
    runs.recover(now=at, reap=False)


class TestAnAttemptThatWakesUpLate:
    """Frozen, declared lost, begun anew elsewhere: nothing that it asks for is its own."""

    @pytest.fixture
    def run(self) -> Run:
        run = queued(rerun_if_lost=True)
        assert start(run)
        assert runs.lose(run.pk, 1, detail="silent", now=NOW)
        return run

    def test_gets_no_lock_of_the_attempt_that_took_its_place(self, run: Run) -> None:
        assert start(run, NOW, attempt=2)
        late = held.Owner(run_id=run.pk, attempt=1)
        with pytest.raises(RunIsOver, match="Attempt 1 of run"):
            held.sit_down("ledger", late, since=NOW, now=NOW)
        accepted = held.Owner(run_id=run.pk, attempt=2)
        assert held.seat_of("ledger", accepted) is None
        assert held.sit_down("ledger", accepted, since=NOW, now=NOW)

    def test_gets_no_lock_of_a_run_that_is_queued(self, run: Run) -> None:
        with pytest.raises(RunIsOver):
            held.sit_down("ledger", held.Owner(run_id=run.pk, attempt=1), since=NOW, now=NOW)
        assert not Seat.objects.filter(run=run).exists()

    def test_gives_up_no_lock_that_is_held_until_the_next_fire(self) -> None:
        job = make_job(schedule="every 1h", locks_until_next_fire=True)
        run = make_run(make_target(job, next_fire_at=NOW + HOUR))
        assert start(run)
        owner = held.Owner(run_id=run.pk, attempt=1)
        token = held.sit_down("site", owner, since=NOW, now=NOW)
        assert token is not None
        assert held.seat_of("site", owner) == token
        finish(run)
        assert held.seat_of("site", owner) is None
        assert not held.stand_up("site", owner, token=token, now=NOW)
        # Still shown, and so to be broken.
        assert [found.run for found in runs.locks_held(NOW)] == [run]


class TestTheLineOfCode:
    def test_a_wait_that_is_broken_off_leaves_the_line(self, monkeypatch: Any) -> None:
        assert start(queued("ledger"))

        sit_down = held.sit_down

        def interrupted(*args: Any, **kwargs: Any) -> None:
            assert sit_down(*args, **kwargs) is None
            assert Ticket.objects.exists()
            raise KeyboardInterrupt

        monkeypatch.setattr(held, "sit_down", interrupted)
        with pytest.raises(KeyboardInterrupt), lock("ledger"):
            pass
        assert not Ticket.objects.exists()

    def test_the_tickets_of_the_dead_are_taken_away_by_who_comes_next(self) -> None:
        assert start(queued("ledger"))
        for name in ("dead", "alive"):
            at = NOW if name == "dead" else NOW + HOUR
            owner = held.Owner(name=name)
            assert held.sit_down("ledger", owner, since=at, now=at) is None
        assert list(Ticket.objects.values_list("holder", flat=True)) == ["alive"]

    def test_two_that_come_in_the_same_instant_do_not_wait_for_each_other(self) -> None:
        holder = queued("ledger")
        assert start(holder)
        one, other = held.Owner(name="a"), held.Owner(name="b")
        for owner in (other, one):
            assert held.sit_down("ledger", owner, since=NOW, now=NOW) is None
        finish(holder)
        assert held.sit_down("ledger", other, since=NOW, now=NOW) is None
        assert held.sit_down("ledger", one, since=NOW, now=NOW) is not None

    def test_a_run_that_comes_in_the_same_instant_goes_before_code(self) -> None:
        holder, run = queued("ledger"), queued("ledger")
        assert start(holder)
        assert held.sit_down("ledger", held.Owner(name="a"), since=NOW, now=NOW) is None
        assert not start(run)
        finish(holder)
        assert held.sit_down("ledger", held.Owner(name="a"), since=NOW, now=NOW) is None
        assert woken() == {run.pk}

    def test_code_that_names_a_job_for_the_first_time_waits_for_its_run(self) -> None:
        books = make_target(make_job("books"))
        run = make_run(books)
        assert start(run)
        code = held.Owner(name="a")
        assert held.sit_down("job:books", code, since=NOW, now=NOW) is None
        finish(run)
        assert held.sit_down("job:books", code, since=NOW, now=NOW) is not None
        assert not start(make_run(books))

    def test_a_run_may_hold_the_lock_of_its_own_target(self) -> None:
        run = make_run(make_target(make_job("books")))
        assert start(run)
        owner = held.Owner(run_id=run.pk, attempt=1)
        assert held.sit_down("job:books", owner, since=NOW, now=NOW) is not None


class TestNamingAJobForTheFirstTime:
    def test_gives_its_run_the_seat_so_that_nobody_asks_again_meanwhile(self) -> None:
        service = make_run(make_target(make_job("svc", schedule="always")))
        other = queued("job:svc")
        started = start(service)
        assert started is not None
        assert not start(other)
        (seat,) = runs.locks_held(NOW)
        assert (seat.key, seat.run, seat.token) == ("job:svc", service, started.token)
        for seconds in range(1, 4):
            tick(NOW + seconds * SECOND)
        assert woken() == set()
        finish(service)
        assert woken() == {other.pk}

    @needs_row_locks
    def test_waits_for_nobody_who_moves_the_other_on(self) -> None:
        books = make_target(make_job("books"))
        other = queued("job:books")
        started: list[object] = []

        def begin() -> None:
            started.append(start(other))
            connection.close()

        with transaction.atomic():
            Target.objects.select_for_update(no_key=True).get(pk=books.pk)
            thread = threading.Thread(target=begin)
            thread.start()
            thread.join(10)
            assert started == [None]
        tick(NOW + SECOND)
        assert woken() == {other.pk}
        assert start(other, NOW + SECOND)


class TestATick:
    def test_asks_a_fixed_number_of_questions_whatever_the_number_of_lines(
        self, django_assert_max_num_queries: Callable[[int], Any]
    ) -> None:
        """Each has a lock of its own that is free, and all want one that is held."""
        assert start(queued("api"))
        for number in range(30):
            assert not start(queued(f"own {number}", "api"))
        with django_assert_max_num_queries(30):
            tick(NOW + SECOND)
        assert woken() == set()

    def test_asks_little_of_lines_whose_lock_is_held(self) -> None:
        assert start(queued("api"))
        assert not start(queued("api"))
        assert tickets.forgotten(NOW) == []

    def test_looks_at_locks_with_several_seats(self) -> None:
        resource = Resource.objects.create(key="api", seats=1)
        first, second = queued("api"), queued("api")
        assert start(first)
        assert not start(second)
        resource.seats = 2
        resource.save()
        tick(NOW + SECOND)
        assert woken() == {second.pk}

    def test_leaves_no_line_out_for_ever(self, monkeypatch: Any) -> None:
        monkeypatch.setattr(tickets, "MOST_LINES", 1)
        holders, waiters = [queued("a"), queued("b")], [queued("a"), queued("b")]
        assert all(start(run) for run in holders)
        assert not any(start(run) for run in waiters)
        # Their wake-ups are lost.
        Run.objects.filter(pk__in=[run.pk for run in holders]).update(state=State.FAILED)
        for second in range(100):
            tick(NOW + second * SECOND)
            if len(woken()) == 2:
                break
        assert woken() == {run.pk for run in waiters}

    def test_wakes_who_waits_without_a_ticket_and_gives_its_place_back(self) -> None:
        """As the release before left them, without any ticket."""
        holder, first, second = queued("a"), queued("a"), queued("a")
        assert start(holder)
        assert not start(second, NOW + SECOND)
        columns = {"waiting_for": "a", "waiting_since": NOW, "published_at": None}
        Run.objects.filter(pk=first.pk).update(**columns)
        tick(NOW + 2 * SECOND)
        assert woken() == {first.pk}
        assert not start(first, NOW + 3 * SECOND)
        finish(holder)
        assert woken() == {first.pk}

    def test_does_not_publish_who_waits_for_a_run_besides(self) -> None:
        target = make_target(make_job(locks=["api"]))
        before, run = make_run(target), make_run(target)
        assert start(before)
        assert not start(run)
        Ticket.objects.create(run=run, key="free", since=NOW)
        tick(NOW + SECOND)
        assert woken() == set()


class TestUntilTheNextFire:
    def held_run(self, **fields: Any) -> tuple[Job, Target]:
        job = make_job(locks=["site"], locks_until_next_fire=True, schedule="every 1h", **fields)
        target = make_target(job, next_fire_at=NOW + HOUR)
        run = make_run(target, cause=Cause.SCHEDULE)
        assert start(run)
        finish(run, NOW + SECOND)
        return job, target

    @pytest.mark.parametrize("what", ["job", "target"])
    def test_what_is_retired_has_no_next_fire_and_holds_nothing(self, what: str) -> None:
        job, target = self.held_run()
        waiter = queued("site")
        assert not start(waiter, NOW + 2 * SECOND)
        if what == "job":
            runs.retire(job, now=NOW + 3 * SECOND)
        else:
            runs.retire_target(target, now=NOW + 3 * SECOND)
        tick(NOW + 4 * SECOND)
        assert woken() == {waiter.pk}
        assert start(waiter, NOW + 4 * SECOND)

    @needs_row_locks
    def test_an_edit_takes_the_seats_in_the_order_of_their_keys(self) -> None:
        """As runs do that start; a job's targets may hold them in any other order."""
        job = make_job(locks_until_next_fire=True, schedule="every 1h")
        for key in ("z", "a"):
            target = make_target(job, key, resource=key, next_fire_at=NOW + HOUR)
            run = make_run(target)
            assert start(run)
            finish(run)
        errors: list[Exception] = []

        def edit() -> None:
            try:
                runs.reschedule(job, schedule="every 2h", now=NOW + SECOND)
            except Exception as error:
                errors.append(error)
            finally:
                connection.close()

        with transaction.atomic():
            Seat.objects.select_for_update(no_key=True).get(key="a")
            thread = threading.Thread(target=edit)
            thread.start()
            thread.join(1)
            assert thread.is_alive()
            # It waits for the first and holds no other.
            Seat.objects.select_for_update(no_key=True, nowait=True).get(key="z")
        thread.join(10)
        assert errors == []
        assert set(Seat.objects.values_list("held_until", flat=True)) == {NOW + 2 * HOUR}


class TestEnds:
    def test_what_is_to_be_stopped_is_not_begun_again_because_its_worker_stops_too(self) -> None:
        run = queued()
        started = start(run)
        assert started is not None
        runs.cancel(run.pk, by="ann", now=NOW)
        assert runs.hand_back(run.pk, 1, token=started.token, now=NOW)
        run.refresh_from_db()
        assert (run.state, run.reason, run.attempt) == (State.FAILED, Reason.CANCELLED, 1)

    @pytest.mark.parametrize(
        "retry_on", [[["ValueError"]], [{"a": 1}], "ValueError", {"ValueError": 1}, [None], 5]
    )
    def test_whatever_was_written_into_retry_on_an_end_is_recorded(self, retry_on: Any) -> None:
        run = queued(retries=1, retry_on=retry_on)
        assert start(run)
        failed = Result(
            state=State.FAILED, reason=Reason.ERROR, exit_code=3, error_types=("ValueError",)
        )
        finish(run, result=failed)
        run.refresh_from_db()
        assert run.state in (State.FAILED, State.QUEUED)


def test_inside_a_run_a_lock_can_be_taken_again() -> None:
    run = make_run(make_target(), scheduled_at=clock.now())
    started = runs.start(run.pk, 1, worker="host/1", now=clock.now())
    assert started is not None
    with running(started.current(lambda: False)), lock("a") as outer:
        with lock("a") as inner:
            assert inner.token == outer.token
        assert runs.locks_held(clock.now()) != []
