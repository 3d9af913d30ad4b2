"""The text form of schedules: one form in database, admin, logs and command line.

cron 0 3 * * * tz Europe/Berlin      every 15m phase 5m      times 13:00 23:37 tz Europe/Paris
cron 0 0 1 * 1 and                   every 30m after end     once 2027-01-01T00:00:00+00:00
adaptive 64d between 12h and 64d factor 2      manual      always      A | B
"""

from __future__ import annotations

import re
from datetime import datetime

from scheduling.errors import InvalidSchedule, NaiveTime
from scheduling.schedule_base import Schedule, union
from scheduling.schedule_kinds import Cron, Every, Once, Times
from scheduling.schedule_unanchored import Adaptive, Always, Manual

LONGEST_TEXT = 10_000
_FORMS = "cron, every, times, once, adaptive, always or manual"


def parse(text: str) -> Schedule:
    """Read the text of a schedule; `parse(str(schedule)) == schedule`.

    A bare cron expression and `@every 90s` are understood too. Raises InvalidSchedule.
    """
    if not isinstance(text, str):
        raise InvalidSchedule(f"Schedule {text!r} is no text; begin with {_FORMS}", value=text)
    _require_short(text)
    if not text.isascii():
        raise InvalidSchedule(
            f"Schedule {text[:100]!r} has characters outside ASCII; write digits as 0-9",
            value=text,
        )
    schedule = union(*(_parse_one(part.strip()) for part in text.split("|")))
    _require_short(str(schedule))  # which may be longer, and is what will be read from now on
    return schedule


def _require_short(text: str) -> None:
    if len(text) > LONGEST_TEXT:
        raise InvalidSchedule(
            f"Schedule of {len(text)} characters; at most {LONGEST_TEXT} are read",
            value=text[:100],
        )


def _parse_one(text: str) -> Schedule:
    kind, *words = text.split() or [""]
    match kind.lower():
        case "cron":
            return _cron(words)
        case "every" | "@every":
            return _every(text, words)
        case "times":
            words, zone = _take_zone(words)
            return Times(*words, tz=zone)
        case "once":
            return _once(text, words)
        case "adaptive":
            return _adaptive(text, words)
        case "always" if not words:
            return Always()
        case "manual" if not words:
            return Manual()
    if re.match(r"[*?@0-9H]|(CRON_)?TZ=", kind):
        return _cron([kind, *words])
    raise InvalidSchedule(
        f"Schedule {text[:100]!r} cannot be read; begin with {_FORMS}", value=text
    )


def _cron(words: list[str]) -> Cron:
    words, and_days = _take_and(words)
    words, zone = _take_zone(words)
    if not and_days:
        words, and_days = _take_and(words)  # `and` may stand on either side of the zone
    return Cron(" ".join(words), tz=zone, and_days=and_days)


def _take_and(words: list[str]) -> tuple[list[str], bool]:
    return (words[:-1], True) if words[-1:] == ["and"] else (words, False)


def _take_zone(words: list[str]) -> tuple[list[str], str | None]:
    if words[-1:] == ["tz"]:
        raise InvalidSchedule("Schedule ends in 'tz'; write a zone behind it, such as UTC")
    return (words[:-2], words[-1]) if words[-2:-1] == ["tz"] else (words, None)


def _every(text: str, words: list[str]) -> Every:
    match words:
        case [interval]:
            return Every(interval)
        case [interval, "spread"]:
            return Every(interval, spread=True)
        case [interval, "after", "end"]:
            return Every(interval, after_end=True)
        case [interval, "phase", phase]:
            return Every(interval, phase=phase)
        case [interval, "phase", phase, "spread"]:
            return Every(interval, phase=phase, spread=True)
    raise InvalidSchedule(
        f"Schedule {text[:100]!r} cannot be read; write 'every SPAN', with 'phase SPAN', "
        "'spread' or 'after end' behind it",
        value=text,
    )


def _once(text: str, words: list[str]) -> Once:
    try:
        (word,) = words
        return Once(datetime.fromisoformat(word))
    except (ValueError, OverflowError) as error:
        problem = "has no time zone" if isinstance(error, NaiveTime) else "cannot be read"
        raise InvalidSchedule(
            f"Schedule {text[:100]!r} {problem}; write 'once 2027-01-01T00:00:00+00:00'",
            value=text,
        ) from error


def _adaptive(text: str, words: list[str]) -> Adaptive:
    match words:
        case ["ladder"]:
            return Adaptive()
        case [start, "between", shortest, "and", longest]:
            return Adaptive(start, between=(shortest, longest))
        case [start, "between", shortest, "and", longest, "factor", factor] if re.fullmatch(
            r"[0-9]{1,4}(\.[0-9]{1,20})?", factor
        ):
            return Adaptive(start, between=(shortest, longest), factor=float(factor))
    raise InvalidSchedule(
        f"Schedule {text[:100]!r} cannot be read; write 'adaptive ladder' or "
        "'adaptive 64d between 12h and 64d factor 2'",
        value=text,
    )
