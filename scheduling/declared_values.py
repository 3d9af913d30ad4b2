"""The values that a declaration gives, read; or refused by job, name and value. Pure.

Everything here raises InvalidDeclaration, so that one wrong job stops no other.
"""

from __future__ import annotations

import inspect
import json
from collections.abc import Callable, Mapping
from datetime import timedelta
from enum import StrEnum
from typing import Any, TypeVar

from scheduling.errors import InvalidDeclaration, InvalidSchedule
from scheduling.policies import CatchUp, Overlap
from scheduling.schedules import Every, Manual, Schedule, parse, require_supported
from scheduling.spans import LONGEST

LONGEST_NAME = 200
MOST_RETRIES = 32_767  # what the database column holds

Policy = TypeVar("Policy", bound=StrEnum)


def as_name(value: object) -> str:
    if isinstance(value, str) and 0 < len(value) <= LONGEST_NAME and value.isprintable():
        return value
    raise InvalidDeclaration(
        f"Job {value!r}: that is no name; give 1 to {LONGEST_NAME} printable characters"
    )


def as_schedule(value: Schedule | str | timedelta | None, name: str) -> Schedule:
    if value is None:
        return Manual()
    try:
        if isinstance(value, str):
            return require_supported(parse(value))
        if isinstance(value, timedelta):
            return Every(value)
        if isinstance(value, Schedule):
            return require_supported(value)
    except InvalidSchedule as error:
        raise InvalidDeclaration(f"Job {name!r}: {error}") from error
    raise InvalidDeclaration(
        f"Job {name!r}: schedule is {value!r}; give a Schedule, its text form or a timedelta"
    )


def as_catch_up(value: object, name: str) -> CatchUp:
    return _as_policy(value, tuple(CatchUp), name, "catch_up")


def as_overlap(value: object, name: str) -> Overlap:
    return _as_policy(value, tuple(Overlap), name, "overlap")


def _as_policy(value: object, choices: tuple[Policy, ...], name: str, what: str) -> Policy:
    for choice in choices:
        if value == choice:
            return choice
    raise InvalidDeclaration(
        f"Job {name!r}: {what} is {value!r}; choose one of {', '.join(choices)}"
    )


def as_span(value: object, name: str, what: str) -> timedelta | None:
    if value is None or (isinstance(value, timedelta) and timedelta(0) < value <= LONGEST):
        return value
    raise InvalidDeclaration(
        f"Job {name!r}: {what} is {value!r}; give a positive timedelta, at most a century"
    )


def as_some_span(value: object, name: str, what: str) -> timedelta:
    span = as_span(value, name, what)
    if span is None:
        raise InvalidDeclaration(f"Job {name!r}: {what} is None; give a positive timedelta")
    return span


def as_flag(value: object, name: str, what: str) -> bool:
    if isinstance(value, bool):
        return value
    raise InvalidDeclaration(f"Job {name!r}: {what} is {value!r}; give True or False")


def as_retries(value: object, name: str) -> int:
    if isinstance(value, int) and not isinstance(value, bool) and 0 <= value <= MOST_RETRIES:
        return value
    raise InvalidDeclaration(
        f"Job {name!r}: retries is {value!r}; give a number from 0 to {MOST_RETRIES}"
    )


def as_text(value: object, name: str, what: str) -> str:
    if value is None or isinstance(value, str):
        return value or ""
    raise InvalidDeclaration(f"Job {name!r}: {what} is {value!r}; give a text")


def as_names(value: object, name: str, what: str) -> tuple[str, ...]:
    """Read one name or a list of them. A set has no order, so it is no list."""
    if value is None or value == "":
        return ()
    names = (value,) if isinstance(value, str) else value
    if isinstance(names, list | tuple) and all(isinstance(n, str) and n for n in names):
        return tuple(names)
    raise InvalidDeclaration(f"Job {name!r}: {what} is {value!r}; give a name or a list of names")


def as_kwargs(value: object, name: str) -> dict[str, Any]:
    """Read arguments by name, as the database will give them back."""
    if value is None:
        return {}
    try:
        copy = json.loads(
            json.dumps(dict(value) if isinstance(value, Mapping) else value, allow_nan=False)
        )
    except (TypeError, ValueError):
        copy = None
    if isinstance(copy, dict):
        return copy
    raise InvalidDeclaration(
        f"Job {name!r}: kwargs is {value!r}; give arguments by name, with values that JSON has"
    )


def as_hook(value: object, name: str) -> Callable[[], Any] | None:
    """Read a `should_run`, which is called without arguments."""
    if value is None:
        return None
    if not callable(value):
        raise InvalidDeclaration(
            f"Job {name!r}: should_run is {value!r}; give a function without arguments, in a "
            "class a staticmethod or classmethod"
        )
    if inspect.iscoroutinefunction(value):
        raise InvalidDeclaration(
            f"Job {name!r}: should_run is a coroutine, which nobody awaits; write a plain function"
        )
    try:
        inspect.signature(value).bind()
    except TypeError as error:
        raise InvalidDeclaration(
            f"Job {name!r}: should_run is called without arguments ({error}); in a class, make it "
            "a staticmethod or classmethod"
        ) from error
    except ValueError:
        pass  # written in C, without a signature
    return value


def require_limits(soft: timedelta | None, hard: timedelta | None, name: str) -> None:
    if soft is not None and hard is not None and soft > hard:
        raise InvalidDeclaration(
            f"Job {name!r}: its soft limit, {soft}, is above its hard limit, {hard}; lower it"
        )


def require_function(function: object) -> str:
    """Give the name of what `@job` decorates, if a worker can run it as a task."""
    name = getattr(function, "__name__", None)
    is_wrapped = isinstance(function, type | staticmethod | classmethod)
    if is_wrapped or not callable(function) or not isinstance(name, str):
        raise InvalidDeclaration(f"@job decorates {function!r}; put it on a function of a module")
    if name == "<lambda>":
        raise InvalidDeclaration("@job decorates a lambda; write a function with a name")
    scope = getattr(function, "__qualname__", name).rpartition(".")[0]
    if scope and not scope.endswith("<locals>"):
        raise InvalidDeclaration(
            f"Job {name!r}: @job decorates a method of {scope}; put it on a function of a module"
        )
    if inspect.iscoroutinefunction(function) or inspect.isasyncgenfunction(function):
        raise InvalidDeclaration(
            f"Job {name!r}: @job decorates a coroutine, which no worker awaits; "
            "write a plain function that calls asyncio.run"
        )
    if inspect.isgeneratorfunction(function):
        raise InvalidDeclaration(
            f"Job {name!r}: @job decorates a generator, whose body nobody runs; drop its yield"
        )
    return name


def require_arguments(function: Callable[..., Any], given: Mapping[str, Any], name: str) -> None:
    """Refuse arguments that the function does not have; some may come from its targets."""
    try:
        inspect.signature(function).bind_partial(**given)
    except TypeError as error:
        raise InvalidDeclaration(
            f"Job {name!r}: the function {error}; correct it, kwargs or scheduled_at"
        ) from error
    except ValueError:
        pass  # written in C, without a signature
