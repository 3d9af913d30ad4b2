"""Feeding: free slots, lanes, shares and the express lane, under the feeder's lock."""

from __future__ import annotations

from collections import Counter
from concurrent.futures import ThreadPoolExecutor
from datetime import datetime, timedelta
from functools import partial
from typing import Any

import pytest
from django.db import connection, connections, transaction

from config.celery import app
from scheduling import broker, clock, feeding, outbox, runs
from scheduling.feeds import (
    EXPRESS,
    NEVER_CHECKED,
    OLDEST_SCHEDULED,
    STALEST,
    WITHOUT_HINT,
    Cooldowns,
    Express,
    Feed,
)
from scheduling.models import (
    Cause,
    Circuit,
    Event,
    Feeder,
    Notification,
    Reason,
    Run,
    Source,
    State,
    Target,
)
from scheduling.runs import Fed, Lengths, pool
from scheduling.runs.express import waiting_for_express
from tests.factories import NOW, make_job, make_run, make_target
from tests.integration.fed_jobs import fed_job, feed, let_out, pooled, waiting

pytestmark = pytest.mark.django_db
HOUR, DAY = timedelta(hours=1), timedelta(days=1)
SECOND = timedelta(seconds=1)


def test_as_many_are_picked_as_there_are_free_slots() -> None:
    job = fed_job(max_queue_length=10)
    targets = pooled(job, 30)
    for target in targets[:4]:
        Target.objects.filter(pk=target.pk).update(eligible_since=None)
        make_run(target)
    assert feed(job).picked == {OLDEST_SCHEDULED: 6}
    assert feed(job, now=NOW + HOUR).why == "no free slots"
    assert Run.objects.count() == 10


def test_what_the_broker_has_counts_if_it_is_more_than_we_know_of() -> None:
    job = fed_job(max_queue_length=10)
    pooled(job, 30)
    assert feed(job, Lengths(normal=9)).slots == 1
    assert feed(job, Lengths(normal=9000), now=NOW + HOUR).slots == 0


def test_while_nobody_knows_how_long_the_queue_is_there_is_a_trickle(settings) -> None:
    settings.JOBS_FEED_TRICKLE = 3
    job = fed_job(max_queue_length=100)
    pooled(job, 30)
    assert sum(feed(job, Lengths(normal=None)).picked.values()) == 3
    # Never more than a trickle ahead of the workers.
    assert not feed(job, Lengths(normal=None), now=NOW + HOUR).picked
    settings.JOBS_FEED_WHEN_UNKNOWN = "open"
    assert sum(feed(job, Lengths(normal=None), now=NOW + 2 * HOUR).picked.values()) == 27


def test_a_trickle_passes_no_threshold() -> None:
    job = make_job(feed=Feed().as_json())
    pooled(job, 30)
    assert sum(feed(job, Lengths(normal=None)).picked.values()) == 10
    assert not feed(job, Lengths(normal=None), now=NOW + HOUR).picked


def test_taken_for_empty_a_queue_gets_no_more_than_may_be_open_at_once(settings) -> None:
    settings.JOBS_FEED_WHEN_UNKNOWN = "open"
    job = fed_job(max_queue_length=10)
    pooled(job, 30)
    assert sum(feed(job, Lengths(normal=None)).picked.values()) == 10
    assert feed(job, Lengths(normal=None), now=NOW + HOUR).why == "no free slots"


def test_below_its_threshold_a_job_is_not_fed() -> None:
    job = fed_job(max_queue_length=100, threshold=0.2)
    pooled(job, 30)
    assert feed(job, Lengths(normal=80)).why == "few free slots"
    assert sum(feed(job, Lengths(normal=79), now=NOW + HOUR).picked.values()) == 21


