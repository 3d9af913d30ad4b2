"""What is simulated: how things are picked, by how many workers, under which circumstances."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass, field, replace
from datetime import timedelta

from scheduling.errors import SchedulingError
from scheduling.feeds import BUILT_IN, MOST_OPEN, SHARES, Feed
from scheduling.schedule_unanchored import Adaptive

MIX = "mix"  # the shares of a job that names none
YEAR = timedelta(days=365)
LONGEST_SPAN = timedelta(days=3660)
MOST_WORKERS = 100_000


class InvalidScenario(SchedulingError, ValueError):
    """The scenario cannot be simulated."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Scenario:
    """One way of looking after an inventory.

    Without shares nothing is picked: each thing is due when its `adaptive` schedule says so,
    however many runs are open. With shares the schedule is a further least distance.
    """

    name: str = MIX
    feed: Feed = field(default_factory=Feed)
    adaptive: Adaptive | None = None
    pause_after: int = 3  # results in a row that do not find a thing; 0: never
    workers: int = 48
    express_workers: int = 4  # apart from the others, if the feed has an express lane
    span: timedelta = YEAR
    seed: int = 1
    # Of each full listing: it names what there is, and says of hinted things when they changed.
    listing_every: timedelta = timedelta(days=1)
    failures: float = 0.01  # the share of all looks that fail for no reason of the thing's
    # How long a look takes; one that reaches the limit is stopped there and has failed.
    run_time: timedelta = timedelta(milliseconds=500)
    run_time_per_change: timedelta = timedelta(milliseconds=100)
    run_time_limit: timedelta = timedelta(hours=2)
    # How often a job is looked at that has no free slots, or nothing to pick.
    feed_every: timedelta = timedelta(seconds=5)
    feed_idle: timedelta = timedelta(seconds=60)
    samples: int = 146  # of the time series; every 60 hours of a year

    def __post_init__(self) -> None:
        """Raises InvalidScenario."""
        for what, value, most in (
            ("workers", self.workers, MOST_WORKERS),
            ("express_workers", self.express_workers, MOST_WORKERS),
            ("max_queue_length", self.feed.max_queue_length, MOST_OPEN),
            ("samples", self.samples, 10_000),
        ):
            if not 1 <= value <= most:
                raise InvalidScenario(f"{what} is {value!r}; give a number from 1 to {most}")
        if not timedelta(0) < self.span <= LONGEST_SPAN:
            raise InvalidScenario(
                f"The span is {self.span}; give more than nothing and at most "
                f"{LONGEST_SPAN.days} days"
            )
        for what in ("listing_every", "feed_every", "feed_idle", "run_time_limit"):
            if getattr(self, what) < timedelta(seconds=1):
                raise InvalidScenario(f"{what} is {getattr(self, what)}; give a second or more")
        if not timedelta(milliseconds=1) <= self.run_time < self.run_time_limit:
            raise InvalidScenario(
                f"run_time is {self.run_time}; give a millisecond or more, and less than the "
                f"limit of {self.run_time_limit}, at which every check would fail"
            )
        if self.run_time_per_change < timedelta(0):
            raise InvalidScenario(
                f"run_time_per_change is {self.run_time_per_change}; give nothing or more"
            )
        if not 0 <= self.failures <= 1:
            raise InvalidScenario(
                f"failures is {self.failures!r}; give a share from 0 to 1, such as 0.01"
            )
        self._require_strategies()

    def _require_strategies(self) -> None:
        if not any(self.feed.shares.values()) and self.adaptive is None:
            raise InvalidScenario(
                f"The scenario {self.name!r} has neither shares nor a schedule, so nothing would "
                "be looked at; give one of them"
            )
        for name in self.feed.shares:
            if name not in BUILT_IN:
                raise InvalidScenario(
                    f"The strategy {name!r} cannot be simulated: only the database knows its "
                    f"order; known are {', '.join(BUILT_IN)}"
                )


def alone(strategy: str, base: Scenario) -> Scenario:
    """The same with one strategy only, or with the usual shares (MIX), under its name."""
    if strategy == MIX:
        return replace(base, name=MIX, feed=replace(base.feed, shares=dict(SHARES)))
    if strategy not in BUILT_IN:
        raise InvalidScenario(
            f"There is no strategy {strategy!r}; known are {', '.join(BUILT_IN)} and {MIX}"
        )
    feed = replace(base.feed, shares={strategy: 1.0}, express=None)
    return replace(base, name=strategy, feed=feed)


def each_alone(base: Scenario) -> Iterator[Scenario]:
    """Every built-in strategy alone, and the usual mix."""
    for name in (MIX, *BUILT_IN):
        yield alone(name, base)


def with_workers(scenarios: Iterable[Scenario], workers: Sequence[int]) -> list[Scenario]:
    """Each scenario with each size of the fleet; their names say which, if there are several."""
    several = len(workers) > 1
    return [
        replace(one, workers=number, name=f"{one.name}, {number} workers" if several else one.name)
        for one in scenarios
        for number in workers
    ]
