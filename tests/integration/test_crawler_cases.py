"""A crawler's cases, each the whole way: from what is asked for and listed to what is worked."""

from __future__ import annotations

from datetime import datetime, timedelta
from itertools import permutations
from typing import Any

import pytest
from django.db import IntegrityError, transaction

from scheduling import Named, backend, clock, runs
from scheduling.cadence import Ended, Observation
from scheduling.feeds import (
    NEVER_CHECKED,
    OLDEST_SCHEDULED,
    STALEST,
    UNTIL_SUCCESS,
    WITHOUT_HINT,
    Cooldowns,
    Feed,
)
from scheduling.models import Job, Listing, Reason, Run, State, Target
from scheduling.runs.express import waiting_for_express
from tests.factories import NOW, make_job, make_run, make_target
from tests.integration.backend_jobs import one_off, registered, set_time
from tests.integration.cli import jobs
from tests.integration.coverage_rows import figures
from tests.integration.fed_jobs import fed_job, feed, let_out, pooled, waiting
from tests.integration.naming import make_fed_job, make_source, names, numbered, target
from tests.integration.rivals import in_thread, needs_row_locks
from workers import results

pytestmark = pytest.mark.django_db

MINUTE, HOUR, DAY = timedelta(minutes=1), timedelta(hours=1), timedelta(days=1)
ADAPTIVE = "adaptive 8d between 1d and 64d factor 2"
NONE = Cooldowns(absolute=None, in_flight=None, failed=None, missing=None)


def seen(
    key: str, at: datetime, ended: Ended = Ended.FOUND, **more: Any
) -> tuple[str, Observation]:
    return key, Observation(at=at, ended=ended, **more)


def picked(job: Job, strategy: str, count: int = 1000, **how: Any) -> list[str]:
    how.setdefault("now", NOW)
    return [pick.key for pick in runs.select(job, strategy, count, **how)]


# --- what is asked for ----------------------------------------------------------------------------


def test_what_recurs_and_what_is_asked_for_once_are_both_there_once() -> None:
    registered(keyed=True, schedule="adaptive 64d between 12h and 64d factor 2", retries=7)
    recurring = [backend.NewTarget(job="load", key=f"{n:03}") for n in range(100)]
    begun = clock.now()
    lanes = ((None, 100), (1, 60), (5, 30), (9, 20))
    once = [
        backend.NewRun(job="load", key=f"{n % 100:03}", kwargs={"n": n}, priority=priority)
        for priority, number in lanes
        for n in range(number)
    ]
    first = backend.create_targets(recurring), backend.create_runs(once)
    again = backend.create_targets(recurring), backend.create_runs(once)
    assert [{row.pk for row in rows} for rows in first] == [
        {row.pk for row in rows} for rows in again
    ]
    assert (Target.objects.filter(job__name="load").count(), Run.objects.count()) == (100, 210)
    assert set(Run.objects.values_list("state", flat=True)) == {State.QUEUED}
    for each in again[0]:
        assert each.next_fire_at is not None
        assert begun + 64 * DAY <= each.next_fire_at <= clock.now() + 64 * DAY


def test_a_run_that_names_no_number_of_retries_has_those_of_its_job() -> None:
    registered(retries=7)
    run = one_off()
    states = []
    for _ in range(8):
        ended = backend.end_run(run.pk, "failed")
        assert ended is not None
        states.append(ended.state)
    assert states == [State.QUEUED] * 7 + [State.FAILED]


@pytest.fixture
def later(monkeypatch: pytest.MonkeyPatch) -> datetime:
    """It is a month after NOW, at which what is registered comes up; ends are told of only now."""
    set_time(monkeypatch, NOW - DAY)
    registered(keyed=True, retries=1, retry_delay=HOUR)
    wanted = {"recurring": ADAPTIVE, "once": f"once {NOW.isoformat()}"}
    backend.create_targets(
        [backend.NewTarget(job="load", key=key, schedule=each) for key, each in wanted.items()]
    )
    Target.objects.filter(job__name="load").update(next_fire_at=NOW)
    set_time(monkeypatch, NOW + 30 * DAY)
    return NOW + 30 * DAY


def ends(key: str, word: str, *, at: datetime, **said: Any) -> Run:
    """Claim what is due of a target and tell how its open run has ended."""
    due = target(key, "load").next_fire_at
    if due is not None:
        runs.claim(now=due, limit=1000)
    run = Run.objects.open().get(target=target(key, "load"))
    ended = backend.end_run(run.pk, word, at=at, **said)
    assert ended is not None
    return ended


