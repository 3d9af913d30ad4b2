"""What listings of a resource make of its targets: source, parameters, hint, pause, return."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any

from scheduling.errors import InvalidSchedule
from scheduling.measures import Facts
from scheduling.models import Job, Listing, Parked, Run, Source, Target
from scheduling.runs import bulk, coverage, pool
from scheduling.runs.cursors import schedule_of

ON_TRIAL = "trial"
NOT_ENABLED = "its listing is not enabled"
BEATKEEPER = "Beatkeeper"
SOURCE = "source "
# Of each target: what is compared, and written where it differs.
COLUMNS = (
    *("source_id", "kwargs", "hint_at", "staleness"),
    *("paused_at", "paused_by", "pause_reason", "paused_until"),
    *("misses", "streak", "failures_in_a_row"),
    *("retired_at", "parked", "eligible_at", "eligible_since"),
)


def by_source(source: Source) -> str:
    """Who pauses a target because of a listing."""
    return f"{SOURCE}{source.name}"[:150]


@dataclass(frozen=True, slots=True, kw_only=True)
class Listers:
    """The sources that list something, and the ids of their jobs."""

    sources: Mapping[int, Source]
    jobs_of: Mapping[int, Collection[int]]

    @classmethod
    def read(cls, ids: Iterable[int]) -> Listers:
        sources = Source.objects.defer("state").in_bulk(set(ids))
        jobs_of: dict[int, set[int]] = {pk: set() for pk in sources}
        pairs = Source.jobs.through.objects.filter(source__in=sources)
        for source_id, job_id in pairs.values_list("source_id", "job_id"):
            jobs_of[source_id].add(job_id)
        return cls(sources=sources, jobs_of=jobs_of)

    def live(self, listings: Iterable[Listing], job_id: int) -> list[Listing]:
        """Those that stand, of sources that give the job its targets; the oldest first."""
        standing = [
            each
            for each in listings
            if each.gone_at is None and job_id in self.jobs_of[each.source_id]
        ]
        return sorted(standing, key=lambda each: (each.first_seen_at, each.source_id))

    def hold(self, live: Iterable[Listing], owner: Listing) -> tuple[str, str] | None:
        """By whom and why a target is to be paused; None: it is not."""
        for each in live:
            if not each.is_enabled:
                return by_source(self.sources[each.source_id]), NOT_ENABLED
        source = self.sources[owner.source_id]
        return (by_source(source), ON_TRIAL) if source.is_trial else None


def staleness_of(hint_at: datetime | None, found_at: datetime | None) -> timedelta | None:
    """How much is known to be out of date; None: nothing."""
    if hint_at is None or found_at is None or hint_at <= found_at:
        return None
    return hint_at - found_at


@dataclass(slots=True, kw_only=True)
class Settled:
    """What has become of targets: those whose columns differ; and the ids of those with a cursor,
    which the caller has to put back or resume one by one.
    """

    changed: list[Target] = field(default_factory=list)
    columns: set[str] = field(default_factory=set)
    changes: list[coverage.Change] = field(default_factory=list)
    resumed: int = 0
    to_resume: list[int] = field(default_factory=list)
    to_revive: list[int] = field(default_factory=list)

    def write(self) -> None:
        """The targets are locked."""
        if self.changed:
            bulk.write(self.changed, sorted(self.columns))
            coverage.note_many(self.changes)


def settle(
    targets: Sequence[Target],
    listings: Mapping[int, Collection[Listing]],
    listers: Listers,
    jobs: Mapping[int, Job],
    *,
    now: datetime,
    named: bool = False,
    went: Mapping[int, Collection[datetime]] | None = None,
) -> Settled:
    """Set on locked targets what the listings of their resources (by id) say; write nothing.

    `named`: a source names them now, which gives new chances to those that pause themselves after
    failures, and brings back those retired at a time of `went`: when a listing of the resource
    went.
    """
    settled = Settled()
    to_place: list[Target] = []
    before = {target.pk: _columns_of(target) for target in targets}
    facts = {target.pk: coverage.facts_of(target) for target in targets}
    for target in targets:
        resource_id = target.resource_id or 0
        live = listers.live(listings.get(resource_id, ()), target.job_id)
        if not live:
            continue
        owner = next((each for each in live if each.source_id == target.source_id), live[0])
        target.source_id, target.kwargs = owner.source_id, owner.kwargs
        hints = [each.hint_at for each in live if each.hint_at is not None]
        target.hint_at = max(hints, default=None)
        target.staleness = staleness_of(target.hint_at, target.found_at)
        job = jobs[target.job_id]
        picked = is_picked(target, job)
        if named and target.retired_at in ((went or {}).get(resource_id) or ()):
            settled.resumed += 1
            if picked:
                target.retired_at, target.parked = None, ""
                to_place.append(target)
            else:
                settled.to_revive.append(target.pk)
        held = listers.hold(live, owner)
        if held is not None and target.paused_at is None:
            target.paused_at, (target.paused_by, target.pause_reason) = now, held
            target.paused_until = target.eligible_at = target.eligible_since = None
        elif held is None and _is_ours(target, named=named):
            settled.resumed += 1
            if target.paused_by == BEATKEEPER:
                target.misses = target.streak = target.failures_in_a_row = 0
            if picked:
                target.paused_at = target.paused_until = None
                target.paused_by = target.pause_reason = ""
                target.parked = "" if target.parked == Parked.PAUSED else target.parked
                to_place.append(target)
            else:
                settled.to_resume.append(target.pk)
    _place(to_place, jobs, now=now)
    for target in targets:
        differing = {
            name for name, value in before[target.pk].items() if getattr(target, name) != value
        }
        if differing:
            settled.changed.append(target)
            settled.columns |= differing
            settled.changes += _noted(target, before[target.pk]["source_id"], facts[target.pk])
    return settled


def is_picked(target: Target, job: Job) -> bool:
    """Whether strategies pick the target: its job is fed, and it has no fire times of its own."""
    try:
        return job.is_picked and not schedule_of(target, job).is_anchored
    except InvalidSchedule:
        return False


def _is_ours(target: Target, *, named: bool) -> bool:
    """Whether listings may end the pause of a target: one of theirs, or for failures."""
    if target.paused_at is None:
        return False
    return target.paused_by.startswith(SOURCE) or (named and target.paused_by == BEATKEEPER)


def _place(targets: list[Target], jobs: Mapping[int, Job], *, now: datetime) -> None:
    if not targets:
        return
    busy = set(Run.objects.open().filter(target__in=targets).values_list("target_id", flat=True))
    for target in targets:
        pool.place(target, jobs[target.job_id], now=now, is_busy=target.pk in busy)


def _columns_of(target: Target) -> dict[str, Any]:
    return {name: getattr(target, name) for name in COLUMNS}


def _noted(target: Target, source_id: int | None, before: Facts | None) -> list[coverage.Change]:
    after = coverage.facts_of(target)

    def change(of: int | None, was: Any, now_is: Any) -> coverage.Change:
        return coverage.Change(job_id=target.job_id, source_id=of, before=was, after=now_is)

    if source_id == target.source_id:
        return [change(source_id, before, after)]
    return [change(source_id, before, None), change(target.source_id, None, after)]
