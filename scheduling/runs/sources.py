"""What people ask of a source: list it now, and let go what its last full listing left out."""

from __future__ import annotations

import logging
from datetime import datetime

from scheduling.errors import UnknownJob, UnknownSource
from scheduling.models import Job, Run, Source
from scheduling.runs.listing import interrupted_listing
from scheduling.runs.operate import trigger
from scheduling.runs.vanishing import end_listing

logger = logging.getLogger("scheduling.runs")


def list_now(source: Source, *, full: bool, by: str, now: datetime) -> Run:
    """Have a source listed: a run of its job, by hand. Raises UnknownJob."""
    kind = "full" if full else "incremental"
    name = f"{source.name}.{kind}"
    job = Job.objects.active().filter(name=name).first()
    if job is None:
        raise UnknownJob(
            f"Source {source.name!r} has no {kind} listing: there is no job {name!r}; declare it "
            f"with @source({kind}=...)"
        )
    return trigger(job, by=by, now=now)


def finish_listing(source: Source, *, force: bool, by: str, now: datetime) -> int:
    """End the full listing that has left out too much; give how many resources are gone.

    Only by `force`, otherwise as the listing itself would. Raises UnknownSource if no listing waits
    for it, TooManyVanished and StaleSource.
    """
    source.refresh_from_db()
    place = interrupted_listing(source, full=True)
    if place is None or not place.is_listed or place.number != source.listings:
        raise UnknownSource(
            f"No full listing of {source.name!r} waits to be finished; `jobs sources list "
            f"{source.name}` begins one",
            source=source.name,
        )
    logger.info(
        "Source %s: what its full listing left out is let go by %s",
        source.name,
        by,
        extra={"event": "source.listing_finished", "source": source.name},
    )
    return end_listing(place, now=now, force=force).gone


def standing_of(source: Source) -> str:
    """In a word: live, on trial, or retired."""
    if source.retired_at is not None:
        return "retired"
    return "on trial" if source.is_trial else "live"
