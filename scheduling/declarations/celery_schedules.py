"""Celery's schedules as ours."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from datetime import datetime, timedelta
from typing import Any

from celery import schedules as celery
from celery.exceptions import ImproperlyConfigured

from scheduling import cron_fields
from scheduling.cron import LONGEST_FIELD
from scheduling.errors import InvalidSchedule
from scheduling.schedules import Cron, Every, Once, Schedule

Values = Callable[[str], frozenset[int]]


def cron_of(crontab: Any, zone: str) -> Cron:
    """Give a Celery crontab as ours: the same fields, each naming what Celery reads in it.

    A text that our parser reads otherwise, or not at all (`monday`), is written as a list.
    """

    def plain(field: cron_fields.Field) -> Values:
        return lambda text: frozenset(field.values(text, name="", lenient=True))

    def day(text: str) -> frozenset[int]:
        return cron_fields.days_of_month(text, name="", lenient=True).numbers

    def weekday(text: str) -> frozenset[int]:
        return cron_fields.days_of_week(text, name="", lenient=True).weekdays

    month = plain(cron_fields.MONTH)
    fields = (
        (crontab._orig_minute, crontab.minute, plain(cron_fields.MINUTE), range(60)),
        (crontab._orig_hour, crontab.hour, plain(cron_fields.HOUR), range(24)),
        (crontab._orig_day_of_month, crontab.day_of_month, day, range(1, 32)),
        (crontab._orig_month_of_year, crontab.month_of_year, month, range(1, 13)),
        (crontab._orig_day_of_week, crontab.day_of_week, weekday, range(7)),
    )
    return Cron(" ".join(_field_text(*each) for each in fields), tz=zone, and_days=True)


def _field_text(written: Any, meant: Iterable[int], read: Values, all_: range) -> str:
    if isinstance(written, str | int):
        text = "".join(str(written).upper().split())
        try:
            if len(text) <= LONGEST_FIELD and read(text) == frozenset(meant):
                return text
        except InvalidSchedule:
            pass
    return as_list(meant, all_)


def as_list(values: Iterable[int], all_: range) -> str:
    """Write numbers as a cron list: `1-5,10`; all of them as `*`."""
    ordered = sorted(set(values))
    if ordered == list(all_):
        return "*"
    stretches: list[list[int]] = []
    for value in ordered:
        if stretches and stretches[-1][-1] == value - 1:
            stretches[-1].append(value)
        else:
            stretches.append([value])
    return ",".join(
        str(each[0]) if len(each) == 1 else f"{each[0]}-{each[-1]}" for each in stretches
    )


def every_of(interval: timedelta, *, anchor: datetime | None = None) -> Every:
    """Give an interval as ours, in step with `anchor` (of which only whole seconds count)."""
    if interval < timedelta(seconds=1) or interval % timedelta(seconds=1):
        raise InvalidSchedule(
            f"Interval of {interval.total_seconds():g} s; choose whole seconds, from 1",
            value=interval,
        )
    if anchor is None:
        return Every(interval)
    since_epoch = timedelta(seconds=int(anchor.timestamp()))
    return Every(interval, phase=since_epoch % interval)


def solar_after(event: Any, latitude: Any, longitude: Any, after: datetime) -> Once:
    """Give the next solar event, by Celery's own class. Raises InvalidSchedule without `ephem`."""
    try:
        solar = celery.solar(event, latitude, longitude, nowfun=lambda: after)
        found = after + solar.remaining_estimate(after)
    except ImproperlyConfigured as error:
        raise InvalidSchedule(
            f"Solar event {event!r} needs the package ephem; type: pip install 'celery[solar]'",
            value=event,
        ) from error
    except ValueError as error:
        raise InvalidSchedule(f"Solar event {event!r}: {error}", value=event) from error
    return Once(found.replace(microsecond=0) + timedelta(seconds=1))


def seconds(value: Any) -> timedelta | None:
    """Read what Celery takes for a span: seconds or a timedelta; None if it is neither."""
    if isinstance(value, int | float) and not isinstance(value, bool):
        try:
            return timedelta(seconds=value)
        except (OverflowError, ValueError):  # infinite, or not a number
            return None
    return value if isinstance(value, timedelta) else None


def schedule_of(value: Any, zone: str) -> Schedule:
    """Read the `schedule` of an entry in CELERY_BEAT_SCHEDULE. Raises InvalidSchedule."""
    if (interval := seconds(value)) is not None:
        return every_of(interval)
    if isinstance(value, celery.crontab):
        return cron_of(value, zone)
    if type(value) is celery.schedule:
        run_every: timedelta = value.run_every  # type: ignore[attr-defined]  # a gap in the stubs
        return every_of(run_every)
    raise InvalidSchedule(
        f"Schedule {value!r} is not understood in settings; give seconds, a timedelta or a "
        "crontab, or make a PeriodicTask row",
        value=value,
    )
