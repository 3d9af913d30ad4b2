"""The cron language: what the fields of an expression mean, and which local times they name.

Five fields (minute hour day month weekday) or seven (second first, year last). Weekdays are 0 to 7,
0 and 7 are Sunday. As in Vixie cron, day and weekday are alternatives, unless one of them starts
with a star. In the `and` dialect, that of Celery's crontab, both must match, ranges may wrap around
(22-2) and a step may be wider than its field.
"""

from __future__ import annotations

from bisect import bisect_left
from calendar import monthrange
from dataclasses import dataclass, field
from datetime import date
from functools import lru_cache

from scheduling import cron_fields as fields
from scheduling.cron_fields import Days, refuse
from scheduling.errors import InvalidSchedule

MACROS = {
    "@yearly": "0 0 1 1 *",
    "@annually": "0 0 1 1 *",
    "@monthly": "0 0 1 * *",
    "@weekly": "0 0 * * 0",
    "@daily": "0 0 * * *",
    "@midnight": "0 0 * * *",
    "@hourly": "0 * * * *",
}
LONGEST_FIELD = 100
_LONGEST_TEXT = 7 * (LONGEST_FIELD + 1)
_UNIX_DAY = date(1970, 1, 1).toordinal()


def normalize(text: str) -> tuple[str, str | None]:
    """Give an expression in its one spelling and the zone of a CRON_TZ= prefix, if there is one."""
    if not isinstance(text, str):
        raise InvalidSchedule(f"Cron expression {text!r} is no text", value=text)
    if len(text) > _LONGEST_TEXT + 80:
        raise InvalidSchedule(
            f"Cron expression of {len(text)} characters; a field may have {LONGEST_FIELD}",
            value=text[:LONGEST_FIELD],
        )
    if not text.isascii():
        raise InvalidSchedule(
            f"Cron expression {text[:LONGEST_FIELD]!r} has characters outside ASCII; "
            "write digits as 0-9",
            value=text,
        )
    words, zone = text.split(), None
    if words and words[0].upper().startswith(("CRON_TZ=", "TZ=")):
        zone = words.pop(0).partition("=")[2]
    expression = " ".join(words)
    return (expression.lower() if expression.startswith("@") else expression.upper()), zone


@dataclass(frozen=True, slots=True, kw_only=True)
class Calendar:
    """The days that an expression names, counted from 1970-01-01."""

    months: frozenset[int]
    years: frozenset[int]
    days: Days
    weekdays: Days
    both_days: bool
    """Day and weekday must both match; otherwise one of them is enough."""
    _months: dict[tuple[int, int], tuple[int, ...]] = field(default_factory=dict, compare=False)

    def day_from(self, day: int) -> int | None:
        """First day of the calendar at or after `day`."""
        if day > fields.LAST_DAY:
            return None
        start = date.fromordinal(max(day, 0) + _UNIX_DAY)
        year, month, first = start.year, start.month, start.day
        while year <= fields.YEAR.high:
            if month in self.months and year in self.years:
                days = self._days_of(year, month)
                if days and days[-1] >= first:
                    found = days[bisect_left(days, first)]
                    return start.replace(year, month, found).toordinal() - _UNIX_DAY
            year, month, first = (year, month + 1, 1) if month < 12 else (year + 1, 1, 1)
        return None

    def _days_of(self, year: int, month: int) -> tuple[int, ...]:
        # Months that begin on the same weekday and are equally long have the same days: 28 kinds.
        kind = monthrange(year, month)
        if kind not in self._months:
            days, weekdays = self.days.in_month(*kind), self.weekdays.in_month(*kind)
            self._months[kind] = tuple(
                sorted(days & weekdays if self.both_days else days | weekdays)
            )
        return self._months[kind]


