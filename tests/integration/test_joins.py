"""Joins: a follower runs once, after all of several jobs under one root run."""

from __future__ import annotations

import random

import pytest
from django.db.models.signals import post_init

from scheduling import runs
from scheduling.graphs import edges_of, reachable
from scheduling.models import FollowUp, Job, Run
from scheduling.runs import joins
from tests.factories import NOW, make_job
from tests.integration.chains import (
    BROKEN,
    DONE,
    LATER,
    STOPPED,
    begin,
    decline,
    end,
    follower,
    followers,
    job,
    join,
    make_diamond,
    tie,
    trigger,
)

pytestmark = pytest.mark.django_db

diamond = pytest.fixture(make_diamond)


def test_a_join_runs_once_when_the_last_of_its_jobs_has_succeeded(diamond: dict[str, Job]) -> None:
    first = end(trigger(diamond["first"]))
    end(follower("right"))
    assert followers("last") == []
    left = end(follower("left"), now=LATER)
    last = follower("last")
    assert (last.root, last.parent, last.joined, last.depth) == (first, left, True, 2)
    assert last.rule == FollowUp.objects.get(job=diamond["left"], follower=diamond["last"])


def test_each_root_run_has_a_join_of_its_own(diamond: dict[str, Job]) -> None:
    roots = [end(trigger(diamond["first"])) for _ in range(2)]
    for run in followers("left"):
        end(run)
    assert followers("last") == []
    for run in followers("right"):
        end(run)
    assert {run.root for run in followers("last")} == set(roots)
    assert len(followers("last")) == 2


def test_a_join_whose_job_has_failed_does_not_run(diamond: dict[str, Job]) -> None:
    end(trigger(diamond["first"]))
    end(follower("left"), BROKEN)
    end(follower("right"))
    assert followers("last") == []


@pytest.mark.parametrize(
    ("on", "result", "expected"),
    [
        ("any", DONE, 1),
        ("any", BROKEN, 1),
        ("any", STOPPED, 0),
        ("failure", DONE, 0),
        ("failure", BROKEN, 1),
        ("success", STOPPED, 0),
    ],
)
def test_a_join_obeys_the_rule_of_each_job(on: str, result: runs.Result, expected: int) -> None:
    a, b, c = job("a"), job("b"), job("c")
    tie(a, b, "any")
    join(c, a)
    tie(b, c, on, join=True)
    end(trigger(a))
    end(follower("b"), result)
    assert len(followers("c")) == expected


def test_a_join_may_wait_for_the_first_run_itself() -> None:
    a, b, c = job("a"), job("b"), job("c")
    tie(a, b)
    join(c, a, b)
    first = end(trigger(a))
    end(follower("b"))
    assert (follower("c").root, follower("c").joined) == (first, True)


def test_jobs_that_ran_by_themselves_are_not_joined() -> None:
    a, b, c = job("a"), job("b"), job("c")
    join(c, a, b)
    end(trigger(a))
    end(trigger(b))
    assert followers("c") == []


def test_a_join_waits_for_every_target() -> None:
    a, b, c = job("a"), job("b", "north", "south"), job("c")
    tie(a, b)
    join(c, b)
    end(trigger(a))
    north, south = followers("b")
    end(south)
    assert followers("c") == []
    end(north)
    assert follower("c").parent == north


def test_a_join_waits_for_what_may_still_lead_to_its_jobs() -> None:
    """b[north] has ended, but b[south] is yet to come."""
    first, a, b, c = job("first"), job("a", "north", "south"), job("b", "north", "south"), job("c")
    tie(first, a)
    tie(a, b)
    join(c, b)
    end(trigger(first))
    north, south = followers("a")
    end(north)
    end(followers("b")[0])
    assert followers("c") == []
    end(south)
    assert followers("c") == []
    end(followers("b")[1])
    assert follower("c").parent == followers("b")[1]


@pytest.mark.parametrize("last", [BROKEN, STOPPED, None], ids=["fails", "stopped", "skipped"])
def test_a_join_comes_when_nothing_leads_to_its_jobs_any_more(last: runs.Result | None) -> None:
    """a[south] leads to no b[south]: what there is of b has succeeded."""
    first, a, b, c = job("first"), job("a", "north", "south"), job("b", "north", "south"), job("c")
    tie(first, a)
    tie(a, b)
    join(c, b)
    end(trigger(first))
    north, south = followers("a")
    end(north)
    done = end(followers("b")[0])
    if last is None:
        runs.cancel(south.pk, by="ann", now=NOW)
    else:
        end(south, last)
    assert follower("c").parent == done


