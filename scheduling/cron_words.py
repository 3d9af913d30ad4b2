"""Cron expressions in English, said from the values that their fields stand for."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from itertools import pairwise

from scheduling import cron
from scheduling.cron_fields import DAY, HOUR, MINUTE, MONTH, SECOND, WEEKDAY, YEAR, Days, Field

_COUNTS = {1: "first", 2: "second", 3: "third", 4: "fourth", 5: "fifth"}
_MOST_LISTED = 6  # so many times, days or years are listed; more are described by their rhythm
_MOST_SPANS = 3  # likewise "from 09:00 to 11:45"


def describe(expression: str, *, both_days: bool) -> str:
    """Say what a normalized expression means: 'at 03:00 every day'."""
    rule = cron.compile_rule(expression, both_days, "")
    second, minute, hour, day, month, weekday, _ = cron.seven_fields(expression)
    drawn = cron.uses_name(f"{second} {minute} {hour}")
    sentence = _drawn_time(rule, second, minute, hour) if drawn else _time(rule)
    often = len(rule.hours) == 24 or (_step(rule.hours, HOUR) and sentence.startswith("every"))
    date = _date(rule, day, month, weekday, every_day="" if often else " every day")
    if " from " in sentence and date.startswith(" from "):
        sentence += ","
    sentence += date + _years(sorted(rule.calendar.years))
    return f"{sentence} (H: chosen by name)" if cron.uses_name(expression) else sentence


def listing(words: Sequence[str], link: str = "and") -> str:
    """Join words: 'a', 'a and b', 'a, b and c'."""
    return f" {link} ".join(filter(None, [", ".join(words[:-1]), words[-1]]))


def _time(rule: cron.Rule) -> str:
    minutes, hours = rule.minutes, rule.hours
    if rule.seconds == (0,) and len(minutes) == 1 and len(hours) > 3 and _gap(hours):
        return _hourly(hours, minutes[0])
    if len(rule.seconds) * len(minutes) * len(hours) <= _MOST_LISTED:
        return _times_of_day(rule)
    if rule.seconds != (0,):
        words = [_lead(rule.seconds, SECOND), _part(minutes, MINUTE), _part(hours, HOUR)]
        if words[1:] == ["every minute", "every hour"]:
            # "Every 10 seconds" says itself what it is part of; "second 30" does not.
            del words[1 if _step(rule.seconds, SECOND) and rule.seconds[0] == 0 else 2 :]
        return " of ".join(words)
    step, runs = _step(minutes, MINUTE), _runs(hours)
    if not step or len(runs) > _MOST_SPANS or (len(hours) == 24 and minutes[0]):
        return f"{_lead(minutes, MINUTE)} of {_part(hours, HOUR)}"
    if len(hours) == 24:
        return _every(step, MINUTE)
    spans = [f"from {_clock(a, minutes[0])} to {_clock(b, minutes[-1])}" for a, b in runs]
    return f"{_every(step, MINUTE)} {listing(spans)}"


def _hourly(hours: tuple[int, ...], minute: int) -> str:
    if len(hours) == 24 and minute:
        return f"at minute {minute} of every hour"
    words = _every(_gap(hours), HOUR)
    if _step(hours, HOUR) and hours[0] == minute == 0:
        return words
    return f"{words} from {_clock(hours[0], minute)} to {_clock(hours[-1], minute)}"


def _times_of_day(rule: cron.Rule) -> str:
    tail = "" if rule.seconds == (0,) else ":{:02}"
    times = [
        _clock(hour, minute) + tail.format(second)
        for hour in rule.hours
        for minute in rule.minutes
        for second in rule.seconds
    ]
    return f"at {listing(times)}"


def _drawn_time(rule: cron.Rule, second: str, minute: str, hour: str) -> str:
    """Say a time of which some numbers depend on the name: 'at minute H of hour H'."""
    words = [_drawn(minute, rule.minutes, MINUTE), _drawn(hour, rule.hours, HOUR)]
    if second != "0":
        words.insert(0, _drawn(second, rule.seconds, SECOND))
    return ("" if words[0].startswith("every") else "at ") + " of ".join(words)


def _drawn(text: str, values: tuple[int, ...], field: Field) -> str:
    if not cron.uses_name(text):
        return _part(values, field)
    head, _, step = text.partition("/")
    if step.isdecimal():
        return f"{_every(int(step), field)} from {field.name} {head}"
    return f"{field.name} {listing(text.split(','))}"


def _date(rule: cron.Rule, day: str, month: str, weekday: str, *, every_day: str) -> str:
    calendar = rule.calendar
    all_days = len(calendar.days.numbers) == DAY.high
    all_weekdays = len(calendar.weekdays.weekdays) == WEEKDAY.high + 1
    days = [f"day {day}"] if cron.uses_name(day) else _days(calendar.days)
    weekdays = [f"weekday {weekday}"] if cron.uses_name(weekday) else _weekdays(calendar.weekdays)
    months = [f"month {month}"] if cron.uses_name(month) else _months(calendar.months)
    within = f" {_placed('in', months)}" if months else ""
    of_months = f" of {listing(months or ['the month'])}"
    if within.startswith(" from"):
        of_months = f" of every month{within}"
    of_month = " of the month" if weekdays and weekdays[-1].startswith("the ") else ""

    if (all_days and all_weekdays) or (not calendar.both_days and (all_days or all_weekdays)):
        return every_day + within
    if not calendar.both_days:
        weekly = _placed("on", weekdays) + of_month
        return f" {_placed('on', days)} of the month and {weekly}{within and ','}{within}"
    if all_weekdays:
        return f" {_placed('on', days)}{of_months}"
    if not all_days:
        return f" {_placed('on', days)}{of_months} if it is {listing(weekdays, 'or')}{of_month}"
    if all(word.startswith("the ") for word in weekdays):
        return f" on {listing(weekdays)}{of_months}"
    return f" {_placed('on', weekdays)}{of_month}{within}"


def _placed(preposition: str, words: list[str]) -> str:
    """Put a preposition before words: 'on Monday and Friday', 'from Monday to Friday'."""
    is_span = len(words) == 1 and " to " in words[0] and not words[0].startswith("every")
    return f"{'from' if is_span else preposition} {listing(words)}"


def _days(days: Days) -> list[str]:
    """Say days of a month: 'the 1st', 'the 10th to the 20th', 'the last day'."""
    numbers = sorted(days.numbers)
    gap = _gap(numbers)
    if gap > 1 and len(numbers) > _MOST_LISTED:
        words = [f"every {_nth(gap)} day from {_the(numbers[0])} to {_the(numbers[-1])}"]
    else:
        words = _said(numbers, _the)
    words += [f"the workday nearest {_the(day)}" for day in sorted(days.nearest_workdays)]
    return words + ["the last day"] * days.last + ["the last workday"] * days.last_workday


def _weekdays(days: Days) -> list[str]:
    """Say weekdays from Monday on: 'Monday to Friday', 'the last Friday' (of the month)."""
    words = _said(sorted(day or 7 for day in days.weekdays), lambda day: _name(WEEKDAY, day % 7))
    words += [
        f"the {_COUNTS[count]} {_name(WEEKDAY, day)}" for day, count in sorted(days.nth_weekdays)
    ]
    return words + [f"the last {_name(WEEKDAY, day)}" for day in sorted(days.last_weekdays)]


def _months(months: frozenset[int]) -> list[str]:
    """Say months, unless it is all of them."""
    return _said(sorted(months), lambda month: _name(MONTH, month)) if len(months) < 12 else []


def _years(years: list[int]) -> str:
    if len(years) > YEAR.high - YEAR.low:
        return ""
    gap = _gap(years)
    if gap > 1 and len(years) > 2:
        return f", every {gap} years from {years[0]} to {years[-1]}"
    return f" {_placed('in', _said(years, str))}"


def _lead(values: tuple[int, ...], field: Field) -> str:
    """Say the smallest field: 'every 5 minutes', 'every 7 minutes from minute 0 to 56'."""
    gap = _gap(values)
    if _step(values, field):
        return _every(gap, field) + (f" from {field.name} {values[0]}" if values[0] else "")
    if gap > 1 and len(values) > _MOST_LISTED:
        return f"{_every(gap, field)} from {field.name} {values[0]} to {values[-1]}"
    return f"at {_part(values, field)}"


def _part(values: tuple[int, ...], field: Field) -> str:
    """Say a field: 'every hour', 'hours 9 to 17 and 20', 'minute 30'."""
    if len(values) == field.high - field.low + 1:
        return _every(1, field)
    return f"{field.name}{'s' if len(values) > 1 else ''} {listing(_said(values, str))}"


def _every(step: int, field: Field) -> str:
    return f"every {field.name}" if step == 1 else f"every {step} {field.name}s"


def _said(values: Sequence[int], say: Callable[[int], str]) -> list[str]:
    """Say each value, and three or more neighbours as a span: '1', '5 to 9'."""
    return [
        word
        for first, last in _runs(values)
        for word in (
            [f"{say(first)} to {say(last)}"]
            if last - first > 1
            else map(say, range(first, last + 1))
        )
    ]


def _runs(values: Sequence[int]) -> list[tuple[int, int]]:
    """First and last of each run of neighbours."""
    breaks = [n for n in range(1, len(values)) if values[n] - values[n - 1] > 1]
    return [
        (values[start], values[end - 1])
        for start, end in pairwise([0, *breaks, len(values)])
        if end > start
    ]


def _gap(values: Sequence[int]) -> int:
    """The distance between neighbours, if it is always the same; otherwise 0."""
    gaps = {b - a for a, b in pairwise(values)}
    return gaps.pop() if len(gaps) == 1 else 0


def _step(values: tuple[int, ...], field: Field) -> int:
    """The gap of values that keep it across the end of the field, from 59 to 0; otherwise 0."""
    gap, length = _gap(values), field.high - field.low + 1
    return gap if gap * len(values) == length else 0


def _clock(hour: int, minute: int) -> str:
    return f"{hour:02}:{minute:02}"


def _name(field: Field, value: int) -> str:
    return {number: name for name, number in field.names.items()}[value].capitalize()


def _the(day: int) -> str:
    return f"the {_nth(day)}"


def _nth(number: int) -> str:
    special = {1: "st", 2: "nd", 3: "rd"} if number // 10 != 1 else {}
    return f"{number}{special.get(number % 10, 'th')}"