@dataclass(frozen=True, slots=True, kw_only=True)
class Rule:
    """A compiled expression. Every tuple is ascending, without duplicates."""

    seconds: tuple[int, ...]
    minutes: tuple[int, ...]
    hours: tuple[int, ...]
    calendar: Calendar
    fixed_clock: bool
    """Names clock times rather than a rhythm: see zones.next_on_fixed_clock."""

    def next_local(self, local: int) -> int | None:
        """First local time of the rule at or after `local`."""
        day, second = divmod(local, 86_400)
        found = self.calendar.day_from(day)
        if found == day:
            time = self._time_from(second)
            if time is not None:
                return day * 86_400 + time
            found = self.calendar.day_from(day + 1)
        if found is None:
            return None
        first = self.hours[0] * 3600 + self.minutes[0] * 60 + self.seconds[0]
        return found * 86_400 + first

    def _time_from(self, second: int) -> int | None:
        minute, second = divmod(second, 60)
        hour, minute = divmod(minute, 60)
        if hour in self.hours:
            if minute in self.minutes and second <= self.seconds[-1]:
                second = self.seconds[bisect_left(self.seconds, second)]
                return hour * 3600 + minute * 60 + second
            if minute < self.minutes[-1]:
                minute = self.minutes[bisect_left(self.minutes, minute + 1)]
                return hour * 3600 + minute * 60 + self.seconds[0]
        if hour < self.hours[-1]:
            hour = self.hours[bisect_left(self.hours, hour + 1)]
            return hour * 3600 + self.minutes[0] * 60 + self.seconds[0]
        return None


@lru_cache(maxsize=16_384)
def compile_rule(expression: str, both_days: bool, name: str) -> Rule:
    """Compile a normalized expression; `name` decides what H stands for."""
    texts = seven_fields(expression)
    for field_, text in zip(fields.ALL, texts, strict=True):
        if len(text) > LONGEST_FIELD:
            raise refuse(field_, text, f"is longer than {LONGEST_FIELD} characters")
    second, minute, hour, *dates = texts

    def values(field_: fields.Field, text: str) -> tuple[int, ...]:
        return tuple(sorted(field_.values(text, name=name, lenient=both_days)))

    rule = Rule(
        seconds=values(fields.SECOND, second),
        minutes=values(fields.MINUTE, minute),
        hours=values(fields.HOUR, hour),
        calendar=_compile_calendar(
            *dates, both_days=both_days, name=name if uses_name(" ".join(dates)) else ""
        ),
        fixed_clock=not any(map(_is_rhythm, (second, minute, hour))),
    )
    if rule.calendar.day_from(0) is None:
        raise InvalidSchedule(
            f"Cron {expression!r} never fires: no month of its years has such a day; "
            "change the day, the month or the year",
            value=expression,
        )
    return rule


# Apart from the rules, because most expressions share the calendar of every day.
@lru_cache(maxsize=1024)
def _compile_calendar(
    day: str, month: str, weekday: str, year: str, *, both_days: bool, name: str
) -> Calendar:
    return Calendar(
        months=fields.MONTH.values(month, name=name, lenient=both_days),
        years=fields.YEAR.values(year, name=name, lenient=both_days),
        days=fields.days_of_month(day, name=name, lenient=both_days),
        weekdays=fields.days_of_week(weekday, name=name, lenient=both_days),
        both_days=both_days or day[0] in "*?" or weekday[0] in "*?",
    )


def uses_name(expression: str) -> bool:
    """Whether the expression has an H, so that its times depend on the name."""
    return any(term.startswith("H") for text in expression.split() for term in text.split(","))


def _is_rhythm(text: str) -> bool:
    """As Vixie cron decides, by the first character; here also for H with a step."""
    return text[0] in "*?" or (text[0] == "H" and "/" in text)


def seven_fields(expression: str) -> list[str]:
    if expression.startswith("@"):
        if expression not in MACROS:
            raise InvalidSchedule(
                f"Cron {expression!r} is unknown; use one of {', '.join(MACROS)}", value=expression
            )
        expression = MACROS[expression]
    texts = expression.split()
    if len(texts) == 5:
        return ["0", *texts, "*"]
    if len(texts) == 7:
        return texts
    if len(texts) == 6:
        raise InvalidSchedule(
            f"Cron {expression!r} has 6 fields and can be read in two ways; "
            f"seconds first: write '{expression} *'; year last: write '0 {expression}'",
            value=expression,
        )
    raise InvalidSchedule(
        f"Cron {expression!r} has {len(texts)} fields; write 5 (minute hour day month weekday) "
        "or 7 (second first, year last)",
        value=expression,
    )
