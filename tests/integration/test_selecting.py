"""Selecting: the strategies, their cooldowns, and claims that exclude each other."""

from __future__ import annotations

import random
from concurrent.futures import ThreadPoolExecutor
from datetime import timedelta
from typing import Any
from uuid import UUID

import pytest
from django.db import connection, connections

from scheduling import runs, selection, strategies
from scheduling.errors import NotFed, UnknownStrategy
from scheduling.feeds import (
    BUILT_IN,
    EXPRESS,
    NEVER_CHECKED,
    OLDEST_SCHEDULED,
    STALEST,
    UNTIL_SUCCESS,
    WITHOUT_HINT,
    Cooldowns,
    Feed,
)
from scheduling.models import Cause, Feeder, Job, Run, Source, State, Target
from scheduling.models.target import TargetQuerySet
from scheduling.runs import pool, selecting
from scheduling.runs.selecting import outside_cooldowns
from scheduling.selection import Candidate
from tests.factories import NOW, make_job, make_run, make_target

pytestmark = pytest.mark.django_db
HOUR, DAY = timedelta(hours=1), timedelta(days=1)


@pytest.fixture
def job() -> Job:
    job = make_job(feed=Feed().as_json())
    Feeder.objects.create(job=job)
    return job


def pooled(job: Job, key: str, **fields: Any) -> Target:
    return make_target(job, key, **{"eligible_since": NOW - DAY, **fields})


def keys(job: Job, strategy: str, count: int = 100, **options: Any) -> list[str]:
    options.setdefault("now", NOW)
    return [pick.key for pick in runs.select(job, strategy, count, **options)]


def end(run_id: UUID | None) -> None:
    """End a queued run without a result, as somebody who cancels it does."""
    assert run_id is not None
    runs.cancel(run_id, by="somebody", now=NOW)


def test_a_pick_queues_a_run_and_leaves_the_pool(job: Job) -> None:
    target = pooled(job, "a", kwargs={"depth": 2})
    (pick,) = runs.select(job, OLDEST_SCHEDULED, 10, now=NOW)
    run = Run.objects.get()
    assert (run.pk, run.target_id, run.job_id) == (pick.run_id, target.pk, job.pk)
    assert (run.key, run.name, run.cause) == ("a", job.name, Cause.SCHEDULE)
    assert (run.state, run.strategy, run.scheduled_at) == (State.QUEUED, OLDEST_SCHEDULED, NOW)
    assert (run.publish_at, run.start_by, run.exclusive) == (NOW, None, True)
    target.refresh_from_db()
    assert target.last_scheduled_at == NOW
    assert (target.eligible_since, target.eligible_at) == (None, NOW + 7 * DAY)


def test_picking_twice_finds_nothing_and_all_again_after_seven_days(job: Job) -> None:
    for key in "abc":
        pooled(job, key)
    picks = runs.select(job, OLDEST_SCHEDULED, 7, now=NOW)
    assert len(picks) == 3  # more was asked for than there is
    assert keys(job, OLDEST_SCHEDULED) == []
    assert len(picks) == Run.objects.count()
    Run.objects.all().delete()  # nobody knows what has become of them
    assert runs.thaw(now=NOW + 7 * DAY, limit=100) == 0
    assert runs.thaw(now=NOW + 7 * DAY + timedelta.resolution, limit=100) == 3
    assert len(keys(job, OLDEST_SCHEDULED, now=NOW + 8 * DAY)) == 3


def test_never_picked_comes_first_then_the_oldest(job: Job) -> None:
    pooled(job, "newer", last_scheduled_at=NOW - DAY)
    pooled(job, "older", last_scheduled_at=NOW - 3 * DAY)
    pooled(job, "never")
    assert keys(job, OLDEST_SCHEDULED) == ["never", "older", "newer"]


