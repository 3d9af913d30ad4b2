"""Listing 100,000 resources: for the first time, again, and with new hints for all of them.

    python -m tests.benchmarks.bench_listing

On a PostgreSQL of its own, with one job whose targets are picked.
"""

from __future__ import annotations

import sys
from collections.abc import Iterator
from datetime import datetime, timedelta
from time import perf_counter
from typing import TYPE_CHECKING

from tests.benchmarks.installation import installation

if TYPE_CHECKING:
    from scheduling import Named

SIZE = 100_000
GOAL_S = 120


def main() -> None:
    with installation():
        measure()


def measure() -> None:
    from tests.factories import NOW
    from tests.integration.naming import lists, make_source

    source = make_source()
    for turn, hint in (
        ("for the first time", NOW),
        ("again", NOW),
        ("with new hints", NOW + timedelta(days=1)),
    ):
        began = perf_counter()
        result = lists(source, numbered(hint))
        took = perf_counter() - began
        assert result.value["seen"] == SIZE
        good = "" if took <= GOAL_S else f"  MISSES {GOAL_S} s"
        sys.stdout.write(f"{SIZE:,} listed {turn}: {took:.1f} s{good}\n")


def numbered(hint: datetime) -> Iterator[Named]:
    from scheduling import Named

    for number in range(SIZE):
        yield Named(f"https://host-{number % 997}.example/{number}", {"number": number}, hint)


if __name__ == "__main__":
    main()
