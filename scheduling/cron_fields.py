"""Single fields of a cron expression: stars, names, lists, ranges, steps, H, and special days."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import date
from hashlib import blake2b

from scheduling.errors import InvalidSchedule

_MONTHS = "JANUARY FEBRUARY MARCH APRIL MAY JUNE JULY AUGUST SEPTEMBER OCTOBER NOVEMBER DECEMBER"
_WEEKDAYS = "SUNDAY MONDAY TUESDAY WEDNESDAY THURSDAY FRIDAY SATURDAY"


def _names(words: str, first: int) -> dict[str, int]:
    return {
        name: number
        for number, word in enumerate(words.split(), start=first)
        for name in (word[:3], word)
    }


@dataclass(frozen=True, slots=True, kw_only=True)
class Field:
    name: str
    low: int
    high: int
    widest_step: int
    names: Mapping[str, int] = field(default_factory=dict)
    hash_high: int | None = None
    """The last value H may stand for, if not `high`."""

    def values(self, text: str, *, name: str, lenient: bool) -> frozenset[int]:
        """Expand stars, numbers, names, lists, ranges, steps and H."""
        found: set[int] = set()
        for term in text.split(","):
            found.update(self.term(text, term, name=name, lenient=lenient))
        return frozenset(found)

    def term(self, text: str, term: str, *, name: str, lenient: bool) -> range | list[int]:
        head, slash, tail = term.partition("/")
        step = self._step(text, tail, lenient=lenient) if slash else 1
        if head.startswith("H"):
            return self._hashed(text, head, step if slash else None, name=name)
        if head in ("*", "?"):
            return range(self.low, self.high + 1, step)
        first_text, dash, last_text = head.partition("-")
        first = self.number(text, first_text)
        if not dash:
            return range(first, max(first, self.high) + 1, step) if slash else [first]
        last = self.number(text, last_text, after=first)
        if last < first:
            if not lenient:
                raise refuse(
                    self, text, f"has the reversed range {head!r}; write {last}-{first}, or a list"
                )
            return [*range(first, self.high + 1), *range(self.low, last + 1)][::step]
        return range(first, last + 1, step)

    def number(self, text: str, word: str, *, after: int = 0) -> int:
        """Read a number or a name; `after` is the start of the range that it ends."""
        if word in self.names:
            value = self.names[word]
            return 7 if self is WEEKDAY and value == 0 < after else value
        if re.fullmatch("[0-9]{1,4}", word) is None:
            what = "nothing where a number belongs" if not word else f"{word!r}, not a number"
            raise refuse(self, text, f"has {what}")
        value = int(word)
        high = 7 if self is WEEKDAY else self.high
        if not self.low <= value <= high:
            raise refuse(self, text, f"has {word}, outside {self.low}-{high}")
        return value

    def _step(self, text: str, word: str, *, lenient: bool) -> int:
        if re.fullmatch("[0-9]{1,4}", word) is None or int(word) == 0:
            raise refuse(self, text, f"has the step {word!r}; write a number from 1")
        step = int(word)
        if step > self.widest_step and not lenient:
            raise refuse(
                self, text, f"has the step {step}, wider than the field: at most {self.widest_step}"
            )
        return step

    def _hashed(self, text: str, head: str, step: int | None, *, name: str) -> range | list[int]:
        low, high = self.low, self.high if self.hash_high is None else self.hash_high
        match = re.fullmatch(r"H(?:\(([^-]+)-([^-]+)\))?", head)
        if match is None or self is YEAR:
            raise refuse(self, text, f"has {head!r}; H stands alone, as H(1-5) or with a step")
        if match[1]:
            first, last = self.number(text, match[1]), self.number(text, match[2])
            if not low <= first <= last <= high:
                raise refuse(self, text, f"has {head!r}; H ranges from {low} to {high} here")
            low, high = first, last
        # Each field draws anew; otherwise the minute would decide the hour.
        digest = blake2b(f"{self.name}:{name}".encode(), digest_size=8).digest()
        drawn = int.from_bytes(digest)
        if step is None:
            return [low + drawn % (high - low + 1)]
        return range(low + drawn % min(step, high - low + 1), high + 1, step)


SECOND = Field(name="second", low=0, high=59, widest_step=59)
MINUTE = Field(name="minute", low=0, high=59, widest_step=59)
HOUR = Field(name="hour", low=0, high=23, widest_step=23)
# H may choose the 1st to the 28th: days that every month has.
DAY = Field(name="day", low=1, high=31, widest_step=31, hash_high=28)
MONTH = Field(name="month", low=1, high=12, widest_step=12, names=_names(_MONTHS, 1))
WEEKDAY = Field(name="weekday", low=0, high=6, widest_step=6, names=_names(_WEEKDAYS, 0))
YEAR = Field(name="year", low=1970, high=2099, widest_step=99)
ALL = (SECOND, MINUTE, HOUR, DAY, MONTH, WEEKDAY, YEAR)
LAST_DAY = (date(YEAR.high, 12, 31) - date(1970, 1, 1)).days


def refuse(field: Field, text: str, problem: str) -> InvalidSchedule:
    return InvalidSchedule(
        f"Cron field {field.name} {text[:40]!r} {problem}", field=field.name, value=text
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class Days:
    """Days of a month, by number and by weekday (Sunday is 0)."""

    numbers: frozenset[int] = frozenset()
    last: bool = False
    last_workday: bool = False
    nearest_workdays: frozenset[int] = frozenset()
    weekdays: frozenset[int] = frozenset()
    last_weekdays: frozenset[int] = frozenset()
    nth_weekdays: frozenset[tuple[int, int]] = frozenset()

    def in_month(self, first_weekday: int, length: int) -> set[int]:
        """The days of a month of `length` days whose first is `first_weekday` (Monday is 0)."""

        def weekday(day: int) -> int:
            return (first_weekday + day) % 7

        def workday(day: int) -> int:
            """The weekday from Monday to Friday nearest to a day, in the same month."""
            if weekday(day) == 6:
                return day - 1 if day > 1 else day + 2
            if weekday(day) == 0:
                return day + 1 if day < length else day - 2
            return day

        found = {day for day in self.numbers if day <= length}
        found.update(workday(day) for day in self.nearest_workdays if day <= length)
        if self.last:
            found.add(length)
        if self.last_workday:
            found.add(workday(length))
        for day in range(1, length + 1):
            if (
                weekday(day) in self.weekdays
                or (weekday(day), (day + 6) // 7) in self.nth_weekdays
                or (day + 7 > length and weekday(day) in self.last_weekdays)
            ):
                found.add(day)
        return found


def days_of_month(text: str, *, name: str, lenient: bool) -> Days:
    numbers: set[int] = set()
    nearest: set[int] = set()
    terms = text.split(",")
    for term in terms:
        if term in ("L", "LW"):
            continue
        if term.endswith("W"):
            nearest.add(DAY.number(text, term[:-1]))
        else:
            numbers.update(DAY.term(text, term, name=name, lenient=lenient))
    return Days(
        numbers=frozenset(numbers),
        nearest_workdays=frozenset(nearest),
        last="L" in terms,
        last_workday="LW" in terms,
    )


def days_of_week(text: str, *, name: str, lenient: bool) -> Days:
    weekdays: set[int] = set()
    last: set[int] = set()
    nth: set[tuple[int, int]] = set()
    for term in text.split(","):
        head, sign, count = term.partition("#")
        if sign:
            if count not in ("1", "2", "3", "4", "5"):
                raise refuse(WEEKDAY, text, f"has {term!r}; after # comes a number from 1 to 5")
            nth.add((WEEKDAY.number(text, head) % 7, int(count)))
        elif term.endswith("L") and len(term) > 1:
            last.add(WEEKDAY.number(text, term[:-1]) % 7)
        else:
            values = WEEKDAY.term(text, term, name=name, lenient=lenient)
            weekdays.update(value % 7 for value in values)
    return Days(
        weekdays=frozenset(weekdays), last_weekdays=frozenset(last), nth_weekdays=frozenset(nth)
    )
