"""What a full listing no longer names is missed, then gone, its targets retired; never deleted."""

from __future__ import annotations

import logging
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import replace
from datetime import datetime
from typing import Literal

from django.db.models import Exists, F, OuterRef, Q, QuerySet
from django.db.models.functions import Least

from scheduling.conf import conf
from scheduling.db import short_transaction
from scheduling.errors import TooManyVanished
from scheduling.models import Job, Listing, Parked, Resource, Run, ScheduleStretch, Source, Target
from scheduling.runs import coverage, listed
from scheduling.runs.listing import Place, advance, close_listing
from scheduling.runs.naming import AT_ONCE, resume_all
from scheduling.runs.targets import retire_target

logger = logging.getLogger("scheduling.runs")

Vanish = Literal["retire", "keep"]
# A listing's column counts no further.
MOST_MISSED = 32_767


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
    """Let go, page by page, of what is no longer named, from where an attempt that died stopped."""
    while True:
        unnamed = _unnamed(place).filter(pk__gt=place.swept).order_by("pk")
        rows = list(unnamed[: conf.LIST_BATCH])
        if not rows:
            return place
        size = AT_ONCE if _has_some_to_wind_up(place, rows) else len(rows)
        for begin in range(0, len(rows), size):
            place = _sweep_group(place, rows[begin : begin + size], now=now)


def _has_some_to_wind_up(place: Place, rows: Collection[Listing]) -> bool:
    if place.vanish_after is None:
        return False
    keys = Resource.objects.filter(pk__in=[row.resource_id for row in rows]).values_list("key")
    return _to_wind_up(_targets_of(place.source, {key for (key,) in keys})).exists()


def _sweep_group(place: Place, rows: Sequence[Listing], *, now: datetime) -> Place:
    """Let go of these in one transaction, with where to go on."""
    after = place.vanish_after
    with short_transaction():
        targets, unnamed, resources = _lock_unnamed(place, rows)
        going = [row for row in unnamed if after is not None and row.missed + 1 >= after]
        gone = {resources[row.resource_id] for row in going}
        # Before the sum: what stands there already may be all that the column takes.
        Listing.objects.filter(pk__in=[row.pk for row in unnamed]).update(
            missed=Least(F("missed"), MOST_MISSED - 1) + 1
        )
        Listing.objects.filter(pk__in=[row.pk for row in going]).update(gone_at=now)
        settled = _let_go(
            [target for target in targets if target.key in gone],
            {pk: key for pk, key in resources.items() if key in gone},
            place.source,
            now=now,
        )
        swept = replace(place, swept=rows[-1].pk, gone=place.gone + len(going))
        place = advance(swept, now=now)
    resume_all(settled, by=listed.by_source(place.source), now=now)
    return place


def _lock_unnamed(
    place: Place, rows: Collection[Listing]
) -> tuple[list[Target], list[Listing], dict[int, str]]:
    """Lock the targets and resources (id -> key) of these listings; give which of the listings are
    unnamed even now: somebody may have named them since we looked.
    """
    ids = [row.resource_id for row in rows]
    keys = dict(Resource.objects.filter(pk__in=ids).values_list("pk", "key"))
    targets = list(
        _targets_of(place.source, keys.values())
        .order_by("pk")
        .select_for_update(no_key=True, of=("self",))
        .select_related("resource")
    )
    # Who names a resource holds it, whether it has targets or not.
    locked = Resource.objects.filter(pk__in=ids).order_by("key").select_for_update(no_key=True)
    resources = dict(locked.values_list("pk", "key"))
    unnamed = list(_unnamed(place).filter(pk__in=[row.pk for row in rows]))
    return targets, unnamed, resources


def _targets_of(source: Source, keys: Iterable[str]) -> QuerySet[Target]:
    """What a source has given its jobs; by key, as a target's resource may be another one."""
    return Target.objects.filter(job__in=source.jobs.all(), key__in=list(keys), retired_at=None)


def _let_go(
    targets: Collection[Target], resources: Mapping[int, str], source: Source, *, now: datetime
) -> listed.Settled:
    """Retire locked targets of what is gone; give what has become of those that others list."""
    listings = listed.listings_of(resources)
    listers = listed.Listers.of(listings)
    kept, alone = [], []
    for target in targets:
        # One that nobody has named, and no source has made, is not theirs to retire.
        if listers.live(listings[target.key], target.job_id):
            kept.append(target)
        elif target.source_id is not None:
            alone.append(target)
    jobs = {job.pk: job for job in source.jobs.select_related("calendar")}
    settled = listed.settle(kept, listings, listers, jobs, now=now)
    settled.write()
    ids = [target.pk for target in alone]
    busy = set(_to_wind_up(Target.objects.filter(pk__in=ids)).values_list("pk", flat=True))
    _retire_at_rest([target for target in alone if target.pk not in busy], now=now)
    for target in alone:
        if target.pk in busy:
            retire_target(target, now=now)
    return settled


def _to_wind_up(targets: QuerySet[Target]) -> QuerySet[Target]:
    """Those of which something is owed, waits, or is held until they fire again: they are retired
    one by one.
    """
    queued = Run.objects.queued().filter(target=OuterRef("pk"))
    # A schedule that names fire times is settled.
    stretch = ScheduleStretch.objects.filter(target=OuterRef("pk"), until=None)
    has_cursor = Q(next_fire_at__isnull=False) | Q(parked_cursor__isnull=False)
    return targets.filter(
        has_cursor | Q(job__locks_until_next_fire=True) | Exists(queued) | Exists(stretch)
    )


def _retire_at_rest(targets: Collection[Target], *, now: datetime) -> None:
    """Retire, in one UPDATE, locked targets of which nothing waits."""
    changes = []
    for target in targets:
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
    Target.objects.filter(pk__in=[target.pk for target in targets]).update(
        retired_at=now, parked=Parked.RETIRED, eligible_at=None, eligible_since=None
    )
    coverage.note_many(changes)


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
    mine = Target.objects.filter(source=source, job__in=source.jobs.all(), retired_at=None)
    if source.is_trial:
        mine = mine.filter(paused_at=None)
    else:
        mine = mine.filter(paused_by=listed.by_source(source))
    after, seen = 0, 0
    while True:
        # By way of its listings: targets have no index by source.
        rows = Listing.objects.filter(source=source, resource__gt=after).order_by("resource_id")
        ids = list(rows.values_list("resource_id", flat=True)[: conf.LIST_BATCH])
        if not ids:
            return seen
        resources = dict(Resource.objects.filter(pk__in=ids).values_list("pk", "key"))
        after, seen = ids[-1], seen + _see_to(source, mine, resources, now=now)


def _see_to(
    source: Source, mine: QuerySet[Target], resources: Mapping[int, str], *, now: datetime
) -> int:
    # A look without locks first: of most there is nothing to be done.
    ids = list(mine.filter(key__in=resources.values()).values_list("pk", flat=True))
    if not ids:
        return 0
    with short_transaction():
        targets = list(
            Target.objects.filter(pk__in=ids)
            .order_by("pk")
            .select_for_update(no_key=True, of=("self",))
            .select_related("resource")
        )
        jobs = Job.objects.select_related("calendar").in_bulk({t.job_id for t in targets})
        listings = listed.listings_of(resources)
        settled = listed.settle(targets, listings, listed.Listers.of(listings), jobs, now=now)
        settled.write()
    resume_all(settled, by=listed.by_source(source), now=now)
    return len(ids)
