"""Management commands with an inner class `ScheduledJob`."""

from __future__ import annotations

import difflib
import json
from collections.abc import Mapping
from datetime import time, timedelta
from importlib import import_module
from typing import Any

from django.apps import apps
from django.conf import settings
from django.core.management import find_commands

from scheduling.declarations.problem import Problem
from scheduling.errors import InvalidDeclaration, InvalidSchedule
from scheduling.policies import CatchUp, Overlap
from scheduling.registry import (
    Declaration,
    FollowUpRule,
    as_names,
    as_overlap,
    as_schedule,
    as_span,
)
from scheduling.schedules import Every, Manual, Schedule, Times

LONGEST_DESCRIPTION = 200
ATTRIBUTES = frozenset(
    {
        # when
        "scheduled_interval",
        "scheduled_times",
        "schedule",
        "catch_up",
        "catch_up_window",
        "overlap",
        "start_within",
        "should_run",
        # how
        "internal",
        "timeout",
        "soft_limit",
        "hard_limit",
        "retries",
        "retry_delay",
        "retry_delay_max",
        "rerun_if_lost",
        "locks",
        "queue",
        "kwargs",
        "scheduled_at",
        "description",
        # afterwards
        "trigger_next_jobs",
        "after",
        "after_failure",
        "after_any",
        "default_notify_on_success",
        "notify_still_failing",
        "recipients",
    }
)
CONTRADICTIONS = (
    ("scheduled_interval", "scheduled_times"),
    ("schedule", "scheduled_interval"),
    ("schedule", "scheduled_times"),
    ("timeout", "hard_limit"),
)


def read_commands() -> tuple[list[Declaration], list[Problem]]:
    """Read the declarations of all commands; one that is wrong or cannot be imported is told."""
    declarations: list[Declaration] = []
    problems: list[Problem] = []
    for name, app_names in sorted(_commands().items()):
        try:
            found = _declaration(name, app_names)
        except InvalidDeclaration as error:
            problems.append(Problem(text=str(error), declared_in="command", name=name))
        except Exception as error:  # the team's code: it may raise anything
            text = f"Command {name!r} cannot be imported: {type(error).__name__}: {error}"
            problems.append(Problem(text=text, declared_in="command", name=name))
        else:
            if found is not None:
                declarations.append(found)
    return declarations, problems


def _commands() -> dict[str, list[str]]:
    """Name of a command -> apps that have it; the first is the one whose command Django runs."""
    found: dict[str, list[str]] = {}
    for app in apps.get_app_configs():
        if not app.name.startswith("django."):
            for name in find_commands(f"{app.path}/management"):
                found.setdefault(name, []).append(app.name)
    return found


def _declaration(name: str, app_names: list[str]) -> Declaration | None:
    commands = [import_module(f"{app}.management.commands.{name}").Command for app in app_names]
    inner = [getattr(command, "ScheduledJob", None) for command in commands]
    for app, hidden in zip(app_names[1:], inner[1:], strict=True):
        # A command that extends the hidden one inherits its declaration: no contradiction.
        if hidden is not None and hidden is not inner[0]:
            raise InvalidDeclaration(
                f"Job {name!r} is declared by the commands of {app!r} and hidden by the command "
                f"of the same name in {app_names[0]!r}; rename one"
            )
    return None if inner[0] is None else declaration_of(name, commands[0])


def declaration_of(name: str, command: type) -> Declaration:
    """Read one command's `ScheduledJob`. Raises InvalidDeclaration."""
    given = _attributes(name, command.ScheduledJob)  # type: ignore[attr-defined]
    try:
        return Declaration(
            name=name,
            kind="command",
            declared_in="command",
            command=name,
            description=_description(name, given.get("description") or command.help),  # type: ignore[attr-defined]
            schedule=_schedule(name, given),
            internal=_flag(name, given, "internal"),
            kwargs=_kwargs(name, given.get("kwargs") or {}),
            options={"queue": given["queue"]} if given.get("queue") else {},
            scheduled_at_argument=given.get("scheduled_at") or "",
            catch_up=CatchUp(given.get("catch_up", CatchUp.LATEST)),
            catch_up_window=as_span(given.get("catch_up_window"), name, "catch_up_window"),
            overlap=as_overlap(given.get("overlap", Overlap.SKIP), name),
            start_within=as_span(given.get("start_within"), name, "start_within"),
            soft_limit=as_span(given.get("soft_limit"), name, "soft_limit"),
            hard_limit=_hard_limit(name, given),
            retries=_retries(name, given.get("retries", 0)),
            retry_delay=as_span(given.get("retry_delay"), name, "retry_delay")
            or timedelta(seconds=60),
            retry_delay_max=as_span(given.get("retry_delay_max"), name, "retry_delay_max")
            or timedelta(hours=1),
            rerun_if_lost=_flag(name, given, "rerun_if_lost"),
            locks=_names(name, given, "locks"),
            notify_on_success=_flag(name, given, "default_notify_on_success"),
            notify_still_failing=_flag(name, given, "notify_still_failing"),
            recipients=_names(name, given, "recipients"),
            # Jobs are known by their command's name, so `app.command` names `command`.
            follow_ups=tuple(
                FollowUpRule(follower=follower.rpartition(".")[2], on="any")
                for follower in _names(name, given, "trigger_next_jobs")
            ),
            after=(
                *(FollowUpRule(follower=n, on="success") for n in _names(name, given, "after")),
                *(
                    FollowUpRule(follower=n, on="failure")
                    for n in _names(name, given, "after_failure")
                ),
                *(FollowUpRule(follower=n, on="any") for n in _names(name, given, "after_any")),
            ),
            should_run=_hook(name, given.get("should_run")),
        )
    except InvalidDeclaration:
        raise
    except ValueError as error:  # a policy or a schedule that does not exist
        raise InvalidDeclaration(f"Job {name!r}: {error}") from error


