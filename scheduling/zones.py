"""Local clocks as arithmetic on whole seconds: where fire times meet clock changes.

An *instant* is a number of seconds since 1970-01-01 UTC. A *local* time is what a wall clock in
the zone shows, counted the same way. A *pattern* names local times: it gives the first one at or
after a local time, or None. The two searches below turn patterns into instants.
"""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from enum import StrEnum
from functools import lru_cache
from typing import NamedTuple
from zoneinfo import ZoneInfo, ZoneInfoNotFoundError

from scheduling.errors import InvalidSchedule, NaiveTime

Pattern = Callable[[int], int | None]

EPOCH = datetime(1970, 1, 1, tzinfo=UTC)
SECOND = timedelta(seconds=1)
DAY = 86_400
FIRST_INSTANT = -2 * DAY  # 1970 begins up to a day earlier or later somewhere on Earth
FIRST_MOMENT = EPOCH + FIRST_INSTANT * SECOND
LAST_INSTANT = 4_102_444_800 + 2 * DAY  # 2100-01-01, likewise
_CHUNK = 2**25  # seconds, a little over a year: the stretch of a zone that is looked at together


class ClockChange(StrEnum):
    """What clock times do when clocks change; rhythms (`*/5`) follow real time in any case.

    In the gap of spring a time does not exist, in the fold of autumn it comes twice.
    """

    CLASSIC = "classic"  # gap: at the first instant after it; fold: the first time only
    SKIP = "skip"  # gap: not at all; fold: the first time only
    TWICE = "twice"  # gap: at the first instant after it; fold: both times
    RUNNING = "running"  # gap: not at all; fold: both times, as the clock on the wall shows them


class Offset(NamedTuple):
    """A stretch [start, end) of instants over which a zone keeps one offset."""

    start: int
    end: int
    seconds: int


def require_aware(moment: datetime) -> datetime:
    """Give the moment in UTC. Raises NaiveTime if it has no zone."""
    if moment.tzinfo is None or moment.utcoffset() is None:
        raise NaiveTime(
            f"Time {moment.isoformat()!r} has no time zone; pass an aware datetime", value=moment
        )
    return moment.astimezone(UTC)


def to_instant(moment: datetime) -> int:
    """Give the last whole second at or before an aware datetime."""
    return (moment - EPOCH) // SECOND


def from_instant(instant: int) -> datetime:
    return EPOCH + timedelta(seconds=instant)


@lru_cache(maxsize=1024)
def load_zone(name: str) -> ZoneInfo:
    try:
        return ZoneInfo(name)
    except (ZoneInfoNotFoundError, ValueError, OSError, TypeError) as error:
        raise InvalidSchedule(
            f"Time zone {str(name)[:40]!r} is unknown; use a name such as 'Europe/Berlin'"
            f"{'' if isinstance(name, str) else ', as a text'}",
            value=name,
        ) from error


def read_clock_change(value: str) -> ClockChange:
    """Raises InvalidSchedule if there is no such rule."""
    try:
        return ClockChange(value)
    except ValueError as error:
        raise InvalidSchedule(
            f"Clock changes by the rule {str(value)[:40]!r} are unknown; choose one of "
            f"{', '.join(ClockChange)}",
            value=value,
        ) from error


def local_at(zone: str, instant: int) -> int:
    """The local time that the clock shows at an instant."""
    return instant + _offset_at(zone, instant).seconds


def next_clock_time(pattern: Pattern, zone: str, after: int, rule: ClockChange) -> int | None:
    """First instant after `after` of a pattern that means clock times, by the given rule."""
    if rule is ClockChange.RUNNING:
        return next_on_running_clock(pattern, zone, after)
    fixed = next_on_fixed_clock(pattern, zone, after)
    if rule is ClockChange.TWICE:
        until = LAST_INSTANT if fixed is None else fixed
        again = next_on_running_clock(pattern, zone, after, until)
        return min((each for each in (fixed, again) if each is not None), default=None)
    if rule is ClockChange.SKIP:
        while fixed is not None and not _is_shown(pattern, zone, fixed):
            fixed = next_on_fixed_clock(pattern, zone, fixed)
    return fixed


def _is_shown(pattern: Pattern, zone: str, instant: int) -> bool:
    local = local_at(zone, instant)
    return pattern(local) == local


def next_on_fixed_clock(pattern: Pattern, zone: str, after: int) -> int | None:
    """First instant after `after` of a pattern that means clock times, each once a day.

    A time that a clock change leaves out happens at the first instant after the gap; a time that
    a clock change repeats happens at its first occurrence only.
    """
    if after >= LAST_INSTANT:
        return None
    after = max(after, FIRST_INSTANT)
    local = pattern(after + _offset_at(zone, after).seconds + 1)
    while local is not None:
        instant = _first_instant_showing(zone, local)
        if instant > after:
            return instant
        local = pattern(local + 1)
    return None


def next_on_running_clock(
    pattern: Pattern, zone: str, after: int, until: int = LAST_INSTANT
) -> int | None:
    """First instant after `after` at which the local clock shows a time of the pattern.

    Follows real time: nothing happens in a gap, and a repeated hour counts both times. What comes
    behind `until` need not be found.
    """
    instant = max(after, FIRST_INSTANT) + 1
    while instant < until:
        offset = _offset_at(zone, instant)
        local = pattern(instant + offset.seconds)
        if local is not None and local - offset.seconds < offset.end:
            return local - offset.seconds
        if offset.end - instant < 2 * DAY:
            # A clock set back just after the start shows times from before the start again.
            instant = offset.end
        elif local is None:
            return None
        else:
            instant = max(offset.end, local - 2 * DAY)
    return None


def _first_instant_showing(zone: str, local: int) -> int:
    """First instant at which the local clock shows `local`, or a later time if it skips it."""
    offset = _offset_at(zone, local - 2 * DAY)
    while local - offset.seconds >= offset.end:
        offset = _offset_at(zone, offset.end)
    return max(local - offset.seconds, offset.start)


def _offset_at(zone: str, instant: int) -> Offset:
    return next(offset for offset in _offsets(zone, instant // _CHUNK) if instant < offset.end)


@lru_cache(maxsize=8192)
def _offsets(zone: str, chunk: int) -> tuple[Offset, ...]:
    """The offsets of one chunk, found by looking every two days and halving where they differ.

    No zone has ever changed its clock and back within less than six days.
    """
    info = load_zone(zone)

    def seconds_at(instant: int) -> int:
        shown = datetime.fromtimestamp(instant, info).utcoffset()
        assert shown is not None
        return shown // SECOND

    start, end = chunk * _CHUNK, (chunk + 1) * _CHUNK
    found: list[Offset] = []
    current, low = seconds_at(start), start
    while low < end - 1:
        high = min(low + 2 * DAY, end - 1)
        if seconds_at(high) != current:
            before = low
            while high - before > 1:
                middle = (before + high) // 2
                if seconds_at(middle) == current:
                    before = middle
                else:
                    high = middle
            found.append(Offset(start, high, current))
            start, current = high, seconds_at(high)
        low = high
    found.append(Offset(start, end, current))
    return tuple(found)
