"""The values that a declaration gives, read; or refused by job, name and value. Pure.

Everything here raises InvalidDeclaration, so that one wrong job stops no other.
"""

from __future__ import annotations

import inspect
import json
from collections.abc import Callable, Mapping, Sequence
from datetime import datetime, timedelta
from enum import StrEnum
from typing import Any, TypeVar

from scheduling.errors import InvalidDeclaration, InvalidSchedule, NaiveTime
from scheduling.feeds import Feed, Polite
from scheduling.ping_urls import require_ping_url
from scheduling.recipients import require_recipient
from scheduling.schedules import Every, Manual, Schedule, parse, require_supported
from scheduling.sizes import parse_size
from scheduling.spans import LONGEST
from scheduling.zones import require_aware

LONGEST_NAME = 200
# Of a target, a resource or a lock.
LONGEST_KEY = 300
LEAST_MEMORY = 16 * 2**20  # bytes: less than an interpreter needs
# What Celery takes to send a message.
ROUTING = ("queue", "exchange", "routing_key", "priority", "headers")

P = TypeVar("P", Feed, Polite)
# Takes the value, the job's name and the keyword.
Reader = Callable[[Any, str, str], Any]


def as_name(value: object) -> str:
    if isinstance(value, str) and 0 < len(value) <= LONGEST_NAME and value.isprintable():
        return value
    raise InvalidDeclaration(
        f"Job {value!r}: that is no name; give 1 to {LONGEST_NAME} printable characters"
    )


def as_schedule(value: object, name: str, what: str = "schedule") -> Schedule:
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
        f"Job {name!r}: {what} is {value!r}; give a Schedule, its text form or a timedelta"
    )


def one_of(policy: type[StrEnum]) -> Reader:
    def read(value: object, name: str, what: str) -> StrEnum:
        for choice in policy:
            if value == choice:
                return choice
        raise InvalidDeclaration(
            f"Job {name!r}: {what} is {value!r}; choose one of {', '.join(policy)}"
        )

    return read


def whole(at_least: int, at_most: int, *, or_none: bool = False) -> Reader:
    def read(value: object, name: str, what: str) -> int | None:
        if value is None and or_none:
            return None
        if isinstance(value, int) and not isinstance(value, bool) and at_least <= value <= at_most:
            return value
        raise InvalidDeclaration(
            f"Job {name!r}: {what} is {value!r}; give a number from {at_least} to {at_most}"
        )

    return read


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


def as_moment(value: object, name: str, what: str) -> datetime | None:
    """Read a time with a zone; give it in UTC."""
    if value is None:
        return None
    try:
        if isinstance(value, datetime):
            return require_aware(value)
    except NaiveTime as error:
        raise InvalidDeclaration(f"Job {name!r}: {what}: {error}") from error
    raise InvalidDeclaration(f"Job {name!r}: {what} is {value!r}; give an aware datetime")


def as_first_run(value: object, name: str, what: str) -> str:
    """Read "next", "now" or a time; give what the column holds."""
    if value in ("next", "now"):
        return str(value)
    try:
        moment = datetime.fromisoformat(value) if isinstance(value, str) else value
        if isinstance(moment, datetime):
            return require_aware(moment).isoformat()
    except (NaiveTime, ValueError, OverflowError):
        pass
    raise InvalidDeclaration(
        f'Job {name!r}: {what} is {value!r}; give "next", "now" or an aware datetime'
    )


def as_text(value: object, name: str, what: str) -> str:
    if value is None or isinstance(value, str):
        return value or ""
    raise InvalidDeclaration(f"Job {name!r}: {what} is {value!r}; give a text")


def as_other(value: object, name: str, what: str) -> str | None:
    """Read the name of something else that jobs share."""
    if value is None:
        return None
    if (
        isinstance(value, str)
        and 0 < len(value) <= LONGEST_NAME
        and value.isprintable()
        and value == value.strip()
    ):
        return value
    raise InvalidDeclaration(
        f"Job {name!r}: {what} is {value!r}; give the name of one, 1 to {LONGEST_NAME} printable "
        "characters without blanks around them"
    )