def test_declined_targets_do_not_count_and_other_skips_do() -> None:
    a, b, c = job("a"), job("b", "north", "south"), job("c")
    tie(a, b)
    join(c, b)
    for cancelled in (False, True):
        end(trigger(a))
        north, south = Run.objects.queued().filter(job=b).order_by("key")
        end(north)
        if cancelled:
            runs.cancel(south.pk, by="ann", now=NOW)
        else:
            decline(south)
        assert len(followers("c")) == 1


def test_the_last_run_of_a_target_counts() -> None:
    """b follows two jobs; its second run mends what the first one broke."""
    first, a, b, c = job("first"), job("a"), job("b"), job("c")
    tie(first, a)
    tie(first, b)
    tie(a, b)
    join(c, b)
    end(trigger(first))
    end(follower("b"), BROKEN)
    end(follower("a"))
    [again] = Run.objects.queued().filter(job=b)
    end(again, now=LATER)
    assert follower("c").parent == again


def test_a_join_runs_for_the_key_of_the_first_run() -> None:
    keyed = {name: job(name, "north", "south") for name in "abcd"}
    tie(keyed["a"], keyed["b"])
    tie(keyed["a"], keyed["c"])
    join(keyed["d"], keyed["b"], keyed["c"])
    end(trigger(keyed["a"], "south"))
    end(follower("b"))
    end(follower("c"))
    assert follower("d").key == "south"


def test_a_join_fans_out_after_plain_jobs(diamond: dict[str, Job]) -> None:
    fan = job("fan", "north", "south")
    join(fan, diamond["left"], diamond["right"])
    end(trigger(diamond["first"]))
    end(follower("left"))
    end(follower("right"))
    assert [run.key for run in followers("fan")] == ["north", "south"]
    for run in followers("fan"):
        end(run)
    assert len(followers("fan")) == 2


def test_a_second_end_adds_no_second_join(diamond: dict[str, Job]) -> None:
    """A third job of the same chain ends after the join has run."""
    extra = job("extra")
    tie(diamond["last"], extra)
    tie(extra, job("more"))
    end(trigger(diamond["first"]))
    end(follower("left"))
    end(follower("right"))
    end(follower("last"))
    end(follower("extra"))
    assert len(followers("last")) == 1


def test_a_joined_follower_learns_of_all_in_the_order_of_their_ends(
    diamond: dict[str, Job],
) -> None:
    end(trigger(diamond["first"]))
    end(follower("right"))
    end(follower("left"), now=LATER)
    current = begin(follower("last"), now=LATER).current(lambda: False)
    assert current.parent is not None
    assert current.parent.job == "left"
    assert [parent.job for parent in current.parents] == ["right", "left"]


@pytest.mark.parametrize("seed", range(20))
def test_the_ways_of_the_database_are_those_of_the_graph(seed: int) -> None:
    dice = random.Random(seed)
    jobs = [make_job(f"job {n}", retired_at=NOW if n % 5 == 4 else None) for n in range(10)]
    pairs = [(one, other) for one in jobs for other in jobs if one != other and dice.random() < 0.2]
    FollowUp.objects.bulk_create(FollowUp(job=one, follower=other) for one, other in pairs)
    starts = [one.pk for one in jobs if one.retired_at is None]
    alive = [(one.pk, two.pk) for one, two in pairs if not (one.retired_at or two.retired_at)]
    down, up = edges_of(alive), edges_of((two, one) for one, two in alive)
    for pk in starts:
        for columns, graph in ((("job_id", "follower_id"), down), (("follower_id", "job_id"), up)):
            found = joins.steps(*columns, [pk])
            assert reachable(found, pk) == reachable(graph, pk)
            assert set(found) <= {pk} | reachable(graph, pk)


def test_the_rules_of_others_are_not_read(diamond: dict[str, Job]) -> None:
    """Each end would cost as much as there are rules anywhere."""
    for number in range(10):
        join(job(f"follower {number}"), job(f"leader {number}"))
    read: list[int] = []

    def note(instance: FollowUp, **_: object) -> None:
        read.append(instance.follower_id)

    post_init.connect(note, sender=FollowUp)
    try:
        found = joins.behind(diamond["first"])
    finally:
        post_init.disconnect(note, sender=FollowUp)
    assert [each.follower for each in found] == [diamond["last"]]
    assert read == [diamond["last"].pk] * 2
