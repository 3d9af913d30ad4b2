"""Cron expressions in English."""

from __future__ import annotations

import re
from itertools import dropwhile

from scheduling import cron
from scheduling.cron_fields import MONTH, WEEKDAY, Field

_ORDINALS = {"1": "first", "2": "second", "3": "third", "4": "fourth", "5": "fifth"}
_MOST_TIMES = 6  # so many times of day are listed; more are described field by field


def describe(expression: str, *, both_days: bool) -> str:
    """Say what a normalized expression means: 'at 03:00 every day'."""
    second, minute, hour, day, month, weekday, year = cron.seven_fields(expression)
    times = _times_of_day(second, minute, hour)
    words = [f"at {listing(times)}" if times else _rhythm(second, minute, hour)]
    words += _days(day, weekday, both_days=both_days)
    if times and len(words) == 1 and _is_star(month):
        words.append("every day")
    if not _is_star(month):
        words.append(f"in {_names(MONTH, month)}")
    if not _is_star(year):
        years = re.sub("years? (?=[0-9])", "", _plain(year, "year"))
        words[-1] += f", {years}" if years.startswith("every") else f" in {years}"
    if cron.uses_name(expression):
        words.append("(H: chosen by name)")
    return " ".join(words)


def listing(words: list[str]) -> str:
    """Join words: 'a', 'a and b', 'a, b and c'."""
    return " and ".join(filter(None, [", ".join(words[:-1]), words[-1]]))


def _times_of_day(second: str, minute: str, hour: str) -> list[str]:
    """The times of day, if these fields are but a few plain numbers; otherwise nothing."""
    seconds, minutes, hours = (text.split(",") for text in (second, minute, hour))
    if not all(number.isdecimal() for number in (*seconds, *minutes, *hours)):
        return []
    if len(seconds) * len(minutes) * len(hours) > _MOST_TIMES:
        return []
    tail = "" if seconds == ["0"] else ":{:02}"
    return sorted(
        f"{int(h):02}:{int(m):02}" + tail.format(int(s))
        for h in hours
        for m in minutes
        for s in seconds
    )


def _rhythm(second: str, minute: str, hour: str) -> str:
    """Say the fields from the smallest to the hour, leaving out what goes without saying."""
    fields = [("hour", hour)]
    if not (second == minute == "0" and hour[0] in "*?"):
        fields.insert(0, ("minute", minute))
    if second != "0":
        fields.insert(0, ("second", second))
    if fields[0][1][0] in "*?":
        # "Every 5 minutes" says itself what it is part of; "minute 5" does not.
        fields[1:] = dropwhile(lambda field: _is_star(field[1]), fields[1:])
    words = [_plain(text, unit) for unit, text in fields]
    lead = "" if words[0].startswith("every") else "at "
    return lead + " of ".join(words)


def _days(day: str, weekday: str, *, both_days: bool) -> list[str]:
    days, weekdays = ("" if _is_star(text) else text for text in (day, weekday))
    words = []
    if days:
        words.append(_days_of_month(days))
    if weekdays:
        alike = both_days or day[0] in "*?" or weekday[0] in "*?"
        link = "" if not days else "if it is " if alike else "and "
        words.append(f"{link}{'' if days and alike else 'on '}{_names(WEEKDAY, weekdays)}")
        if any(term.endswith("L") or "#" in term for term in weekdays.split(",")):
            words.append("of the month")
    return words


def _days_of_month(text: str) -> str:
    special = {"L": "the last day", "LW": "the last workday"}
    numbers = ",".join(term for term in text.split(",") if not term.endswith(("L", "W")))
    words = [_plain(numbers, "day")] if numbers else []
    for term in text.split(","):
        if term in special:
            words.append(special[term])
        elif term.endswith("W"):
            words.append(f"the workday nearest to day {term[:-1]}")
    return f"on {listing(words)} of the month"


def _names(field: Field, text: str) -> str:
    """Names for numbers: 'Monday to Friday', 'the last Friday', 'the second Monday'."""
    full = {number: name.capitalize() for name, number in field.names.items()}

    def name(word: str) -> str:
        number = field.names.get(word, int(word) if word.isdecimal() else None)
        if number is None:
            return word
        return full[number % 7 if field is WEEKDAY else number]

    def say(term: str) -> str:
        head, _, count = term.partition("#")
        if count:
            return f"the {_ORDINALS[count]} {name(head)}"
        if field is WEEKDAY and term.endswith("L"):
            return f"the last {name(term[:-1])}"
        head, _, step = term.partition("/")
        if head.startswith("H"):
            return _plain(term, field.name)
        words = "" if _is_star(head) else " to ".join(name(word) for word in head.split("-"))
        if not step:
            return words
        tail = f" from {words}" if words else ""
        return f"every {step} {field.name}s{tail}"

    return listing([say(term) for term in text.split(",")])


def _plain(text: str, unit: str) -> str:
    """Say a field of numbers: 'every 15 minutes from 5', 'hours 9 to 17', 'minute 30'."""

    def say(term: str) -> str:
        head, _, step = term.partition("/")
        span = re.sub("^([0-9]+)-", r"\1 to ", head)
        if _is_star(head) and step in ("", "1"):
            return f"every {unit}"
        if not step:
            return span
        return f"every {step} {unit}s" + ("" if _is_star(head) else f" from {unit} {span}")

    words = [say(term) for term in text.split(",")]
    if words[0].startswith("every"):
        return listing(words)
    return f"{unit}{'s' if len(words) > 1 or ' to ' in words[0] else ''} {listing(words)}"


def _is_star(text: str) -> bool:
    return text in ("*", "?")
