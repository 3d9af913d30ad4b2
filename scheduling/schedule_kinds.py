"""The kinds of schedules that name times: Cron, Every, Times, Once.

Values without clock and state; every time is an argument.
"""

from __future__ import annotations

import re
from dataclasses import dataclass, field, replace
from datetime import datetime, time, timedelta
from functools import partial
from hashlib import blake2b

from scheduling import cron, cron_words, zones
from scheduling.errors import InvalidSchedule, InvalidSpan
from scheduling.schedule_base import Schedule
from scheduling.spans import LONGEST, format_span, parse_span, span_in_words
from scheduling.zones import EPOCH, SECOND, ClockChange, from_instant, require_aware, to_instant

ZERO = timedelta(0)


@dataclass(frozen=True, slots=True)
class Cron(Schedule):
    """A cron expression of 5 or 7 fields, or a name such as @daily."""

    expression: str
    tz: str | None = field(default=None, kw_only=True)
    """Name of a time zone; None means that nobody has said, and counts as UTC."""
    and_days: bool = field(default=False, kw_only=True)
    """Read the fields as Celery's crontab does: day AND weekday; ranges may wrap."""
    clock_change: ClockChange = field(default=ClockChange.CLASSIC, kw_only=True)
    """Not in the text, which is why it is set by `under`."""

    def __post_init__(self) -> None:
        expression, zone = cron.normalize(self.expression)
        if zone and self.tz and zone != self.tz:
            raise InvalidSchedule(
                f"Cron {self.expression!r} names another time zone than {self.tz!r}; name one",
                value=self.expression,
            )
        object.__setattr__(self, "expression", expression)
        object.__setattr__(self, "tz", zone or self.tz)
        cron.compile_rule(expression, self.and_days, "")
        if self.tz is not None:
            zones.load_zone(self.tz)
        object.__setattr__(self, "clock_change", zones.read_clock_change(self.clock_change))
        if self.next(zones.FIRST_MOMENT) is None:
            raise InvalidSchedule(
                f"Cron {expression!r} never fires: the clock of {self.tz} never shows such a time; "
                "change the time, the zone or the rule for clock changes",
                value=self.expression,
            )

    @property
    def is_anchored(self) -> bool:
        return True

    def next(self, after: datetime, *, name: str = "") -> datetime | None:
        key = name if "H" in self.expression and cron.uses_name(self.expression) else ""
        rule = cron.compile_rule(self.expression, self.and_days, key)
        zone, since = self.tz or "UTC", to_instant(require_aware(after))
        instant = (
            zones.next_clock_time(rule.next_local, zone, since, self.clock_change)
            if rule.fixed_clock
            else zones.next_on_running_clock(rule.next_local, zone, since)
        )
        return None if instant is None else from_instant(instant)

    def in_zone(self, zone: str) -> Schedule:
        return self if self.tz else replace(self, tz=zone)

    def under(self, rule: ClockChange) -> Schedule:
        return self if rule == self.clock_change else replace(self, clock_change=rule)

    def sentence(self) -> str:
        return cron_words.describe(self.expression, both_days=self.and_days) + _in_words(self.tz)

    def __str__(self) -> str:
        return f"cron {self.expression}{_zone_text(self.tz)}{' and' if self.and_days else ''}"