@pytest.mark.parametrize(
    ("word", "said", "wait"),
    [
        ("succeeded", {"outcome": "changed"}, 4 * DAY),
        ("succeeded", {"outcome": "unchanged"}, 16 * DAY),
        ("lost", {}, 8 * DAY),
    ],
)
def test_what_recurs_waits_from_its_recorded_end_by_how_it_went(
    word: str, said: dict[str, Any], wait: timedelta, later: datetime
) -> None:
    ends("recurring", word, at=NOW + HOUR, **said)
    assert target("recurring", "load").next_fire_at == NOW + HOUR + wait


def test_what_has_failed_for_good_comes_up_no_more(later: datetime) -> None:
    ends("recurring", "permanent", at=NOW + HOUR)
    assert target("recurring", "load").paused_by == "Beatkeeper"
    runs.claim(now=later + 99 * DAY, limit=1000)
    assert Run.objects.filter(key="recurring", state=State.FAILED).count() == 1
    assert not Run.objects.open().filter(key="recurring").exists()


@pytest.mark.parametrize("word", ["succeeded", "lost", "permanent"])
def test_what_comes_once_is_over_however_it_went(word: str, later: datetime) -> None:
    ends("once", word, at=NOW + HOUR)
    assert target("once", "load").next_fire_at is None
    assert not Run.objects.open().filter(key="once").exists()
    ids = [target("once", "load").pk]
    assert backend.set_targets(ids, "retired", except_completed=True) == []


@pytest.mark.parametrize("key", ["recurring", "once"])
def test_each_run_has_all_its_retries_and_they_keep_the_interval(key: str, later: datetime) -> None:
    for turn in range(2):
        begun = NOW + turn * DAY * 9
        again = ends(key, "failed", at=begun + MINUTE)
        assert (again.state, again.attempt) == (State.QUEUED, 2)
        assert again.ready_at == begun + MINUTE + HOUR
        last = ends(key, "failed", at=begun + 2 * HOUR)
        assert (last.state, last.reason) == (State.FAILED, Reason.ERROR)
        following = None if key == "once" else begun + 2 * HOUR + 8 * DAY
        assert target(key, "load").next_fire_at == following
        if following is None:
            return


def test_jobs_that_two_prefixes_name_give_each_run_once() -> None:
    for name in ("load-git", "load-svn", "load-svn-full", "other"):
        registered(name)
        one_off(job=name)
    assert backend.search_jobs(prefix="wrong-").rows == []
    claimed = [
        run.name
        for prefix in ("load-", "load-svn")
        for job in backend.search_jobs(prefix=prefix).rows
        for run in backend.claim_ready(job.name, limit=10)
    ]
    assert claimed == ["load-git", "load-svn", "load-svn-full"]


def test_with_slots_enough_every_lane_is_let_out() -> None:
    job = fed_job(max_queue_length=100)
    for number, priority in enumerate((9, 5, 1, None)):
        waiting(job, f"asked {number}", priority)
    pooled(job, 3)
    assert feed(job).released == 4
    assert len(let_out()) == 7


@pytest.mark.parametrize("words", [("select", "--strategy", OLDEST_SCHEDULED), ("trigger",)])
def test_a_job_that_is_not_known_stops_a_command_before_it_does_anything(
    words: tuple[str, ...],
) -> None:
    pooled(fed_job("crawl"), 1)
    told = jobs(words[0], "craw", *words[1:], "--json")
    assert told.code == 2
    assert "'craw'" in told.document()["error"]
    assert not Run.objects.exists()


@pytest.mark.parametrize("text", ["\x00ab", "a\x00b", "ab\x00"])
def test_an_error_with_a_nul_anywhere_is_kept_without_it(text: str) -> None:
    run = make_run()
    begun = runs.start(run.pk, 1, worker="w", now=NOW)
    assert begun is not None
    failed = results.from_error(ValueError(text))
    assert runs.finish(run.pk, 1, token=begun.token, result=failed, now=NOW)
    run.refresh_from_db()
    assert run.state == State.FAILED
    assert run.error.rstrip().endswith(text.replace("\x00", "\N{REPLACEMENT CHARACTER}"))


# --- what is listed -------------------------------------------------------------------------------


