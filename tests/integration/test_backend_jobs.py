"""Jobs and targets through the backend: made once, looked up, searched page by page, set."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import pytest

from scheduling import Every, backend, clock, runs
from scheduling.errors import (
    InvalidDeclaration,
    InvalidRequest,
    InvalidSchedule,
    JobRetired,
    UnknownJob,
)
from scheduling.models import (
    Cause,
    Job,
    Parked,
    Run,
    ScheduleStretch,
    Source,
    State,
    Target,
)
from tests.factories import NOW, make_job, make_run, make_target
from tests.integration.backend_jobs import HOUR, registered

pytestmark = pytest.mark.django_db

FEED = {"max_queue_length": 10}


# --- jobs -----------------------------------------------------------------------------------------


def test_a_job_is_registered_once_and_then_left_untouched() -> None:
    first = backend.register_job("load", task="a.b", schedule="every 1h", retries=7)
    again = backend.register_job("load", task="c.d", schedule="every 2h")
    assert again == first
    assert (again.task, again.schedule, again.retries) == ("a.b", "every 1h", 7)
    assert first.targets.get().next_fire_at is not None
    assert backend.get_job("lode") is None


def test_a_job_with_keys_has_no_plain_target() -> None:
    assert not registered("keyed", keyed=True).targets.exists()
    assert not registered("fed", feed=FEED).targets.exists()


@pytest.mark.parametrize(
    ("said", "words"),
    [
        ({}, "nothing; give one of task, command and program"),
        ({"task": "a.b", "command": "c"}, "a.b, c; give one"),
        ({"task": "a.b", "should_run": print}, "should_run is a function"),
        ({"task": "a.b", "colour": 1}, "'colour'; known are"),
        ({"task": "a.b", "schedule": "adaptive 64d"}, "adaptive"),
        ({"task": "a.b", "retries": -1}, "-1"),
    ],
)
def test_a_job_that_cannot_be_is_named(said: dict[str, object], words: str) -> None:
    with pytest.raises(InvalidDeclaration, match=words):
        backend.register_job("load", **said)  # type: ignore[arg-type]
    assert backend.get_job("load") is None


def test_jobs_are_searched_by_every_filter() -> None:
    Job.objects.all().delete()
    one = registered("load git", feed=FEED)
    other = registered("load svn", circuit="west")
    backend.set_jobs("load svn", "paused")
    third = backend.register_job("write", command="scribble")
    backend.set_jobs(["write"], "retired")
    for asked, found in (
        ({}, [one, other, third]),
        ({"order": "-name"}, [third, other, one]),
        ({"name": ["load git", "write"]}, [one, third]),
        ({"prefix": "load"}, [one, other]),
        ({"state": "active"}, [one]),
        ({"state": ["paused", "retired"]}, [other, third]),
        ({"kind": "command"}, [third]),
        ({"declared_in": "function"}, []),
        ({"circuit": "west"}, [other]),
        ({"fed": True}, [one]),
        ({"fed": False, "prefix": "l"}, [other]),
    ):
        assert backend.search_jobs(**asked).rows == found, asked


def test_jobs_are_set_in_bulk_or_not_at_all() -> None:
    one, other = registered("one", schedule="every 1h"), registered("other", schedule="every 1h")
    assert backend.set_jobs(["one", "other"], "paused", by="ann", reason="r") == [one, other]
    assert backend.set_jobs(["one"], "paused") == []
    with pytest.raises(UnknownJob, match="'no', 'none'"):
        backend.set_jobs(["one", "none", "no"], "retired")
    one.refresh_from_db()
    assert (one.retired_at, one.paused_by) == (None, "ann")
    backend.set_jobs("one", "retired")
    assert backend.set_jobs(["one", "other"], "active") == [one, other]
    for job in (one, other):
        job.refresh_from_db()
        assert (job.retired_at, job.paused_at) == (None, None)
    with pytest.raises(InvalidRequest, match="'disabled'; known are active"):
        backend.set_jobs("one", "disabled")  # type: ignore[arg-type]


# --- making targets -------------------------------------------------------------------------------


def new(number: int, **fields: object) -> list[backend.NewTarget]:
    return [
        backend.NewTarget(job="load", key=f"k{n:03}", **fields)  # type: ignore[arg-type]
        for n in range(number)
    ]


def test_targets_are_made_once() -> None:
    registered(keyed=True)
    wanted = new(100, schedule="adaptive 64d between 12h and 64d factor 2")
    first = backend.create_targets([*wanted, *wanted])
    again = backend.create_targets(wanted)
    assert [target.pk for target in first[:100]] == [target.pk for target in first[100:]]
    assert [target.pk for target in again] == [target.pk for target in first[:100]]
    assert [target.key for target in again] == [each.key for each in wanted]
    assert Target.objects.filter(job__name="load").count() == 100
    assert {target.next_fire_at is None for target in again} == {False}


def test_a_target_that_is_there_is_left_untouched() -> None:
    registered(keyed=True)
    (first,) = backend.create_targets(new(1, schedule=Every(HOUR), kwargs={"a": 1}))
    (again,) = backend.create_targets(new(1, schedule="every 2h", kwargs={"a": 2}))
    assert (again.pk, again.schedule, again.kwargs) == (first.pk, "every 1h", {"a": 1})


def test_targets_made_in_bulk_are_like_those_made_one_by_one() -> None:
    for how in (
        {"schedule": "every 1h"},
        {"schedule": "every 1h after end"},
        {"schedule": "every 1h", "first_run": "now"},
        {"schedule": "every 1h", "first_run": clock.now() + HOUR},
        {"feed": FEED},
        {"feed": FEED, "schedule": "every 1h"},
    ):
        Job.objects.all().delete()
        Run.objects.all().delete()
        job = registered(keyed=True, **how)
        now = clock.now()
        alone = runs.add_target(job, "a", now=now)
        (target,) = backend.create_targets([backend.NewTarget(job="load", key="b")])
        alone.refresh_from_db()
        target.refresh_from_db()
        assert target.parked == alone.parked
        assert (target.eligible_since is None) == (alone.eligible_since is None)
        assert (target.next_fire_at is None) == (alone.next_fire_at is None)
        causes = [
            list(Run.objects.filter(target=each).values_list("cause", "requested_by", "state"))
            for each in (alone, target)
        ]
        assert causes[0] == causes[1], how
        stretches = ScheduleStretch.objects.filter(target__in=[alone, target])
        assert stretches.count() in (0, 2)


def test_a_resource_is_made_with_its_targets() -> None:
    registered("load", keyed=True, schedule="every 1h")
    wanted = [
        backend.NewTarget(job="load", key=f"{kind} west", resource="west")
        for kind in ("git", "svn")
    ]
    git, svn = backend.create_targets(wanted)
    assert git.resource is not None
    assert git.resource == svn.resource
    assert git.resource.key == "west"


@pytest.mark.parametrize(
    ("wanted", "error", "words"),
    [
        ({"job": "lode", "schedule": "every 1h"}, UnknownJob, "'lode'"),
        ({}, InvalidRequest, "would never come up"),
        ({"job": "old", "schedule": "every 1h"}, JobRetired, "'old'"),
        ({"schedule": "adaptive 64d factor 2"}, InvalidSchedule, "adaptive"),
        ({"schedule": "always"}, InvalidSchedule, "always"),
        ({"key": "x" * 301}, InvalidRequest, "300"),
    ],
)
def test_a_target_that_cannot_be_is_named_and_nothing_is_made(
    wanted: dict[str, Any], error: type[Exception], words: str
) -> None:
    registered(keyed=True)
    runs.retire(registered("old", keyed=True), now=clock.now())
    with pytest.raises(error, match=words):
        backend.create_targets(
            [
                *new(2, schedule="every 1h"),
                backend.NewTarget(**{"job": "load", "key": "x", **wanted}),
            ]
        )
    assert not Target.objects.filter(job__name__in=("load", "old")).exists()


def test_a_target_may_be_for_runs_by_hand_alone_if_that_is_said() -> None:
    registered(keyed=True)
    (target,) = backend.create_targets(new(1, schedule="manual"))
    assert (target.next_fire_at, target.parked) == (None, "")


# --- searching targets ----------------------------------------------------------------------------


def test_targets_are_searched_by_every_filter() -> None:
    Job.objects.all().delete()
    job, svn = make_job("git"), make_job("svn")
    west = Source.objects.create(name="west")
    one = make_target(job, "https://a/1", source=west, next_fire_at=NOW, last_state="succeeded")
    two = make_target(job, "https://a/2", last_state="failed", misses=2, next_fire_at=NOW + HOUR)
    three = make_target(
        svn,
        "b",
        last_state="succeeded",
        last_outcome="missing",
        paused_at=NOW,
        failing_since=None,
        misses=1,
    )
    four = make_target(svn, "c", retired_at=NOW, parked=Parked.RETIRED)
    Target.objects.filter(pk=one.pk).update(last_outcome="changed")
    for asked, found in (
        ({}, [one, two, three, four]),
        ({"job": "git"}, [one, two]),
        ({"job": ["git", "svn"], "key": ["b", "https://a/1"]}, [one, three]),
        ({"key_prefix": "https://a/"}, [one, two]),
        ({"key_prefix": ["b", "c"]}, [three, four]),
        ({"state": "active"}, [one, two]),
        ({"state": ["paused", "retired"]}, [three, four]),
        ({"outcome": "changed"}, [one]),
        ({"outcome": ["failed", "missing"]}, [two, three]),
        ({"outcome": "never"}, [four]),
        ({"paused": True}, [three]),
        ({"paused": False, "job": "svn"}, [four]),
        ({"source": "west"}, [one]),
        ({"due_before": NOW}, [one]),
        ({"due_after": NOW + HOUR, "due_before": NOW + HOUR}, [two]),
        ({"failing": True}, [two, three]),
        ({"failing": False}, [one, four]),
        ({"order": "-next_fire_at"}, [two, one, three, four]),
        ({"order": "job", "limit": 3}, [one, two, three]),
        ({"order": "-key"}, [two, one, four, three]),
    ):
        assert backend.search_targets(**asked).rows == found, asked


@pytest.mark.parametrize("order", ["id", "-id", "key", "next_fire_at", "-next_fire_at", "job"])
@pytest.mark.parametrize("limit", [1, 3, 7, 20])
def test_pages_neither_skip_nor_repeat_whatever_is_made_meanwhile(order: str, limit: int) -> None:
    Job.objects.all().delete()
    job = make_job("load")
    for n in range(20):
        # Equal values and none at all, across the edges of pages
        due = None if n % 3 == 0 else NOW + (n // 4) * HOUR
        make_target(job, f"k{n:02}", next_fire_at=due)
    there = {target.key for target in Target.objects.all()}
    seen: list[str] = []
    after = None
    while True:
        page = backend.search_targets(order=order, limit=limit, after=after)
        seen += [target.key for target in page.rows]
        if page.next is None:
            break
        after = page.next
        if len(seen) < len(there):
            make_target(job, f"before {len(seen)}", next_fire_at=NOW - HOUR)
            make_target(job, f"z {len(seen)}", next_fire_at=None)
    assert len(seen) == len(set(seen))
    assert there <= set(seen)


def test_a_page_that_is_just_full_is_the_last() -> None:
    Job.objects.all().delete()
    make_target(make_job("a"), "x")
    page = backend.search_targets(limit=1)
    assert (len(page.rows), page.next) == (1, None)


@pytest.mark.parametrize(
    "token", ["", "fred", "e30", "W10", "WzEsMiwzXQ", "ü", "W251bGwsbnVsbCxudWxsXQ"]
)
def test_a_token_that_is_none_is_a_clear_error(token: str) -> None:
    with pytest.raises(InvalidRequest, match="token"):
        backend.search_targets(after=token)


def test_a_token_of_another_order_is_a_clear_error() -> None:
    job = make_job()
    make_target(job, "a")
    make_target(job, "b")
    token = backend.search_targets(limit=1, order="key").next
    with pytest.raises(InvalidRequest, match="of the order 'key', and this search has '-key'"):
        backend.search_targets(after=token, order="-key")


def test_runs_for_listed_targets_are_made_page_by_page() -> None:
    """70 targets in pages of 20 are four pages; who stops after the third goes on there."""
    job = registered("load", keyed=True)
    for n in range(70):
        make_target(job, f"k{n:02}")
    pages: list[backend.Page[Target]] = []
    after = None
    while after is not None or not pages:
        page = backend.search_targets(job="load", order="key", limit=20, after=after)
        pages.append(page)
        after = page.next
        backend.create_runs([backend.NewRun(job="load", key=row.key) for row in page.rows])
    assert [len(page.rows) for page in pages] == [20, 20, 20, 10]
    assert Run.objects.filter(job=job).count() == 70
    rest = backend.search_targets(job="load", order="key", limit=20, after=pages[2].next)
    assert rest.rows == pages[3].rows


# --- setting targets ------------------------------------------------------------------------------


def test_targets_are_set_in_bulk() -> None:
    registered(keyed=True, schedule="every 1h")
    one, two, three = backend.create_targets(new(3))
    assert backend.set_targets([two.pk, one.pk, 0], "paused", by="ann", reason="r") == [one, two]
    assert backend.set_targets([one.pk], "paused") == []
    assert backend.set_targets([two.pk], "retired") == [two]
    assert backend.set_targets([one.pk, two.pk, three.pk], "active") == [one, two]
    for target in backend.get_targets([one.pk, two.pk, three.pk]):
        assert (target.paused_at, target.retired_at, target.parked) == (None, None, "")
        assert target.next_fire_at is not None


def test_what_has_come_to_its_end_is_left_as_it_is_if_that_is_asked_for() -> None:
    registered(keyed=True)
    past = (clock.now() + timedelta(seconds=1)).isoformat()
    once, recurring = backend.create_targets(
        [
            backend.NewTarget(job="load", key="once", schedule=f"once {past}"),
            backend.NewTarget(job="load", key="recurring", schedule="every 1h"),
        ]
    )
    runs.claim(now=clock.now() + timedelta(seconds=2), limit=100)
    run = Run.objects.get(target=once)
    assert run.cause == Cause.SCHEDULE
    backend.end_run(run.pk)
    ids = [once.pk, recurring.pk]
    assert backend.set_targets(ids, "paused", except_completed=True) == [recurring]
    assert Run.objects.get(target=once).state == State.SUCCEEDED


def test_targets_are_given_in_the_order_of_their_ids() -> None:
    job = make_job()
    one, two = make_target(job, "a"), make_target(job, "b")
    assert backend.get_targets([two.pk, 0, one.pk]) == [two, one]


# --- metrics and selection ------------------------------------------------------------------------


@pytest.mark.django_db(transaction=True)
def test_coverage_is_kept_and_counted_anew() -> None:
    registered(feed=FEED)
    backend.create_targets(new(3))
    (kept,) = backend.get_coverage("load")
    assert (kept.known, kept.never_checked) == (3, 3)
    Target.objects.filter(key="k000").delete()
    (anew,) = backend.update_coverage("load")
    assert anew.known == 2
    assert backend.get_coverage("lode") == []
    with pytest.raises(UnknownJob):
        backend.update_coverage("lode")


def test_targets_are_picked_once() -> None:
    registered(feed=FEED)
    backend.create_targets(new(3))
    dry = backend.select("load", "oldest_scheduled", 2, dry_run=True)
    first = backend.select("load", "oldest_scheduled", 2)
    rest = backend.select("load", "oldest_scheduled", 2)
    assert [pick.key for pick in dry] == [pick.key for pick in first]
    assert {pick.key for pick in (*first, *rest)} == {"k000", "k001", "k002"}
    assert not Run.objects.filter(job__name="load").exclude(cause=Cause.SCHEDULE).exists()
    assert make_run().state == State.QUEUED