def test_lanes_are_strict_and_come_before_what_is_picked() -> None:
    job = fed_job(max_queue_length=6)
    pooled(job, 5)
    waiting(job, "normal, early", None, NOW - HOUR)
    waiting(job, "low, early", 9, NOW - HOUR)
    waiting(job, "high, late", 1)
    waiting(job, "high, early", 1, NOW - HOUR)
    waiting(job, "not due", 1, NOW + HOUR)
    out: list[list[str]] = []
    for length in (5, 4, 3):
        # The broker holds as much that there is one slot, then two, three.
        feed(job, Lengths(normal=length), now=NOW + SECOND * length)
        out.append(sorted(set(let_out()) - {key for keys in out for key in keys}))
    assert out == [["high, early"], ["high, late", "low, early"], ["000", "001", "normal, early"]]


def test_a_lane_with_a_number_does_not_wait_for_the_threshold() -> None:
    job = fed_job(max_queue_length=100, threshold=0.5)
    waiting(job, "urgent", 1)
    waiting(job, "normal")
    assert feed(job, Lengths(normal=90)).released == 1
    assert let_out() == ["urgent"]


def test_without_shares_only_the_number_of_open_runs_is_bounded() -> None:
    job = fed_job(shares={}, max_queue_length=2)
    for key in "abc":
        waiting(job, key)
    pooled(job, 2)
    assert feed(job).released == 2
    assert feed(job, now=NOW + HOUR).released == 0


def test_shares_are_kept_and_what_one_cannot_spend_the_others_get() -> None:
    job = fed_job(
        shares={NEVER_CHECKED: 49, WITHOUT_HINT: 49, STALEST: 2, OLDEST_SCHEDULED: 0},
        max_queue_length=20,
    )
    pooled(job, 100, hint_at=NOW)
    pooled(job, 3)
    stale = {"hint_at": NOW, "found_at": NOW - DAY, "ok_since": NOW - DAY, "staleness": DAY}
    pooled(job, 10, **stale)
    total: Counter[str] = Counter()
    for round_ in range(5):
        Run.objects.all().delete()
        fed = feed(job, now=NOW + round_ * HOUR)
        assert sum(fed.picked.values()) == 20
        total += fed.picked
    assert total[WITHOUT_HINT] == 3
    assert total[OLDEST_SCHEDULED] == 0
    assert 2 <= total[STALEST] <= 5
    assert total[NEVER_CHECKED] == 97 - total[STALEST]


def test_a_zero_weight_alone_picks_nothing() -> None:
    job = fed_job(shares={OLDEST_SCHEDULED: 0})
    pooled(job, 3)
    assert not feed(job).picked


def test_with_nothing_to_pick_it_is_left_alone_until_something_comes() -> None:
    job = fed_job(cooldowns=Cooldowns(absolute=HOUR))
    (target,) = pooled(job, 1)
    feed(job)
    assert Feeder.objects.get(job=job).next_at == NOW + timedelta(seconds=60)
    assert runs.feed(job, Lengths(), now=NOW + SECOND) is None
    assert job not in runs.jobs_to_feed(NOW + SECOND)
    Target.objects.filter(pk=target.pk).update(eligible_at=NOW)
    Run.objects.all().delete()
    assert runs.thaw(now=NOW + SECOND, limit=10) == 1
    assert job in runs.jobs_to_feed(NOW + SECOND)


def test_express_first_looks_have_a_queue_and_a_cap_of_their_own() -> None:
    job = fed_job(express=Express(queue="first", limit=3), max_queue_length=4)
    found = Source.objects.create(name="found", is_express=True)
    found.jobs.add(job)
    pooled(job, 5, source=found)
    old = pooled(job, 10, last_scheduled_at=NOW - 9 * DAY)
    assert EXPRESS not in feed(job).picked  # its listing has not come to an end
    Run.objects.all().delete()
    Target.objects.filter(job=job).update(eligible_at=None, eligible_since=NOW)
    Target.objects.filter(source=found).update(last_scheduled_at=None)
    Source.objects.update(listing_ended_at=NOW)
    job.feed = {**job.feed, "shares": {STALEST: 1}}  # type: ignore[dict-item]
    job.save()
    fed = feed(job, now=NOW + HOUR)
    assert fed.picked[EXPRESS] == 3
    assert set(Run.objects.values_list("queue", flat=True)) == {"first"}
    # They leave the normal slots alone, and the cap is theirs.
    assert (fed.slots, feed(job, now=NOW + 2 * HOUR).picked[EXPRESS]) == (4, 0)
    # What found no slot is not left for the idle time.
    assert Feeder.objects.get(job=job).next_at == NOW + 2 * HOUR + SECOND
    found.refresh_from_db()
    assert found.express_done_at is None
    Run.objects.all().delete()
    assert feed(job, now=NOW + 3 * HOUR).picked[EXPRESS] == 2
    found.refresh_from_db()
    assert found.express_done_at == NOW + 3 * HOUR
    assert not Run.objects.filter(target__in=old).exists()
    # The next listing may find more.
    assert waiting_for_express(job) == []
    Source.objects.update(listing_ended_at=NOW + 4 * HOUR)
    assert waiting_for_express(job) == [found]


