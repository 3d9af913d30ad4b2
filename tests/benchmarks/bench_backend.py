"""The backend in bulk: targets, one-offs, claims and ends, on one connection.

    python -m tests.benchmarks.bench_backend [NUMBER]

On a PostgreSQL of its own. The goal for ends is that of the system this stands for, 1,000 per
second; each has its consequences: statistics, coverage, follow-ups, notifications, seats.
"""

from __future__ import annotations

import logging
import sys
from collections.abc import Callable, Sequence
from time import perf_counter, process_time
from uuid import UUID

from tests.benchmarks.installation import installation

GOAL = 1000


def main(number: int) -> None:
    with installation():
        logging.getLogger("scheduling.runs").setLevel(logging.WARNING)
        measure(number)


def measure(number: int) -> None:
    from scheduling import backend, clock
    from scheduling.models import Run

    keys = [f"https://example.org/{n}" for n in range(number)]
    backend.register_job("load", task="a.b", keyed=True)
    backend.register_job("one", task="a.b", overlap="allow")
    new = [backend.NewTarget(job="load", key=key, schedule="every 12h") for key in keys]
    told("targets created", number, lambda: backend.create_targets(new))
    told("targets that are there", number, lambda: backend.create_targets(new))

    def asked_for() -> list[UUID]:
        return [
            run.pk for run in backend.create_runs(backend.NewRun(job="load", key=k) for k in keys)
        ]

    def ended(ids: Sequence[UUID]) -> None:
        found = len(backend.end_runs(backend.RunEnd(id=each) for each in ids).changed)
        assert found == len(ids)

    first = asked_for()
    told("first ends of targets", number, lambda: ended(first))
    second = asked_for()
    Run.objects.filter(pk__in=second).update(state="running", started_at=clock.now())
    told("further ends", number, lambda: ended(second), goal=GOAL)
    one_target = [backend.NewRun(job="one", kwargs={"n": n}) for n in range(number)]
    told("one-offs of one target", number, lambda: backend.create_runs(one_target))
    claimed: list[UUID] = []
    told(
        "claimed",
        number,
        lambda: claimed.extend(run.pk for run in backend.claim_ready("one", limit=number)),
    )
    told("ends of one target", number, lambda: ended(claimed), goal=GOAL)


def told(what: str, number: int, act: Callable[[], object], *, goal: int | None = None) -> None:
    began, computed = perf_counter(), process_time()
    act()
    took, computed = perf_counter() - began, process_time() - computed
    wanted = "" if goal is None else f"  (goal: {goal})"
    sys.stdout.write(
        f"{what:24} {number / took:8.0f} per second, "
        f"{1000 * computed / number:.2f} ms of Python each{wanted}\n"
    )
    sys.stdout.flush()


if __name__ == "__main__":
    main(int(sys.argv[1]) if sys.argv[1:] else 10_000)
