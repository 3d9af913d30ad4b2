"""What searches are given: single values or lists of them, and times."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from datetime import datetime
from typing import Any, Literal, TypeAlias, TypeVar

from django.db.models import Q

from scheduling.errors import InvalidRequest
from scheduling.zones import require_aware

T = TypeVar("T")
OneOrMany: TypeAlias = "T | Iterable[T]"

# Of a lane: a number, None for the normal one, or all of them.
Lane: TypeAlias = int | Literal["any"] | None
ANY: Literal["any"] = "any"


def listed(values: object) -> list[Any] | None:
    """Give what was asked for as a list; None: anything."""
    if values is None:
        return None
    if isinstance(values, str) or not isinstance(values, Iterable):
        return [values]
    return list(values)


def among(field: str, values: object) -> Q:
    found = listed(values)
    return Q() if found is None else Q(**{f"{field}__in": found})


def words(what: str, values: OneOrMany[str] | None, known: Sequence[str]) -> list[str] | None:
    """Like `listed`, of words that are known. Raises InvalidRequest, which names another."""
    found = listed(values)
    for word in found or ():
        if word not in known:
            raise InvalidRequest(f"{what} is {word!r}; known are {', '.join(filter(None, known))}")
    return found


def between(field: str, *, after: datetime | None, before: datetime | None) -> Q:
    """Times in [after, before], both included, as far as they are given."""
    asked = Q()
    if after is not None:
        asked &= Q(**{f"{field}__gte": require_aware(after)})
    if before is not None:
        asked &= Q(**{f"{field}__lte": require_aware(before)})
    return asked


def of_lanes(lanes: Lane | Iterable[int | None]) -> Q:
    """Runs of these lanes. Raises InvalidRequest."""
    if lanes == ANY:
        return Q()
    asked = Q(pk__in=())
    for lane in [None] if lanes is None else listed(lanes) or ():
        if lane is not None and not isinstance(lane, int):
            raise InvalidRequest(
                f"The lane is {lane!r}; give a number, None for the normal one, or 'any'"
            )
        asked |= Q(priority__isnull=True) if lane is None else Q(priority=lane)
    return asked