def test_a_lane_in_the_queue_of_its_job_adds_nothing_to_what_the_job_may_have_open() -> None:
    job = fed_job(express=Express(queue="all", limit=3), max_queue_length=4)
    job.options = {"queue": "all"}
    job.save()
    found = Source.objects.create(name="found", is_express=True, listing_ended_at=NOW)
    found.jobs.add(job)
    pooled(job, 5, source=found)
    pooled(job, 20)
    for round_ in range(3):
        feed(job, now=NOW + round_ * HOUR)
    by_strategy = Counter(Run.objects.values_list("strategy", flat=True))
    assert by_strategy == {EXPRESS: 3, OLDEST_SCHEDULED: 4}


@pytest.mark.parametrize("by", ["job", "everything", "circuit", "open circuit"])
def test_what_is_held_is_not_fed(by: str) -> None:
    job = fed_job()
    circuit = Circuit.objects.create(name="bank")
    job.circuit = circuit
    job.save()
    (target,) = pooled(job, 1)
    match by:
        case "job":
            runs.pause(job, by="alice", reason="quiet", now=NOW)
        case "everything":
            runs.pause(runs.installation(), by="alice", reason="quiet", now=NOW)
        case "circuit":
            runs.pause(circuit, by="alice", reason="quiet", now=NOW)
        case _:
            runs.open_circuit(circuit, by="alice", reason="quiet", now=NOW)
    fed = feed(job)
    assert not fed.picked
    assert "alice" in fed.why
    assert "quiet" in fed.why
    target.refresh_from_db()
    assert target.eligible_since is not None


def test_a_number_of_runs_is_kept() -> None:
    job = fed_job()
    job.runs_left = 3
    job.save()
    pooled(job, 5)
    feed(job)
    assert Run.objects.count() == 3
    assert feed(job, now=NOW + HOUR).why == "it has had all its runs"


def test_what_is_wrong_with_one_job_is_told_by_its_name_and_stops_no_other(
    caplog: pytest.LogCaptureFixture,
) -> None:
    unread = make_job("a", feed={"shares": {"newest": 1}})
    unknown = make_job("b", feed=Feed(shares={"tests.nowhere:It": 1}).as_json())
    fine = fed_job("c")
    for job in (unread, unknown, fine):
        pooled(job, 1)
    feeding.feed_all(app, now=NOW, until=datetime.max.replace(tzinfo=NOW.tzinfo))
    assert let_out() == ["000"]
    assert Run.objects.get().job == fine
    assert "Job a cannot be fed: feed.shares names the strategy 'newest'" in caplog.text
    assert "Job b is fed without a strategy: There is no strategy 'tests.nowhere:It'" in caplog.text
    assert "newest" in Feeder.objects.get(job=unread).last_round["why"]


@pytest.mark.django_db(transaction=True)
def test_whoever_comes_second_goes_on_with_other_jobs(valkey: object) -> None:
    if connection.vendor != "postgresql":
        pytest.skip("SQLite has one writer anyway")
    job = fed_job()
    pooled(job, 2)
    runs.jobs_to_feed(NOW)

    def second() -> Fed | None:
        try:
            return runs.feed(job, Lengths(), now=NOW)
        finally:
            connections.close_all()

    with transaction.atomic(), ThreadPoolExecutor(1) as thread:
        Feeder.objects.select_for_update().get(job=job)
        assert thread.submit(second).result() is None
    assert sum(feed(job).picked.values()) == 2


