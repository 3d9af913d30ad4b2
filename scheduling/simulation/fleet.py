"""Workers: each takes from one queue what has waited longest."""

from __future__ import annotations

from collections.abc import Callable
from heapq import heapreplace


class Fleet:
    """A queue with several servers. Times are seconds.

    Since who came first is served first, when a run starts is known as soon as it is queued.
    """

    def __init__(self, workers: int) -> None:
        self.workers = workers
        self.given = 0.0  # how long all runs together take that were queued so far
        self._free_at = [0.0] * workers

    def run(self, queued_at: float, duration: Callable[[float], float]) -> tuple[float, float]:
        """Give when a run starts that is queued now, and when it ends; `duration` says how long a
        run takes that starts then. To be called in the order of queueing.
        """
        start = max(queued_at, self._free_at[0])
        takes = duration(start)
        end = start + takes
        heapreplace(self._free_at, end)
        self.given += takes
        return start, end
