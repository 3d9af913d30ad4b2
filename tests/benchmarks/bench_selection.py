"""What 1,000,000 targets cost: selecting and claiming 1,000 by each built-in strategy, also
with 10,000; folding in results; and coverage from the counters.

    python -m tests.benchmarks.bench_selection

On a PostgreSQL of its own that flushes to the disk and has a gigabyte of buffers. Half of the
inventory cools down, and stands at the head of every order: a selection that read past it would
show it. A claim is the whole of it: the rows locked, marked and committed, a queued run for each.
What has been claimed is put back between two turns, outside of the time; the two inventories have
their turns one by one.
Results come from elsewhere, a thousand at a time on one connection, for targets of a fed job.
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from statistics import median
from time import perf_counter
from typing import Any

from tests.benchmarks.installation import installation, machine

SIZES = (10_000, 1_000_000)
COUNT = 1000
TURNS = 15
GOAL_MS = 30
GOAL_GROWTH = 1.5
FOLDS = 20
FOLD_GOAL = 3000  # results per second
COVERAGE_GOAL_MS = 50

RESOURCES = """
INSERT INTO scheduling_resource (key, description, labels, first_seen_at, last_seen_at)
SELECT 'https://' || i % 5000 || '.example/{size}/' || i, '{size}', '{{}}', now(), now()
FROM generate_series(1, {size}) AS i
"""
# A quarter each: never picked, with a hint; found, and changed since; without a hint; not found.
TARGETS = """
INSERT INTO scheduling_target (
    job_id, resource_id, source_id, key, schedule, kwargs, parked, token,
    last_state, last_outcome, failures_in_a_row, skipped_for_overlap,
    created_at, last_scheduled_at, observed_at, found_at, ok_since, hint_at,
    staleness, position, eligible_at, eligible_since
)
SELECT
    {job}, resource, {source}, key, '', '{{}}', '', 0,
    CASE kind WHEN 0 THEN '' WHEN 3 THEN 'failed' ELSE 'succeeded' END,
    CASE kind WHEN 1 THEN 'changed' WHEN 2 THEN 'unchanged' ELSE '' END, 0,
    0, now() - interval '400 days',
    CASE WHEN kind <> 0 THEN old END,
    CASE WHEN kind <> 0 THEN old + interval '1 minute' END,
    CASE WHEN kind IN (1, 2) THEN old + interval '1 minute' END,
    CASE WHEN kind IN (1, 2) THEN old + interval '1 minute' END,
    CASE WHEN kind <> 2 THEN old + interval '1 day' END,
    CASE WHEN kind = 1 THEN interval '1 day' * (2 - 1.0 * i / {size}) END,
    CASE WHEN kind = 2 THEN i END,
    CASE WHEN i <= {size} / 2 THEN now() + interval '20 days' END,
    CASE WHEN i > {size} / 2 THEN now() END
