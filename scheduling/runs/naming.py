"""What a source names, written in bulk: resources, listings, and the targets of its jobs.

The order of locks: targets by id, then resources by key, as everywhere. Rows that are new are
inserted by key.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import TYPE_CHECKING

from django.db import IntegrityError

from scheduling import redis
from scheduling.conf import conf
from scheduling.db import short_transaction
from scheduling.models import Cause, Job, Listing, Resource, Run, ScheduleStretch, Source, Target
from scheduling.runs import bulk, coverage, listed, make, pool
from scheduling.runs.cursors import first_stretch
from scheduling.runs.pausing import resume
from scheduling.runs.targets import first_run_of, revive_target

if TYPE_CHECKING:
    from scheduling.sources.values import Named

# Somebody else may name the same for the first time, at this moment: then theirs is there.
TRIES = 3


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
    for batch in batches(list(items)):
        total += record_batch(source, batch, number=source.listings, now=now)
    return total


def batches(items: Sequence[Named]) -> Iterable[Sequence[Named]]:
    """Of JOBS_LIST_BATCH each."""
    for begin in range(0, len(items), conf.LIST_BATCH):
        yield items[begin : begin + conf.LIST_BATCH]


def record_batch(
    source: Source,
    items: Iterable[Named],
    *,
    number: int,
    now: datetime,
    advance: Callable[[Recorded], None] = lambda recorded: None,
) -> Recorded:
    """Write down one batch in one transaction, in which `advance` is called at the end."""
    wanted = {item.key: item for item in sorted(items, key=lambda item: item.key)}
    for left in reversed(range(TRIES)):
        try:
            with short_transaction():
                recorded, settled = _record(source, wanted, number=number, now=now)
                for target in Target.objects.filter(pk__in=settled.to_revive).order_by("pk"):
                    revive_target(target, now=now)
                advance(recorded)
            break
        except IntegrityError:
            if not left:
                raise
    resume_all(settled, by=listed.by_source(source), now=now)
    if recorded.created or recorded.changed or recorded.resumed:
        # A feeder that had nothing to pick is not to sleep on.
        pool.wake_feeders(source.jobs.values_list("pk", flat=True))
    return recorded


def resume_all(settled: listed.Settled, *, by: str, now: datetime) -> None:
    """Let targets with fire times go on, one by one; those left over do at the next listing."""
    for target in Target.objects.filter(pk__in=settled.to_resume).select_related("job"):
        resume(target, by=by, now=now)


def _record(
    source: Source, wanted: Mapping[str, Named], *, number: int, now: datetime
) -> tuple[Recorded, listed.Settled]:
    jobs = {job.pk: job for job in source.jobs.filter(retired_at=None).select_related("calendar")}
    # Locked: what is reckoned from their statistics is written below.
    targets = list(
        Target.objects.filter(job__in=jobs, key__in=wanted)
        .order_by("pk")
        .select_for_update(no_key=True, of=("self",))
    )
    resources = _resources(wanted, now=now)
    listings = defaultdict(list)
    ids = {resource.pk: resource.key for resource in resources.values()}
    for row in Listing.objects.filter(resource__in=ids):
        listings[row.resource_id].append(row)
    went = {
        pk: {row.gone_at for row in rows if row.gone_at is not None}
        for pk, rows in listings.items()
    }
    recorded = _list(source, wanted, ids, listings, number=number, now=now)
    listers = listed.Listers.read(row.source_id for rows in listings.values() for row in rows)
    for target in targets:
        if target.resource_id is None:
            Target.objects.filter(pk=target.pk).update(resource=resources[target.key])
        target.resource = resources[target.key]
    settled = listed.settle(targets, listings, listers, jobs, now=now, named=True, went=went)
    settled.write()
    have = {(target.job_id, target.key) for target in targets}
    for job in jobs.values():
        new = [resource for key, resource in resources.items() if (job.pk, key) not in have]
        _add(job, new, listings, listers, now=now)
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
    keys: Mapping[int, str],
    listings: dict[int, list[Listing]],
    *,
    number: int,
    now: datetime,
) -> Recorded:
    """Write the source's listings of these resources (id -> key), also into `listings`."""
    rows, created, changed = [], 0, 0
    for pk, key in keys.items():
        item = wanted[key]
        row = next((each for each in listings[pk] if each.source_id == source.pk), None)
        if row is None:
            row = Listing(source=source, resource_id=pk, first_seen_at=now)
            listings[pk].append(row)
            created += 1
            before = None
        else:
            before = (row.kwargs, row.is_enabled, row.hint_at, row.gone_at)
        row.kwargs, row.is_enabled = dict(item.kwargs), item.enabled
        # What it does not know it does not say: an older hint stays.
        row.hint_at = item.hint_at or row.hint_at
        row.last_seen_at, row.seen_in, row.missed, row.gone_at = now, number, 0, None
        changed += before is not None and before != (row.kwargs, row.is_enabled, row.hint_at, None)
        rows.append(row)
    told = ("kwargs", "is_enabled", "hint_at", "last_seen_at", "seen_in", "missed", "gone_at")
    bulk.insert(
        [_unsaved(row) for row in rows],
        ("resource_id", "kwargs", "is_enabled", "hint_at", "first_seen_at"),
        unique=("source_id", "resource_id"),
        update=told,
    )
    return Recorded(created=created, seen=len(rows), changed=changed)