def as_argument(value: object, name: str, what: str) -> str:
    """Read the name of an argument; of a command's option `--as-of` that is `as_of`."""
    argument = as_text(value, name, what)
    if not argument or argument.isidentifier():
        return argument
    raise InvalidDeclaration(
        f"Job {name!r}: {what} is {value!r}; give the name of an argument, such as 'as_of' for an "
        "option --as-of"
    )


def as_ping_url(value: object, name: str, what: str) -> str:
    """Read a monitor's address. Whoever knows it can report there, so no message repeats it."""
    if value is not None and not isinstance(value, str):
        raise InvalidDeclaration(f"Job {name!r}: {what} is no text; give the address as one")
    try:
        return require_ping_url(value or "")
    except InvalidDeclaration as error:
        raise InvalidDeclaration(f"Job {name!r}: {what}: {error}") from error


def as_names(value: object, name: str, what: str) -> tuple[str, ...]:
    """Read one name or a list of them. A set has no order, so it is no list."""
    if value is None or value == "":
        return ()
    names = (value,) if isinstance(value, str) else value
    if isinstance(names, list | tuple) and all(isinstance(n, str) and n for n in names):
        return tuple(names)
    raise InvalidDeclaration(f"Job {name!r}: {what} is {value!r}; give a name or a list of names")


def as_recipients(value: object, name: str, what: str) -> tuple[str, ...]:
    """Read e-mail addresses and names of channels."""
    recipients = as_names(value, name, what)
    try:
        return tuple(map(require_recipient, recipients))
    except InvalidDeclaration as error:
        raise InvalidDeclaration(f"Job {name!r}: {what}: {error}") from error


def as_locks(value: object, name: str, what: str) -> tuple[str, ...]:
    """Read the keys of resources."""
    keys = as_names(value, name, what)
    for key in keys:
        if len(key) > LONGEST_KEY:
            raise InvalidDeclaration(
                f"Job {name!r}: {what} has a key of {len(key)} characters; at most {LONGEST_KEY}"
            )
    return keys


def as_failures(value: object, name: str, what: str) -> tuple[str | int, ...]:
    """Read which failures are retried: exceptions, as classes or by name, and exit codes."""
    if value is None:
        return ()
    given = value if isinstance(value, list | tuple) else (value,)
    return tuple(_failure(each, name, what) for each in given)


def _failure(value: object, name: str, what: str) -> str | int:
    if isinstance(value, type) and issubclass(value, BaseException):
        return f"{value.__module__}.{value.__qualname__}".removeprefix("builtins.")
    if isinstance(value, int) and not isinstance(value, bool) and 1 <= value <= 255:
        return value
    if isinstance(value, str) and all(word.isidentifier() for word in value.split(".")):
        return value
    raise InvalidDeclaration(
        f"Job {name!r}: {what} has {value!r}; give exceptions, their names such as "
        "'requests.ConnectionError', or exit codes from 1 to 255"
    )


def as_bytes(value: object, name: str, what: str) -> int | None:
    """Read an amount of memory: bytes, or a text such as 512M or 2G."""
    if value is None:
        return None
    found = parse_size(value) if isinstance(value, str) else value
    if isinstance(found, int) and not isinstance(found, bool) and LEAST_MEMORY <= found < 2**63:
        return found
    raise InvalidDeclaration(
        f"Job {name!r}: {what} is {value!r}; give bytes, or a text such as '512M' or '2G', "
        "at least 16M"
    )


def as_args(value: object, name: str, what: str = "args") -> tuple[Any, ...]:
    """Read arguments by position, as the database will give them back."""
    found = _from_json(value if value is not None else [])
    if isinstance(found, list):
        return tuple(found)
    raise InvalidDeclaration(
        f"Job {name!r}: {what} is {value!r}; give a list of arguments, with values that JSON has"
    )


