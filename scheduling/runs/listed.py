"""What listings of a resource make of its targets: source, parameters, hint, pause, return."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

from scheduling.cadence import staleness_of
from scheduling.errors import InvalidSchedule
from scheduling.measures import Facts
from scheduling.models import Job, Listing, Parked, Run, Source, Target
from scheduling.runs import bulk, coverage, observing, pool
from scheduling.runs.cursors import schedule_of

ON_TRIAL = "trial"
NOT_ENABLED = "its listing is not enabled"
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


def listings_of(resources: Mapping[int, str]) -> dict[str, list[Listing]]:
    """The listings of resources (id -> key), by key.

    A target is known by its key: its resource may be another one, which its runs hold.
    """
    listings: dict[str, list[Listing]] = {key: [] for key in resources.values()}
    for row in Listing.objects.filter(resource__in=resources):
        listings[resources[row.resource_id]].append(row)
    return listings


@dataclass(frozen=True, slots=True, kw_only=True)
class Listers:
    """The sources that list something, and the ids of their jobs."""

    sources: Mapping[int, Source]
    jobs_of: Mapping[int, Collection[int]]

    @classmethod
    def of(cls, listings: Mapping[str, Iterable[Listing]]) -> Listers:
        ids = {row.source_id for rows in listings.values() for row in rows}
        sources = Source.objects.defer("state").in_bulk(ids)
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

    def describe(self, target: Target, live: Sequence[Listing]) -> None:
        """Set on the instance what its listings say: whose it is, its parameters and its hint."""
        owner = next((each for each in live if each.source_id == target.source_id), live[0])
        target.source, target.kwargs = self.sources[owner.source_id], owner.kwargs
        hints = [each.hint_at for each in live if each.hint_at is not None]
        target.hint_at = max(hints, default=None)
        target.staleness = staleness_of(target.hint_at, target.found_at)

    def hold(self, target: Target, live: Iterable[Listing]) -> tuple[str, str] | None:
        """By whom and why a described target is to be paused; None: it is not."""
        for each in live:
            if not each.is_enabled:
                return by_source(self.sources[each.source_id]), NOT_ENABLED
        assert target.source is not None
        return (by_source(target.source), ON_TRIAL) if target.source.is_trial else None


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

    def note(self, target: Target, columns: Mapping[str, Any], facts: Facts | None) -> None:
        """Keep what differs from what it was before."""
        differing = {name for name, value in columns.items() if getattr(target, name) != value}
        if differing:
            self.changed.append(target)
            self.columns |= differing
            self.changes += _changes_of(target, columns["source_id"], facts)

    def write(self) -> None:
        """The targets are locked."""
        if self.changed:
            bulk.write(self.changed, sorted(self.columns))
            coverage.note_many(self.changes)


def settle(
    targets: Sequence[Target],
    listings: Mapping[str, Collection[Listing]],
    listers: Listers,
    jobs: Mapping[int, Job],
    *,
    now: datetime,
    named: bool = False,
    went: Mapping[str, Collection[datetime]] | None = None,
) -> Settled:
    """Set on locked targets what the listings of their keys say; write nothing.

    `named`: a source names them now, which gives new chances to those that pause themselves after
    failures, and brings back those retired at a time of `went`: when a listing of the key went.
    """
    settled = Settled()
    before = {target.pk: (_columns_of(target), coverage.facts_of(target)) for target in targets}
    to_place: list[Target] = []
    for target in targets:
        live = listers.live(listings.get(target.key, ()), target.job_id)
        if not live:
            continue
        listers.describe(target, live)
        picked = is_picked(target, jobs[target.job_id])
        is_back = named and target.retired_at in (went or {}).get(target.key, ())
        if is_back:
            _bring_back(target, settled, picked=picked)
        held = listers.hold(target, live)
        is_free = held is None and _is_ours(target, named=named)
        if held is not None and target.paused_at is None:
            _pause(target, *held, now=now)
        elif is_free:
            _let_go_on(target, settled, picked=picked)
        if picked and (is_back or is_free):
            to_place.append(target)
    _place(to_place, jobs, now=now)
    for target in targets:
        settled.note(target, *before[target.pk])
    return settled


def _bring_back(target: Target, settled: Settled, *, picked: bool) -> None:
    settled.resumed += 1
    if picked:
        target.retired_at, target.parked = None, ""
    else:
        settled.to_revive.append(target.pk)


def _pause(target: Target, by: str, why: str, *, now: datetime) -> None:
    target.paused_at, target.paused_by, target.pause_reason = now, by, why
    target.paused_until = target.eligible_at = target.eligible_since = None


def _is_ours(target: Target, *, named: bool) -> bool:
    """Whether listings may end the pause of a target: one of theirs, or for failures."""
    if target.paused_at is None:
        return False
    return target.paused_by.startswith(SOURCE) or (named and target.paused_by == observing.BY)


def _let_go_on(target: Target, settled: Settled, *, picked: bool) -> None:
    settled.resumed += 1
    if target.paused_by == observing.BY:
        observing.new_chances(target)
    if picked:
        target.paused_at = target.paused_until = None
        target.paused_by = target.pause_reason = ""
        target.parked = "" if target.parked == Parked.PAUSED else target.parked
    else:
        settled.to_resume.append(target.pk)


def is_picked(target: Target, job: Job) -> bool:
    """Whether strategies pick the target: its job is fed, and it has no fire times of its own."""
    try:
        return job.is_picked and not schedule_of(target, job).is_anchored
    except InvalidSchedule:
        return False


def _place(targets: list[Target], jobs: Mapping[int, Job], *, now: datetime) -> None:
    if not targets:
        return
    busy = set(Run.objects.open().filter(target__in=targets).values_list("target_id", flat=True))
    for target in targets:
        pool.place(target, jobs[target.job_id], now=now, is_busy=target.pk in busy)


def _columns_of(target: Target) -> dict[str, Any]:
    return {name: getattr(target, name) for name in COLUMNS}


def _changes_of(
    target: Target, source_id: int | None, before: Facts | None
) -> list[coverage.Change]:
    after = coverage.facts_of(target)

    def change(of: int | None, was: Any, now_is: Any) -> coverage.Change:
        return coverage.Change(job_id=target.job_id, source_id=of, before=was, after=now_is)

    if source_id == target.source_id:
        return [change(source_id, before, after)]
    return [change(source_id, before, None), change(target.source_id, None, after)]