def test_what_nobody_knows_of_is_for_some_strategies_only(job: Job) -> None:
    hinted = {"hint_at": NOW - DAY}
    for fields, wanted in (
        ({}, {OLDEST_SCHEDULED, UNTIL_SUCCESS, WITHOUT_HINT}),
        (hinted, {OLDEST_SCHEDULED, UNTIL_SUCCESS, NEVER_CHECKED}),
    ):
        Target.objects.all().delete()
        pooled(job, "a", **fields)
        found = {
            name
            for name in BUILT_IN
            if name != EXPRESS and runs.select(job, name, 1, now=NOW, dry_run=True)
        }
        assert found == wanted


def test_the_stalest_are_those_that_changed_since_they_were_found(job: Job) -> None:
    middle = NOW - 50 * DAY
    for number in range(100):
        found = middle if number % 2 else None
        hint = NOW - number * DAY
        stale = hint - found if found and hint > found else None
        pooled(job, str(number), found_at=found, ok_since=found, hint_at=hint, staleness=stale)
    # 49 of the odd ones have a newer hint; what was found at the hint's own moment is fresh.
    assert keys(job, STALEST) == [str(number) for number in range(100) if number % 2][:25]


def test_until_success_leaves_what_was_found(job: Job) -> None:
    for number in range(100):
        pooled(job, f"{number:02}", hint_at=NOW - DAY * (100 - number))
    first = runs.select(job, UNTIL_SUCCESS, 50, now=NOW)
    assert [pick.key for pick in first] == [f"{number:02}" for number in range(50)]
    Target.objects.filter(pk__in=[pick.target_id for pick in first]).update(
        ok_since=NOW, eligible_at=None, eligible_since=NOW
    )
    Run.objects.all().delete()
    second = runs.select(job, UNTIL_SUCCESS, 100, now=NOW)
    assert [pick.key for pick in second] == [f"{number:02}" for number in range(50, 100)]
    assert keys(job, UNTIL_SUCCESS) == []


def test_the_virtual_clock_goes_to_the_highest_position_and_never_back(job: Job) -> None:
    pooled(job, "far", position=500)
    pooled(job, "near", position=70)
    pooled(job, "new")
    assert keys(job, WITHOUT_HINT, 2) == ["new", "near"]
    assert Feeder.objects.get().position == 70
    Feeder.objects.update(position=900)
    assert keys(job, WITHOUT_HINT) == ["far"]
    assert Feeder.objects.get().position == 900


def test_express_takes_what_one_source_has_found(job: Job) -> None:
    ours = Source.objects.create(name="ours", listing_ended_at=NOW, is_express=True)
    theirs = Source.objects.create(name="theirs", listing_ended_at=NOW)
    pooled(job, "theirs", source=theirs)
    pooled(job, "before the listing", source=ours, last_scheduled_at=NOW - HOUR)
    pooled(job, "since the listing", source=ours, last_scheduled_at=NOW)
    pooled(job, "new", source=ours)
    assert keys(job, EXPRESS, source=ours, dry_run=True) == ["new", "before the listing"]
    ours.express_done_at = NOW
    assert keys(job, EXPRESS, source=ours, dry_run=True) == ["new"]
    with pytest.raises(UnknownStrategy, match="name the source"):
        runs.select(job, EXPRESS, 1, now=NOW)


class ByKey(strategies.Strategy):
    """A team's own: long keys, in reverse."""

    ordering = ("-key",)

    def filter(self, targets: TargetQuerySet, now: object) -> TargetQuerySet:
        return targets.filter(key__contains="long")


def test_a_team_has_strategies_of_its_own(job: Job) -> None:
    for key in ("long a", "long b", "c"):
        pooled(job, key)
    assert keys(job, f"{__name__}:ByKey") == ["long b", "long a"]
    assert Run.objects.first().strategy.endswith(":ByKey")  # type: ignore[union-attr]


