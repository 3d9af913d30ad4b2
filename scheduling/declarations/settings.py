"""Entries of `CELERY_BEAT_SCHEDULE`, or of the Celery app's `conf.beat_schedule`."""

from __future__ import annotations

import difflib
import json
from collections.abc import Mapping
from datetime import timedelta
from typing import Any

from celery import current_app
from django.conf import settings

from scheduling import declared_values as read
from scheduling.declarations.celery_schedules import schedule_of, seconds
from scheduling.declarations.problem import Problem
from scheduling.errors import InvalidDeclaration, InvalidSchedule
from scheduling.registry import Declaration
from scheduling.spans import LONGEST

# Celery's own, for a result backend that Beatkeeper does not need.
IGNORED = frozenset({"celery.backend_cleanup"})
KEYS = ("task", "schedule", "args", "kwargs", "options", "relative")
OPTIONS = (*read.ROUTING, "expires", "expire_seconds", "time_limit", "soft_time_limit")


def read_settings() -> tuple[list[Declaration], list[Problem]]:
    declarations: list[Declaration] = []
    problems: list[Problem] = []
    for name, entry in entries().items():
        try:
            declarations.append(declaration_of(name, entry))
        except (InvalidDeclaration, InvalidSchedule) as error:
            text = f"CELERY_BEAT_SCHEDULE {name!r}: {error}"
            problems.append(Problem(text=text, declared_in="settings", name=str(name)))
    return declarations, problems


def entries() -> dict[str, Any]:
    """Name -> entry. A process without the project's Celery app still sees Django's setting."""
    found = {**getattr(settings, "CELERY_BEAT_SCHEDULE", {}), **current_app.conf.beat_schedule}
    return {name: entry for name, entry in found.items() if name not in IGNORED}


def timezone() -> str:
    """The zone in which Celery reads a crontab in settings."""
    return str(current_app.conf.timezone or getattr(settings, "CELERY_TIMEZONE", None) or "UTC")


def declaration_of(name: str, entry: Mapping[str, Any]) -> Declaration:
    """Read one entry. Raises InvalidDeclaration or InvalidSchedule."""
    if not isinstance(entry, Mapping):
        raise InvalidDeclaration(f"is {entry!r}; give a dict with task and schedule")
    read.as_name(name)
    _refuse_unknown(entry, KEYS, "key")
    for key in ("task", "schedule"):
        if entry.get(key) in (None, ""):
            raise InvalidDeclaration(f"has no {key!r}; give one")
    if not isinstance(entry["task"], str):
        raise InvalidDeclaration(f"has the task {entry['task']!r}; give the name of one")
    options = entry.get("options") or {}
    if not isinstance(options, Mapping) or not isinstance(options.get("headers") or {}, Mapping):
        raise InvalidDeclaration(f"has options {options!r}; give a dict, and headers as a dict")
    _refuse_unknown(options, OPTIONS, "option")
    hard_limit = _span(options.get("time_limit"), "time_limit")
    soft_limit = _span(options.get("soft_time_limit"), "soft_time_limit")
    read.require_limits(soft_limit, hard_limit, name)
    routing = {
        key: options[key]
        for key in read.ROUTING
        if options.get(key) is not None and key != "headers"
    }
    return Declaration(
        name=name,
        kind="task",
        declared_in="settings",
        task=entry["task"],
        schedule=schedule_of(entry["schedule"], timezone()),
        args=tuple(_json(entry.get("args") or (), "args", list)),
        kwargs=_json(entry.get("kwargs") or {}, "kwargs", dict),
        options=_json({**routing, "headers": with_name(name, options)}, "options", dict),
        start_within=_span(options.get("expires", options.get("expire_seconds")), "expires"),
        hard_limit=hard_limit,
        soft_limit=soft_limit,
    )


def with_name(name: str, options: Mapping[str, Any]) -> dict[str, Any]:
    """The message headers: django-celery-beat's scheduler names the entry, and some read that."""
    return {**(options.get("headers") or {}), "periodic_task_name": name}


def _refuse_unknown(given: Mapping[str, Any], known: tuple[str, ...], what: str) -> None:
    for key in given:
        if key not in known:
            near = difflib.get_close_matches(str(key), known, n=1)
            advice = f"did you mean {near[0]!r}?" if near else f"known are {', '.join(known)}"
            raise InvalidDeclaration(f"has the unknown {what} {key!r}; {advice}")


def _json(value: Any, what: str, shape: type) -> Any:
    try:
        copy = json.loads(json.dumps(value, allow_nan=False))
    except (TypeError, ValueError):
        copy = None
    if not isinstance(copy, shape):
        raise InvalidDeclaration(f"has {what} {value!r}; give what JSON can carry")
    return copy


def _span(value: Any, what: str) -> timedelta | None:
    if value is None:
        return None
    span = seconds(value)
    if span is None:
        raise InvalidDeclaration(f"has {what} {value!r}; give seconds or a timedelta")
    if not timedelta(0) < span <= LONGEST:
        raise InvalidDeclaration(f"has {what} {value!r}; give more than 0 seconds, up to a century")
    return span
