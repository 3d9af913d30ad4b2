"""How the ready-made enumerators turn a thing into what is named: by its fields. Pure."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from scheduling.sources.values import Named, Unread

# The name of a field (of a row, an object, "owner.name" of what it has), or a function of the thing
Field = str | Callable[[Any], Any]
# Names of fields, or a function of the thing that gives a mapping
Fields = Sequence[str] | Callable[[Any], Mapping[str, Any]]

# What a thing is to blame for. Anything else is an error of the code, and ends the listing.
UNREADABLE = (ValueError, TypeError, AttributeError, LookupError, ArithmeticError)


@dataclass(frozen=True, slots=True, kw_only=True)
class Reading:
    """Which field of a thing is what. `kwargs` and `labels` take several, by their own names."""

    key: Field
    hint: Field | None = None
    kwargs: Fields = ()
    enabled: Field | None = None
    labels: Fields = ()
    description: Field | None = None

    def __call__(self, thing: Any) -> Named:
        """Raises one of UNREADABLE, or what a function raises, if it is not as it should be."""
        key = value_of(thing, self.key)
        description = None if self.description is None else value_of(thing, self.description)
        return Named(
            str(key) if key is not None else "",
            kwargs=_values_of(thing, self.kwargs),
            hint_at=None if self.hint is None else as_time(value_of(thing, self.hint)),
            enabled=True if self.enabled is None else _as_flag(value_of(thing, self.enabled)),
            labels=_values_of(thing, self.labels),
            description="" if description is None else str(description),
        )

    def names(self) -> list[str]:
        """Give the fields that are said by name; functions find theirs themselves."""
        single = (self.key, self.hint, self.enabled, self.description)
        several = (
            each for fields in (self.kwargs, self.labels) if not callable(fields) for each in fields
        )
        return [each for each in (*single, *several) if isinstance(each, str)]


def value_of(thing: Any, field: Field) -> Any:
    if callable(field):
        return field(thing)
    for name in field.split("."):
        if isinstance(thing, Mapping):
            if name not in thing:
                raise ValueError(f"it has no {field!r}")
            thing = thing[name]
        else:
            thing = getattr(thing, name)
    return thing


def _values_of(thing: Any, fields: Fields) -> dict[str, Any]:
    if callable(fields):
        return dict(fields(thing))
    return {name: value_of(thing, name) for name in fields}


def as_time(value: Any) -> datetime | None:
    """Read a time: a datetime, or ISO 8601 text with a zone. Raises ValueError."""
    if value is None or value == "":
        return None
    if isinstance(value, datetime):
        return value
    if isinstance(value, str):
        return datetime.fromisoformat(value)
    raise ValueError(f"{value!r} is no time; give a datetime or ISO 8601 text with a zone")


def _as_flag(value: Any) -> bool:
    """Read yes or no, also as files write it. Raises ValueError."""
    if isinstance(value, bool):
        return value
    known = {"1": True, "true": True, "yes": True, "0": False, "false": False, "no": False}
    found = known.get(str(value).strip().lower())
    if found is None:
        raise ValueError(f"{value!r} says neither yes nor no; write true or false")
    return found


def from_generator(
    things: Iterable[Any],
    *,
    key: Field,
    hint: Field | None = None,
    kwargs: Fields = (),
    enabled: Field | None = None,
    labels: Fields = (),
    description: Field | None = None,
) -> Iterator[Named | Unread]:
    """Name each of some things: dicts or objects. What is wrong with one stops no other, also if
    it is a function that finds it (a KeyError, say; see UNREADABLE).

    It begins at the start if it is interrupted; give `Page`s for another way.
    """
    read = Reading(
        key=key, hint=hint, kwargs=kwargs, enabled=enabled, labels=labels, description=description
    )
    for number, thing in enumerate(things, start=1):
        yield named_or_unread(read, thing, f"entry {number}")


def named_or_unread(read: Reading, thing: Any, where: str) -> Named | Unread:
    try:
        return read(thing)
    except UNREADABLE as error:
        return Unread(where, in_words(error))


def in_words(error: Exception) -> str:
    """Tell an error; of most, such as a KeyError, the words alone say nothing."""
    if isinstance(error, ValueError):
        return str(error)
    return f"{type(error).__name__}: {error}"