@pytest.mark.parametrize(
    "name", ["newest", "tests.nowhere:It", f"{__name__}:NOW", f"{__name__}:No"]
)
def test_an_unknown_strategy_is_named(job: Job, name: str) -> None:
    with pytest.raises(UnknownStrategy, match=name):
        runs.select(job, name, 1, now=NOW)


def test_a_job_without_a_feed_is_not_picked_from() -> None:
    with pytest.raises(NotFed, match="is not fed"):
        runs.select(make_job(), OLDEST_SCHEDULED, 1, now=NOW)


def test_counts(job: Job) -> None:
    pooled(job, "a")
    assert runs.select(job, OLDEST_SCHEDULED, 0, now=NOW) == []
    with pytest.raises(ValueError, match="-1"):
        runs.select(job, OLDEST_SCHEDULED, -1, now=NOW)


def test_a_target_with_an_open_run_waits_for_its_end(job: Job) -> None:
    busy = pooled(job, "busy")
    pooled(job, "free")
    run = make_run(busy, created_at=NOW)
    assert keys(job, OLDEST_SCHEDULED) == ["free"]
    busy.refresh_from_db()
    assert (busy.last_scheduled_at, busy.eligible_since) == (None, None)
    end(run.pk)
    busy.refresh_from_db()
    assert busy.eligible_since == NOW


@pytest.mark.parametrize("name", [OLDEST_SCHEDULED, WITHOUT_HINT])
def test_open_runs_at_the_head_hide_nothing_that_is_behind_them(job: Job, name: str) -> None:
    """... and nothing of a later stage comes before it."""
    for number in range(5):
        make_run(pooled(job, f"busy {number}"))
    for number in range(5):
        pooled(job, f"free {number}")
    pooled(job, "later", last_scheduled_at=NOW - DAY, position=3)
    assert keys(job, name, 5, dry_run=True) == [f"free {number}" for number in range(5)]
    assert sorted(keys(job, name, 5)) == [f"free {number}" for number in range(5)]
    assert keys(job, name, 5) == ["later"]


def test_a_claim_of_as_many_as_were_asked_for_is_one_claim(
    job: Job, monkeypatch: pytest.MonkeyPatch
) -> None:
    asked: list[int] = []
    for name in ("_claim_at_once", "_claim_by_rows"):
        real = getattr(selecting, name)

        def counted(stage: Any, count: int, real: Any = real, **how: Any) -> Any:
            asked.append(count)
            return real(stage, count, **how)

        monkeypatch.setattr(selecting, name, counted)
    for number in range(5):
        pooled(job, str(number))
    assert len(keys(job, STALEST, 3)) == 0
    assert len(keys(job, NEVER_CHECKED, 3)) == 0
    assert len(keys(job, OLDEST_SCHEDULED, 3)) == 3
    assert asked == [3, 3, 3]


def test_jobs_do_not_take_each_others_targets(job: Job) -> None:
    other = make_job(feed=Feed().as_json())
    pooled(job, "a")
    pooled(other, "a")
    assert keys(job, OLDEST_SCHEDULED) == ["a"]
    assert keys(other, OLDEST_SCHEDULED) == ["a"]


def inventory(job: Job, seed: int, size: int = 60) -> list[Target]:
    """Targets with any history that there can be."""
    chance = random.Random(seed)

    def moment(days: int = 40) -> object:
        return chance.choice([None, NOW - chance.randrange(days * 24) * HOUR])

    targets = []
    for number in range(size):
        state, outcome = chance.choice(
            [("", ""), ("failed", ""), ("succeeded", "missing"), ("succeeded", "changed")]
        )
        found, hint = moment(), moment()
        fields = {
            "last_scheduled_at": moment(),
            "observed_at": moment() if state else None,
            "found_at": found,
            "ok_since": found if outcome == "changed" else None,
            "hint_at": hint,
            "staleness": hint - found if hint and found and hint > found else None,  # type: ignore[operator]
            "position": chance.choice([None, 0, chance.randrange(1000)]),
            "last_state": state,
            "last_outcome": outcome,
        }
        targets.append(pooled(job, f"{seed}/{number}", **fields))
    return targets


