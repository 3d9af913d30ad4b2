"""Seats and lines: who holds, who waits, who is next."""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import Any

import pytest

from scheduling import runs
from scheduling.models import Cause, Job, Reason, Resource, Run, Seat, State, Target, Ticket
from scheduling.runs import Result
from tests.factories import NOW, make_job, make_run, make_target

pytestmark = pytest.mark.django_db(transaction=True)

SECOND = timedelta(seconds=1)
DONE = Result(state=State.SUCCEEDED)


def queued(*locks: str, **fields: Any) -> Run:
    """A queued run of a new job with these locks."""
    return make_run(make_target(make_job(locks=list(locks), **fields)), publish_at=None)


def start(run: Run, at: datetime = NOW) -> bool:
    """Start as a worker would that got the message; False: the run waits."""
    Run.objects.filter(pk=run.pk, state=State.QUEUED).update(published_at=at)
    return runs.start(run.pk, run.attempt, worker="host/1", now=at) is not None


def finish(run: Run, at: datetime = NOW) -> None:
    run.refresh_from_db()
    assert runs.finish(run.pk, run.attempt, token=run.token, result=DONE, now=at)


def woken() -> set[object]:
    return set(
        Run.objects.filter(
            state=State.QUEUED, publish_at__isnull=False, published_at=None
        ).values_list("pk", flat=True)
    )


def test_a_lock_with_three_seats_is_held_by_three_runs() -> None:
    Resource.objects.create(key="api", seats=3)
    four = [queued("api") for _ in range(4)]
    assert [start(run) for run in four] == [True, True, True, False]
    finish(four[1])
    assert woken() == {four[3].pk}
    assert start(four[3])
    assert Seat.objects.filter(key="api").count() == 3


def test_the_setting_gives_seats_to_a_lock_that_is_no_resource(settings) -> None:
    settings.JOBS_SEATS = {"api": 2}
    three = [queued("api") for _ in range(3)]
    assert [start(run) for run in three] == [True, True, False]


def test_fewer_seats_than_are_held_let_nobody_in_until_enough_are_free() -> None:
    resource = Resource.objects.create(key="api", seats=3)
    held = [queued("api") for _ in range(3)]
    assert all(start(run) for run in held)
    resource.seats = 1
    resource.save()
    late = queued("api")
    assert not start(late)
    finish(held[0])
    assert woken() == set()
    finish(held[1])
    assert woken() == set()
    finish(held[2])
    assert woken() == {late.pk}


def test_two_runs_that_want_two_resources_in_opposite_order_take_turns() -> None:
    one, other = queued("a", "b"), queued("b", "a")
    assert start(one)
    assert not start(other)
    assert {ticket.key for ticket in Ticket.objects.filter(run=other)} == {"a", "b"}
    finish(one)
    assert woken() == {other.pk}
    assert start(other)
    assert not Ticket.objects.exists()


def test_a_newcomer_never_passes_an_earlier_ticket_on_any_of_its_locks() -> None:
    holder, both, newcomer = queued("b"), queued("a", "b"), queued("a")
    assert start(holder)
    assert not start(both)
    # "a" is free, but promised.
    assert not start(newcomer, NOW + SECOND)
    newcomer.refresh_from_db()
    assert newcomer.waiting_for == "a"
    finish(holder, NOW + 2 * SECOND)
    assert woken() == {both.pk}
    assert start(both, NOW + 3 * SECOND)
    finish(both, NOW + 4 * SECOND)
    assert woken() == {newcomer.pk}


def test_who_waits_for_two_is_not_woken_for_one() -> None:
    first, second, both = queued("a"), queued("b"), queued("a", "b")
    assert start(first)
    assert start(second)
    assert not start(both)
    finish(first)
    assert woken() == set()
    # Nor by a tick, again and again.
    runs.recover(now=NOW + SECOND, reap=False)
    assert woken() == set()
    finish(second)
    assert woken() == {both.pk}


def test_a_waiter_keeps_its_place_through_a_restart_of_everything() -> None:
    holder, first, second = queued("a"), queued("a"), queued("a")
    assert start(holder)
    assert not start(first, NOW + SECOND)
    assert not start(second, NOW + 2 * SECOND)
    finish(holder, NOW + 3 * SECOND)
    # Its message is lost with Redis; the second one's comes first.
    assert not start(second, NOW + 4 * SECOND)
    assert start(first, NOW + 5 * SECOND)


