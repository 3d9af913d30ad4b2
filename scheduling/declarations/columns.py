"""Declarations as columns of Job: comparing, and writing what differs."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from datetime import UTC, datetime, timedelta
from enum import StrEnum
from typing import Any

from django.conf import settings
from django.db import connection
from django.db.models import DateTimeField, DurationField
from django.utils.duration import duration_iso_string

from scheduling import runs
from scheduling.errors import InvalidSpan
from scheduling.feeds import Feed, Polite
from scheduling.models import Job
from scheduling.registry import Declaration
from scheduling.runs.pausing import look_again
from scheduling.schedules import Schedule
from scheduling.sizes import format_size
from scheduling.spans import format_span, parse_span

# What a declaration says, in the order in which a diff shows it.
FIELDS = (
    "description",
    "kind",
    "task",
    "command",
    "internal",
    "args",
    "kwargs",
    "options",
    "scheduled_at_argument",
    "schedule",
    "calendar_id",
    "clock_change",
    "starts_at",
    "ends_at",
    "first_run",
    "catch_up",
    "catch_up_window",
    "overlap",
    "queue_limit",
    "start_within",
    "soft_limit",
    "hard_limit",
    "retries",
    "retry_delay",
    "retry_delay_max",
    "retry_on",
    "rerun_if_lost",
    "memory_limit",
    "pause_after",
    "batch",
    "circuit_id",
    "locks",
    "locks_until_next_fire",
    "feed",
    "polite",
    "notify_on_success",
    "notify_still_failing",
    "recipients",
    "ping_url",
)
# Calendars and circuits are referred to by name.
DECLARED_AS = {"calendar_id": "calendar", "circuit_id": "circuit"}
# Shown to nobody but its editors.
SECRET = frozenset({"ping_url"})
# What is run is the code's to say.
FIXED = frozenset({"kind", "task", "command", "scheduled_at_argument"})
# These move cursors. What else a target waits for, its circuit's pause, needs its lock as well.
TIMING = frozenset({"schedule", "calendar_id", "clock_change", "starts_at", "ends_at", "runs_left"})
LOCKING = TIMING | {"circuit_id"}


def columns_of(declaration: Declaration, fields: Iterable[str] = FIELDS) -> dict[str, Any]:
    """Field -> value as the database gives it back."""
    return {field: _stored(getattr(declaration, DECLARED_AS.get(field, field))) for field in fields}


def _stored(value: Any) -> Any:
    if isinstance(value, Schedule):
        return str(in_project_zone(value))
    if isinstance(value, StrEnum):
        return value.value
    if isinstance(value, Feed | Polite):
        return value.as_json()
    if isinstance(value, Mapping | tuple | list):
        # Tuples become lists, and so on inside them.
        return json.loads(json.dumps(value))
    return value


def in_project_zone(schedule: Schedule) -> Schedule:
    """Clock times without a zone are the project's."""
    return schedule if settings.TIME_ZONE == "UTC" else schedule.in_zone(settings.TIME_ZONE)


def as_json(value: Any) -> Any:
    """Give a column's value as JSON; spans as text, such as 1h30m."""
    if isinstance(value, timedelta):
        try:
            return format_span(value)
        except InvalidSpan:  # a fraction of a second
            return duration_iso_string(value)
    return value.astimezone(UTC).isoformat() if isinstance(value, datetime) else value


def as_text(value: Any) -> str:
    """Give a column's value as a diff shows it."""
    shown = as_json(value)
    if shown is None or shown == "":
        return "-"
    return shown if isinstance(shown, str) else json.dumps(shown, sort_keys=True)


def difference(job: Job, wanted: Mapping[str, Any]) -> list[str]:
    """Lines `field: old -> new` for the columns that differ."""
    return [
        f"{field}: {shown(field, getattr(job, field))} -> {shown(field, value)}"
        for field, value in wanted.items()
        if getattr(job, field) != value
    ]


def shown(field: str, value: Any) -> str:
    """Give a column's value for everybody's eyes."""
    if field in SECRET and value:
        return "***"
    return format_size(value) if field == "memory_limit" and value else as_text(value)


def write(
    job: Job, wanted: Mapping[str, Any], *, now: datetime, after: datetime | None = None
) -> None:
    """Write the columns that differ; what moves cursors goes through `runs.reschedule`.

    New cursors lie strictly after `after` (default: now).
    """
    changed = {field: value for field, value in wanted.items() if getattr(job, field) != value}
    if LOCKING.intersection(changed) and connection.in_atomic_block:
        runs.lock_for_edit(job)
    timing = {f: v for f, v in changed.items() if f in TIMING and f != "runs_left"}
    plain = {f: v for f, v in changed.items() if f not in timing}
    if plain:
        Job.objects.filter(pk=job.pk).update(**plain, updated_at=now)
        for field, value in plain.items():
            setattr(job, field, value)
    if TIMING.intersection(changed):
        if "calendar_id" in timing:
            timing["calendar"] = timing.pop("calendar_id")
        runs.reschedule(job, now=now, after=after, **timing)
    if "circuit_id" in changed:
        # The circuit that it leaves may have been paused.
        look_again(job, now=now)


def from_json(field: str, value: Any) -> Any:
    """Give a column's value back from what `as_json` made of it."""
    column = Job._meta.get_field(field)
    if isinstance(value, str) and isinstance(column, DurationField):
        try:
            return parse_span(value)
        except InvalidSpan:
            return column.to_python(value)
    if isinstance(value, str) and isinstance(column, DateTimeField):
        return column.to_python(value)
    return value