@dataclass(frozen=True, slots=True, init=False)
class Every(Schedule):
    """A fixed interval: at the epoch + phase + k intervals, or counted from each run's end.

    Every("5m"), Every(minutes=5) and Every(timedelta(minutes=5)) are equal. The phase is kept
    below one interval.
    """

    interval: timedelta
    phase: timedelta
    from_end: bool
    spread: bool
    """Shift by a constant share of the interval that depends on the name."""

    def __init__(
        self,
        interval: timedelta | str | None = None,
        *,
        weeks: int = 0,
        days: int = 0,
        hours: int = 0,
        minutes: int = 0,
        seconds: int = 0,
        phase: timedelta | str = ZERO,
        after_end: bool = False,
        spread: bool = False,
    ) -> None:
        units = timedelta(weeks=weeks, days=days, hours=hours, minutes=minutes, seconds=seconds)
        if interval is not None and units:
            raise InvalidSchedule("Every takes an interval or units of time, not both; drop one")
        length = units if interval is None else span_of(interval)
        if not SECOND <= length <= LONGEST or length % SECOND:
            raise InvalidSchedule(
                f"Every {length.total_seconds():.15g} s is no interval; "
                "choose whole seconds, from 1s to a century",
                value=length,
            )
        offset = span_of(phase)
        if after_end and (offset or spread):
            raise InvalidSchedule(
                "Every after end counts from the end of a run; drop its phase or spread"
            )
        if offset < ZERO or offset % SECOND:
            raise InvalidSchedule(
                f"Every with a phase of {offset.total_seconds():.15g} s; "
                "choose whole seconds, 0 or more",
                value=offset,
            )
        object.__setattr__(self, "interval", length)
        object.__setattr__(self, "phase", offset % length)
        object.__setattr__(self, "from_end", after_end)
        object.__setattr__(self, "spread", spread)

    @property
    def is_anchored(self) -> bool:
        return not self.from_end

    def next(self, after: datetime, *, name: str = "") -> datetime | None:
        after = require_aware(after)
        if self.from_end:
            return None
        anchor = self._anchor(name)
        try:
            return anchor + ((after - anchor) // self.interval + 1) * self.interval
        except OverflowError:
            return None

    def count(self, after: datetime, until: datetime, *, name: str = "") -> int:
        after, until = require_aware(after), require_aware(until)
        if self.from_end:
            return 0
        anchor = self._anchor(name)
        return max(0, (until - anchor) // self.interval - (after - anchor) // self.interval)

    def period(self, at: datetime, *, name: str = "") -> timedelta | None:
        require_aware(at)
        return self.interval

    def after_end(self, ended: datetime) -> datetime | None:
        ended = require_aware(ended)
        return ended + self.interval if self.from_end else None

    def sentence(self) -> str:
        words = every_in_words(self.interval)
        if self.from_end:
            return f"{words} after the end of the previous run"
        if self.phase:
            words += f", shifted by {span_in_words(self.phase)}"
        return f"{words}, spread by name" if self.spread else words

    def _anchor(self, name: str) -> datetime:
        if not self.spread:
            return EPOCH + self.phase
        drawn = int.from_bytes(blake2b(name.encode(), digest_size=8).digest())
        return EPOCH + self.phase + drawn % (self.interval // SECOND) * SECOND

    def __str__(self) -> str:
        return (
            f"every {format_span(self.interval)}"
            f"{f' phase {format_span(self.phase)}' if self.phase else ''}"
            f"{' after end' if self.from_end else ''}{' spread' if self.spread else ''}"
        )


@dataclass(frozen=True, slots=True, init=False)
class Times(Schedule):
    """Times of day, every day: Times("13:00", "23:37:30", tz="Europe/Paris")."""

    times: tuple[time, ...]
    """Ascending, no duplicates, whole seconds."""
    tz: str | None
    clock_change: ClockChange
    """Not in the text, which is why it is set by `under`."""

    def __init__(
        self,
        *times: time | str,
        tz: str | None = None,
        clock_change: ClockChange = ClockChange.CLASSIC,
    ) -> None:
        if not times:
            raise InvalidSchedule("Times without a time of day; name one, such as 13:00")
        if tz is not None:
            zones.load_zone(tz)
        object.__setattr__(self, "times", tuple(sorted({_time_of_day(each) for each in times})))
        object.__setattr__(self, "tz", tz)
        object.__setattr__(self, "clock_change", zones.read_clock_change(clock_change))

    @property
    def is_anchored(self) -> bool:
        return True

    def next(self, after: datetime, *, name: str = "") -> datetime | None:
        seconds = [each.hour * 3600 + each.minute * 60 + each.second for each in self.times]
        instant = zones.next_clock_time(
            partial(_next_of, seconds),
            self.tz or "UTC",
            to_instant(require_aware(after)),
            self.clock_change,
        )
        return None if instant is None else from_instant(instant)

    def in_zone(self, zone: str) -> Schedule:
        return self if self.tz else Times(*self.times, tz=zone, clock_change=self.clock_change)

    def under(self, rule: ClockChange) -> Schedule:
        return Times(*self.times, tz=self.tz, clock_change=rule)

    def sentence(self) -> str:
        return f"at {cron_words.listing(self._texts())} every day{_in_words(self.tz)}"

    def _texts(self) -> list[str]:
        return [each.isoformat("auto" if each.second else "minutes") for each in self.times]

    def __str__(self) -> str:
        return f"times {' '.join(self._texts())}{_zone_text(self.tz)}"


@dataclass(frozen=True, slots=True)
class Once(Schedule):
    """One moment, kept in UTC."""

    at: datetime

    def __post_init__(self) -> None:
        if not isinstance(self.at, datetime):
            raise InvalidSchedule(
                f"Once at {self.at!r}; give a datetime with a time zone", value=self.at
            )
        object.__setattr__(self, "at", require_aware(self.at))

    @property
    def is_anchored(self) -> bool:
        return True

    def next(self, after: datetime, *, name: str = "") -> datetime | None:
        return self.at if self.at > require_aware(after) else None

    def sentence(self) -> str:
        return f"once, on {self.at:%Y-%m-%d} at {self.at:%H:%M:%S} UTC"

    def __str__(self) -> str:
        return f"once {self.at.isoformat()}"


def _next_of(seconds: list[int], local: int) -> int | None:
    day, second = divmod(local, zones.DAY)
    for each in seconds:
        if each >= second:
            return day * zones.DAY + each
    return (day + 1) * zones.DAY + seconds[0]


def span_of(value: timedelta | str) -> timedelta:
    if isinstance(value, timedelta):
        return value
    if isinstance(value, str):
        return parse_span(value)
    raise InvalidSpan(f"Span {value!r} is none; give a timedelta or a text such as 5m", value=value)


def _time_of_day(value: time | str) -> time:
    if isinstance(value, str):
        match = re.fullmatch("([0-9]{2}):([0-9]{2})(?::([0-9]{2}))?", value)
        hour, minute, second = (int(part or 0) for part in match.groups()) if match else (24, 0, 0)
        if hour > 23 or minute > 59 or second > 59:
            raise InvalidSchedule(
                f"Time of day {value[:40]!r} cannot be read; write HH:MM or HH:MM:SS", value=value
            )
        return time(hour, minute, second)
    if not isinstance(value, time) or value.tzinfo is not None or value.microsecond:
        raise InvalidSchedule(
            f"Time of day {value!r} cannot be used; give HH:MM, or a datetime.time of whole "
            "seconds and without a zone (the schedule has one)",
            value=value,
        )
    return value


def _zone_text(zone: str | None) -> str:
    return f" tz {zone}" if zone else ""


def _in_words(zone: str | None) -> str:
    return f" ({zone})" if zone else ""


def every_in_words(interval: timedelta) -> str:
    """Say 'every hour', 'every 5 minutes'."""
    words = span_in_words(interval)
    return f"every {words.removeprefix('1 ') if words.count(' ') == 1 else words}"