def test_what_a_source_has_switched_off_is_found_apart() -> None:
    source = make_source()
    runs.record(source, [*numbered(3), Named("off", enabled=False)], now=NOW)
    found = [
        [row.key for row in backend.search_targets(source="customers", paused=paused).rows]
        for paused in (False, True, None)
    ]
    assert found == [["000", "001", "002"], ["off"], ["000", "001", "002", "off"]]


def test_first_looks_are_for_sources_that_want_them_and_are_not_on_trial() -> None:
    job = make_fed_job()
    for number, (express, trial) in enumerate(((True, False), (False, False), (True, True))):
        make_source(str(number), job, is_express=express, is_trial=trial, listing_ended_at=NOW)
    assert [source.name for source in waiting_for_express(job)] == ["0"]


def test_what_two_sources_name_is_worked_once() -> None:
    job = make_fed_job()
    for name in ("one", "two"):
        runs.record(make_source(name, job), names("a"), now=NOW)
    assert picked(job, OLDEST_SCHEDULED) == ["a"]
    assert Run.objects.count() == 1


def test_what_is_listed_again_has_as_many_chances_as_at_first() -> None:
    source = make_source()
    job = source.jobs.get()
    runs.record(source, names("a"), now=NOW)
    for number in range(9):
        if number and number % 3 == 0:
            runs.record(source, names("a"), now=NOW + number * HOUR)
            assert target("a").paused_at is None
        ended = Ended.FAILED if number % 2 else Ended.MISSING
        runs.observe(job, [seen("a", NOW + number * HOUR + MINUTE, ended)], now=NOW + DAY)
        assert (target("a").paused_at is not None) == (number % 3 == 2), number


def test_a_target_that_pauses_itself_takes_nothing_along() -> None:
    """Neither what others do with its resource, nor when its source has named it last."""
    git, svn = make_fed_job("git"), make_fed_job("svn")
    runs.record(make_source("forge", git, svn), names("a"), now=NOW)
    results = [seen("a", NOW + number * HOUR, Ended.FAILED) for number in (1, 2, 3)]
    runs.observe(svn, results, now=NOW + DAY)
    assert target("a", "svn").paused_by == "Beatkeeper"
    assert (target("a", "git").paused_at, target("a", "git").eligible_since) == (None, NOW)
    listing = Listing.objects.get()
    assert (listing.is_enabled, listing.last_seen_at) == (True, NOW)
    assert (listing.resource.paused_at, listing.resource.last_seen_at) == (None, NOW)


# --- what is found --------------------------------------------------------------------------------


def test_in_whatever_order_results_come_the_same_is_stored() -> None:
    job = make_job()
    orders = list(permutations(enumerate("aabb", start=1)))
    for number in range(len(orders)):
        make_target(job, str(number))
    for turn in range(4):
        results = [
            seen(str(number), NOW + order[turn][0] * HOUR, fingerprint=order[turn][1])
            for number, order in enumerate(orders)
        ]
        runs.observe(job, results, now=NOW + DAY)
    stored = Target.objects.filter(job=job)
    assert set(stored.values_list("observed_at", "found_at", "fingerprint")) == {
        (NOW + 4 * HOUR, NOW + 4 * HOUR, "b")
    }
    assert all(2 <= each.level <= 5 for each in stored)


def test_there_is_no_level_below_the_lowest() -> None:
    with pytest.raises(IntegrityError), transaction.atomic():
        make_target(level=-1)


@needs_row_locks
@pytest.mark.django_db(transaction=True)
def test_who_selects_while_results_are_folded_in_passes_over_and_takes_it_afterwards() -> None:
    job = fed_job(cooldowns=NONE)
    pooled(job, 2)
    errors: list[Exception] = []
    taken: list[str] = []
    with transaction.atomic():
        runs.observe(job, [seen("000", NOW, fingerprint="x")], now=NOW)
        thread = in_thread(lambda: taken.extend(picked(job, OLDEST_SCHEDULED)), errors)
        thread.join(20)
    assert (taken, errors) == (["001"], [])
    assert picked(job, OLDEST_SCHEDULED, now=NOW + HOUR) == ["000"]
    found = Target.objects.get(key="000")
    assert (found.last_scheduled_at, found.fingerprint) == (NOW + HOUR, "x")


# --- what is picked -------------------------------------------------------------------------------


