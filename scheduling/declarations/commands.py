"""Management commands with an inner class `ScheduledJob`."""

from __future__ import annotations

import difflib
from collections.abc import Mapping
from datetime import time, timedelta
from importlib import import_module
from typing import Any

from django.apps import apps
from django.conf import settings
from django.core.management import find_commands

from scheduling import declared_keywords
from scheduling import declared_values as read
from scheduling.declarations.problem import Problem
from scheduling.errors import InvalidDeclaration, InvalidSchedule
from scheduling.registry import LONGEST_DESCRIPTION, Declaration, FollowUpRule, followed
from scheduling.schedules import Every, Schedule, Times
from scheduling.spans import LONGEST

ATTRIBUTES = frozenset(
    {
        *declared_keywords.OF_COMMANDS,
        *declared_keywords.FOLLOWING,
        *("scheduled_interval", "scheduled_times", "timeout", "trigger_next_jobs"),
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
        except (Exception, SystemExit) as error:  # the team's code: it may raise anything
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
    declared = command.ScheduledJob  # type: ignore[attr-defined]
    if not isinstance(declared, type):
        raise InvalidDeclaration(f"Job {name!r}: ScheduledJob is {declared!r}; write a class")
    given = _attributes(name, declared)

    if "timeout" in given:
        given["hard_limit"] = _timeout(name, given["timeout"])
    values = {
        "internal": False,
        **declared_keywords.read(declared_keywords.OF_COMMANDS, given, name),
        "schedule": _schedule(name, given),
        # Jobs are known by their command's name, so `app.command` names `command`.
        "follow_ups": tuple(
            FollowUpRule(follower=follower.rpartition(".")[2], on="any")
            for follower in read.as_names(given.get("trigger_next_jobs"), name, "trigger_next_jobs")
        ),
        "after": followed(name, given),
    }
    values["description"] = _description(name, values.get("description") or command.help)  # type: ignore[attr-defined]
    return Declaration(
        name=read.as_name(name), kind="command", declared_in="command", command=name, **values
    )


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
    except InvalidSchedule as error:
        raise InvalidDeclaration(f"Job {name!r}: {error}") from error
    return read.as_schedule(given.get("schedule"), name)


def _timeout(name: str, value: object) -> timedelta:
    """A timedelta or, as teams know it, a number of minutes."""
    span = value
    if isinstance(value, int | float) and not isinstance(value, bool):
        try:
            span = timedelta(minutes=value)
        except (OverflowError, ValueError):  # infinite, or not a number
            span = None
    if not isinstance(span, timedelta) or not timedelta(0) < span <= LONGEST:
        raise InvalidDeclaration(
            f"Job {name!r}: timeout is {value!r}; give a positive timedelta or number of minutes"
        )
    return span


def _description(name: str, text: object) -> str:
    text = "" if text is None else str(text).strip()
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
