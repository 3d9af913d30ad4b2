"""The pool, in the order of each strategy: what the indexes are to the database."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from heapq import heapify, heappop, heappush
from typing import Any, cast

from scheduling.feeds import EXPRESS
from scheduling.selection import order_of
from scheduling.simulation.tracked import Tracked

# Entries that are out of date are thrown away on the way; beyond so many per member at once.
_MOST_STALE = 3

# The key of a strategy's order, a serial number, who it is.
_Entry = tuple[Any, ...]


class Pool:
    """What may be picked, by strategies that share it: who is picked by one is gone for all.

    Each strategy has a heap by its pure order. Who is picked, or put in again with other facts,
    leaves an entry behind; whether an entry still holds is asked when it comes up.
    """

    def __init__(self, strategies: Iterable[str]) -> None:
        self._heaps: dict[str, list[_Entry]] = {name: [] for name in strategies}
        # A Tracked has the attributes of a Candidate.
        self._orders = [
            (cast("Callable[[Tracked], _Entry | None]", order_of(name)), name == EXPRESS, heap)
            for name, heap in self._heaps.items()
        ]
        self._there: dict[Tracked, int] = {}  # -> the serial number of its entries
        self._serial = 0

    def __iter__(self) -> Iterator[Tracked]:
        return iter(self._there)

    def __len__(self) -> int:
        return len(self._there)

    def put(self, one: Tracked) -> None:
        """Put it in; if it is there, by what is known of it now."""
        self._serial += 1
        serial = self._there[one] = self._serial
        for order, once, heap in self._orders:
            if once and one.last_scheduled_at is not None:
                continue  # the express lane is for the first look
            key = order(one)
            if key is not None:
                heappush(heap, (*key, serial, one))
                if len(heap) > 100 + _MOST_STALE * len(self._there):
                    self._sweep(heap)

    def pick(self, strategy: str, count: int) -> list[Tracked]:
        """Take out up to `count`, first those that the strategy wants first."""
        picked: list[Tracked] = []
        heap, there = self._heaps[strategy], self._there
        while heap and len(picked) < count:
            entry = heappop(heap)
            one: Tracked = entry[-1]
            if there.get(one) == entry[-2]:
                del there[one]
                picked.append(one)
        return picked

    def _sweep(self, heap: list[_Entry]) -> None:
        heap[:] = [entry for entry in heap if self._there.get(entry[-1]) == entry[-2]]
        heapify(heap)
