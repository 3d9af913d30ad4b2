"""What a source names, written in bulk: resources, listings, and the targets of its jobs.

The order of locks: targets by id, then resources by key, as everywhere. Rows that are new are
inserted by key.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import TYPE_CHECKING

from django.db import IntegrityError, transaction
from django.db.models import Exists, OuterRef

from scheduling.conf import conf
from scheduling.db import short_transaction
from scheduling.models import Job, Listing, Resource, Source, Target
from scheduling.runs import adding, bulk, listed, pool
from scheduling.runs.pausing import resume
from scheduling.runs.targets import revive_target

if TYPE_CHECKING:
    from scheduling.sources.values import Named

# Somebody else may name the same for the first time, at this moment: then theirs is there.
TRIES = 3
# Targets with fire times, each of which takes some queries, in one transaction
AT_ONCE = 50


@dataclass(frozen=True, slots=True, kw_only=True)
class Recorded:
    """How many resources a source has named: `seen` in all, of which `created` for the first time
    and `changed` otherwise than before; `resumed` targets go on, or are back.
    """

    created: int = 0
    seen: int = 0
    changed: int = 0
    resumed: int = 0

    def __add__(self, other: Recorded) -> Recorded:
        return Recorded(
            created=self.created + other.created,
            seen=self.seen + other.seen,
            changed=self.changed + other.changed,
            resumed=self.resumed + other.resumed,
        )


def record(source: Source, items: Iterable[Named], *, now: datetime) -> Recorded:
    """Write down what a source names, in batches: outside of a listing, or from elsewhere.

    Of a key that comes twice in a batch the last counts. Nothing is said of what is not named.
    """
    total = Recorded()
    for batch in batches(source, list(items)):
        total += record_batch(source, batch, now=now)
    return total


def batches(source: Source, items: Sequence[Named]) -> Iterator[Sequence[Named]]:
    """What is written in one transaction each: JOBS_LIST_BATCH, or a few where targets with fire
    times are put back. Whoever dies in between has written whole batches; the next time that all
    is named, the others are.
    """
    for begin in range(0, len(items), conf.LIST_BATCH):
        batch = items[begin : begin + conf.LIST_BATCH]
        size = AT_ONCE if _fires_again(source, batch) else len(batch)
        for first in range(0, len(batch), size):
            yield batch[first : first + size]


def _fires_again(source: Source, items: Iterable[Named]) -> bool:
    """Whether being named puts targets with fire times back."""
    listed_then = Listing.objects.filter(
        resource__key=OuterRef("key"), gone_at=OuterRef("retired_at")
    )
    coming_back = Target.objects.filter(
        Exists(listed_then),
        job__in=source.jobs.filter(retired_at=None),
        key__in=[item.key for item in items],
        retired_at__isnull=False,
    )
    jobs = {job.pk: job for job in source.jobs.select_related("calendar")}
    return any(not listed.is_picked(target, jobs[target.job_id]) for target in coming_back)


def record_batch(
    source: Source,
    items: Iterable[Named],
    *,
    now: datetime,
    advance: Callable[[Recorded], None] = lambda recorded: None,
) -> Recorded:
    """Write down one batch in one transaction, in which `advance` is called at the end."""
    wanted = {item.key: item for item in sorted(items, key=lambda item: item.key)}
    for left in reversed(range(TRIES)):
        try:
            with short_transaction():
                recorded, settled = _record(source, wanted, now=now)
                for target in Target.objects.filter(pk__in=settled.to_revive).order_by("pk"):
                    revive_target(target, now=now)
                advance(recorded)
            break
        except IntegrityError:
            if not left:
                raise
    resume_all(settled, by=listed.by_source(source), now=now)
    if recorded.created or recorded.changed or recorded.resumed:
        # A feeder that had nothing to pick is not to sleep on. Afterwards: one that is at work
        # holds its row, and wants our targets.
        ids = source.jobs.values_list("pk", flat=True)
        transaction.on_commit(lambda: pool.wake_feeders(ids))
    return recorded


def resume_all(settled: listed.Settled, *, by: str, now: datetime) -> None:
    """Let targets with fire times go on, one by one; those left over do at the next listing."""
    for target in Target.objects.filter(pk__in=settled.to_resume).select_related("job"):
        resume(target, by=by, now=now)


def _record(
    source: Source, wanted: Mapping[str, Named], *, now: datetime
) -> tuple[Recorded, listed.Settled]:
    jobs = {job.pk: job for job in source.jobs.filter(retired_at=None).select_related("calendar")}
    # Locked: what is reckoned from their statistics is written below.
    targets = list(
        Target.objects.filter(job__in=jobs, key__in=wanted)
        .order_by("pk")
        .select_for_update(no_key=True, of=("self",))
        .select_related("resource")
    )
    resources = _resources(wanted, now=now)
    listings = listed.listings_of({resource.pk: key for key, resource in resources.items()})
    went = {
        key: {row.gone_at for row in rows if row.gone_at is not None}
        for key, rows in listings.items()
    }
    recorded = _list(source, wanted, resources, listings, now=now)
    listers = listed.Listers.of(listings)
    _give_resources(targets, resources)
    settled = listed.settle(targets, listings, listers, jobs, now=now, named=True, went=went)
    settled.write()
    have = {(target.job_id, target.key) for target in targets}
    for job in jobs.values():
        new = [resource for key, resource in resources.items() if (job.pk, key) not in have]
        adding.insert(job, [_new(job, each, listings, listers, now=now) for each in new], now=now)
    return recorded + Recorded(resumed=settled.resumed), settled


def _resources(wanted: Mapping[str, Named], *, now: datetime) -> dict[str, Resource]:
    """Give the resources by key, in its order, seen now; those that are new are made."""
    # Locked: two sources that name the same resource take turns.
    rows = Resource.objects.filter(key__in=wanted).order_by("key").select_for_update(no_key=True)
    found = {row.key: row for row in rows}
    Resource.objects.filter(pk__in=[row.pk for row in found.values()]).update(last_seen_at=now)
    described = [row for key, row in found.items() if _describe(row, wanted[key])]
    bulk.write(described, ("labels", "description"))
    new = [
        Resource(key=key, labels=dict(item.labels), description=item.description)
        for key, item in wanted.items()
        if key not in found
    ]
    # By our clock, which the columns' own defaults do not know.
    seen = {"first_seen_at": now, "last_seen_at": now}
    bulk.insert(new, ("key", "labels", "description"), same=seen, returning=("key",))
    found |= {row.key: row for row in new}
    return {key: found[key] for key in wanted}


def _describe(resource: Resource, item: Named) -> bool:
    """Set what a source says anew of a resource; labels of others and of people stay."""
    labels = {**resource.labels, **item.labels}
    description = item.description or resource.description
    if (labels, description) == (resource.labels, resource.description):
        return False
    resource.labels, resource.description = labels, description
    return True


def _list(
    source: Source,
    wanted: Mapping[str, Named],
    resources: Mapping[str, Resource],
    listings: Mapping[str, list[Listing]],
    *,
    now: datetime,
) -> Recorded:
    """Write the source's listings of these resources, which are locked; also into `listings`."""
    # Read now: `source` may have been in hand for long, and a full listing have begun since.
    number = Source.objects.values_list("listings", flat=True).get(pk=source.pk)
    rows, created, changed = [], 0, 0
    for key, resource in resources.items():
        row = next((each for each in listings[key] if each.source_id == source.pk), None)
        if row is None:
            row = Listing(source=source, resource=resource, first_seen_at=now)
            listings[key].append(row)
            _say(row, wanted[key], number=number, now=now)
            created += 1
        else:
            before = _said_of(row)
            _say(row, wanted[key], number=number, now=now)
            changed += before != _said_of(row)
        rows.append(row)
    told = ("kwargs", "is_enabled", "hint_at", "last_seen_at", "seen_in", "missed", "gone_at")
    bulk.insert(
        [_unsaved(row) for row in rows],
        ("resource_id", "kwargs", "is_enabled", "hint_at", "first_seen_at", "seen_in"),
        unique=("source_id", "resource_id"),
        update=told,
    )
    return Recorded(created=created, seen=len(rows), changed=changed)


