"""Where would-fire and did-fire differ: pairing two rows of moments. Pure."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import NamedTuple

ZERO = timedelta(0)


@dataclass(frozen=True, slots=True, kw_only=True)
class Comparison:
    """One job over a stretch of time; all times ascending."""

    name: str
    would: int
    """Fires that Beatkeeper would have fired."""
    matched: int
    missing: tuple[datetime, ...] = ()
    """Of those, the ones that the stock scheduler has not fired."""
    extra: tuple[datetime, ...] = ()
    """Fires of the stock scheduler that Beatkeeper would not have fired."""
    max_delay: timedelta = ZERO
    """The largest distance between the two of a match."""

    @property
    def did(self) -> int:
        return self.matched + len(self.extra)

    @property
    def differences(self) -> int:
        return len(self.missing) + len(self.extra)


class Chain(NamedTuple):
    """A pairing, its last pair first. The less its first two fields, the better it is."""

    minus_pairs: int
    distance: timedelta
    pair: tuple[int, int] = (-1, -1)
    before: Chain | None = None

    def pairs(self) -> list[tuple[int, int]]:
        found: list[tuple[int, int]] = []
        chain: Chain | None = self
        while chain is not None and chain.pair[0] >= 0:
            found.append(chain.pair)
            chain = chain.before
        return found[::-1]


def match(
    would: Sequence[datetime], did: Sequence[datetime], *, tolerance: timedelta
) -> list[tuple[int, int]]:
    """Pair moments of two ascending rows, one to one and in order; give their indexes.

    No pair is further apart than `tolerance`. As many are paired as can be; of several ways, the
    one with the smallest sum of distances.
    """
    low = high = 0
    # best[j - low]: with everything before would[i], and did[:j], decided.
    best = [Chain(0, ZERO)]
    for i, wanted in enumerate(would):
        # What comes earlier than `low` can be paired no more; `high` ends what can be by now.
        first = low
        while first < len(did) and did[first] < wanted - tolerance:
            first += 1
        last = max(high, first)
        while last < len(did) and did[last] <= wanted + tolerance:
            last += 1
        old = [best[min(j, high) - low] for j in range(first, last + 1)]
        best = old[:1]
        for j in range(first, last):
            choices = [old[j - first + 1], best[-1]]
            distance = abs(did[j] - wanted)
            if distance <= tolerance:
                alone = old[j - first]
                choices.append(Chain(alone[0] - 1, alone[1] + distance, (i, j), alone))
            best.append(min(choices, key=lambda chain: chain[:2]))
        low, high = first, last
    return best[-1].pairs()


def interval_fires(
    interval: timedelta,
    did: Sequence[datetime],
    *,
    first: datetime,
    until: datetime,
    slack: timedelta,
) -> Iterator[datetime]:
    """Yield the moments up to `until` that are due if each interval counts from the last fire.

    The stock scheduler counts intervals from when it really fired, so its fires drift, by the
    delay of each; from an anchor of our own both would be apart after a while, although neither
    has lost anything. `first` is due if nothing was fired before it; a fire within `slack` of a
    due moment is that one's.
    """
    due = first
    for fired in did:
        while due < fired - slack:
            if due <= until:
                yield due
            due += interval
        if due <= min(fired + slack, until):
            yield due
        due = fired + interval
    while due <= until:
        yield due
        due += interval


def compare(
    name: str,
    would: Sequence[datetime],
    did: Sequence[datetime],
    *,
    after: datetime,
    until: datetime,
    tolerance: timedelta,
) -> Comparison:
    """Compare what lies in (after, until].

    Both rows reach beyond these bounds by `tolerance`, so that a fire which came a little late
    finds its match on the other side: a match counts where the would-fire lies.
    """
    pairs = match(would, did, tolerance=tolerance)
    met, answered = {i for i, _ in pairs}, {j for _, j in pairs}
    inside = [i for i, moment in enumerate(would) if after < moment <= until]
    matches = [(would[i], did[j]) for i, j in pairs if after < would[i] <= until]
    return Comparison(
        name=name,
        would=len(inside),
        matched=len(matches),
        missing=tuple(would[i] for i in inside if i not in met),
        extra=tuple(
            moment for j, moment in enumerate(did) if after < moment <= until and j not in answered
        ),
        max_delay=max((abs(fired - wanted) for wanted, fired in matches), default=ZERO),
    )
