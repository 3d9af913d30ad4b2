"""Coverage of 1,000,000 targets: read from the counts, noted, added up, and counted anew.

    python -m tests.benchmarks.bench_coverage

On a PostgreSQL of its own. Three jobs of one, nine and ninety per cent of the inventory, four
sources; as many changes are noted and not yet added up as a beat would find after ten busy seconds.
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from statistics import median
from time import perf_counter
from typing import Any

from tests.benchmarks.installation import installation, machine

SIZE = 1_000_000
PARTS = (1, 9, 90)
SOURCES = 4
NOTED = 10_000
TURNS = 30
GOAL_MS = 50

TARGETS = """
INSERT INTO scheduling_target (
    job_id, source_id, key, schedule, kwargs, parked, token, last_state, last_outcome,
    failures_in_a_row, skipped_for_overlap, created_at, found_at, hint_at, staleness, misses,
    retired_at, paused_at, eligible_at, eligible_since, paused_by, pause_reason
)
SELECT
    {job}, {source} + i % {sources}, lpad(i::text, 8, '0'), '', '{{}}', '', 0, '', '',
    0, 0, now() - interval '1 second' * i,
    CASE WHEN i % 10 < 7 THEN now() - interval '30 days' END,
    now() - interval '1 second' * i,
    CASE WHEN i % 10 < 3 THEN interval '1 minute' * i END,
    CASE WHEN i % 10 = 7 THEN 2 ELSE 0 END,
    CASE WHEN i % 100 = 8 THEN now() END,
    CASE WHEN i % 100 = 9 THEN now() END,
    CASE WHEN i % 2 = 0 AND i % 100 NOT IN (8, 9) THEN now() END,
    CASE WHEN i % 2 = 1 AND i % 100 NOT IN (8, 9) THEN now() END, '', ''
FROM generate_series(1, {size}) AS i
"""


def main() -> None:
    with installation():
        measure(sys.stdout.write)


def measure(write: Callable[[str], Any]) -> None:
    from scheduling import clock, runs
    from scheduling.coverage import coverage
    from scheduling.runs import coverage as counting

    write(f"{machine()}, {SIZE:,} targets\n\n")
    make_inventory()
    write(f"{'counted anew':40}{once(runs.recount_coverage):>10.0f} ms\n")
    make_changes()
    read = [once(lambda: coverage(now=clock.sample())) for _ in range(TURNS)]
    write(f"{f'read, {NOTED:,} changes not added up':40}{median(read):>10.1f} ms (median)")
    write(f", {max(read):.1f} (worst)\n")
    write(f"{f'{NOTED:,} changes added up':40}{once(counting.sum_up):>10.0f} ms\n")
    quiet = [once(lambda: coverage(now=clock.sample())) for _ in range(TURNS)]
    write(
        f"{'read, all added up':40}{median(quiet):>10.1f} ms (median), {max(quiet):.1f} (worst)\n"
    )
    assert runs.recount_coverage() == []
    met = max(median(read), median(quiet)) <= GOAL_MS
    write(f"\nGoal: at most {GOAL_MS} ms to read: {'met' if met else 'MISSED'}\n")


def once(act: Callable[[], object]) -> float:
    """Milliseconds that it took."""
    began = perf_counter()
    act()
    return (perf_counter() - began) * 1000


def make_inventory() -> None:
    from django.db import connection

    from scheduling.feeds import Feed
    from scheduling.models import Job, Source

    sources = [Source.objects.create(name=f"source-{number}") for number in range(SOURCES)]
    with connection.cursor() as cursor:
        for part in PARTS:
            job = Job.objects.create(
                name=f"check-{part}", kind="task", task="check", feed=Feed().as_json()
            )
            size = SIZE * part // 100
            values = {"job": job.pk, "source": sources[0].pk, "sources": SOURCES, "size": size}
            cursor.execute(TARGETS.format(**values))
        cursor.execute("VACUUM ANALYZE scheduling_target")


def make_changes() -> None:
    """Change targets, one transaction each, as the ends of runs do."""
    from scheduling.models import Target
    from scheduling.runs import coverage as counting

    stale = Target.objects.filter(staleness__isnull=False, paused_at=None, retired_at=None)
    changes = NOTED // 3  # each is no longer stale, leaves its lag, and has misses
    targets = list(stale.order_by("pk")[:changes])
    for target in targets:
        before = counting.facts_of(target)
        target.staleness, target.misses = None, 1
        counting.note(target.job_id, target.source_id, before, counting.facts_of(target))
    counted = Target.objects.filter(pk__in=[target.pk for target in targets])
    counted.update(staleness=None, misses=1)


if __name__ == "__main__":
    main()
