"""Strategies as querysets: each gives the targets it would pick, in order, stage by stage.

A stage is served by one index over the pool (POOL_INDEXES in models.target). A team's own strategy
is a class of theirs, named "module:Class" in a job's shares.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from functools import cache
from importlib import import_module
from typing import ClassVar

from django.db.models import Q

from scheduling.errors import UnknownStrategy
from scheduling.feeds import (
    BUILT_IN,
    EXPRESS,
    NEVER_CHECKED,
    OLDEST_SCHEDULED,
    STALEST,
    UNTIL_SUCCESS,
    WITHOUT_HINT,
)
from scheduling.models import Source, Target
from scheduling.models.target import TargetQuerySet


@dataclass(frozen=True, slots=True)
class Stage:
    """Those of a strategy that come before all of the next stage."""

    condition: Q
    order: tuple[str, ...]


class Strategy:
    """A team's own: give an ordering and, if it picks among some only, a filter.

    Without an index for its ordering a selection reads the whole pool of its job.
    """

    ordering: ClassVar[Sequence[str]] = ("last_scheduled_at",)

    def filter(self, targets: TargetQuerySet, now: datetime) -> TargetQuerySet:
        """Give those among `targets` (in the pool, of one job) that this strategy picks."""
        return targets


# Not by id alone: the planner would then read the primary key, with all that cools down.
_FIRST_PICK = Stage(Q(last_scheduled_at__isnull=True), ("created_at", "id"))
_PICKED = Stage(Q(last_scheduled_at__isnull=False), ("last_scheduled_at", "id"))
_STAGES: dict[str, tuple[Stage, ...]] = {
    OLDEST_SCHEDULED: (_FIRST_PICK, _PICKED),
    NEVER_CHECKED: (Stage(Q(found_at__isnull=True, hint_at__isnull=False), ("hint_at", "id")),),
    STALEST: (Stage(Q(staleness__isnull=False), ("-staleness", "id")),),
    WITHOUT_HINT: (
        Stage(Q(hint_at__isnull=True, position__isnull=True), ("created_at", "id")),
        Stage(Q(hint_at__isnull=True, position__isnull=False), ("position", "id")),
    ),
    UNTIL_SUCCESS: (
        Stage(Q(ok_since__isnull=True, hint_at__isnull=False), ("hint_at", "id")),
        Stage(Q(ok_since__isnull=True, hint_at__isnull=True), ("created_at", "id")),
    ),
}


def stages(
    name: str, targets: TargetQuerySet, *, now: datetime, source: Source | None = None
) -> list[TargetQuerySet]:
    """What `name` picks among `targets`, in order, one queryset after the other.

    `source` narrows it to what that source named first; "express" needs one. Raises
    UnknownStrategy, which names it.
    """
    if source is not None:
        targets = targets.filter(source=source)
    if name == EXPRESS:
        if source is None:
            raise UnknownStrategy(
                "The strategy 'express' picks what one source has found; name the source",
                name=name,
            )
        first = targets.filter(_FIRST_PICK.condition).order_by(*_FIRST_PICK.order)
        if source.express_done_at is not None:
            return [first]
        # Its very first round takes along what others had found before, once.
        before = Q(last_scheduled_at__lt=source.listing_ended_at or now)
        return [first, targets.filter(_PICKED.condition, before).order_by(*_PICKED.order)]
    if is_fixed(name):
        return fixed_stages(name, targets)
    own = _own(name)()
    return [own.filter(targets, now).order_by(*own.ordering)]


def is_fixed(name: str) -> bool:
    """Whether it picks by what is stored of targets alone: neither by the time nor by a source."""
    return name in _STAGES


def fixed_stages(name: str, targets: TargetQuerySet) -> list[TargetQuerySet]:
    """`stages` of a strategy that is fixed."""
    return [targets.filter(each.condition).order_by(*each.order) for each in _STAGES[name]]


def require_known(name: str) -> None:
    """Raises UnknownStrategy."""
    if name not in BUILT_IN:
        _own(name)


@cache
def _own(name: str) -> type[Strategy]:
    module, _, called = name.partition(":")
    try:
        found = getattr(import_module(module), called)
    except (ImportError, AttributeError, ValueError) as error:
        raise UnknownStrategy(
            f"There is no strategy {name!r} ({error}); known are {', '.join(BUILT_IN)}, and a "
            "class of yours as 'module:Class'",
            name=name,
        ) from error
    if not (isinstance(found, type) and issubclass(found, Strategy)):
        raise UnknownStrategy(
            f"{name!r} is no strategy; derive the class from scheduling.strategies.Strategy",
            name=name,
        )
    return found


def pool_of(job_id: int) -> TargetQuerySet:
    """The targets of a job that may be picked."""
    return Target.objects.filter(job_id=job_id, eligible_since__isnull=False)
