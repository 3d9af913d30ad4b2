"""Days off: named days of a calendar on which a job does not fire. Pure."""

from __future__ import annotations

import re
from calendar import isleap
from collections.abc import Iterator
from dataclasses import dataclass, field
from datetime import date, datetime, timedelta
from functools import lru_cache, partial
from itertools import groupby

from scheduling import zones
from scheduling.cron_fields import LAST_DAY, YEAR
from scheduling.errors import InvalidCalendar, InvalidSchedule
from scheduling.schedule_base import Schedule
from scheduling.zones import from_instant, require_aware, to_instant

LONGEST_TEXT = 200_000
MOST_DAYS = 50_000  # that ranges may name, repetitions counted: more than there are
# Each stretch of days off may cost one more question to the schedule: 10 microseconds.
MOST_STRETCHES = 5_000

_LINE = re.compile(
    r"(?P<first>\d{4}-\d\d-\d\d)(?:\.\.(?P<last>\d{4}-\d\d-\d\d))?(?:\s.*)?"
    r"|(?P<month>\d\d)-(?P<day>\d\d)(?:\s.*)?",
    re.ASCII,
)
Window = tuple[datetime, datetime]

_DAY = timedelta(days=1)
_TICK = timedelta.resolution
_UNIX_DAY = date(1970, 1, 1).toordinal()
# A mark a day: three open ones, those from 1970 to 2099, and five that stand for "off for ever".
_OPEN, _OFF = 0, 1
_BEFORE, _BEYOND = 3, 5


