"""What a full listing no longer names is missed, then gone, its targets retired; never deleted."""

from __future__ import annotations

import logging
from collections import defaultdict
from collections.abc import Collection
from dataclasses import replace
from datetime import datetime
from typing import Literal

from django.db.models import F, QuerySet

from scheduling.conf import conf
from scheduling.db import short_transaction
from scheduling.errors import TooManyVanished
from scheduling.models import Job, Listing, Parked, Run, ScheduleStretch, Source, Target
from scheduling.models.run import State
from scheduling.runs import coverage, listed
from scheduling.runs.listing import Place, advance, close_listing
from scheduling.runs.naming import resume_all
from scheduling.runs.targets import retire_target

logger = logging.getLogger("scheduling.runs")

Vanish = Literal["retire", "keep"]


def end_listing(
    place: Place,
    *,
    vanish: Vanish = "retire",
    vanish_after: int = 1,
    now: datetime,
    is_whole: bool = True,
    force: bool = False,
) -> Place:
    """End a listing; what a whole, full one did not name is missed once more.

    What `vanish_after` full listings in a row have missed is gone, and its targets are retired
    unless another source lists it. With entries that could not be read nobody knows what is
    missing, so nothing is. Raises TooManyVanished, before anything is changed, if more than
    JOBS_VANISH_LIMIT of what the source lists would go, unless `force`; and StaleSource. One that
    dies goes on where it stopped, by the rule that it has begun with.
    """
    if place.full and is_whole and not place.unread:
        if not place.is_listed:
            rule = vanish_after if vanish == "retire" else None
            with short_transaction():
                place = advance(replace(place, is_listed=True, vanish_after=rule), now=now)
        if not place.swept and not force:
            _require_few(place)
        place = _sweep(place, now=now)
    close_listing(place, now=now, is_whole=is_whole)
    return place


def _unnamed(place: Place) -> QuerySet[Listing]:
    return Listing.objects.filter(
        source=place.source, gone_at__isnull=True, seen_in__lt=place.number
    )


def _require_few(place: Place) -> None:
    if place.vanish_after is None:
        return
    going = _unnamed(place).filter(missed__gte=place.vanish_after - 1).count()
    live = Listing.objects.filter(source=place.source, gone_at__isnull=True).count()
    if going > conf.VANISH_LIMIT * live:
        name = place.source.name
        raise TooManyVanished(
            f"The full listing of {name!r} no longer names {going} of {live} resources, more than "
            f"JOBS_VANISH_LIMIT ({conf.VANISH_LIMIT:.0%}) allows, so none is retired; list again "
            f"once the source is well, or `manage.py jobs sources finish {name} --force` if they "
            "are gone indeed",
            source=name,
            going=going,
            live=live,
        )


def _sweep(place: Place, *, now: datetime) -> Place:
    after = place.vanish_after
    while True:
        unnamed = _unnamed(place).filter(pk__gt=place.swept).order_by("pk")
        rows = list(unnamed[: conf.LIST_BATCH])
        if not rows:
            return place
        going = [row for row in rows if after is not None and row.missed + 1 >= after]
        with short_transaction():
            settled = _let_go(place.source, going, now=now)
            Listing.objects.filter(pk__in=[row.pk for row in rows]).update(missed=F("missed") + 1)
            swept = replace(place, swept=rows[-1].pk, gone=place.gone + len(going))
            place = advance(swept, now=now)
        resume_all(settled, by=listed.by_source(place.source), now=now)


def _let_go(source: Source, rows: Collection[Listing], *, now: datetime) -> listed.Settled:
    """Let listings go; give what has become of the targets that others list."""
    jobs = {job.pk: job for job in source.jobs.select_related("calendar")}
    ids = {row.resource_id for row in rows}
    # Locked before the listings, as everywhere.
    targets = list(
        Target.objects.filter(job__in=jobs, resource__in=ids, retired_at=None)
        .order_by("pk")
        .select_for_update(no_key=True, of=("self",))
        .select_related("resource")
    )
    Listing.objects.filter(pk__in=[row.pk for row in rows]).update(gone_at=now)
    listings, listers = listings_of(ids)
    kept, alone = [], []
    for target in targets:
        is_listed = listers.live(listings[target.resource_id or 0], target.job_id)
        # One that nobody has named, and no source has made, is not theirs to retire.
        if is_listed:
            kept.append(target)
        elif target.source_id is not None:
            alone.append(target)
    settled = listed.settle(kept, listings, listers, jobs, now=now)
    settled.write()
    for target in _retire_at_rest(alone, jobs, now=now):
        retire_target(target, now=now)
    return settled