def test_a_waiter_that_gives_up_lets_the_next_one_in() -> None:
    holder, first, second = queued("a"), queued("a"), queued("a")
    assert start(holder)
    assert not start(first, NOW + SECOND)
    assert not start(second, NOW + 2 * SECOND)
    finish(holder, NOW + 3 * SECOND)
    assert woken() == {first.pk}
    runs.cancel(first.pk, by="eve", now=NOW + 4 * SECOND)
    assert woken() == {second.pk}
    assert not Ticket.objects.filter(run=first).exists()


def test_a_waiter_that_cannot_start_in_time_is_late_and_leaves_the_line() -> None:
    holder, waiter = queued("a"), queued("a", start_within=SECOND)
    Run.objects.filter(pk=waiter.pk).update(start_by=NOW + SECOND, ready_at=NOW)
    assert start(holder)
    assert not start(waiter)
    runs.recover(now=NOW + 2 * SECOND, reap=False)
    waiter.refresh_from_db()
    assert (waiter.state, waiter.reason) == (State.SKIPPED, Reason.LATE)
    assert "it waited for a" in waiter.detail
    assert not Ticket.objects.exists()


def test_a_lost_wake_up_is_mended_by_a_tick() -> None:
    holder, waiter = queued("a"), queued("a")
    assert start(holder)
    assert not start(waiter)
    # Its end was written past us, as an older version would.
    Run.objects.filter(pk=holder.pk).update(state=State.FAILED, ended_at=NOW)
    runs.recover(now=NOW, reap=False)
    assert woken() == {waiter.pk}


def test_another_attempt_gives_its_locks_up_meanwhile() -> None:
    holder, waiter = queued("a", retries=1), queued("a")
    assert start(holder)
    assert not start(waiter)
    holder.refresh_from_db()
    failed = Result(state=State.FAILED, reason=Reason.ERROR)
    assert runs.finish(holder.pk, 1, token=holder.token, result=failed, now=NOW)
    assert waiter.pk in woken()


def test_a_postponed_run_gives_its_place_up() -> None:
    holder, first, second = queued("a"), queued("a"), queued("a")
    assert start(holder)
    assert not start(first, NOW + SECOND)
    assert not start(second, NOW + 2 * SECOND)
    assert runs.postpone(first.pk, 1, until=NOW + timedelta(minutes=1), detail="not ready", now=NOW)
    finish(holder)
    assert second.pk in woken()
    first.refresh_from_db()
    assert (first.detail, first.ready_at) == ("not ready", NOW + timedelta(minutes=1))


def test_serial_lets_no_two_jobs_overlap_but_leaves_services_alone(settings) -> None:
    settings.JOBS_SERIAL = True
    service = make_run(make_target(make_job(schedule="always")))
    one, other = queued(), queued()
    assert start(one)
    assert not start(other)
    assert start(service)
    other.refresh_from_db()
    assert other.waiting_for == "serial"


class TestTheLockOfAnotherJob:
    @pytest.fixture
    def books(self) -> Target:
        return make_target(make_job("books"))

    def test_keeps_out_who_names_it_even_the_first_time(self, books: Target) -> None:
        mine, other = make_run(books), queued("job:books")
        assert start(mine)
        assert not start(other)
        # Nor later, while it runs without holding it.
        assert not start(other, NOW + SECOND)
        finish(mine)
        runs.recover(now=NOW + SECOND, reap=False)
        assert woken() == {other.pk}

    def test_is_held_by_who_names_it(self, books: Target) -> None:
        mine, other = make_run(books), queued("job:books")
        assert start(other)
        assert not start(mine)
        mine.refresh_from_db()
        assert mine.waiting_for == "job:books"
        finish(other)
        assert woken() == {mine.pk}

    def test_is_each_targets_own(self) -> None:
        job = make_job("feeds")
        one, two = make_target(job, "a/1"), make_target(job, "b")
        other = queued("job:feeds/a/1")
        assert start(make_run(two))
        assert start(make_run(one))
        assert not start(other)

    def test_does_not_bind_runs_that_may_overlap(self, books: Target) -> None:
        other = queued("job:books")
        assert start(other)
        free = make_run(books, exclusive=False)
        assert start(free)


