"""Looking through targets and resources by the million: what is asked for, and how it is told.

The shapes are a stable surface. Times are ISO 8601 in UTC, spans are seconds; what does not apply
is None.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import timedelta
from enum import StrEnum
from typing import Any

from django.db.models import Count, OuterRef, Q, QuerySet, Subquery
from django.db.models.fields.json import KeyTransform

from scheduling.ledger import iso
from scheduling.models import Job, Listing, Resource, Run, Source, Target
from scheduling.models.base import Pausable


class Standing(StrEnum):
    """What targets can be looked for by. Retired ones are found as such only."""

    FAILING = "failing"
    NEVER_FOUND = "never_found"
    STALE = "stale"
    COOLING = "cooling"
    IN_POOL = "in_pool"
    PAUSED = "paused"
    RETIRED = "retired"


IN_WORDS = {
    Standing.FAILING: "failing",
    Standing.NEVER_FOUND: "never found",
    Standing.STALE: "stale",
    Standing.COOLING: "cooling down or in flight",
    Standing.IN_POOL: "in the pool",
    Standing.PAUSED: "paused",
    Standing.RETIRED: "retired",
}
_CONDITIONS = {
    Standing.FAILING: Q(failing_since__isnull=False),
    # As the index `target_never_found` has it.
    Standing.NEVER_FOUND: Q(found_at__isnull=True, paused_at__isnull=True),
    Standing.STALE: Q(staleness__isnull=False, paused_at__isnull=True),
    Standing.COOLING: Q(eligible_at__isnull=False),
    Standing.IN_POOL: Q(eligible_since__isnull=False),
    Standing.PAUSED: Q(paused_at__isnull=False),
}
# What is most in need of a look comes first, where an index has it so.
_ORDERS: dict[Standing | None, tuple[str, ...]] = {
    Standing.FAILING: ("failing_since", "pk"),
    Standing.NEVER_FOUND: ("job_id", "created_at", "pk"),
    Standing.COOLING: ("eligible_at", "pk"),
}


def standing_as(standing: Standing | None) -> Q:
    """The condition for targets that stand so; None: all that are not retired."""
    if standing is Standing.RETIRED:
        return Q(retired_at__isnull=False)
    in_use = Q(retired_at__isnull=True)
    return in_use if standing is None else in_use & _CONDITIONS[standing]


def targets(
    *,
    job: Job | None = None,
    key: str | None = None,
    source: str | None = None,
    standing: Standing | None = None,
    limit: int,
) -> list[Target]:
    """Give up to `limit` targets, each with `strategy`: the one that picked it last, or None.

    `key` ending in * asks for all that begin so. `source` named them first; "" is none.
    """
    found = Target.objects.filter(standing_as(standing))
    if job is not None:
        found = found.filter(job=job)
    if key is not None:
        found = found.filter(keyed(key))
    if source is not None:
        found = found.filter(source__name=source) if source else found.filter(source=None)
    told = with_strategy(found.select_related("job", "resource", "source"))
    return list(told.order_by(*_ORDERS.get(standing, ("job_id", "key")))[:limit])


def keyed(key: str) -> Q:
    return Q(key__startswith=key[:-1]) if key.endswith("*") else Q(key=key)


def with_strategy(found: QuerySet[Target]) -> QuerySet[Target]:
    picked = Run.objects.filter(target=OuterRef("pk")).exclude(strategy="")
    newest = picked.order_by("-scheduled_at").values("strategy")[:1]
    return found.annotate(strategy=Subquery(newest))


def target_as_dict(target: Any) -> dict[str, Any]:
    """Describe a target of `targets`."""
    return {
        "job": target.job.name,
        "key": target.key,
        "resource": None if target.resource is None else target.resource.key,
        "source": None if target.source is None else target.source.name,
        "schedule": target.schedule_text,
        "kwargs": target.kwargs,
        "paused": pause_as_dict(target),
        "parked": target.parked or None,
        "next_fire_at": iso(target.next_fire_at),
        "last_scheduled_at": iso(target.last_scheduled_at),
        "last_started_at": iso(target.last_started_at),
        "last_ended_at": iso(target.last_ended_at),
        "last_succeeded_at": iso(target.last_succeeded_at),
        "last_state": target.last_state or None,
        "failing_since": iso(target.failing_since),
        "outcome": target.last_outcome or None,
        "fingerprint": target.fingerprint or None,
        "observed_at": iso(target.observed_at),
        "found_at": iso(target.found_at),
        "ok_since": iso(target.ok_since),
        "streak": target.streak,
        "misses": target.misses,
        "level": target.level,
        "position": target.position,
        "interval": seconds(target.interval),
        "hint_at": iso(target.hint_at),
        "staleness": seconds(target.staleness),
        "eligible_at": iso(target.eligible_at),
        "eligible_since": iso(target.eligible_since),
        "strategy": target.strategy,
        "created_at": iso(target.created_at),
        "retired_at": iso(target.retired_at),
    }


def resources(
    *, key: str | None = None, label: tuple[str, str] | None = None, limit: int
) -> list[Resource]:
    """Give up to `limit` resources by their keys, each with `targets_in_use`: how many it has."""
    found = Resource.objects.all()
    if key is not None:
        found = found.filter(keyed(key))
    if label is not None:
        # Not as a lookup, which would take a name with two underscores for more than a name.
        found = found.alias(asked=KeyTransform(label[0], "labels")).filter(asked=label[1])
    of_resource = Target.objects.filter(resource=OuterRef("pk"), retired_at=None).order_by()
    number = of_resource.values("resource").annotate(number=Count("pk")).values("number")
    told = found.annotate(targets_in_use=Subquery(number)).prefetch_related("listings__source")
    return list(told.order_by("key")[:limit])


def resource_as_dict(resource: Any) -> dict[str, Any]:
    """Describe a resource of `resources`."""
    return {
        "key": resource.key,
        "description": resource.description,
        "labels": resource.labels,
        "seats": resource.seats,
        "paused": pause_as_dict(resource),
        "targets": resource.targets_in_use or 0,
        "sources": [listing_as_dict(each) for each in resource.listings.all()],
        "first_seen_at": iso(resource.first_seen_at),
        "last_seen_at": iso(resource.last_seen_at),
    }


def listing_as_dict(listing: Any) -> dict[str, Any]:
    """Describe a resource as one source lists it; its source has to be loaded."""
    return {
        "source": listing.source.name,
        "enabled": listing.is_enabled,
        "kwargs": listing.kwargs,
        "hint_at": iso(listing.hint_at),
        "first_seen_at": iso(listing.first_seen_at),
        "last_seen_at": iso(listing.last_seen_at),
        "gone_at": iso(listing.gone_at),
    }


# Looking at ten million would take seconds, each time that somebody opens a page.
MOST_COUNTED = 10_000


@dataclass(frozen=True, slots=True, kw_only=True)
class Listed:
    """How a source lists what it named. `has_more`: these are its newest MOST_COUNTED only."""

    listed: int
    not_enabled: int
    missed: int
    gone: int
    has_more: bool


def listed_by(source: Source) -> Listed:
    # In the order of an index
    listings = Listing.objects.filter(source=source).order_by("-resource")
    in_use = Q(gone_at=None)
    counts = listings[:MOST_COUNTED].aggregate(
        listed=Count("pk", filter=in_use),
        not_enabled=Count("pk", filter=in_use & Q(is_enabled=False)),
        missed=Count("pk", filter=in_use & Q(missed__gt=0)),
        gone=Count("pk", filter=~in_use),
    )
    has_more = listings[MOST_COUNTED : MOST_COUNTED + 1].exists()
    return Listed(**counts, has_more=has_more)


def pause_as_dict(scope: Pausable) -> dict[str, Any] | None:
    """Describe its own pause; one of its job or resource is theirs."""
    if scope.paused_at is None:
        return None
    return {
        "by": scope.paused_by,
        "reason": scope.pause_reason,
        "since": iso(scope.paused_at),
        "until": iso(scope.paused_until),
    }


def seconds(span: timedelta | None) -> float | None:
    return None if span is None else span.total_seconds()
