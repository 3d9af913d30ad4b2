"""Lanes: a queue of bounded length, who works on it, and how its free slots are shared."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from datetime import timedelta
from math import floor, inf

from scheduling.feeds import EXPRESS, OLDEST_SCHEDULED
from scheduling.selection import after_shortfall, free_slots, is_worth_it, shares_of
from scheduling.simulation.fleet import Fleet
from scheduling.simulation.pool import Pool
from scheduling.simulation.scenario import Scenario
from scheduling.simulation.tracked import Tracked

TICK = timedelta(seconds=1)


def lanes_of(scenario: Scenario) -> list[Lane]:
    """The express lane, if there is one, and the one for everything else."""
    feed = scenario.feed
    weights = {name: weight for name, weight in feed.shares.items() if weight}
    if not weights:
        # Fire times, not slots: whatever is due is queued.
        due = Lane({OLDEST_SCHEDULED: 1.0}, workers=scenario.workers, limit=None)
        due.full_step = due.idle_step = TICK.total_seconds()
        return [due]
    lanes = [
        Lane(
            weights,
            workers=scenario.workers,
            limit=feed.max_queue_length,
            threshold=feed.threshold,
        )
    ]
    if feed.express is not None:
        lanes.insert(
            0,
            Lane({EXPRESS: 1.0}, workers=scenario.express_workers, limit=feed.express.limit),
        )
    for lane in lanes:
        lane.full_step = scenario.feed_every.total_seconds()
        lane.idle_step = scenario.feed_idle.total_seconds()
    return lanes


class Lane:
    """Times are seconds. It is looked at every `full_step` while it is full, every `idle_step`
    while there was too little to pick; of these moments those are left out at which nothing could
    have become different.
    """

    full_step: float
    idle_step: float

    def __init__(
        self, weights: Mapping[str, float], *, workers: int, limit: int | None, threshold: float = 0
    ) -> None:
        self.weights = dict(weights)
        self.credits: dict[str, float] = {}
        self.fleet = Fleet(workers)
        self.limit = limit
        self.threshold = threshold
        self.open = 0
        self.picks = dict.fromkeys(weights, 0)
        self.next_at = 0.0
        self.is_idle = False
        self._looked_at = 0.0

    @property
    def slots(self) -> int:
        """How many runs may be let out now; few are none."""
        slots = free_slots(self.limit, self.open, trickle=0)
        if self.limit is not None and not is_worth_it(slots, self.limit, self.threshold):
            return 0
        return slots

    def pick(self, pool: Pool) -> Iterator[tuple[str, list[Tracked]]]:
        """Yield strategy, picks, until no slot is free or no strategy has more.

        What one leaves of its share goes to the others at once.
        """
        left, weights = self.slots, self.weights
        self.is_idle = False
        while left and weights:
            wanted, owed = shares_of(left, weights, self.credits)
            picked = {}
            for name, count in wanted.items():
                chosen = pool.pick(name, count)
                picked[name] = len(chosen)
                self.picks[name] += len(chosen)
                self.open += len(chosen)
                yield name, chosen
            self.credits |= after_shortfall(owed, wanted, picked)
            left -= sum(picked.values())
            weights = {
                name: weight for name, weight in weights.items() if picked[name] == wanted[name]
            }
        self.is_idle = left > 0

    def look_again(self, now: float) -> None:
        """Look again when an end (`ended`) or another event (`wake`) gives reason to."""
        self._looked_at = now
        self.next_at = now + self.full_step if self.limit is None and not self.is_idle else inf

    def ended(self, at: float) -> None:
        """One of its runs has ended."""
        self.open -= 1
        if not self.is_idle and self.next_at == inf and self.slots:
            self.next_at = self._after(at, self.full_step)

    def wake(self, at: float) -> None:
        """Something comes into the pool at that moment, or just after it."""
        self.next_at = min(self.next_at, self._after(at, self.idle_step))

    def _after(self, at: float, step: float) -> float:
        return self._looked_at + step * (floor(max(0.0, at - self._looked_at) / step) + 1)