def listings_of(resources: Collection[int]) -> tuple[dict[int, list[Listing]], listed.Listers]:
    """The listings of resources, by their ids, and their sources."""
    listings: dict[int, list[Listing]] = defaultdict(list)
    for row in Listing.objects.filter(resource__in=resources):
        listings[row.resource_id].append(row)
    sources = (row.source_id for rows in listings.values() for row in rows)
    return listings, listed.Listers.read(sources)


def _retire_at_rest(
    targets: Collection[Target], jobs: dict[int, Job], *, now: datetime
) -> list[Target]:
    """Retire, in one UPDATE, locked targets of which nothing waits; give the others."""
    ids = [target.pk for target in targets]
    waited_for = set(
        Run.objects.filter(target__in=ids, state=State.QUEUED).values_list("target_id", flat=True)
    )
    # A schedule that names fire times is settled, one by one.
    stretches = ScheduleStretch.objects.filter(target__in=ids, until=None)
    waited_for |= set(stretches.values_list("target_id", flat=True))
    at_rest: list[Target] = []
    others: list[Target] = []
    for target in targets:
        has_cursor = target.next_fire_at is not None or target.parked_cursor is not None
        has_more = has_cursor or jobs[target.job_id].locks_until_next_fire
        (others if has_more or target.pk in waited_for else at_rest).append(target)
    changes = []
    for target in at_rest:
        before = coverage.facts_of(target)
        target.retired_at = now
        changes.append(
            coverage.Change(
                job_id=target.job_id,
                source_id=target.source_id,
                before=before,
                after=coverage.facts_of(target),
            )
        )
    Target.objects.filter(pk__in=[target.pk for target in at_rest]).update(
        retired_at=now, parked=Parked.RETIRED, eligible_at=None, eligible_since=None
    )
    coverage.note_many(changes)
    return others


# --- on trial, and live ---------------------------------------------------------------------------


def set_trial(source: Source, *, is_trial: bool, by: str, now: datetime) -> bool:
    """Put a source on trial, which pauses what it named first, or make it live, which lets these
    targets go on. False: it was so already, and its targets are seen to once more.
    """
    changed = Source.objects.filter(pk=source.pk).exclude(is_trial=is_trial)
    changed_now = bool(changed.update(is_trial=is_trial))
    source.refresh_from_db()
    if changed_now:
        what = "put on trial" if is_trial else "made live"
        logger.info(
            "Source %s: %s by %s",
            source.name,
            what,
            by,
            extra={"event": "source.trial", "source": source.name},
        )
    see_to_targets(source, now=now)
    return changed_now


def see_to_targets(source: Source, *, now: datetime) -> int:
    """Let all targets that a source named first be as its listings say; give how many."""
    of_source = Target.objects.filter(source=source, retired_at=None)
    if source.is_trial:
        of_source = of_source.filter(paused_at=None)
    else:
        of_source = of_source.filter(paused_by=listed.by_source(source))
    after, seen = 0, 0
    while True:
        ids = list(
            of_source.filter(pk__gt=after)
            .order_by("pk")
            .values_list("pk", flat=True)[: conf.LIST_BATCH]
        )
        if not ids:
            return seen
        with short_transaction():
            targets = list(
                Target.objects.filter(pk__in=ids)
                .order_by("pk")
                .select_for_update(no_key=True, of=("self",))
                .select_related("resource")
            )
            jobs = Job.objects.select_related("calendar").in_bulk({t.job_id for t in targets})
            listings, listers = listings_of({target.resource_id or 0 for target in targets})
            settled = listed.settle(targets, listings, listers, jobs, now=now)
            settled.write()
        resume_all(settled, by=listed.by_source(source), now=now)
        after, seen = ids[-1], seen + len(ids)
