"""What a `manage.py` command costs as an external job, over its own work: warm and fresh, in turns.

    python -m tests.benchmarks.bench_start

Measured from the order to the end of the last process, as a worker does it: shepherd, pipes and
report included. The command itself says how long its own work took; that is subtracted.
"""

from __future__ import annotations

import os
import sys
from pathlib import Path
from statistics import median, quantiles
from time import perf_counter
from typing import Any

import django
from django.core.management import call_command

from tests.benchmarks.installation import machine
from tests.waiting import wait_for

ROOT = Path(__file__).resolve().parents[2]
ROUNDS = 200
FRESH_EVERY = 20  # of so many rounds one also has a turn in a fresh interpreter
GOAL = 0.015  # seconds
WORK = "import time; t = time.perf_counter(); sum(range(10_000)); print(time.perf_counter() - t)"


def main() -> None:
    os.environ.setdefault("DJANGO_SETTINGS_MODULE", "tests.settings")
    django.setup()
    from workers import warm

    door = warm.Door(lambda: dict(os.environ), ROOT)
    try:
        began = perf_counter()
        overhead(door)
        first = perf_counter() - began
        taken: dict[str, list[float]] = {"warm": [], "fresh": []}
        for turn in range(ROUNDS):
            taken["warm"].append(overhead(door))
            if turn % FRESH_EVERY == 0:
                taken["fresh"].append(overhead(None))
        size = memory_of(door)
    finally:
        door.close()
    write = sys.stdout.write
    write(
        f"{machine()}\n\n"
        f"{'milliseconds over its own work':34}"
        f"{'quickest':>10}{'median':>10}{'p95':>10}{'runs':>8}\n"
    )
    for name, times in taken.items():
        p95 = quantiles(times, n=20)[-1]
        figures = (min(times), median(times), p95)
        row = "".join(f"{seconds * 1e3:10.1f}" for seconds in figures)
        write(f"{name:34}{row}{len(times):8}\n")
    write(
        f"{'inside a process that has Django':34}{'':10}{inside() * 1e3:10.1f}\n\n"
        f"The first run, which starts the warm process, took {first * 1e3:.0f} ms.\n"
        f"The warm process has {size / 2**20:.0f} MiB of its own.\n"
        f"Goal: warm at most {GOAL * 1e3:g} ms: "
        f"{'met' if median(taken['warm']) <= GOAL else 'MISSED'}\n"
    )


def overhead(door: Any) -> float:
    """Seconds that one run takes besides the command's own work."""
    from tests.integration.workers.externals import Wishes, make_order
    from workers import child, warm
    from workers.output import HeadTail

    warm._door = door
    output = HeadTail(1000, 500)
    call = ["execute", WORK]
    order = make_order(
        [sys.executable, str(ROOT / "manage.py"), *call],
        call=call,
        environ={**os.environ, "PYTHONUNBUFFERED": "1"},
    )
    began = perf_counter()
    ended = child.run_child(order, Wishes(), output)
    took = perf_counter() - began
    assert ended.exit_code == 0, output.text()
    return took - float(output.text())


def inside() -> float:
    def once() -> float:
        began = perf_counter()
        call_command("execute", "pass", skip_checks=True)
        return perf_counter() - began

    return median(once() for _ in range(20))


def memory_of(door: Any) -> int:
    """Bytes of the warm process that it shares with no other, when nobody runs."""
    from workers import process_tree

    wait_for(lambda: not process_tree.children(door.process.pid))
    lines = Path(f"/proc/{door.process.pid}/smaps_rollup").read_text().splitlines()
    return sum(int(line.split()[1]) for line in lines if line.startswith("Private_")) * 1024


if __name__ == "__main__":
    main()
