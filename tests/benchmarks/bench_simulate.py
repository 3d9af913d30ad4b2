"""How long a virtual year takes: 100,000 resources, about five million checks, in one process.

python -m tests.benchmarks.bench_simulate [resources] [workers]
"""

from __future__ import annotations

import resource
import sys
from datetime import timedelta
from time import perf_counter, process_time

from scheduling.simulation import Scenario, Synthetic, simulate
from scheduling.simulation.report import percent, span
from tests.benchmarks.installation import machine

LIMIT = 300  # seconds


def main(resources: int = 100_000, workers: int = 5) -> None:
    write = sys.stdout.write
    write(f"{machine()}\n")
    # Each check takes half a minute, so five workers make five million of them in a year.
    scenario = Scenario(
        workers=workers, run_time=timedelta(seconds=30), run_time_per_change=timedelta(0)
    )
    begun = perf_counter()
    things = Synthetic(things=resources).make(seed=scenario.seed, span=scenario.span)
    made, computed = perf_counter(), process_time()
    result = simulate(scenario, things)
    taken, computed = perf_counter() - made, process_time() - computed
    memory = resource_use()
    write(
        f"{len(things):,} resources made in {made - begun:.1f} s\n"
        f"a year, {workers} workers, strategies {', '.join(scenario.feed.shares)}: "
        f"{result.checks:,} checks in {taken:.0f} s (at most {LIMIT}), "
        f"{result.checks / taken:,.0f} per second; {computed:.0f} s of processor time, "
        f"{memory} MB\n"
        f"checked {percent(result.checked)}, fresh {percent(result.fresh)}, "
        f"waste {percent(result.waste)}, lag of 9 in 10 {span(result.lag.p90)}, "
        f"busy {percent(result.utilisation)}\n"
    )


def resource_use() -> int:
    return resource.getrusage(resource.RUSAGE_SELF).ru_maxrss // 1024


if __name__ == "__main__":
    main(*map(int, sys.argv[1:]))