def as_kwargs(value: object, name: str, what: str = "kwargs") -> dict[str, Any]:
    """Read arguments by name, as the database will give them back."""
    found = _from_json(value if value is not None else {})
    if isinstance(found, dict):
        return found
    raise InvalidDeclaration(
        f"Job {name!r}: {what} is {value!r}; give arguments by name, with values that JSON has"
    )


def _from_json(value: object) -> Any:
    """Give what becomes of a value in the database; None if it cannot be stored."""
    try:
        plain = dict(value) if isinstance(value, Mapping) else value
        return json.loads(json.dumps(plain, allow_nan=False))
    except (TypeError, ValueError):
        return None


def as_queue(value: object, name: str, what: str) -> dict[str, Any]:
    queue = as_text(value, name, what)
    if len(queue) > LONGEST_NAME:
        raise InvalidDeclaration(
            f"Job {name!r}: {what} has {len(queue)} characters; at most {LONGEST_NAME}"
        )
    return {"queue": queue} if queue else {}


def as_options(value: object, name: str, what: str) -> dict[str, Any]:
    """Read how messages are sent."""
    options = as_kwargs(value, name, what)
    for option in options:
        if option not in ROUTING:
            raise InvalidDeclaration(
                f"Job {name!r}: {what} has {option!r}; known are {', '.join(ROUTING)}"
            )
    return {**options, **as_queue(options.get("queue"), name, "queue")}


def as_feed(value: object, name: str, what: str) -> Feed | None:
    return _as_plain_value(value, Feed, name, what)


def as_polite(value: object, name: str, what: str) -> Polite | None:
    return _as_plain_value(value, Polite, name, what)


def _as_plain_value(value: object, kind: type[P], name: str, what: str) -> P | None:
    """Read a value of feeds, made by hand or from JSON; by way of JSON, so that it is checked."""
    if value is None:
        return None
    try:
        return kind.read(value.as_json() if isinstance(value, kind) else value)
    except InvalidDeclaration as error:
        raise InvalidDeclaration(f"Job {name!r}: {error}") from error


def as_hook(value: object, name: str, what: str) -> Callable[[], Any] | None:
    """Read a function that is called without arguments."""
    if value is None:
        return None
    if not callable(value):
        raise InvalidDeclaration(
            f"Job {name!r}: {what} is {value!r}; give a function without arguments, in a "
            "class a staticmethod or classmethod"
        )
    if inspect.iscoroutinefunction(value):
        raise InvalidDeclaration(
            f"Job {name!r}: {what} is a coroutine, which nobody awaits; write a plain function"
        )
    try:
        inspect.signature(value).bind()
    except TypeError as error:
        raise InvalidDeclaration(
            f"Job {name!r}: {what} is called without arguments ({error}); in a class, make it "
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


def require_life(starts: datetime | None, ends: datetime | None, name: str) -> None:
    if starts is not None and ends is not None and ends <= starts:
        raise InvalidDeclaration(
            f"Job {name!r}: its end, {ends.isoformat()}, is not after its start, "
            f"{starts.isoformat()}; correct one"
        )


def require_first_within_life(
    first_run: str, starts_at: datetime | None, ends_at: datetime | None, name: str
) -> None:
    """Refuse a first run at a time (in ISO 8601; otherwise a word) outside of the job's life."""
    try:
        first = datetime.fromisoformat(first_run)
    except ValueError:
        return
    if (starts_at is not None and first < starts_at) or (ends_at is not None and first > ends_at):
        raise InvalidDeclaration(
            f"Job {name!r}: first_run is {first_run}, which is not between its start and its end; "
            "move one of them"
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


def require_arguments(
    function: Callable[..., Any], args: Sequence[Any], kwargs: Mapping[str, Any], name: str
) -> None:
    """Refuse arguments that the function does not have; some may come from its targets."""
    try:
        inspect.signature(function).bind_partial(*args, **kwargs)
    except TypeError as error:
        raise InvalidDeclaration(
            f"Job {name!r}: the function {error}; correct it, args, kwargs or scheduled_at"
        ) from error
    except ValueError:
        pass  # written in C, without a signature
