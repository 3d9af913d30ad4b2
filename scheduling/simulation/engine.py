"""The simulation: one event after the other, decided by the rules of every day.

What becomes of a target is said by `scheduling.cadence` and `scheduling.selection`; here are only
the things that change, the workers and the time.
"""

from __future__ import annotations

import gc
from collections.abc import Sequence
from dataclasses import replace
from datetime import datetime
from heapq import heappop, heappush
from math import inf

from scheduling.cadence import Ended, Observation, fold, next_interval, noise_of
from scheduling.feeds import WITHOUT_HINT, Cooldowns
from scheduling.selection import eligible_from, is_eligible
from scheduling.simulation.inventory import Thing
from scheduling.simulation.lanes import Lane, lanes_of
from scheduling.simulation.measures import Result
from scheduling.simulation.pool import Pool
from scheduling.simulation.scenario import Scenario
from scheduling.simulation.tracked import NEVER, Tracked, moment, seconds
from scheduling.simulation.watch import Watch

_NO_COOLDOWNS = Cooldowns(absolute=None, in_flight=None, failed=None, missing=None)
_MASK = (1 << 64) - 1

# When it ends, a serial number, of what, in which lane, when it starts, the version that it sees,
# how it ends.
_Open = tuple[float, int, Tracked, Lane, float, int, Ended]


def simulate(scenario: Scenario, things: Sequence[Thing]) -> Result:
    """Look after the things for `scenario.span`; the same arguments give the same result.

    `things` are in the order in which they appear.
    """
    # Millions of small objects without cycles: to look for some took a tenth of the time.
    was_enabled = gc.isenabled()
    gc.disable()
    try:
        return Simulation(scenario, things).run()
    finally:
        if was_enabled:
            gc.enable()


