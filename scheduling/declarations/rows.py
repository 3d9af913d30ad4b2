"""A django-celery-beat row as a declaration."""

from __future__ import annotations

import json
from datetime import datetime, timedelta
from functools import lru_cache
from typing import Any

from celery import schedules as celery
from django_celery_beat.models import CrontabSchedule, IntervalSchedule, PeriodicTask

from scheduling.declarations.celery_schedules import cron_of, every_of, solar_after
from scheduling.declarations.columns import columns_of
from scheduling.declarations.settings import with_name
from scheduling.errors import InvalidDeclaration, InvalidSchedule
from scheduling.registry import Declaration
from scheduling.schedules import Cron, Once, Schedule

# What a row says of its job; everything else is the operator's.
ROW_FIELDS = (
    *("description", "task", "args", "kwargs", "options"),
    *("schedule", "starts_at", "ends_at", "start_within"),
)
LONGEST_DESCRIPTION = 200
NAMES = {
    list: "a JSON list",
    dict: "a JSON object",
    str: "a text",
    int: "a number",
    float: "a number",
    bool: "true or false",
    type(None): "null",
}


def columns_of_row(row: PeriodicTask) -> dict[str, Any]:
    """Field -> value for what a row decides. Raises InvalidSchedule or InvalidDeclaration."""
    return columns_of(declaration_of(row), ROW_FIELDS)


def declaration_of(row: PeriodicTask) -> Declaration:
    """Read one row. Raises InvalidSchedule or InvalidDeclaration."""
    if not row.task:
        raise InvalidDeclaration(f"Periodic task {row.name!r} names no task; name one")
    routing = {
        "queue": row.queue,
        "exchange": row.exchange,
        "routing_key": row.routing_key,
        "priority": row.priority,
    }
    headers = _json(row, "headers", dict)
    return Declaration(
        name=row.name,
        kind="task",
        declared_in="periodic_task",
        task=row.task,
        description=row.description.strip().partition("\n")[0].strip()[:LONGEST_DESCRIPTION],
        schedule=schedule_of(row),
        starts_at=row.start_time,
        ends_at=row.expires,
        args=tuple(_json(row, "args", list)),
        kwargs=_json(row, "kwargs", dict),
        options={key: value for key, value in routing.items() if value not in (None, "")}
        | {"headers": with_name(row.name, {"headers": headers})},
        start_within=timedelta(seconds=row.expire_seconds) if row.expire_seconds else None,
    )


def _json(row: PeriodicTask, field: str, shape: type) -> Any:
    """Raises InvalidDeclaration, which everybody reads: of arguments it names the place only."""
    text = getattr(row, field) or json.dumps(shape())
    try:
        value = json.loads(text)
        json.dumps(value, allow_nan=False)  # Python reads NaN and Infinity, databases do not
        found = NAMES[type(value)]
    except json.JSONDecodeError as error:
        value, found = None, f"no JSON from character {error.pos + 1} on ({error.msg})"
    except ValueError as error:
        value, found = None, f"nothing that databases store ({error})"
    if not isinstance(value, shape):
        raise InvalidDeclaration(
            f"Periodic task {row.name!r} has as its {field} {found}; write {NAMES[shape]}"
        )
    return value


def schedule_of(row: PeriodicTask) -> Schedule:
    """Raises InvalidSchedule."""
    if row.interval is not None:
        return every_of(_length(row.interval), anchor=anchor_of(row))
    if row.crontab is not None:
        fields = ("minute", "hour", "day_of_month", "month_of_year", "day_of_week")
        texts = ("".join(getattr(row.crontab, field).split()) or "*" for field in fields)
        return _cron(*texts, zone=zone_of(row.crontab))
    if row.clocked is not None:
        return Once(row.clocked.clocked_time)
    if row.solar is not None:
        solar = row.solar
        return solar_after(solar.event, solar.latitude, solar.longitude, anchor_of(row))
    raise InvalidSchedule(
        f"Periodic task {row.name!r} has no schedule; choose an interval, a crontab, a clocked "
        "time or a solar event"
    )


def anchor_of(row: PeriodicTask) -> datetime:
    """The moment from which a row's intervals are counted.

    When the row fires, `last_run_at` becomes the fire time: the anchor moves by whole intervals
    and the schedule stays the same.
    """
    anchor: datetime = row.last_run_at or row.date_changed
    if row.last_run_at is None and row.start_time is not None and row.start_time > anchor:
        # The first fire is the start itself; the fraction of a second is left out upwards, since
        # nothing may fire before it.
        anchor = -(-row.start_time.timestamp() // 1) * timedelta(seconds=1) + _EPOCH
    return anchor


def _length(interval: IntervalSchedule) -> timedelta:
    try:
        return timedelta(**{interval.period: interval.every})
    except (OverflowError, TypeError) as error:
        raise InvalidSchedule(
            f"Interval {interval.every!r} {interval.period} cannot be read; choose another"
        ) from error


def zone_of(crontab: CrontabSchedule) -> str:
    return str(crontab.timezone or "UTC")


# Many rows share few expressions, and a scan looks at every row.
@lru_cache(maxsize=4096)
def _cron(
    minute: str, hour: str, day_of_month: str, month_of_year: str, day_of_week: str, *, zone: str
) -> Cron:
    try:
        crontab = celery.crontab(
            minute=minute,
            hour=hour,
            day_of_month=day_of_month,
            month_of_year=month_of_year,
            day_of_week=day_of_week,
        )
    except (celery.ParseException, ValueError, KeyError, IndexError) as error:
        written = f"{minute} {hour} {day_of_month} {month_of_year} {day_of_week}"
        raise InvalidSchedule(
            f"Crontab {written!r} cannot be read: {error}; correct it", value=written
        ) from error
    return cron_of(crontab, zone)


_EPOCH = datetime.fromisoformat("1970-01-01T00:00:00+00:00")