@dataclass(frozen=True, slots=True)
class DaysOff:
    """Whole local days, from midnight to midnight of a time zone; from 2100 on, every day.

    Made by `parse` and `read`. Without any day, the zone is always UTC.
    """

    dates: frozenset[date]
    yearly: frozenset[tuple[int, int]]
    """(month, day), in every year that has the day."""
    timezone: str = "UTC"
    _marks: bytes = field(init=False, repr=False, compare=False)

    def __post_init__(self) -> None:
        marks = bytearray(_BEFORE + LAST_DAY + 1) + bytes([_OFF]) * _BEYOND
        for year in range(YEAR.low, YEAR.high + 1) if self.yearly else ():
            for month, day in self.yearly - (set() if isleap(year) else {(2, 29)}):
                marks[_BEFORE + date(year, month, day).toordinal() - _UNIX_DAY] = _OFF
        for each in self.dates:
            marks[_BEFORE + each.toordinal() - _UNIX_DAY] = _OFF
        if _OPEN not in marks[_BEFORE:]:
            raise InvalidCalendar(
                f"The days off leave no day over from {YEAR.low} to {YEAR.high}; take some out"
            )
        stretches = marks.count(bytes([_OPEN, _OFF])) - 1
        if stretches > MOST_STRETCHES:
            raise InvalidCalendar(
                f"The days off lie in {stretches} separate stretches from {YEAR.low} to "
                f"{YEAR.high}, at most {MOST_STRETCHES} are allowed; take out the past, "
                "or say with the schedule on which weekdays it fires"
            )
        object.__setattr__(self, "_marks", bytes(marks))

    @classmethod
    def parse(cls, text: str, *, timezone: str = "UTC") -> DaysOff:
        """Read one day, range `first..last` (both included) or yearly `MM-DD` a line.

        What follows a blank is a name; empty lines and those that begin with # count for nothing.
        Raises InvalidCalendar, which names the line, or InvalidSchedule for the zone.
        """
        return _parse(text, timezone)

    @classmethod
    def read(cls, text: str) -> DaysOff:
        """Read what `str` wrote; "" is no day at all."""
        head, _, days = text.partition("\n")
        return cls.parse(days, timezone=head.removeprefix("tz ") or "UTC")

    def __str__(self) -> str:
        """The one spelling; "" without any day."""
        if not self:
            return ""
        days = [*_ranges(sorted(self.dates))]
        days += [f"{month:02}-{day:02}" for month, day in sorted(self.yearly)]
        return "\n".join([f"tz {self.timezone}", *days])

    def __bool__(self) -> bool:
        return bool(self.dates or self.yearly)

    def first_open(self, moment: datetime) -> datetime | None:
        """The moment itself; on a day off, when the days off end; None if they do not end."""
        instant = to_instant(moment)
        if instant < zones.FIRST_INSTANT:
            return moment
        if instant >= zones.LAST_INSTANT:
            return None
        local = zones.local_at(self.timezone, instant)
        if self._next(_OPEN, local) == local:
            return moment
        # Not simply the next midnight: a clock may skip it, or come back from behind it.
        end = zones.next_on_running_clock(partial(self._next, _OPEN), self.timezone, instant)
        return None if end is None else from_instant(end)

    def open_windows(self, after: datetime, until: datetime) -> Iterator[Window]:
        """Yield the parts of (after, until] without days off, as windows (a, b], ascending."""
        opens = self.first_open(after + _TICK) if after < until else None
        while opens is not None and opens <= until:
            closes = from_instant(
                zones.next_on_running_clock(
                    partial(self._next, _OFF), self.timezone, to_instant(opens)
                )
                or zones.LAST_INSTANT
            )
            yield opens - _TICK, min(until, closes - _TICK)
            opens = self.first_open(closes)

    def _next(self, mark: int, local: int) -> int | None:
        """First local time at or after `local` whose day has the mark."""
        day = self._marks.find(mark, local // zones.DAY + _BEFORE)
        return None if day < 0 else max(local, (day - _BEFORE) * zones.DAY)


# Cached, so that all jobs of a calendar share one value with its marks.
@lru_cache(maxsize=64)
def _parse(text: str, timezone: str) -> DaysOff:
    zones.load_zone(timezone)
    if len(text) > LONGEST_TEXT:
        raise InvalidCalendar(
            f"The days are {len(text)} characters of text; at most {LONGEST_TEXT}: use ranges"
        )
    dates: set[date] = set()
    yearly: set[tuple[int, int]] = set()
    named = 0
    for number, line in enumerate(text.splitlines(), start=1):
        line = line.strip()
        if not line or line.startswith("#"):
            continue
        try:
            named += _read(line, dates, yearly, room=MOST_DAYS - named)
        except ValueError as error:
            raise InvalidCalendar(f"Line {number}, {line[:60]!r}: {error}", line=number) from error
    return DaysOff(frozenset(dates), frozenset(yearly), timezone if dates or yearly else "UTC")


def _read(line: str, dates: set[date], yearly: set[tuple[int, int]], *, room: int) -> int:
    """Add the days of a line; give how many. Raises ValueError, which says what is wrong."""
    found = _LINE.fullmatch(line)
    if found is None:
        raise ValueError("write 2026-12-25, 2026-12-24..2026-12-31 or 12-25, then maybe a name")
    if found["month"]:
        date(2000, int(found["month"]), int(found["day"]))  # a leap year: 02-29 is a day
        yearly.add((int(found["month"]), int(found["day"])))
        return 1
    first = date.fromisoformat(found["first"])
    last = date.fromisoformat(found["last"] or found["first"])
    if last < first:
        raise ValueError(f"{last} lies before {first}; exchange them")
    if first.year < YEAR.low or last.year > YEAR.high:
        raise ValueError(f"days go from {YEAR.low}-01-01 to {YEAR.high}-12-31; correct the year")
    days = (last - first).days + 1
    if days > room:
        raise ValueError(f"more than {MOST_DAYS} days are named; write each once")
    dates.update(first + n * _DAY for n in range(days))
    return days


def _ranges(days: list[date]) -> Iterator[str]:
    """Say ascending days, neighbours as a range: 2026-12-24..2026-12-26."""
    for _, run in groupby(enumerate(days), lambda pair: pair[1].toordinal() - pair[0]):
        first, *others = (day for _, day in run)
        yield f"{first}..{others[-1]}" if others else str(first)


@dataclass(frozen=True, slots=True)
class Except(Schedule):
    """A schedule without its fires on days off; those are no fire times at all. Ends with 2099."""

    inner: Schedule
    days_off: DaysOff

    @property
    def is_anchored(self) -> bool:
        return self.inner.is_anchored

    @property
    def is_joinable(self) -> bool:
        return self.inner.is_joinable

    def next(self, after: datetime, *, name: str = "") -> datetime | None:
        fire = self.inner.next(after, name=name)
        while fire is not None:
            opens = self.days_off.first_open(fire)
            if opens is None or opens == fire:
                return opens
            fire = self.inner.next(opens - _TICK, name=name)
        return None

    def _walk(self, after: datetime, until: datetime, name: str) -> Iterator[datetime]:
        for opens, closes in self.days_off.open_windows(after, until):
            yield from self.inner.between(opens, closes, name=name)

    def count(self, after: datetime, until: datetime, *, name: str = "") -> int:
        windows = self.days_off.open_windows(require_aware(after), require_aware(until))
        return sum(self.inner.count(opens, closes, name=name) for opens, closes in windows)

    def period(self, at: datetime, *, name: str = "") -> timedelta | None:
        """The inner schedule's: a week of days off makes a daily job no weekly one."""
        return self.inner.period(at, name=name)

    def after_end(self, ended: datetime) -> datetime | None:
        fire = self.inner.after_end(ended)
        return fire and self.days_off.first_open(fire)

    def adapted_to(self, interval: timedelta | None, *, level: int) -> Schedule:
        return Except(self.inner.adapted_to(interval, level=level), self.days_off)

    def in_zone(self, zone: str) -> Schedule:
        return Except(self.inner.in_zone(zone), self.days_off)

    def under(self, rule: zones.ClockChange) -> Schedule:
        return Except(self.inner.under(rule), self.days_off)

    def sentence(self) -> str:
        return f"{self.inner.sentence()}, except on days off"

    def __str__(self) -> str:
        """The text form knows no days off: they are a column of the job."""
        return str(self.inner)


def without(schedule: Schedule, days_off: DaysOff) -> Schedule:
    """Leave the days off out of a schedule. Raises InvalidSchedule if nothing is left of it.

    What has no times at all (manual, always) stays as it is.
    """
    if not days_off or not schedule.is_joinable:
        return schedule
    left = Except(schedule, days_off)
    since = zones.FIRST_MOMENT
    if schedule.next(since) is not None and left.next(since) is None:
        raise InvalidSchedule(
            f"{schedule} never fires on a day that its calendar leaves over; change one of them",
            value=str(schedule),
        )
    return left
