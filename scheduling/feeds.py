"""How the targets of a job are picked, and how politely they are worked: plain values. Pure."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, fields
from datetime import timedelta
from typing import Any, Self

from scheduling.errors import InvalidDeclaration, InvalidSpan
from scheduling.spans import format_span, parse_span

# The built-in strategies (scheduling.selection); others are "module:Class".
OLDEST_SCHEDULED = "oldest_scheduled"
NEVER_CHECKED = "never_checked"
STALEST = "stalest"
WITHOUT_HINT = "without_hint"
UNTIL_SUCCESS = "until_success"
EXPRESS = "express"
BUILT_IN = (OLDEST_SCHEDULED, NEVER_CHECKED, STALEST, WITHOUT_HINT, UNTIL_SUCCESS, EXPRESS)
SHARES = {STALEST: 40.0, NEVER_CHECKED: 40.0, WITHOUT_HINT: 20.0}

LONGEST_STRATEGY = 40  # characters: what the column of a run keeps
MOST_OPEN = 10_000
SLOWEST = 1e-5  # starts per second: about one a day


@dataclass(frozen=True, slots=True, kw_only=True)
class Cooldowns:
    """How long a target is left alone: strictly longer than that. None: no such cooldown."""

    # since it was picked last, whatever came of it
    absolute: timedelta | None = timedelta(hours=12)
    # since it was picked, as long as no run of it has ended and no result has come since
    in_flight: timedelta | None = timedelta(days=7)
    # since its newest result, if that was a failure, or that it is missing
    failed: timedelta | None = timedelta(days=14)
    missing: timedelta | None = timedelta(days=31)

    def as_json(self) -> dict[str, str | None]:
        return {
            each.name: None if (span := getattr(self, each.name)) is None else format_span(span)
            for each in fields(self)
        }

    @classmethod
    def read(cls, value: object) -> Self:
        """Read {name: span, its text or None}; what is left out is as usual.

        Raises InvalidDeclaration.
        """
        return cls(**_read(value, {each.name: _as_cooldown for each in fields(cls)}, "cooldowns"))


@dataclass(frozen=True, slots=True, kw_only=True)
class Express:
    """The lane for what a source names for the first time: a queue and a cap of its own."""

    queue: str
    limit: int = 100

    def as_json(self) -> dict[str, Any]:
        return {"queue": self.queue, "limit": self.limit}

    @classmethod
    def read(cls, value: object) -> Self:
        """Raises InvalidDeclaration."""
        read = _read(value, {"queue": _as_text, "limit": _as_limit}, "express")
        if "queue" not in read:
            raise InvalidDeclaration(f"express is {value!r}; name its queue")
        return cls(**read)


@dataclass(frozen=True, slots=True, kw_only=True)
class Feed:
    """How a job is fed: targets are picked as there are free slots, not at fire times.

    `shares`: strategy -> weight, 0 for never; none at all: nothing is picked, and only the number
    of its open runs is bounded. At most `max_queue_length` runs of it are open at once; targets are
    picked when more than the fraction `threshold` of that is free. `sample`: look at this fraction
    of the pool only, another one each time.
    """

    shares: Mapping[str, float] = field(default_factory=lambda: dict(SHARES))
    cooldowns: Cooldowns = field(default_factory=Cooldowns)
    max_queue_length: int = 1000
    threshold: float = 0.05
    express: Express | None = None
    sample: float | None = None

    def as_json(self) -> dict[str, Any]:
        return {
            "shares": dict(self.shares),
            "cooldowns": self.cooldowns.as_json(),
            "max_queue_length": self.max_queue_length,
            "threshold": self.threshold,
            "express": None if self.express is None else self.express.as_json(),
            "sample": self.sample,
        }

    @classmethod
    def read(cls, value: object) -> Self:
        """Read what `as_json` gives; what is left out is as usual. Raises InvalidDeclaration."""
        return cls(**_read(value, _FEED, "feed"))


@dataclass(frozen=True, slots=True, kw_only=True)
class Polite:
    """How much of a job may press on one key: runs at once, and starts per second. None: as much
    as there is.

    `by` says what the key of a target is: "host" (of a key that is an address), "key", "resource",
    or "label:NAME" (of its resource). Jobs with the same `group` share what is allowed.
    """

    by: str = "host"
    at_once: int | None = None
    per_second: float | None = None
    group: str = ""

    def as_json(self) -> dict[str, Any]:
        return {each.name: getattr(self, each.name) for each in fields(self)}

    @classmethod
    def read(cls, value: object) -> Self:
        """Raises InvalidDeclaration."""
        polite = cls(**_read(value, _POLITE, "polite"))
        if polite.at_once is None and polite.per_second is None:
            raise InvalidDeclaration(
                f"polite is {value!r}, which limits nothing; give at_once, per_second or both"
            )
        return polite


def _read(
    value: object, readers: Mapping[str, Callable[[Any, str], Any]], what: str
) -> dict[str, Any]:
    if not isinstance(value, Mapping):
        raise InvalidDeclaration(f"{what} is {value!r}; give a mapping with {', '.join(readers)}")
    for name in value:
        if name not in readers:
            raise InvalidDeclaration(f"{what} has {name!r}; known are {', '.join(readers)}")
    return {name: readers[name](each, f"{what}.{name}") for name, each in value.items()}


def _as_cooldown(value: Any, what: str) -> timedelta | None:
    """None, an empty text and no time at all: no cooldown."""
    try:
        span = parse_span(value) if isinstance(value, str) and value else value
    except InvalidSpan as error:
        raise InvalidDeclaration(f"{what}: {error}") from error
    if span in (None, "", timedelta(0)):
        return None
    if isinstance(span, timedelta) and span > timedelta(0):
        try:
            format_span(span)
        except InvalidSpan as error:
            raise InvalidDeclaration(f"{what}: {error}") from error
        return span
    raise InvalidDeclaration(f"{what} is {value!r}; give a span such as 12h, or None for none")


def _as_text(value: Any, what: str) -> str:
    if isinstance(value, str) and 0 < len(value) <= 200 and value.isprintable():
        return value
    raise InvalidDeclaration(f"{what} is {value!r}; give 1 to 200 printable characters")


def _as_group(value: Any, what: str) -> str:
    return "" if value == "" else _as_text(value, what)


def _as_limit(value: Any, what: str) -> int:
    if isinstance(value, int) and not isinstance(value, bool) and 1 <= value <= MOST_OPEN:
        return value
    raise InvalidDeclaration(f"{what} is {value!r}; give a number from 1 to {MOST_OPEN}")


def _as_limit_or_none(value: Any, what: str) -> int | None:
    return None if value is None else _as_limit(value, what)


def _is_number(value: Any) -> bool:
    return isinstance(value, int | float) and not isinstance(value, bool)


def _as_fraction(value: Any, what: str) -> float:
    if _is_number(value) and 0 <= value < 1:
        return float(value)
    raise InvalidDeclaration(f"{what} is {value!r}; give a fraction from 0 to below 1")


def _as_sample(value: Any, what: str) -> float | None:
    if value is None:
        return None
    if _is_number(value) and 0 < value <= 1:
        return float(value)
    raise InvalidDeclaration(f"{what} is {value!r}; give a fraction above 0, at most 1, or None")


def _as_rate(value: Any, what: str) -> float | None:
    if value is None:
        return None
    if _is_number(value) and SLOWEST <= value <= MOST_OPEN:
        return float(value)
    raise InvalidDeclaration(
        f"{what} is {value!r}; give a number per second from {SLOWEST:g} to {MOST_OPEN}, or None"
    )


def _as_shares(value: Any, what: str) -> dict[str, float]:
    if not isinstance(value, Mapping):
        raise InvalidDeclaration(f"{what} is {value!r}; give strategy -> weight")
    for name, weight in value.items():
        _require_strategy(name, what)
        if not (_is_number(weight) and 0 <= weight <= 1e9):
            raise InvalidDeclaration(
                f"{what}: the weight of {name!r} is {weight!r}; give a number, 0 for never"
            )
    return {name: float(weight) for name, weight in value.items()}


def _require_strategy(name: object, what: str) -> None:
    if name in BUILT_IN and name != EXPRESS:
        return
    module, colon, own = name.partition(":") if isinstance(name, str) else ("", "", "")
    if colon and own.isidentifier() and all(part.isidentifier() for part in module.split(".")):
        return
    raise InvalidDeclaration(
        f"{what} names the strategy {name!r}; known are "
        f"{', '.join(each for each in BUILT_IN if each != EXPRESS)}, "
        "and a class of yours as 'module:Class'"
    )


def _as_by(value: Any, what: str) -> str:
    if value in ("host", "key", "resource") or (
        isinstance(value, str) and value.startswith("label:") and len(value) > len("label:")
    ):
        return str(value)
    raise InvalidDeclaration(f"{what} is {value!r}; give host, key, resource or label:NAME")


def _as_cooldowns(value: Any, what: str) -> Cooldowns:
    return value if isinstance(value, Cooldowns) else Cooldowns.read(value)


def _as_express(value: Any, what: str) -> Express | None:
    return value if value is None or isinstance(value, Express) else Express.read(value)


_FEED: Mapping[str, Callable[[Any, str], Any]] = {
    "shares": _as_shares,
    "cooldowns": _as_cooldowns,
    "max_queue_length": _as_limit,
    "threshold": _as_fraction,
    "express": _as_express,
    "sample": _as_sample,
}
_POLITE: Mapping[str, Callable[[Any, str], Any]] = {
    "by": _as_by,
    "at_once": _as_limit_or_none,
    "per_second": _as_rate,
    "group": _as_group,
}
