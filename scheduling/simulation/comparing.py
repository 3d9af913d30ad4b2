"""Several scenarios over one inventory, each in a process of its own."""

from __future__ import annotations

import os
from collections.abc import Iterator, Sequence
from concurrent.futures import ProcessPoolExecutor
from dataclasses import dataclass
from multiprocessing import get_context

from scheduling.simulation.engine import simulate
from scheduling.simulation.inventory import Synthetic, Thing
from scheduling.simulation.measures import Result
from scheduling.simulation.scenario import Scenario


def compare(
    scenarios: Sequence[Scenario],
    inventory: Synthetic | Sequence[Thing],
    *,
    processes: int | None = None,
) -> Iterator[Result]:
    """Yield the results in the order of the scenarios; `processes` None: one per processor."""
    tasks = [_Task(scenario=scenario, inventory=inventory) for scenario in scenarios]
    number = min(processes or os.cpu_count() or 1, len(tasks))
    if number <= 1:
        yield from map(_do, tasks)
        return
    # Fresh processes: this one may have connections that no fork should know.
    with ProcessPoolExecutor(number, mp_context=get_context("spawn")) as pool:
        yield from pool.map(_do, tasks)


@dataclass(frozen=True, slots=True, kw_only=True)
class _Task:
    scenario: Scenario
    inventory: Synthetic | Sequence[Thing]


def _do(task: _Task) -> Result:
    scenario, inventory = task.scenario, task.inventory
    if isinstance(inventory, Synthetic):
        inventory = inventory.make(seed=scenario.seed, span=scenario.span)
    return simulate(scenario, inventory)
