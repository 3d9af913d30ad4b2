"""The kinds of schedules that name no times of their own: Manual, Always, Adaptive."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timedelta

from scheduling.errors import InvalidSchedule
from scheduling.schedule_base import Schedule
from scheduling.schedule_kinds import every_in_words, span_of
from scheduling.spans import format_span, span_in_words
from scheduling.zones import SECOND, require_aware


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
            first, shortest, longest = span_of(start), span_of(between[0]), span_of(between[1])
            if not SECOND <= shortest <= first <= longest:
                raise InvalidSchedule(
                    f"Adaptive {format_span(first)} between {format_span(shortest)} and "
                    f"{format_span(longest)}: the start lies outside the bounds; move one of them",
                    value=first,
                )
        if not 1 < factor <= 1000:
            raise InvalidSchedule(
                f"Adaptive factor {factor!r} must be above 1 and at most 1000", value=factor
            )
        object.__setattr__(self, "start", first)
        object.__setattr__(self, "shortest", shortest)
        object.__setattr__(self, "longest", longest)
        object.__setattr__(self, "factor", float(factor))

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
