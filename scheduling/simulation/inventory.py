"""What is looked after: things that change, each in its own rhythm."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import timedelta
from hashlib import blake2b
from math import inf

from scheduling.simulation.scenario import InvalidScenario

TEN_YEARS = timedelta(days=3650)
MOST_THINGS = 10_000_000
HOUR = 3600.0
_WORD = 0x10000


@dataclass(frozen=True, slots=True, kw_only=True)
class Thing:
    """A resource to come. Times are seconds since the beginning of what is simulated.

    It changes at `phase`, `phase + change_every` and so on, before the beginning too;
    `change_every` inf: never. From `gone_at` on it is missing and changes no more.
    """

    key: str
    change_every: float
    phase: float = 0.0
    hinted: bool = False  # whether listings say when it changed
    appears_at: float = 0.0  # listed from then on
    gone_at: float = inf

    def version(self, at: float) -> int:
        """How often it has changed up to then, counted from `phase`."""
        if self.change_every == inf:
            return 0
        return int((min(at, self.gone_at) - self.phase) // self.change_every)

    def changes_around(self, at: float) -> tuple[float, float]:
        """Give when it changed last, up to then, and when it changes next; inf: never again."""
        every, phase = self.change_every, self.phase
        if every == inf:
            return phase, inf
        last = phase + (min(at, self.gone_at) - phase) // every * every
        following = last + every
        return last, following if following <= self.gone_at else inf


@dataclass(frozen=True, slots=True, kw_only=True)
class Synthetic:
    """An inventory that a seed makes up: change periods log-uniform from `shortest` to `longest`.

    The same seed gives the same things, whatever the other numbers are.
    """

    things: int = 10_000
    per_hour: float = 0.1  # how many further ones appear, evenly
    shortest: timedelta = timedelta(seconds=1)
    longest: timedelta = TEN_YEARS
    hinted: float = 0.5  # the share of which listings say when they changed
    missing: float = 0.01  # the share that goes away in the time simulated

    def __post_init__(self) -> None:
        """Raises InvalidScenario."""
        if not 0 <= self.things <= MOST_THINGS:
            raise InvalidScenario(
                f"The inventory has {self.things!r} resources; give a number up to {MOST_THINGS}"
            )
        if not 0 <= self.per_hour <= 100_000:
            raise InvalidScenario(
                f"{self.per_hour!r} resources appear per hour; give a number from 0 to 100000"
            )
        if not timedelta(0) < self.shortest <= self.longest:
            raise InvalidScenario(
                f"Change periods from {self.shortest} to {self.longest}; give the shorter first, "
                "more than nothing"
            )
        for what in ("hinted", "missing"):
            if not 0 <= getattr(self, what) <= 1:
                raise InvalidScenario(
                    f"{what} is {getattr(self, what)!r}; give a share from 0 to 1, such as 0.5"
                )

    def make(self, *, seed: int, span: timedelta) -> list[Thing]:
        """Make the things, in the order in which they appear."""
        return list(self._each(seed, span.total_seconds()))

    def period(self, drawn: float) -> float:
        """Give the change period, in seconds, for a number drawn evenly from 0 to 1."""
        return float(self.shortest.total_seconds() * (self.longest / self.shortest) ** drawn)

    def _each(self, seed: int, span: float) -> Iterator[Thing]:
        newcomers = int(self.per_hour * span / HOUR)
        if self.things + newcomers > MOST_THINGS:
            raise InvalidScenario(
                f"{newcomers} resources would appear; the inventory has {MOST_THINGS} at most"
            )
        for number in range(self.things + newcomers):
            key = f"resource-{number:07}"
            drawn = words(seed, key)
            change_every = self.period(drawn[0])
            coming = number - self.things
            yield Thing(
                key=key,
                change_every=change_every,
                phase=-drawn[1] * change_every,
                hinted=drawn[2] < self.hinted,
                appears_at=0.0 if coming < 0 else (coming + 1) * HOUR / self.per_hour,
                gone_at=drawn[4] * span if drawn[3] < self.missing else inf,
            )


def words(seed: int, key: str) -> list[float]:
    """Draw five numbers from 0 to below 1 that belong to a key."""
    digest = blake2b(f"{seed} {key}".encode(), digest_size=10).digest()
    return [int.from_bytes(digest[at : at + 2], "big") / _WORD for at in range(0, 10, 2)]