@pytest.mark.parametrize("name", sorted(set(BUILT_IN) - {EXPRESS}))
@pytest.mark.parametrize("seed", [1, 2])
def test_the_database_orders_as_the_pure_rule_does(job: Job, name: str, seed: int) -> None:
    inventory(job, seed)
    order = selection.order_of(name)
    wanted = []
    for target in Target.objects.filter(job=job):
        candidate = Candidate(
            **{field: getattr(target, field) for field in Candidate.__dataclass_fields__}
        )
        if (rank := order(candidate)) is not None:
            wanted.append((rank, target.key))
    assert keys(job, name, 1000, dry_run=True) == [key for _, key in sorted(wanted)]


@pytest.mark.parametrize(
    "cooldowns",
    [
        Cooldowns(),
        Cooldowns(absolute=None, in_flight=5 * DAY, failed=None, missing=3 * DAY),
        Cooldowns(absolute=5 * DAY, in_flight=None, failed=2 * DAY, missing=None),
    ],
)
def test_the_pool_and_the_query_keep_the_same_cooldowns(job: Job, cooldowns: Cooldowns) -> None:
    job.feed = Feed(cooldowns=cooldowns).as_json()
    job.save()
    targets = inventory(job, 3)
    pool.place_all([target.pk for target in targets], now=NOW)
    runs.thaw(now=NOW, limit=1000)
    by_query = set(outside_cooldowns(job, cooldowns, now=NOW).values_list("key", flat=True))
    by_pool = set(strategies.pool_of(job.pk).values_list("key", flat=True))
    assert by_pool == by_query
    assert 0 < len(by_pool) < len(targets)


def test_open_runs_are_asked_for_target_by_target(job: Job) -> None:
    """By EXISTS, PostgreSQL would read all of them, whosever they are."""
    assert "EXISTS" not in str(outside_cooldowns(job, Cooldowns(), now=NOW).query)


def test_what_a_strategy_picks_is_read_from_its_index(job: Job) -> None:
    """Whatever cools down at the head of an order: a plan that sorted would read all of it."""
    if connection.vendor != "postgresql":
        pytest.skip("the plans of PostgreSQL")
    Target.objects.bulk_create(
        Target(
            job=job,
            key=str(number),
            **{"eligible_at": NOW + DAY} if number % 2 else {"eligible_since": NOW},
            hint_at=NOW - HOUR * number,
        )
        for number in range(4000)
    )
    with connection.cursor() as cursor:
        cursor.execute("ANALYZE scheduling_target")
    for name in sorted(set(BUILT_IN) - {EXPRESS}):
        for stage in strategies.stages(name, strategies.pool_of(job.pk), now=NOW):
            plan = stage.values("pk")[:10].explain()
            assert "target_pool_" in plan, f"{name}: {plan}"
            assert "Sort" not in plan, f"{name}: {plan}"


@pytest.mark.django_db(transaction=True)
def test_two_selectors_never_take_the_same_target(job: Job) -> None:
    for number in range(400):
        pooled(job, str(number))

    def take() -> list[str]:
        try:
            found: list[str] = []
            while picks := runs.select(job, OLDEST_SCHEDULED, 7, now=NOW):
                found += [pick.key for pick in picks]
            return found
        finally:
            connections.close_all()

    with ThreadPoolExecutor(4) as threads:
        taken = [
            key for future in [threads.submit(take) for _ in range(4)] for key in future.result()
        ]
    # Who finds all rows held by others stops early; what is left is still in the pool.
    taken += keys(job, OLDEST_SCHEDULED, 1000)
    assert sorted(taken) == sorted(str(number) for number in range(400))
    assert Run.objects.count() == 400
