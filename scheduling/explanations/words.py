"""Times and spans as explanations tell them."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

from scheduling.spans import span_in_words


def rounded(span: timedelta) -> str:
    if span < timedelta(seconds=10):
        return f"{max(span.total_seconds(), 0):.1f} s"
    if span > timedelta(hours=1):
        span -= span % timedelta(minutes=1)
    return span_in_words(span)


def ago(moment: datetime, now: datetime) -> str:
    return f"{rounded(now - moment)} ago"


def stamp(moment: datetime | None) -> str:
    return "-" if moment is None else f"{moment.astimezone(UTC):%Y-%m-%d %H:%M:%S} UTC"


def fires_in_words(fires: int, first: datetime, last: datetime | None) -> str:
    """'The fire of ...', or '3 fires from ... to ...'."""
    if fires > 1 and last is not None:
        return f"{fires:,} fires from {stamp(first)} to {stamp(last)}"
    return f"The fire of {stamp(first)}"
