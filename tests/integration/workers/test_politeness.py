"""Politeness: how many begin at once and per second, and when those are told to come that wait."""

from __future__ import annotations

import time
from datetime import timedelta
from typing import Any

import pytest

from scheduling import clock, redis, runs
from scheduling.conf import conf
from scheduling.feeds import Polite
from scheduling.models import Run, State
from tests.factories import make_job, make_run, make_target
from tests.integration.workers import tasks
from tests.integration.workers.conftest import Deliver
from tests.integration.workers.polite_runs import HOST, a_run, holders, polite, told, turn
from tests.waiting import wait_for
from workers import attempt, lease, locks, politeness
from workers.politeness import host_of, in_words, key_of
from workers.ticket import Ticket

pytestmark = pytest.mark.django_db(transaction=True)


@pytest.fixture(autouse=True)
def quick(settings: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    settings.JOBS_LEASE_RENEWAL = timedelta(seconds=0.05)
    monkeypatch.setattr(lease, "POLL", 0.02)
    tasks.seen.clear()
    tasks.act.clear()


@pytest.fixture
def job() -> Any:
    return make_job(task=f"{tasks.PATH}.remember", overlap="allow")


# --- per second -----------------------------------------------------------------------------------


def test_a_thousand_runs_are_told_a_thousand_times(job: Any) -> None:
    polite(job, per_second=1)
    began = time.monotonic()
    for number in range(1000):
        wait = told(a_run(job))
        passed = time.monotonic() - began
        # Redis' clock goes on meanwhile, and nobody comes: each is as far off as those before it
        # need, and the time that they let pass is made up for by none.
        assert number - 0.05 < wait + passed
        assert wait < number + 0.05


def test_so_many_begin_in_a_second_and_no_more(job: Any) -> None:
    polite(job, per_second=5)
    assert [told(a_run(job)) == 0 for _ in range(7)] == [True] * 5 + [False] * 2


def test_less_than_one_a_second_is_one_in_more_than_a_second(job: Any) -> None:
    polite(job, per_second=0.1)
    assert told(a_run(job)) == 0
    assert 9 < told(a_run(job)) <= 10.1


def test_who_comes_at_its_time_begins(job: Any) -> None:
    polite(job, per_second=10)
    waiting = [run for run in (a_run(job) for _ in range(13)) if told(run) > 0]
    assert len(waiting) == 3
    wait_for(lambda: told(waiting[0]) == 0, timeout=5, message="the first begins")
    wait_for(lambda: told(waiting[2]) == 0, timeout=5, message="the last begins")


def test_who_asks_too_early_is_told_again_and_loses_nothing(job: Any) -> None:
    polite(job, per_second=0.5)
    first, second, third = (a_run(job) for _ in range(3))
    assert told(first) == 0
    before = told(second)
    assert 2 * before < told(third) + 1
    assert before - 1 < told(second) <= before


def test_a_key_has_limits_of_its_own(job: Any) -> None:
    polite(job, per_second=1, at_once=1)
    keys = ("https://a.example.org/x", "https://b.example.org/x", "http://a.example.org:8080/y")
    assert [told(a_run(job, key)) == 0 for key in keys] == [True, True, False]


def test_jobs_of_a_group_share_their_limits_and_others_do_not() -> None:
    jobs = [make_job() for _ in range(3)]
    for each, group in zip(jobs, ("crawlers", "crawlers", ""), strict=True):
        polite(each, at_once=1, group=group)
    assert [told(a_run(each, HOST)) == 0 for each in jobs] == [True, False, True]


def test_a_high_lane_stands_first_in_the_line(job: Any) -> None:
    polite(job, per_second=0.1)
    told(a_run(job))
    normal = [a_run(job) for _ in range(3)]
    waits = [told(run) for run in normal]
    assert told(a_run(job, priority=1)) < waits[1]


# --- at once --------------------------------------------------------------------------------------


def test_so_many_have_a_place_at_once(job: Any) -> None:
    polite(job, at_once=2)
    found = [a_run(job) for _ in range(4)]
    assert [told(run) == 0 for run in found] == [True, True, False, False]
    assert holders() == {f"{run.pk}/1" for run in found[:2]}


def test_a_place_is_taken_once_however_often_its_message_comes(job: Any) -> None:
    polite(job, at_once=2, per_second=2)
    run = a_run(job)
    assert [told(run), told(run), told(run)] == [0, 0, 0]
    assert told(a_run(job)) == 0


def test_waits_follow_from_how_long_runs_go_on(job: Any) -> None:
    polite(job, at_once=1)
    first = turn(a_run(job))
    first.begins()
    first._since -= 20  # type: ignore[operator]  # it has gone on for 20 s
    first.keep()
    waits = [told(a_run(job)) for _ in range(30)]
    assert waits[0] == min(20, conf.lease.total_seconds())
    assert waits[1:4] == [40, 60, 80]
    assert waits[-1] == 300


def test_a_place_whose_lease_ends_is_free(job: Any, settings: Any) -> None:
    settings.JOBS_LEASE = timedelta(seconds=0.2)
    polite(job, at_once=1)
    assert told(a_run(job)) == 0
    next_one = a_run(job)
    assert told(next_one) > 0
    # Killed, it frees nothing itself.
    wait_for(lambda: not holders() or told(next_one) == 0, timeout=5, message="it is free")


def test_a_run_that_ends_calls_the_first_in_the_line(job: Any, deliver: Deliver) -> None:
    polite(job, at_once=1)
    holder = turn(a_run(job))
    assert holder.begins()
    waiting = [a_run(job), a_run(job)]
    for run in waiting:
        after = deliver(run)
        assert (after.state, after.detail) == (
            State.QUEUED,
            f"{HOST} takes at most 1 run at once",
        )
        assert after.publish_at is not None
        assert after.publish_at == after.ready_at
    assert not Run.objects.to_publish(clock.sample()).exists()
    holder.end()
    holder.call_next()
    assert set(Run.objects.to_publish(clock.sample())) == {waiting[0]}
    # It calls the next one in turn.
    assert deliver(waiting[0]).state == State.SUCCEEDED
    assert set(Run.objects.to_publish(clock.sample())) == {waiting[1]}


def test_whoever_does_not_wait_any_more_is_passed_over(job: Any) -> None:
    polite(job, at_once=1)
    holder = turn(a_run(job))
    assert holder.begins()
    waiting = [a_run(job) for _ in range(5)]
    for run in waiting:
        assert not turn(run).begins()
    for run in waiting[:4]:
        runs.cancel(run.pk, by="ann", now=clock.now())
    holder.end()
    holder.call_next()
    assert set(Run.objects.to_publish(clock.sample())) == {waiting[4]}


# --- as a part of an attempt ----------------------------------------------------------------------


def test_the_place_of_an_attempt_is_free_whatever_its_end(job: Any, deliver: Deliver) -> None:
    def fail() -> None:
        assert len(holders()) == 1
        raise KeyError("gone")

    polite(job, at_once=1)
    for act in (fail, lambda: None):
        tasks.act.append(act)
        after = deliver(a_run(job))
        tasks.act.clear()
        assert after.state in (State.SUCCEEDED, State.FAILED)
        assert holders() == set()


def test_the_heartbeat_keeps_the_place(job: Any, deliver: Deliver) -> None:
    def forget() -> None:
        redis.client().flushdb()
        wait_for(holders, message="it counts again")

    polite(job, at_once=1)
    tasks.act.append(forget)
    assert deliver(a_run(job)).state == State.SUCCEEDED
    assert holders() == set()


def test_a_start_that_came_to_nothing_costs_nobody_his_turn(job: Any, deliver: Deliver) -> None:
    polite(job, at_once=1, per_second=0.01)
    late = a_run(job, start_by=clock.now() - timedelta(seconds=1))
    assert deliver(late).state == State.SKIPPED
    assert holders() == set()
    assert deliver(a_run(job)).state == State.SUCCEEDED


def test_a_run_that_waits_for_a_lock_has_no_place(job: Any, deliver: Deliver) -> None:
    polite(job, at_once=1, per_second=0.01)
    other = make_run(make_target(), state=State.RUNNING, lease_until=clock.now())
    job.locks = ["db"]
    job.save(update_fields=["locks"])
    locks.acquire(["db"], f"{other.pk}/1", lease=timedelta(seconds=30))
    assert deliver(a_run(job)).waiting_for == "db"
    assert holders() == set()
    assert redis.client().keys(f"{politeness.PREFIX}*:starts") == []


def test_a_message_that_comes_twice_frees_no_place(
    job: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    polite(job, at_once=1)
    run = a_run(job)

    def rival(*facts: Any) -> bool:
        assert turn(run).begins()
        assert runs.start(run.pk, 1, worker="rival", now=clock.sample())
        return True

    monkeypatch.setattr(attempt, "may_begin_here", rival)
    assert attempt.begin(Ticket(run.pk, 1), worker="me", task=job.task) is None
    assert holders() == {f"{run.pk}/1"}


def test_without_redis_runs_begin(
    job: Any, deliver: Deliver, settings: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    polite(job, at_once=1, per_second=0.01)
    settings.REDIS_URL = "redis://127.0.0.1:1/0"
    redis.client.cache_clear()
    locks._script.cache_clear()
    try:
        for _ in range(2):
            assert deliver(a_run(job)).state == State.SUCCEEDED
    finally:
        redis.client.cache_clear()
        locks._script.cache_clear()


def test_politeness_that_cannot_be_read_stops_nothing(
    job: Any, deliver: Deliver, caplog: pytest.LogCaptureFixture
) -> None:
    job.polite = {"by": "moon"}
    job.save(update_fields=["polite"])
    assert deliver(a_run(job)).state == State.SUCCEEDED
    assert "'moon'" in caplog.text


# --- keys and words -------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("text", "host"),
    [
        ("https://shop.example.org/a?b#c", "shop.example.org"),
        ("HTTPS://Ann:s3cret@Shop.Example.ORG:8443/", "shop.example.org"),
        ("https://bücher.example", "xn--bcher-kva.example"),
        ("https://shop.example.org./", "shop.example.org"),
        ("http://localhost:8000", "localhost"),
        ("db.example.org", "db.example.org"),
        ("db.example.org:5432", "db.example.org"),
        ("git@code.example.org:team/project.git", "code.example.org"),
        ("ann@example.org", "example.org"),
        ("192.0.2.7:80", "192.0.2.7"),
        ("http://[2001:DB8:0::1]:80/", "2001:db8::1"),
        ("[2001:db8::1]:80", "2001:db8::1"),
        ("2001:db8:0::1", "2001:db8::1"),
        ("customer 42", ""),
        ("customer-42", ""),
        ("shop/feed.xml", ""),
        ("http://", ""),
        ("http://[nonsense", ""),
        (f"http://{'a' * 70}.example.org", ""),
        ("a:b:c", ""),
        ("", ""),
    ],
)
def test_the_host_of_an_address(text: str, host: str) -> None:
    assert host_of(text) == host


@pytest.mark.parametrize(
    ("by", "key"),
    [
        ("host", "a.example.org"),
        ("key", "https://a.example.org/x"),
        ("resource", "the shop"),
        ("label:team", "red"),
        ("label:colour", "https://a.example.org/x"),
    ],
)
def test_what_limits_are_counted_by(by: str, key: str) -> None:
    target = make_target(key="https://a.example.org/x", resource="the shop")
    assert target.resource is not None
    target.resource.labels = {"team": "red"}
    assert key_of(Polite(by=by, at_once=1), target) == key


def test_what_has_no_host_and_no_resource_counts_by_its_key() -> None:
    target = make_target(key="customer 42")
    for by in ("host", "resource", "label:team"):
        assert key_of(Polite(by=by, at_once=1), target) == "customer 42"


@pytest.mark.parametrize(
    ("limits", "words"),
    [
        ({"at_once": 1}, "at most 1 run at once"),
        ({"per_second": 0.5}, "at most 0.5 starts per second"),
        ({"at_once": 2, "per_second": 1}, "at most 2 runs at once and 1 start per second"),
    ],
)
def test_limits_in_words(limits: dict[str, Any], words: str) -> None:
    assert in_words(Polite(**limits)) == words
