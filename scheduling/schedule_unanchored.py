"""The kinds of schedules that name no times of their own: Manual, Always, Adaptive."""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import datetime, timedelta

from scheduling.errors import InvalidSchedule
from scheduling.schedule_base import Schedule
from scheduling.schedule_kinds import every_in_words, span_of
from scheduling.spans import format_span, span_in_words
from scheduling.zones import SECOND, require_aware

# The ladder of `adaptive ladder`: where a new target stands, and the highest level.
START_LEVEL = 4
TOP_LEVEL = 10


def days(level: int) -> int:
    """How many days apart the looks are on a level of the ladder."""
    if level < 2:
        return 1
    return 2 if level < 5 else 4 ** (level - 4)


@dataclass(frozen=True, slots=True)
class Manual(Schedule):
    """Only when somebody asks."""

    @property
    def is_joinable(self) -> bool:
        return False

    def sentence(self) -> str:
        return "only by hand"

    def __str__(self) -> str:
        return "manual"


@dataclass(frozen=True, slots=True)
class Always(Schedule):
    """A service: started, and started again whenever it ends."""

    @property
    def is_joinable(self) -> bool:
        return False

    def after_end(self, ended: datetime) -> datetime | None:
        """At once; how long a service that ends soon is made to wait is not for a value to say."""
        return require_aware(ended)

    def sentence(self) -> str:
        return "always running"

    def __str__(self) -> str:
        return "always"


@dataclass(frozen=True, slots=True, init=False)
class Adaptive(Schedule):
    """An interval that adapts to what the runs find; without arguments, the ladder.

    Shorter by `factor` after a change, longer by it otherwise, within [shortest, longest].
    """

    start: timedelta | None
    shortest: timedelta | None
    longest: timedelta | None
    factor: float
    # What it waits for one target, whose results it has adapted to; its text does not tell.
    wait: timedelta = field(compare=False, repr=False)

    def __init__(
        self,
        start: timedelta | str | None = None,
        *,
        between: tuple[timedelta | str, timedelta | str] | None = None,
        factor: float = 2,
    ) -> None:
        if (start is None) != (between is None):
            raise InvalidSchedule("Adaptive takes a start and its bounds, or neither (the ladder)")
        first = shortest = longest = None
        if start is not None and between is not None:
            if not (isinstance(between, tuple | list) and len(between) == 2):
                raise InvalidSchedule(
                    f"Adaptive between {between!r}: give the shortest and the longest interval",
                    value=between,
                )
            first, shortest, longest = span_of(start), span_of(between[0]), span_of(between[1])
            if not SECOND <= shortest <= first <= longest:
                raise InvalidSchedule(
                    f"Adaptive {format_span(first)} between {format_span(shortest)} and "
                    f"{format_span(longest)}: the start lies outside the bounds; move one of them",
                    value=first,
                )
        if not (isinstance(factor, int | float) and 1 < factor <= 1000):
            raise InvalidSchedule(
                f"Adaptive factor {factor!r} must be above 1 and at most 1000", value=factor
            )
        object.__setattr__(self, "start", first)
        object.__setattr__(self, "shortest", shortest)
        object.__setattr__(self, "longest", longest)
        object.__setattr__(self, "factor", float(factor))
        object.__setattr__(self, "wait", first or timedelta(days=days(START_LEVEL)))

    def interval(self, known: timedelta | None, *, level: int) -> timedelta:
        """How long it waits; `known` is what it has come to, None at first."""
        if self.start is None or self.shortest is None or self.longest is None:
            return known or timedelta(days=days(level))
        # Former bounds may have been others.
        return max(self.shortest, min(known or self.start, self.longest))

    def adapted_to(self, interval: timedelta | None, *, level: int) -> Schedule:
        wait = self.interval(interval, level=level)
        if wait == self.wait:
            return self
        adapted = object.__new__(Adaptive)
        for name in self.__slots__:
            object.__setattr__(adapted, name, getattr(self, name))
        object.__setattr__(adapted, "wait", wait)
        return adapted

    def after_end(self, ended: datetime) -> datetime | None:
        return require_aware(ended) + self.wait

    def sentence(self) -> str:
        if self.start is None or self.shortest is None or self.longest is None:
            return "adapting to what the runs find, by the ladder"
        return (
            f"{every_in_words(self.start)} at first, adapting between "
            f"{span_in_words(self.shortest)} and {span_in_words(self.longest)} "
            f"by a factor of {_number(self.factor)}"
        )

    def __str__(self) -> str:
        if self.start is None or self.shortest is None or self.longest is None:
            return "adaptive ladder"
        return (
            f"adaptive {format_span(self.start)} between {format_span(self.shortest)} "
            f"and {format_span(self.longest)} factor {_number(self.factor)}"
        )


def _number(value: float) -> str:
    return str(value).removesuffix(".0")
