"""What all schedules have in common, and how they are joined."""

from __future__ import annotations

import heapq
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime, timedelta
from itertools import groupby

from scheduling.errors import InvalidSchedule
from scheduling.zones import ClockChange, require_aware

MOST_MEMBERS = 50  # of a union: each adds its share to every question


class Schedule:
    """Names fire times: whole answers to "when", for ever.

    `name` is the name of the job and target; only H in a cron expression and `spread` look at it.
    `str()` gives the canonical text, which `parse` reads back as an equal value.
    """

    __slots__ = ()

    @property
    def is_anchored(self) -> bool:
        """Whether it has fire times of its own, whatever the runs do."""
        return False

    @property
    def is_joinable(self) -> bool:
        """Whether a union with other schedules has a meaning."""
        return True

    def next(self, after: datetime, *, name: str = "") -> datetime | None:
        """First fire time strictly after `after`, in UTC; None when there is none any more.

        Raises NaiveTime if `after` has no zone.
        """
        require_aware(after)
        return None

    def between(self, after: datetime, until: datetime, *, name: str = "") -> Iterator[datetime]:
        """Yield the fire times in (after, until], ascending, in UTC.

        Neighbouring windows neither repeat nor lose a fire. Lazy: a year of a ten-second schedule
        is three million values. Raises NaiveTime at once if a bound has no zone.
        """
        return self._walk(require_aware(after), require_aware(until), name)

    def _walk(self, after: datetime, until: datetime, name: str) -> Iterator[datetime]:
        fire = self.next(after, name=name)
        while fire is not None and fire <= until:
            yield fire
            fire = self.next(fire, name=name)

    def count(self, after: datetime, until: datetime, *, name: str = "") -> int:
        """How many fire times there are in (after, until]."""
        return sum(1 for _ in self.between(after, until, name=name))

    def period(self, at: datetime, *, name: str = "") -> timedelta | None:
        """Distance of the two fire times that follow `at`; None when there are not two."""
        first = self.next(at, name=name)
        second = first and self.next(first, name=name)
        return second - first if first and second else None

    def after_end(self, ended: datetime) -> datetime | None:
        """The next time to run after a run has ended, if the schedule counts from there."""
        require_aware(ended)
        return None

    def adapted_to(self, interval: timedelta | None, *, level: int) -> Schedule:
        """The same schedule as it has adapted to the results of one target, if it does that.

        `interval`: what it has come to, if to anything yet; `level`: on the ladder.
        """
        return self

    def in_zone(self, zone: str) -> Schedule:
        """The same schedule with `zone` for what names no time zone; without, that is UTC."""
        return self

    def under(self, rule: ClockChange) -> Schedule:
        """The same schedule with another rule for clock changes; its text does not tell."""
        return self

    def sentence(self) -> str:
        """Say it in English."""
        raise NotImplementedError

    def __or__(self, other: object) -> Schedule:
        return union(self, other) if isinstance(other, Schedule) else NotImplemented


@dataclass(frozen=True, slots=True)
class Union(Schedule):
    """Fires whenever one of its members does; once where they meet. Made by `union` or `|`."""

    members: tuple[Schedule, ...]
    """At least two, at most MOST_MEMBERS, no duplicates, no unions."""

    @property
    def is_anchored(self) -> bool:
        return any(member.is_anchored for member in self.members)

    def next(self, after: datetime, *, name: str = "") -> datetime | None:
        return min(
            filter(None, (each.next(after, name=name) for each in self.members)), default=None
        )

    def _walk(self, after: datetime, until: datetime, name: str) -> Iterator[datetime]:
        walks = [member.between(after, until, name=name) for member in self.members]
        for fire, _ in groupby(heapq.merge(*walks)):
            yield fire

    def after_end(self, ended: datetime) -> datetime | None:
        return min(filter(None, (each.after_end(ended) for each in self.members)), default=None)

    def in_zone(self, zone: str) -> Schedule:
        return union(*(member.in_zone(zone) for member in self.members))

    def under(self, rule: ClockChange) -> Schedule:
        return union(*(member.under(rule) for member in self.members))

    def sentence(self) -> str:
        return "; and ".join(member.sentence() for member in self.members)

    def __str__(self) -> str:
        return " | ".join(str(member) for member in self.members)


def union(*schedules: Schedule) -> Schedule:
    """Join schedules, flat and without duplicates; a single one stays itself."""
    members: dict[Schedule, None] = {}
    for schedule in schedules:
        members.update(
            dict.fromkeys(schedule.members if isinstance(schedule, Union) else [schedule])
        )
    for member in members:
        if not member.is_joinable and len(members) > 1:
            raise InvalidSchedule(f"{member} cannot be joined with another schedule; drop it")
    if len(members) > MOST_MEMBERS:
        raise InvalidSchedule(
            f"A union of {len(members)} schedules; join at most {MOST_MEMBERS}, or make two jobs"
        )
    if not members:
        raise InvalidSchedule("A union needs schedules; name at least one")
    return next(iter(members)) if len(members) == 1 else Union(tuple(members))
