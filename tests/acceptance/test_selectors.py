"""Two selectors side by side, one of them killed again and again; and a beat that feeds a job."""

from __future__ import annotations

import random
import signal
from collections import Counter
from datetime import timedelta

import pytest

from scheduling.feeds import NEVER_CHECKED, OLDEST_SCHEDULED, STALEST, Cooldowns, Express, Feed
from scheduling.models import Run, Source, State, Target
from tests.acceptance.rig import Process, Rig, add_job, now
from tests.waiting import wait_for

pytestmark = pytest.mark.acceptance


def test_nothing_is_taken_twice_nor_left_claimed_though_one_is_killed(rig: Rig) -> None:
    check_selectors(rig, targets=100_000, count=500)


def test_so_it_is_on_sqlite(embedded_rig: Rig) -> None:
    check_selectors(embedded_rig, targets=10_000, count=100)


def check_selectors(rig: Rig, *, targets: int, count: int) -> None:
    job = add_job("crawl", feed=Feed().as_json())
    moment = now()
    for begin in range(0, targets, 5000):
        keys = range(begin, min(begin + 5000, targets))
        Target.objects.bulk_create(
            Target(job=job, key=str(key), eligible_since=moment) for key in keys
        )
    chance = random.Random(5)
    # In small bites, so that it lives long enough to see the others die.
    steady = selector(rig, "steady", count // 10)
    kills = 0
    while steady.is_alive():
        mortal = selector(rig, f"mortal{kills}", count)
        # Somewhere on its way: while it still comes up, or after its first lines. The earliest
        # come first, as the others may have picked all before two have been killed.
        ways = [0, 1, count, 4 * count]
        after = ways[kills] if kills < len(ways) else chance.choice(ways)
        wait_to_kill(mortal, steady, after=after)
        if mortal.is_alive():
            mortal.send(signal.SIGKILL)
            mortal.popen.wait()
            kills += 1
    assert steady.popen.returncode == 0

    # What a killed one held is free once the database has noticed that it is gone.
    def is_all_picked() -> bool:
        assert selector(rig, "last", count).popen.wait() == 0
        return not Target.objects.filter(job=job, eligible_since__isnull=False).exists()

    left = Target.objects.filter(job=job, eligible_since__isnull=False)
    wait_for(is_all_picked, timeout=60, message=lambda: f"{left.count()} are never picked")

    told = Counter(key for process in rig.processes for key in picked(process))
    assert kills >= 2
    assert max(told.values()) == 1, "a pick was told twice"
    by_target = Counter(Run.objects.values_list("target_id", flat=True))
    assert len(by_target) == targets, f"{targets - len(by_target)} never picked"
    assert max(by_target.values()) == 1, "a target has two runs"
    assert set(told) <= set(Run.objects.values_list("key", flat=True))


def wait_to_kill(mortal: Process, steady: Process, *, after: int) -> None:
    wait_for(
        lambda: len(picked(mortal)) >= after or not (mortal.is_alive() and steady.is_alive()),
        timeout=60,
    )


def selector(rig: Rig, name: str, count: int) -> Process:
    words = ("tests.acceptance.selector", "crawl", OLDEST_SCHEDULED, str(count))
    return rig.start(name, *words)


def picked(process: Process) -> list[str]:
    """The keys it has told; the last line may be half written."""
    text = process.log.read_text(encoding="utf-8")
    lines = [line.split(" ") for line in text.rpartition("\n")[0].split("\n")]
    return [line[1] for line in lines if len(line) == 3 and line[0] == str(process.popen.pid)]


def test_a_beat_feeds_a_job_within_its_bounds(either_rig: Rig) -> None:
    """What sources have found goes first, in a lane of its own; the rest as there are slots."""
    rig = either_rig
    feed = Feed(
        shares={NEVER_CHECKED: 1, STALEST: 1},
        max_queue_length=10,
        threshold=0,
        express=Express(queue="first", limit=5),
        cooldowns=Cooldowns(absolute=timedelta(days=1)),
    )
    job = add_job("crawl", feed=feed.as_json())
    source = Source.objects.create(name="found", is_express=True, listing_ended_at=now())
    source.jobs.add(job)
    moment = now()
    for number in range(60):
        extra = {"source": source} if number < 20 else {"hint_at": moment - timedelta(days=number)}
        Target.objects.create(job=job, key=f"{number:02}", eligible_since=moment, **extra)
    beat = rig.beat()
    wait_for(lambda: Run.objects.count() >= 15, timeout=30, message="both lanes are full")
    crowd = Counter(Run.objects.values_list("queue", flat=True))
    assert crowd == {"": 10, "first": 5} or crowd == {"celery": 10, "first": 5}
    # Without a worker it stays so.
    wait_for(lambda: beat.says("is ready"), timeout=30)
    rig.worker("slow", queue="celery", concurrency=1)
    rig.worker("fast", queue="first", concurrency=1)
    ended = Run.objects.filter(state=State.SUCCEEDED)
    wait_for(lambda: ended.count() >= 60, timeout=90, message=lambda: f"{ended.count()} of 60")
    rig.check_oracle()
    assert Counter(Run.objects.values_list("target_id", flat=True)).most_common(1)[0][1] == 1
    in_lane = set(Run.objects.filter(strategy="express").values_list("key", flat=True))
    assert in_lane == {f"{number:02}" for number in range(20)}
    done = Source.objects.filter(pk=source.pk, express_done_at__isnull=False)
    wait_for(done.exists, timeout=30, message="the express lane has nothing left")
    left = Target.objects.filter(job=job)
    assert not left.filter(eligible_since__isnull=False).exists()
    assert not left.filter(observed_at=None).exists()
    # The oldest hints first, as the strategy says.
    rounds = Run.objects.filter(strategy=NEVER_CHECKED)
    picked_at = dict(rounds.values_list("target_id", "created_at"))
    hints = {target.pk: target.hint_at or moment for target in left.filter(pk__in=picked_at)}
    in_rounds = sorted(hints, key=lambda pk: (picked_at[pk], hints[pk]))
    assert in_rounds == sorted(hints, key=lambda pk: hints[pk])
