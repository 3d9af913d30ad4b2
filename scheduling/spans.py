"""Spans of time as text: 90s, 15m, 1h30m, 64d."""

from __future__ import annotations

import re
from datetime import timedelta

from scheduling.errors import InvalidSpan

UNITS = {"w": "weeks", "d": "days", "h": "hours", "m": "minutes", "s": "seconds"}
LONGEST = timedelta(days=36_525)  # a century: beyond it, additions leave the calendar

_SPAN = re.compile("".join(f"(?:(?P<{word}>[0-9]{{1,9}}){unit})?" for unit, word in UNITS.items()))


def parse_span(text: str) -> timedelta:
    """Read a span such as 1h30m: units w d h m s, largest first, each at most once."""
    match = _SPAN.fullmatch(text) if text else None
    if match is None:
        raise InvalidSpan(
            f"Span {text[:40]!r} cannot be read; write whole numbers with the units "
            "w, d, h, m, s, largest first, such as 90s, 15m or 1h30m",
            value=text,
        )
    try:
        span = timedelta(**{word: int(number or 0) for word, number in match.groupdict().items()})
    except OverflowError:
        span = timedelta.max
    if span > LONGEST:
        raise InvalidSpan(f"Span {text!r} is longer than a century; shorten it", value=text)
    return span


def format_span(span: timedelta) -> str:
    """Give the one text that stands for a span of whole seconds: 90s, 15m, 1h30m, 64d."""
    total, rest = divmod(span, timedelta(seconds=1))
    if rest or total < 0:
        raise InvalidSpan(f"Span {span!r} is not a whole number of seconds, 0 or more", value=span)
    if total < 120 and total % 60:
        return f"{total}s"  # people say 90 seconds
    return "".join(f"{n}{unit}" for n, unit in _parts(total)) or "0s"


def span_in_words(span: timedelta) -> str:
    """Give a span in English: '5 minutes', '1 hour 30 minutes'."""
    words = [
        f"{number} {UNITS[unit].removesuffix('s') if number == 1 else UNITS[unit]}"
        for number, unit in _parts(span // timedelta(seconds=1))
    ]
    return " ".join(words) or "0 seconds"


def _parts(seconds: int) -> list[tuple[int, str]]:
    minutes, seconds = divmod(seconds, 60)
    hours, minutes = divmod(minutes, 60)
    days, hours = divmod(hours, 24)
    parts = [(days, "d"), (hours, "h"), (minutes, "m"), (seconds, "s")]
    return [part for part in parts if part[0]]
