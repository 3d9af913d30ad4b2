"""What comes out: counts, distributions and a time series."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import asdict, dataclass, fields
from math import exp, log1p
from typing import Any

from scheduling.simulation.scenario import Scenario

DAY = 86_400.0
_PER_E = 50  # buckets between a span and e times as long a one: each is 2 % wide


class Spans:
    """A distribution of spans in seconds, exact to 2 %, in a few hundred numbers."""

    def __init__(self, *parts: Spans) -> None:
        self.count = 0
        self._buckets: dict[int, int] = {}
        for part in parts:
            self.count += part.count
            for bucket, count in part._buckets.items():
                self._buckets[bucket] = self._buckets.get(bucket, 0) + count

    def add(self, seconds: float) -> None:
        bucket = int(log1p(seconds) * _PER_E)
        self._buckets[bucket] = self._buckets.get(bucket, 0) + 1
        self.count += 1

    def quantile(self, part: float) -> float | None:
        """Give the span which `part` of them do not exceed; None: there are none."""
        before, wanted = 0, part * self.count
        for bucket in sorted(self._buckets):
            before += self._buckets[bucket]
            if before >= wanted:
                return exp((bucket + 0.5) / _PER_E) - 1
        return None


@dataclass(frozen=True, slots=True)
class Distribution:
    """Of spans, in seconds; None: there are none."""

    count: int
    p50: float | None
    p90: float | None
    p99: float | None

    @classmethod
    def of(cls, *spans: Spans) -> Distribution:
        joined = Spans(*spans)
        return cls(joined.count, *(joined.quantile(part) for part in (0.5, 0.9, 0.99)))


@dataclass(frozen=True, slots=True, kw_only=True)
class Sample:
    """How it stands at one moment, and what has come of the checks since the sample before.

    Of the known, `checked` were found at least once; of these, `fresh` have not changed since.
    `oldest_never`: the age in seconds of the oldest that was never found and is not paused.
    """

    day: float
    known: int
    checked: int
    fresh: int
    stale: int
    never: int
    paused: int
    open: int
    checks: int
    changed: int
    unchanged: int
    failed: int
    missing: int
    lag_p50: float | None
    lag_p90: float | None
    lag_p99: float | None
    oldest_never: float | None
    utilisation: float

    @property
    def waste(self) -> float | None:
        return self.unchanged / self.checks if self.checks else None


@dataclass(frozen=True, slots=True, kw_only=True)
class Result:
    """What one scenario came to. Shares are from 0 to 1, spans are seconds.

    `waste`: checks that found nothing new, of all. `lag`: from the oldest change not seen yet to
    the check that saw it. `first_check`: from being listed to being found. `waited`: in the queue.
    """

    scenario: Scenario
    picks: dict[str, int]
    checks: int
    changed: int
    unchanged: int
    failed: int
    missing: int
    over_limit: int
    open: int
    lag: Distribution
    lag_hinted: Distribution
    lag_unhinted: Distribution
    first_check: Distribution
    waited: Distribution
    levels: tuple[int, ...]  # how many things ended on each level of the ladder
    series: tuple[Sample, ...]

    @property
    def waste(self) -> float:
        return self.unchanged / self.checks if self.checks else 0.0

    @property
    def last(self) -> Sample:
        return self.series[-1]

    @property
    def checked(self) -> float:
        return self.last.checked / self.last.known if self.last.known else 0.0

    @property
    def fresh(self) -> float:
        """The share of the known that was up to date, on the average over the time."""
        return mean(each.fresh / each.known for each in self.series if each.known)

    @property
    def utilisation(self) -> float:
        return mean(each.utilisation for each in self.series)

    def as_json(self) -> dict[str, Any]:
        return {
            "name": self.scenario.name,
            "workers": self.scenario.workers,
            "seed": self.scenario.seed,
            "days": self.scenario.span.total_seconds() / DAY,
            "shares": dict(self.scenario.feed.shares),
            "picks": self.picks,
            **{name: getattr(self, name) for name in _COUNTS},
            "waste": self.waste,
            "known": self.last.known,
            "checked": self.checked,
            "fresh": self.fresh,
            "utilisation": self.utilisation,
            "oldest_never": self.last.oldest_never,
            **{name: asdict(getattr(self, name)) for name in _DISTRIBUTIONS},
            "levels": list(self.levels),
            "series": [asdict(each) | {"waste": each.waste} for each in self.series],
        }


_COUNTS = ("checks", "changed", "unchanged", "failed", "missing", "over_limit", "open")
_DISTRIBUTIONS = ("lag", "lag_hinted", "lag_unhinted", "first_check", "waited")
COLUMNS = ("name", "workers", *(each.name for each in fields(Sample)), "waste")


def mean(values: Iterable[float]) -> float:
    listed = list(values)
    return sum(listed) / len(listed) if listed else 0.0
