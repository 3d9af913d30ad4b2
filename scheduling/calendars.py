"""Days off: named days of a calendar on which a job does not fire. Pure."""

from __future__ import annotations

import re
from collections.abc import Iterator
from dataclasses import dataclass
from datetime import UTC, date, datetime, time, timedelta

from scheduling import zones
from scheduling.errors import InvalidCalendar, InvalidSchedule
from scheduling.schedule_base import Schedule

DAY = timedelta(days=1)
MOST_DAYS = 20_000
LONGEST_TEXT = 200_000

_LINE = re.compile(
    r"(?P<first>\d{4}-\d\d-\d\d)(?:\.\.(?P<last>\d{4}-\d\d-\d\d))?(?:\s.*)?"
    r"|(?P<month>\d\d)-(?P<day>\d\d)(?:\s.*)?",
    re.ASCII,
)


@dataclass(frozen=True, slots=True)
class DaysOff:
    """Whole local days, from midnight to midnight of a time zone."""

    dates: frozenset[date]
    yearly: frozenset[tuple[int, int]]
    """(month, day), in every year that has the day."""
    timezone: str = "UTC"

    @classmethod
    def parse(cls, text: str, *, timezone: str = "UTC") -> DaysOff:
        """Read one day, range `first..last` (both included) or yearly `MM-DD` a line.

        What follows a blank is a name; empty lines and those that begin with # count for nothing.
        Raises InvalidCalendar, which names the line, or InvalidSchedule for the zone.
        """
        zones.load_zone(timezone)
        if len(text) > LONGEST_TEXT:
            raise InvalidCalendar(
                f"The days are {len(text)} characters of text; at most {LONGEST_TEXT}: use ranges"
            )
        dates: set[date] = set()
        yearly: set[tuple[int, int]] = set()
        for number, line in enumerate(text.splitlines(), start=1):
            line = line.strip()
            if not line or line.startswith("#"):
                continue
            try:
                _read(line, dates, yearly)
            except ValueError as error:
                raise InvalidCalendar(
                    f"Line {number}, {line[:60]!r}: {error}", line=number
                ) from error
        return cls(frozenset(dates), frozenset(yearly), timezone)

    @classmethod
    def read(cls, text: str) -> DaysOff:
        """Read what `str` wrote; "" is no day at all."""
        head, _, days = text.partition("\n")
        return cls.parse(days, timezone=head.removeprefix("tz ") or "UTC")

    def __str__(self) -> str:
        """The one spelling; "" without any day."""
        if not self:
            return ""
        days = [*map(date.isoformat, sorted(self.dates))]
        days += [f"{month:02}-{day:02}" for month, day in sorted(self.yearly)]
        return "\n".join([f"tz {self.timezone}", *days])

    def __bool__(self) -> bool:
        return bool(self.dates or self.yearly)

    def __contains__(self, day: date) -> bool:
        return day in self.dates or (day.month, day.day) in self.yearly

    def end_of_day_off(self, moment: datetime) -> datetime | None:
        """The instant at which the day off around `moment` ends, in UTC; None on other days."""
        zone = zones.load_zone(self.timezone)
        today = moment.astimezone(zone).date()
        if today not in self:
            return None
        while today in self:
            today += DAY
        # Where the clock skips midnight, this is the first instant that the day has.
        return datetime.combine(today, time(), tzinfo=zone).astimezone(UTC)


def _read(line: str, dates: set[date], yearly: set[tuple[int, int]]) -> None:
    """Raises ValueError, which says what is wrong with the line."""
    found = _LINE.fullmatch(line)
    if found is None:
        raise ValueError("write 2026-12-25, 2026-12-24..2026-12-31 or 12-25, then maybe a name")
    if found["month"]:
        date(2000, int(found["month"]), int(found["day"]))  # a leap year: 02-29 is a day
        yearly.add((int(found["month"]), int(found["day"])))
        return
    first = date.fromisoformat(found["first"])
    last = date.fromisoformat(found["last"] or found["first"])
    if last < first:
        raise ValueError(f"{last} lies before {first}; exchange them")
    if len(dates) + (last - first).days >= MOST_DAYS:
        raise ValueError(f"more than {MOST_DAYS} days; leave out the past, or use yearly days")
    while first <= last:
        dates.add(first)
        first += DAY


@dataclass(frozen=True, slots=True)
class Except(Schedule):
    """A schedule without its fires on days off; those are no fire times at all."""

    inner: Schedule
    days_off: DaysOff

    @property
    def is_anchored(self) -> bool:
        return self.inner.is_anchored

    def next(self, after: datetime, *, name: str = "") -> datetime | None:
        fire = self.inner.next(after, name=name)
        while fire is not None:
            end = self.days_off.end_of_day_off(fire)
            if end is None:
                return fire
            fire = self.inner.next(end - timedelta.resolution, name=name)
        return None

    def _walk(self, after: datetime, until: datetime, name: str) -> Iterator[datetime]:
        since: datetime | None = after
        while since is not None:
            # As long as no day off comes, the inner schedule walks fastest.
            walk, since = self.inner.between(since, until, name=name), None
            for fire in walk:
                end = self.days_off.end_of_day_off(fire)
                if end is not None:
                    since = end - timedelta.resolution
                    break
                yield fire

    def after_end(self, ended: datetime) -> datetime | None:
        fire = self.inner.after_end(ended)
        return fire and (self.days_off.end_of_day_off(fire) or fire)

    def under(self, rule: zones.ClockChange) -> Schedule:
        return Except(self.inner.under(rule), self.days_off)

    def in_zone(self, zone: str) -> Schedule:
        return Except(self.inner.in_zone(zone), self.days_off)

    def sentence(self) -> str:
        return f"{self.inner.sentence()}, except on days off"

    def __str__(self) -> str:
        """The text form knows no days off: they are a column of the job."""
        return str(self.inner)


def without(schedule: Schedule, days_off: DaysOff) -> Schedule:
    """Leave the days off out of a schedule. Raises InvalidSchedule if nothing is left of it."""
    if not days_off:
        return schedule
    left = Except(schedule, days_off)
    if schedule.next(zones.EPOCH) is not None and left.next(zones.EPOCH) is None:
        raise InvalidSchedule(
            f"{schedule} never fires on a day that its calendar leaves over; change one of them",
            value=str(schedule),
        )
    return left