def _attributes(name: str, declared: type) -> dict[str, Any]:
    public = {
        attribute
        for base in declared.__mro__
        if base is not object
        for attribute in vars(base)
        if not attribute.startswith("_")
    }
    for attribute in sorted(public - ATTRIBUTES):
        near = difflib.get_close_matches(attribute, ATTRIBUTES, n=1)
        advice = (
            f"did you mean {near[0]!r}?" if near else f"known are {', '.join(sorted(ATTRIBUTES))}"
        )
        raise InvalidDeclaration(f"Job {name!r}: ScheduledJob has no {attribute!r}; {advice}")
    given = {attribute: getattr(declared, attribute) for attribute in public}
    given = {attribute: value for attribute, value in given.items() if value is not None}
    for one, other in CONTRADICTIONS:
        if one in given and other in given:
            raise InvalidDeclaration(
                f"Job {name!r}: ScheduledJob has both {one!r} and {other!r}; remove one"
            )
    return given


def _schedule(name: str, given: Mapping[str, Any]) -> Schedule:
    try:
        if "scheduled_interval" in given:
            interval = given["scheduled_interval"]
            if not isinstance(interval, timedelta):
                raise InvalidDeclaration(
                    f"Job {name!r}: scheduled_interval is {interval!r}; give a timedelta"
                )
            return Every(interval, after_end=True)
        if "scheduled_times" in given:
            times = given["scheduled_times"]
            if not isinstance(times, list | tuple) or not all(isinstance(t, time) for t in times):
                raise InvalidDeclaration(
                    f"Job {name!r}: scheduled_times is {times!r}; give a list of datetime.time"
                )
            return Times(*times, tz=settings.TIME_ZONE)
        if "schedule" in given:
            return as_schedule(given["schedule"], name)
    except InvalidSchedule as error:
        raise InvalidDeclaration(f"Job {name!r}: {error}") from error
    return Manual()


def _hard_limit(name: str, given: Mapping[str, Any]) -> timedelta | None:
    """`timeout` is a timedelta or, as teams know it, a number of minutes."""
    timeout = given.get("timeout")
    if timeout is None:
        return as_span(given.get("hard_limit"), name, "hard_limit")
    if isinstance(timeout, int | float) and not isinstance(timeout, bool):
        timeout = timedelta(minutes=timeout)
    if not isinstance(timeout, timedelta) or timeout <= timedelta(0):
        raise InvalidDeclaration(
            f"Job {name!r}: timeout is {given['timeout']!r}; "
            "give a positive timedelta or number of minutes"
        )
    return timeout


def _description(name: str, text: object) -> str:
    text = str(text).strip()
    if not text:
        raise InvalidDeclaration(
            f"Job {name!r}: the command has no help; say in `help` what it does"
        )
    if len(text) > LONGEST_DESCRIPTION:
        raise InvalidDeclaration(
            f"Job {name!r}: the command's help has {len(text)} characters; "
            f"shorten it to {LONGEST_DESCRIPTION}, or give ScheduledJob a `description`"
        )
    return text


def _flag(name: str, given: Mapping[str, Any], attribute: str) -> bool:
    value = given.get(attribute, False)
    if not isinstance(value, bool):
        raise InvalidDeclaration(f"Job {name!r}: {attribute} is {value!r}; give True or False")
    return value


def _retries(name: str, value: object) -> int:
    if not isinstance(value, int) or isinstance(value, bool) or value < 0:
        raise InvalidDeclaration(f"Job {name!r}: retries is {value!r}; give a number from 0")
    return value


def _names(name: str, given: Mapping[str, Any], attribute: str) -> tuple[str, ...]:
    value = given.get(attribute, ())
    if not isinstance(value, str | list | tuple) or not all(isinstance(n, str) for n in value):
        raise InvalidDeclaration(
            f"Job {name!r}: {attribute} is {value!r}; give a name or a list of names"
        )
    return as_names(value)


def _kwargs(name: str, value: object) -> dict[str, Any]:
    try:
        copy = json.loads(json.dumps(value))
    except (TypeError, ValueError):
        copy = None
    if not isinstance(copy, dict):
        raise InvalidDeclaration(
            f"Job {name!r}: kwargs is {value!r}; give the command's options as JSON values by name"
        )
    return copy


def _hook(name: str, value: Any) -> Any:
    if value is not None and not callable(value):
        raise InvalidDeclaration(
            f"Job {name!r}: should_run is {value!r}; give a staticmethod or classmethod"
        )
    return value