def test_a_run_of_the_express_lane_is_sent_there(valkey: object) -> None:
    job = fed_job(express=Express(queue="first"))
    run = make_run(make_target(job, "a"), strategy=EXPRESS, queue="first", cause=Cause.SCHEDULE)
    assert outbox.publish(app, [run], epoch="", now=NOW) == 1
    assert broker.length(app, "first") == 1
    run.refresh_from_db()
    assert run.queue == "first"


@pytest.mark.parametrize("asked", [False, True])
def test_nobody_gets_a_mail_for_each_of_a_million(asked: bool) -> None:
    job = fed_job()
    job.notify_still_failing, job.pause_after = asked, 1
    job.save()
    (target,) = pooled(job, 1)
    (pick,) = runs.select(job, OLDEST_SCHEDULED, 1, now=NOW)
    assert pick.run_id is not None
    started = runs.start(pick.run_id, 1, worker="w", now=NOW)
    assert started is not None
    failed = runs.Result(state=State.FAILED, reason=Reason.ERROR)
    runs.finish(pick.run_id, 1, token=started.token, result=failed, now=NOW)
    told = set(Notification.objects.values_list("event", flat=True))
    assert told == ({Event.FAILING, Event.PAUSED} if asked else set())
    target.refresh_from_db()
    assert target.paused_by == "Beatkeeper"
    assert (target.eligible_at, target.eligible_since) == (None, None)


def test_what_falls_due_in_a_lane_ends_the_idle_time() -> None:
    job = fed_job()
    waiting(job, "soon", None, NOW + 7 * SECOND)
    feed(job)
    assert Feeder.objects.get(job=job).next_at == NOW + 7 * SECOND
    assert feed(job, now=NOW + 7 * SECOND).released == 1


def test_those_whose_last_round_is_longest_ago_have_their_turn_first() -> None:
    jobs = [fed_job(name) for name in "abcd"]
    for job, seconds in zip(jobs, (1, None, 3, 2), strict=True):
        at = None if seconds is None else NOW - seconds * SECOND
        Feeder.objects.create(job=job, last_round_at=at)
    due = [job for job in runs.jobs_to_feed(NOW) if job in jobs]
    assert "".join(job.name for job in due) == "bcda"


def test_a_tick_ends_between_two_jobs_when_its_time_is_over(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    for name in "abc":
        pooled(fed_job(name), 1)
    moment, real = clock.now(), runs.feed
    monkeypatch.setattr(clock, "now", lambda: moment)

    def slowly(*given: Any, **how: Any) -> Fed | None:
        nonlocal moment
        moment += SECOND
        return real(*given, **how)

    monkeypatch.setattr(runs, "feed", slowly)
    for fed in ("ab", "abc"):
        feeding.feed_all(app, now=moment, until=moment + 2 * SECOND)
        assert "".join(sorted(Run.objects.values_list("name", flat=True))) == fed


def test_a_job_that_is_held_in_the_middle_of_an_edit_is_looked_at_no_more_than_others(
    settings, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings.JOBS_FEED_EVERY = 5 * SECOND
    monkeypatch.setattr(pool, "reckon_anew", partial(pool.reckon_anew, limit=2))
    job = fed_job()
    pooled(job, 6)
    feed(job)
    assert Feeder.objects.get(job=job).is_due(NOW)
    runs.pause(job, by="alice", reason="quiet", now=NOW)
    feed(job)
    assert Feeder.objects.get(job=job).next_at == NOW + 5 * SECOND
    # And it goes on where it stood.
    runs.resume(job, by="alice", now=NOW + HOUR)
    for _ in range(3):
        feed(job, now=NOW + HOUR)
    assert Feeder.objects.get(job=job).cooldowns["after"] is None