def _say(row: Listing, item: Named, *, number: int, now: datetime) -> None:
    """Set on a listing what its source says, in its full listing of this number or after it."""
    row.kwargs, row.is_enabled = dict(item.kwargs), item.enabled
    # What it does not know it does not say: an older hint stays.
    row.hint_at = item.hint_at or row.hint_at
    row.last_seen_at, row.seen_in = now, max(row.seen_in, number)
    row.missed, row.gone_at = 0, None


def _said_of(row: Listing) -> tuple[object, ...]:
    return row.kwargs, row.is_enabled, row.hint_at, row.gone_at


def _unsaved(row: Listing) -> Listing:
    """A row without an id of its own, which conflicts by source and resource alone."""
    row.pk = None
    return row


def _give_resources(targets: Iterable[Target], resources: Mapping[str, Resource]) -> None:
    """Give locked targets the resources of their keys; those that have another one keep it."""
    without = [target for target in targets if target.resource_id is None]
    for target in targets:
        resource = resources[target.key]
        if target.resource_id in (None, resource.pk):
            # Locked, so that a pause of it comes before or after us.
            target.resource = resource
    bulk.write(without, ("resource_id",))


def _new(
    job: Job,
    resource: Resource,
    listings: Mapping[str, Sequence[Listing]],
    listers: listed.Listers,
    *,
    now: datetime,
) -> Target:
    """A target of a job for a resource, as its listings say; not saved."""
    target = Target(job=job, key=resource.key, resource=resource)
    live = listers.live(listings[resource.key], job.pk)
    listers.describe(target, live)
    if held := listers.hold(target, live):
        target.paused_at, (target.paused_by, target.pause_reason) = now, held
    return target