def _unsaved(row: Listing) -> Listing:
    """A row without an id of its own, which conflicts by source and resource alone."""
    row.pk = None
    return row


def _add(
    job: Job,
    resources: Sequence[Resource],
    listings: Mapping[int, Sequence[Listing]],
    listers: listed.Listers,
    *,
    now: datetime,
) -> None:
    """Give a job targets for resources, as `add_target` does, in bulk."""
    if not resources:
        return
    is_picked = listed.is_picked(Target(job=job), job)
    first = first_run_of(job)
    wait_until = first if not isinstance(first, str) and first > now else None
    targets, stretches = [], []
    for resource in resources:
        live = listers.live(listings[resource.pk], job.pk)
        owner = live[0]
        hints = [each.hint_at for each in live if each.hint_at is not None]
        target = Target(
            job=job,
            key=resource.key,
            resource=resource,
            source=listers.sources[owner.source_id],
            kwargs=owner.kwargs,
            hint_at=max(hints, default=None),
        )
        if held := listers.hold(live, owner):
            target.paused_at, (target.paused_by, target.pause_reason) = now, held
        if is_picked:
            is_held = target.paused_at is not None or resource.paused_at is not None
            target.eligible_since = None if is_held else now
        elif stretch := first_stretch(target, job, after=wait_until or now, since=now):
            stretches.append(stretch)
        targets.append(target)
    differing = (
        *("key", "resource_id", "source_id", "kwargs", "hint_at"),
        *("paused_at", "paused_by", "pause_reason"),
        *("next_fire_at", "parked", "parked_cursor", "eligible_since"),
    )
    bulk.insert(targets, differing, same={"created_at": now}, returning=("key",))
    coverage.note_many(
        coverage.Change(
            job_id=job.pk,
            source_id=target.source_id,
            before=None,
            after=coverage.facts_of(target),
        )
        for target in targets
    )
    for stretch in stretches:
        # The target has its id only now.
        stretch.target_id = stretch.target.pk
    ScheduleStretch.objects.bulk_create(stretches)
    if not is_picked and (first == "now" or wait_until is not None):
        at = wait_until or now
        Run.objects.bulk_create(
            make.queued(
                target,
                job,
                scheduled_at=at,
                cause=Cause.MANUAL,
                now=now,
                ready_at=at,
                requested_by=make.FIRST_RUN,
            )
            for target in targets
        )
    redis.ring_on_commit()