class TestUntilTheNextFire:
    """GeoHealthCheck's rule: runs of one resource keep their distance."""

    @pytest.fixture
    def job(self) -> Job:
        return make_job(locks=["site"], locks_until_next_fire=True, schedule="every 10m")

    def run_of(self, job: Job) -> tuple[Target, Run]:
        target = make_target(job, next_fire_at=NOW + timedelta(minutes=10))
        return target, make_run(target, cause=Cause.SCHEDULE)

    def test_the_lock_is_free_at_the_next_fire_and_not_before(self, job: Job) -> None:
        _, run = self.run_of(job)
        assert start(run)
        finish(run, NOW + SECOND)
        early, on_time = queued("site"), queued("site")
        fire = NOW + timedelta(minutes=10)
        assert not start(early, fire - timedelta.resolution)
        assert start(early, fire)
        assert not start(on_time, fire)

    def test_a_waiter_is_woken_when_the_time_comes(self, job: Job) -> None:
        _, run = self.run_of(job)
        waiter = queued("site")
        assert start(run)
        assert not start(waiter)
        finish(run, NOW + SECOND)
        runs.recover(now=NOW + timedelta(minutes=9), reap=False)
        assert woken() == set()
        runs.recover(now=NOW + timedelta(minutes=10), reap=False)
        assert woken() == {waiter.pk}

    def test_a_shorter_schedule_shortens_the_distance(self, job: Job) -> None:
        _, run = self.run_of(job)
        assert start(run)
        finish(run, NOW + SECOND)
        runs.reschedule(job, schedule="every 1m", now=NOW + 2 * SECOND)
        assert start(queued("site"), NOW + timedelta(minutes=1))

    def test_a_job_without_a_next_fire_gives_it_up_at_once(self) -> None:
        job = make_job(locks=["site"], locks_until_next_fire=True)
        run = make_run(make_target(job))
        assert start(run)
        finish(run)
        assert start(queued("site"))


class TestBreaking:
    def test_fences_the_holder_and_serves_the_next(self) -> None:
        holder, waiter = queued("a", "b"), queued("a")
        assert start(holder)
        assert not start(waiter)
        holder.refresh_from_db()
        assert runs.break_lock("a", by="eve", reason="host is gone", now=NOW + SECOND) == 1
        assert woken() == {waiter.pk}
        assert start(waiter, NOW + 2 * SECOND)
        # What comes late is refused, and its token is the smaller one.
        late = runs.finish(holder.pk, 1, token=holder.token, result=DONE, now=NOW + 3 * SECOND)
        assert late is False
        waiter.refresh_from_db()
        assert waiter.token is not None
        assert holder.token is not None
        assert waiter.token > holder.token
        holder.refresh_from_db()
        assert (holder.state, holder.reason) == (State.FAILED, Reason.TERMINATED)
        assert holder.error == "The lock 'a' was broken by eve: host is gone"

    def test_a_lock_that_nobody_holds_is_told(self) -> None:
        from scheduling.errors import UnknownLock

        with pytest.raises(UnknownLock, match="'a'"):
            runs.break_lock("a", by="eve", reason="x", now=NOW)

    def test_ends_a_distance(self) -> None:
        job = make_job(locks=["a"], locks_until_next_fire=True, schedule="every 1h")
        run = make_run(make_target(job, next_fire_at=NOW + timedelta(hours=1)))
        assert start(run)
        finish(run)
        assert runs.break_lock("a", by="eve", reason="now", now=NOW) == 1
        assert start(queued("a"))


def test_held_locks_are_shown_with_their_lines() -> None:
    holder, first, second = queued("a"), queued("a"), queued("a")
    assert start(holder)
    assert not start(second, NOW + SECOND)
    assert not start(first, NOW + 2 * SECOND)
    (lock,) = runs.locks_held(NOW + 3 * SECOND)
    assert (lock.key, lock.number, lock.since) == ("a", 0, NOW)
    assert lock.run == holder
    assert [waiter.run for waiter in lock.waiters] == [second, first]


@pytest.mark.parametrize("seats", [1, 3])
def test_forty_runs_are_served_in_the_order_of_their_coming(
    seats: int, django_assert_max_num_queries: Any
) -> None:
    Resource.objects.create(key="a", seats=seats)
    forty = [queued("a") for _ in range(40)]
    running: list[Run] = []
    for number, run in enumerate(forty):
        if start(run, NOW + number * SECOND):
            running.append(run)
    served = list(running)
    while running:
        assert len(running) <= seats
        done = running.pop(0)
        with django_assert_max_num_queries(45):
            finish(done, NOW + timedelta(minutes=1))
        for run in [run for run in forty if run.pk in woken()]:
            assert start(run, NOW + timedelta(minutes=1))
            running.append(run)
            served.append(run)
    assert [run.pk for run in served] == [run.pk for run in forty]