def test_the_stalest_are_picked_of_what_was_listed_and_found() -> None:
    job = make_job("check", feed=Feed(cooldowns=NONE).as_json())
    source = make_source("customers", job)
    items = [Named(f"{number:02}", hint_at=NOW - number * DAY) for number in range(100)]
    runs.record(source, items, now=NOW)
    # Every second is found at the time of the hint of one among them.
    middle = NOW - 51 * DAY
    results = [seen(f"{number:02}", middle, fingerprint="x") for number in range(1, 100, 2)]
    assert runs.observe(job, results, now=NOW).folded == 50
    assert picked(job, STALEST) == [f"{number:02}" for number in range(1, 51, 2)]


def test_until_success_goes_on_until_all_has_been_found() -> None:
    job = fed_job(cooldowns=NONE)
    pooled(job, 100, hint_at=NOW)
    at, found = NOW, []
    for _ in range(3):
        picks = picked(job, UNTIL_SUCCESS, 50, now=at)
        found.append(len(picks))
        for run in Run.objects.queued():
            begun = runs.start(run.pk, 1, worker="w", now=at)
            assert begun is not None
            done = runs.Result(state=State.SUCCEEDED)
            assert runs.finish(run.pk, 1, token=begun.token, result=done, now=at + MINUTE)
        at += HOUR
    assert found == [50, 50, 0]
    assert Run.objects.count() == 100


@pytest.mark.parametrize("words", [(), ("--cooldowns", "absolute=12h")])
def test_at_the_command_line_failures_rest_14_days_and_what_is_missing_31(
    words: tuple[str, ...],
) -> None:
    job = make_fed_job("crawl")
    make_source("forge", job)
    now = clock.now()
    for key, ago, ended in (
        *(("f13", 13, Ended.FAILED), ("f15", 15, Ended.FAILED)),
        *(("m30", 30, Ended.MISSING), ("m32", 32, Ended.MISSING)),
    ):
        runs.add_target(job, key, now=now - 40 * DAY)
        runs.observe(job, [seen(key, now - ago * DAY, ended)], now=now - ago * DAY)
    runs.thaw(now=now, limit=10)
    asked = ("select", "crawl", "--strategy", OLDEST_SCHEDULED, "--dry-run", "--json", *words)
    assert [row["key"] for row in jobs(*asked).document()] == ["f15", "m32"]


# --- how many -------------------------------------------------------------------------------------


def divided(job: Job) -> dict[str, int]:
    """Feed a job that has enough for each strategy, but for one."""
    pooled(job, 50, hint_at=NOW)
    pooled(job, 50, hint_at=NOW, found_at=NOW - DAY, ok_since=NOW - DAY, staleness=DAY)
    pooled(job, 50)
    return dict(feed(job).picked)


def test_a_feed_that_says_nothing_divides_its_slots_by_40_40_20() -> None:
    job = registered(feed={"max_queue_length": 10})
    assert divided(job) == {STALEST: 4, NEVER_CHECKED: 4, WITHOUT_HINT: 2}


def test_shares_of_its_own_replace_the_usual_ones_of_that_job_alone() -> None:
    own = registered("load", feed={"max_queue_length": 10, "shares": {UNTIL_SUCCESS: 100}})
    usual = registered("list", feed={"max_queue_length": 10})
    assert divided(own) == {UNTIL_SUCCESS: 10}
    assert divided(usual).keys() == {STALEST, NEVER_CHECKED, WITHOUT_HINT}


@pytest.mark.parametrize("slots", [1, 10, 50])
def test_of_few_slots_none_is_left_unspent(slots: int) -> None:
    shares = {STALEST: 49, NEVER_CHECKED: 49, WITHOUT_HINT: 2}
    assert sum(divided(fed_job(shares=shares, max_queue_length=slots)).values()) == slots


# --- what is counted ------------------------------------------------------------------------------


@pytest.mark.django_db(transaction=True)
def test_coverage_follows_listings_and_results() -> None:
    source = make_source("forge", make_job("load", feed={"shares": {}}))
    runs.record(source, names("changed", "fresh", "failed", "unknown", hint_at=NOW), now=NOW)
    runs.record(source, names("disabled", enabled=False), now=NOW)
    results = [seen(key, NOW + HOUR, fingerprint="x") for key in ("changed", "fresh")]
    runs.observe(
        source.jobs.get(), [*results, seen("failed", NOW + HOUR, Ended.FAILED)], now=NOW + HOUR
    )
    runs.record(source, names("changed", hint_at=NOW + DAY), now=NOW + DAY)
    assert figures("load") == figures("load", "forge") == {"load": (5, 4, 2, 1)}