class Simulation:
    """Times are seconds since the beginning; where a rule is asked, they are datetimes."""

    def __init__(self, scenario: Scenario, things: Sequence[Thing]) -> None:
        self.scenario = scenario
        self.things = things
        self.lanes = lanes_of(scenario)
        self.pool = Pool(name for lane in self.lanes for name in lane.weights)
        self.cooldowns = scenario.feed.cooldowns if scenario.feed.shares else _NO_COOLDOWNS
        self.run_time = scenario.run_time.total_seconds()
        self.run_time_per_change = scenario.run_time_per_change.total_seconds()
        self.run_time_limit = scenario.run_time_limit.total_seconds()
        self.listed: list[Tracked] = []
        self.listed_at = 0.0
        self.paused: dict[Tracked, None] = {}
        # Who is left alone until strictly after then.
        self.cooling: list[tuple[datetime, int, Tracked]] = []
        self.open: list[_Open] = []
        self.clock = 0
        self.serial = 0
        self.watch = Watch(scenario)

    def run(self) -> Result:
        """Do all events in the order of their times: ends, a listing, a round, a sample."""
        every = self.scenario.listing_every.total_seconds()
        listing, sample = 0.0, self.watch.next_at
        while True:
            lane = min(self.lanes, key=_next_at) if self.lanes[1:] else self.lanes[0]
            now = min(listing, sample, lane.next_at)
            if self.open and self.open[0][0] <= now:
                self.finish(*heappop(self.open))
            elif listing <= now:
                self.list_all(now)
                listing += every
            elif lane.next_at <= now:
                self.feed(lane, now)
            else:
                self.sample(now)
                sample = self.watch.next_at
                if sample == inf:
                    return self.watch.result(self.listed, self.lanes, open=len(self.open))

    # --- listings ---------------------------------------------------------------------------------

    def list_all(self, now: float) -> None:
        """A source names what there is: what is new, and when what is hinted has changed last."""
        self.listed_at, at = now, moment(now)
        for one in [one for one in self.pool if one.hint_until <= now]:
            one.hear(now)
            self.pool.put(one)
        while len(self.listed) < len(self.things):
            thing = self.things[len(self.listed)]
            if thing.appears_at > now:
                break
            one = Tracked(thing, id=len(self.listed), listed_at=now)
            self.listed.append(one)
            self.place(one, at)
        for one in [one for one in self.paused if now < one.thing.gone_at]:
            # Named again, it has new chances.
            del self.paused[one]
            one.learn(replace(one.standing, misses=0, streak=0))
            self.place(one, at)
        for lane in self.lanes:
            if lane.is_idle:
                lane.wake(now)

    # --- picks ------------------------------------------------------------------------------------

    def feed(self, lane: Lane, now: float) -> None:
        """Fill the free slots of a lane from the pool, as its shares say."""
        at = moment(now)
        self.thaw(at)
        for strategy, picked in lane.pick(self.pool):
            if strategy == WITHOUT_HINT:
                self.clock = max([self.clock, *(one.position or 0 for one in picked)])
            for one in picked:
                self.queue(one, lane, now, at)
        lane.look_again(now)
        if lane.is_idle and self.cooling:
            lane.wake(seconds(self.cooling[0][0]))

    def thaw(self, at: datetime) -> None:
        """Put those into the pool whose cooldown is over."""
        while self.cooling and is_eligible(self.cooling[0][0], at):
            one = heappop(self.cooling)[2]
            one.hear(self.listed_at)
            self.pool.put(one)

    def queue(self, one: Tracked, lane: Lane, now: float, at: datetime) -> None:
        """Have it checked; nobody picks it until the end of that."""
        thing, seen = one.thing, one.seen
        one.last_scheduled_at = at
        one.checks += 1

        def duration(start: float) -> float:
            if start >= thing.gone_at:
                return self.run_time
            takes = self.run_time + self.run_time_per_change * (thing.version(start) - seen)
            return min(takes, self.run_time_limit)

        start, end = lane.fleet.run(now, duration)
        if start >= thing.gone_at:
            ended = Ended.MISSING
        elif self.is_over_limit(start, end) or self.fails(one):
            ended = Ended.FAILED
        else:
            ended = Ended.FOUND
        self.watch.waited(start - now)
        self.serial += 1
        heappush(self.open, (end, self.serial, one, lane, start, thing.version(start), ended))

    def is_over_limit(self, start: float, end: float) -> bool:
        return end - start >= self.run_time_limit - 1e-6  # what a sum of floats may lose

    def fails(self, one: Tracked) -> bool:
        return chance(self.scenario.seed, one.id, one.checks) < self.scenario.failures

    # --- ends -------------------------------------------------------------------------------------

    def finish(
        self,
        end: float,
        serial: int,
        one: Tracked,
        lane: Lane,
        start: float,
        version: int,
        ended: Ended,
    ) -> None:
        """Fold in what a check has found, and say when the thing may be picked again."""
        at, thing = moment(end), one.thing
        fingerprint = str(version) if ended is Ended.FOUND else ""
        standing = fold(
            one.standing,
            Observation(at=at, ended=ended, fingerprint=fingerprint),
            clock=self.clock,
            noise=noise_of(thing.key, at),
            adaptive=self.scenario.adaptive,
        )
        one.learn(standing)
        self.watch.ended(one, start=start, is_over_limit=self.is_over_limit(start, end))
        if ended is Ended.FOUND:
            one.seen = version
            one.stale_from = min(thing.changes_around(start)[1], thing.gone_at)
        elif ended is Ended.MISSING and one.stale_from != NEVER:
            one.stale_from = inf  # what is known of it is right
        lane.ended(end)
        if 0 < self.scenario.pause_after <= standing.misses:
            self.paused[one] = None
        else:
            self.place(one, at)

    def place(self, one: Tracked, at: datetime) -> None:
        """Put it into the pool, or say until when it cools down."""
        standing, adaptive = one.standing, self.scenario.adaptive
        not_before = None
        if adaptive is not None and standing.observed_at is not None:
            not_before = standing.observed_at + next_interval(adaptive, standing)
        until = eligible_from(
            self.cooldowns,
            scheduled_at=one.last_scheduled_at,
            observed_at=standing.observed_at,
            ended=standing.last_ended,
            not_before=not_before,
        )
        if until is None or is_eligible(until, at):
            one.hear(self.listed_at)
            self.pool.put(one)
            until = at
        else:
            heappush(self.cooling, (until, one.id, one))
        for lane in self.lanes:
            if lane.is_idle:
                lane.wake(seconds(until))

    def sample(self, now: float) -> None:
        # Of what is queued, a part is still to be worked on.
        to_come = sum(end - max(start, now) for end, _, _, _, start, *_ in self.open)
        self.watch.sample(
            now,
            self.listed,
            paused=self.paused,
            open=len(self.open),
            worked=sum(lane.fleet.given for lane in self.lanes) - to_come,
            workers=sum(lane.fleet.workers for lane in self.lanes),
        )


def _next_at(lane: Lane) -> float:
    return lane.next_at


def chance(seed: int, number: int, check: int) -> float:
    """Draw a number from 0 to below 1 that belongs to one check of one thing: under every strategy
    the same checks fail.
    """
    drawn = (seed * 0x9E3779B97F4A7C15 + number * 0xBF58476D1CE4E5B9 + check) & _MASK
    for shift, factor in ((30, 0xBF58476D1CE4E5B9), (27, 0x94D049BB133111EB)):
        drawn = ((drawn ^ (drawn >> shift)) * factor) & _MASK
    return (drawn ^ (drawn >> 31)) / (_MASK + 1)
