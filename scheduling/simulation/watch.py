"""Counts what happens, and takes samples of how it stands."""

from __future__ import annotations

from collections.abc import Collection, Sequence
from math import inf

from scheduling.outcome import Outcome
from scheduling.schedule_unanchored import TOP_LEVEL
from scheduling.simulation.lanes import Lane
from scheduling.simulation.measures import DAY, Distribution, Result, Sample, Spans
from scheduling.simulation.scenario import Scenario
from scheduling.simulation.tracked import NEVER, Tracked, seconds


class _Tally:
    """What is counted from one sample to the next."""

    def __init__(self) -> None:
        self.checks = self.changed = self.unchanged = self.failed = self.missing = 0
        self.over_limit = 0  # of those that failed: too slow
        self.lag_hinted = Spans()
        self.lag_unhinted = Spans()
        self.first_check = Spans()
        self.waited = Spans()


class Watch:
    def __init__(self, scenario: Scenario) -> None:
        self.scenario = scenario
        self.next_at = self._every = scenario.span.total_seconds() / scenario.samples
        self._tally = _Tally()
        self._tallies: list[_Tally] = []
        self._series: list[Sample] = []
        self._worked = 0.0

    def waited(self, span: float) -> None:
        """A check begins, after so long in the queue."""
        self._tally.waited.add(span)

    def ended(self, one: Tracked, *, start: float, is_over_limit: bool) -> None:
        """A check that started then has ended; what it has seen is still as before."""
        tally = self._tally
        tally.checks += 1
        outcome = one.standing.last_outcome
        if outcome == Outcome.CHANGED:
            tally.changed += 1
            if one.stale_from == NEVER:
                tally.first_check.add(start - seconds(one.created_at))
            else:
                lags = tally.lag_hinted if one.thing.hinted else tally.lag_unhinted
                lags.add(max(0.0, start - one.stale_from))
        elif outcome == Outcome.UNCHANGED:
            tally.unchanged += 1
        elif outcome == Outcome.MISSING:
            tally.missing += 1
        else:
            tally.failed += 1
            tally.over_limit += is_over_limit

    def sample(
        self,
        now: float,
        listed: Sequence[Tracked],
        *,
        paused: Collection[Tracked],
        open: int,
        worked: float,
        workers: int,
    ) -> None:
        """`worked`: the seconds that all workers together have worked up to now."""
        tally = self._tally
        lag = Distribution.of(tally.lag_hinted, tally.lag_unhinted)
        never = sum([one.stale_from == NEVER for one in listed])
        fresh = sum([one.stale_from > now for one in listed])
        self._series.append(
            Sample(
                day=now / DAY,
                known=len(listed),
                checked=len(listed) - never,
                fresh=fresh,
                stale=len(listed) - never - fresh,
                never=never,
                paused=len(paused),
                open=open,
                checks=tally.checks,
                changed=tally.changed,
                unchanged=tally.unchanged,
                failed=tally.failed,
                missing=tally.missing,
                lag_p50=lag.p50,
                lag_p90=lag.p90,
                lag_p99=lag.p99,
                oldest_never=_oldest_never(now, listed, paused),
                utilisation=(worked - self._worked) / (workers * self._every),
            )
        )
        self._worked = worked
        self._tallies.append(tally)
        self._tally = _Tally()
        samples = len(self._series)
        self.next_at = inf if samples == self.scenario.samples else self._every * (samples + 1)

    def result(self, listed: Sequence[Tracked], lanes: Sequence[Lane], *, open: int) -> Result:
        levels = [0] * (TOP_LEVEL + 1)
        for one in listed:
            levels[one.standing.level] += 1
        tallies = self._tallies
        hinted = [each.lag_hinted for each in tallies]
        unhinted = [each.lag_unhinted for each in tallies]
        return Result(
            scenario=self.scenario,
            picks={name: count for lane in lanes for name, count in lane.picks.items()},
            checks=sum(each.checks for each in tallies),
            changed=sum(each.changed for each in tallies),
            unchanged=sum(each.unchanged for each in tallies),
            failed=sum(each.failed for each in tallies),
            missing=sum(each.missing for each in tallies),
            over_limit=sum(each.over_limit for each in tallies),
            open=open,
            lag=Distribution.of(*hinted, *unhinted),
            lag_hinted=Distribution.of(*hinted),
            lag_unhinted=Distribution.of(*unhinted),
            first_check=Distribution.of(*(each.first_check for each in tallies)),
            waited=Distribution.of(*(each.waited for each in tallies)),
            levels=tuple(levels),
            series=tuple(self._series),
        )


def _oldest_never(
    now: float, listed: Sequence[Tracked], paused: Collection[Tracked]
) -> float | None:
    """Things are numbered in the order in which they were listed: the first is the oldest."""
    for one in listed:
        if one.stale_from == NEVER and one not in paused:
            return now - seconds(one.created_at)
    return None