FROM (
    SELECT i, i % 4 AS kind, now() - interval '300 days' + interval '1 day' * (200.0 * i / {size})
        AS old, resources.id AS resource, key
    FROM (SELECT id, key, row_number() OVER (ORDER BY id) AS i FROM scheduling_resource
        WHERE description = '{size}') AS resources
) AS inventory
"""


def main() -> None:
    with installation(buffers="1GB"):
        measure(sys.stdout.write)


def measure(write: Callable[[str], Any]) -> None:
    from scheduling import clock
    from scheduling.feeds import BUILT_IN, EXPRESS

    jobs = {size: make_inventory(size) for size in SIZES}
    write(
        f"{machine()}, PostgreSQL {server_version()}\n\n"
        f"selecting and claiming {COUNT:,}, milliseconds (median, p95)\n"
    )
    write(f"{'strategy':20}" + "".join(f"{size:>20,}" for size in SIZES) + f"{'growth':>10}\n")
    worst, growth = 0.0, 0.0
    for strategy in BUILT_IN:
        if strategy == EXPRESS:
            continue
        times: dict[int, list[float]] = {size: [] for size in SIZES}
        for turn in range(TURNS + 2):
            for size, job in jobs.items():
                took = once(job, strategy, clock.sample())
                if turn >= 2:  # caches are warm by then
                    times[size].append(took)
        medians = [median(times[size]) for size in SIZES]
        shown = "".join(
            f"{median(each):>13.1f} {sorted(each)[-1]:>6.1f}" for each in times.values()
        )
        write(f"{strategy:20}{shown}{medians[1] / medians[0]:>10.2f}\n")
        worst, growth = max(worst, medians[1]), max(growth, medians[1] / medians[0])
    write(
        f"\nGoals: at most {GOAL_MS} ms: {'met' if worst <= GOAL_MS else 'MISSED'}; "
        f"growth at most {GOAL_GROWTH}: {'met' if growth <= GOAL_GROWTH else 'MISSED'}\n\n"
    )
    rates = [fold(jobs[max(SIZES)], turn) for turn in range(FOLDS)]
    write(
        f"folding in results, per second: {median(rates):,.0f} (slowest {min(rates):,.0f})\n"
        f"Goal: at least {FOLD_GOAL:,}: {'met' if median(rates) >= FOLD_GOAL else 'MISSED'}\n\n"
    )
    reads = read_coverage()
    write(
        f"coverage of {sum(SIZES):,} targets, milliseconds: {median(reads):.1f} "
        f"(slowest {max(reads):.1f})\n"
        f"Goal: at most {COVERAGE_GOAL_MS}: "
        f"{'met' if median(reads) <= COVERAGE_GOAL_MS else 'MISSED'}\n"
    )


def fold(job: Any, turn: int) -> float:
    """Results per second, of a thousand targets: found as before, changed, missing, failed."""
    from scheduling import clock, runs
    from scheduling.cadence import Ended, Observation
    from scheduling.models import Target

    keys = list(
        Target.objects.filter(job=job)
        .order_by("pk")
        .values_list("key", flat=True)[turn * 7919 : turn * 7919 + COUNT]
    )
    at = clock.sample()
    results = (
        Observation(at=at, ended=Ended.FOUND, fingerprint="as before"),
        Observation(at=at, ended=Ended.FOUND, fingerprint=f"turn {turn}"),
        Observation(at=at, ended=Ended.MISSING),
        Observation(at=at, ended=Ended.FAILED),
    )
    observations = [(key, results[number % 4]) for number, key in enumerate(keys)]
    began = perf_counter()
    observed = runs.observe(job, observations, now=at)
    took = perf_counter() - began
    assert observed.folded == COUNT
    return COUNT / took


def read_coverage() -> list[float]:
    """Milliseconds of reading all of it, with what the results above have changed."""
    from scheduling import clock, runs
    from scheduling.coverage import coverage

    runs.recount_coverage()
    times = []
    for _ in range(TURNS):
        began = perf_counter()
        rows = coverage(now=clock.now())
        times.append((perf_counter() - began) * 1000)
    assert sum(row.known for row in rows) == sum(SIZES)
    return times


def make_inventory(size: int) -> Any:
    from django.db import connection

    from scheduling.feeds import Feed
    from scheduling.models import Feeder, Job, Source

    source = Source.objects.create(name=f"inventory-{size}")
    job = Job.objects.create(
        name=f"check-{size}",
        kind="task",
        task="check",
        feed=Feed(max_queue_length=10_000).as_json(),
    )
    Feeder.objects.create(job=job)
    with connection.cursor() as cursor:
        cursor.execute(RESOURCES.format(size=size))
        cursor.execute(TARGETS.format(job=job.pk, source=source.pk, size=size))
        cursor.execute("VACUUM ANALYZE scheduling_target, scheduling_resource")
    return job


def once(job: Any, strategy: str, now: Any) -> float:
    """Milliseconds of one claim; then everything is as before."""
    from django.db import connection

    from scheduling import runs
    from scheduling.models import Feeder, Run

    with connection.cursor() as cursor:
        began = perf_counter()
        picks = runs.select(job, strategy, COUNT, now=now)
        took = (perf_counter() - began) * 1000
        assert len(picks) == COUNT, len(picks)
        cursor.execute(
            "UPDATE scheduling_target SET eligible_at = NULL, eligible_since = now(), "
            "last_scheduled_at = observed_at - interval '1 minute' WHERE id = ANY(%s)",
            [[pick.target_id for pick in picks]],
        )
        Run.objects.filter(pk__in=[pick.run_id for pick in picks])._raw_delete("default")
        Feeder.objects.update(position=0)
        cursor.execute("VACUUM scheduling_target, scheduling_run")
    return took


def server_version() -> str:
    from django.db import connection

    with connection.cursor() as cursor:
        cursor.execute("SHOW server_version")
        return str(cursor.fetchone()[0]).partition(" ")[0]


if __name__ == "__main__":
    main()
