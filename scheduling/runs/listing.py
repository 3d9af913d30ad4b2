"""Listings in progress: where each stands is kept with its source, under its version.

Who writes a page names the version that it knows. A worker that was believed dead, and a person
who has set the source's state meanwhile, therefore never mix with another listing: StaleSource.
"""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from typing import TYPE_CHECKING, Any

from django.db.models import F

from scheduling.db import short_transaction
from scheduling.errors import StaleSource, UnknownSource
from scheduling.models import Source
from scheduling.runs import pool
from scheduling.runs.naming import Recorded, batches, record_batch

if TYPE_CHECKING:
    from scheduling.sources.values import Named, Token, Unread

logger = logging.getLogger("scheduling.runs")

# In a source's state, beside what its code keeps there
OURS = "$listing"
# An interrupted listing is gone on with so long; later, its token may mean nothing any more.
GOES_ON_WITHIN = timedelta(days=1)
# ... and begins anew where so many attempts in a row have recorded nothing.
VAIN_ATTEMPTS = 3
MOST_TOLD = 20  # unread entries that are told one by one
LONGEST_TOLD = 300


@dataclass(frozen=True, slots=True, kw_only=True)
class Place:
    """Where a listing stands.

    `number` is that of the newest full listing begun. `since`: what had changed before then has
    been named by listings that came to their end. `token`: where to go on. `is_listed`: it has
    come to its end, and what it did not name is being looked at, up to the listing `swept` (id):
    it is gone after `vanish_after` full listings, None: never.
    """

    source: Source
    version: int
    full: bool
    number: int
    began_at: datetime
    since: datetime | None
    state: Mapping[str, Any]
    token: Token = None
    recorded: Recorded = field(default_factory=Recorded)
    unread: int = 0
    told: tuple[str, ...] = ()
    is_listed: bool = False
    swept: int = 0
    vanish_after: int | None = None
    attempts: int = 1
    gone: int = 0

    @property
    def kind(self) -> str:
        return "full" if self.full else "incremental"


# --- state ----------------------------------------------------------------------------------------


def source_named(name: str) -> Source:
    """Raises UnknownSource."""
    source = Source.objects.filter(name=name).first()
    if source is None:
        known = ", ".join(Source.objects.values_list("name", flat=True)[:20]) or "there is none"
        raise UnknownSource(f"No source is named {name!r}: {known}", source=name)
    return source


def state_of(source: Source) -> dict[str, Any]:
    """What the source's code has saved."""
    return {key: value for key, value in source.state.items() if key != OURS}


def note_declared(source: Source) -> None:
    """Remember that the code has declared a source: one that others made is not its to retire."""
    ours = source.state.get(OURS, {})
    if not ours.get("declared"):
        _write(source, source.version, {**source.state, OURS: {**ours, "declared": True}})
        source.refresh_from_db()


def is_declared(source: Source) -> bool:
    return bool(source.state.get(OURS, {}).get("declared"))


def update_state(name: str, state: Mapping[str, Any], version: int) -> Source:
    """Save the state of a source that was read at `version`; give the source with its new one.

    Raises UnknownSource, and StaleSource if somebody has changed it since it was read.
    """
    source = source_named(name)
    if source.version != version:
        raise _stale(source, version)
    _write(source, version, {**state, OURS: source.state.get(OURS, {})})
    source.refresh_from_db()
    return source


def _write(source: Source, version: int, state: Mapping[str, Any], **columns: Any) -> None:
    """Raises StaleSource."""
    same = Source.objects.filter(pk=source.pk, version=version)
    if not same.update(state=state, version=F("version") + 1, **columns):
        raise _stale(Source.objects.get(pk=source.pk), version)


def _stale(source: Source, version: int) -> StaleSource:
    return StaleSource(
        f"Source {source.name!r} is at version {source.version}, and version {version} is to be "
        "changed: somebody has changed it since it was read; read it again",
        source=source.name,
        version=version,
        current=source.version,
    )


# --- a listing ------------------------------------------------------------------------------------


def begin_listing(source: Source, *, full: bool, now: datetime) -> Place:
    """Begin a listing, or go on with one of the same kind that was interrupted. Raises StaleSource
    if another begins at this moment.
    """
    source.refresh_from_db()
    ours = source.state.get(OURS, {})
    place = _interrupted(source, ours, full=full, now=now)
    if place is None:
        place = Place(
            source=source,
            version=source.version,
            full=full,
            number=source.listings + full,
            began_at=now,
            since=_read_time(ours.get("since")),
            state=state_of(source),
        )
    is_new = place.began_at == now
    columns = {"listings": place.number, "listing_began_at": now} if is_new else {}
    place = _saved(place, now=now, **columns)
    source.refresh_from_db()
    logger.info(
        "Source %s: %s listing %s",
        source.name,
        place.kind,
        "began" if is_new else "goes on",
        extra={"event": "source.listing_began", "source": source.name},
    )
    return place


def interrupted_listing(source: Source, *, full: bool) -> Place | None:
    """Where the newest listing of this kind stands if it has not ended."""
    ours = source.state.get(OURS, {})
    kept = ours.get("full" if full else "incremental")
    if kept is None:
        return None
    return Place(
        source=source,
        version=source.version,
        full=full,
        number=kept["number"],
        began_at=datetime.fromisoformat(kept["began_at"]),
        since=_read_time(ours.get("since")),
        state=state_of(source),
        token=kept["token"],
        recorded=Recorded(**kept["recorded"]),
        unread=kept["unread"],
        told=tuple(kept["told"]),
        is_listed=kept["is_listed"],
        swept=kept["swept"],
        vanish_after=kept["vanish_after"],
        attempts=kept["attempts"],
        gone=kept["gone"],
    )


def _interrupted(
    source: Source, ours: Mapping[str, Any], *, full: bool, now: datetime
) -> Place | None:
    """The listing to go on with, at its next attempt."""
    place = interrupted_listing(source, full=full)
    if place is None or place.number != source.listings:
        return None
    if place.is_listed:
        # It waits for somebody to say that what it did not name may go; the next list is newer.
        return place if place.swept else None
    at = datetime.fromisoformat(ours[place.kind]["at"])
    if now - at > GOES_ON_WITHIN or place.attempts >= VAIN_ATTEMPTS:
        return None
    return replace(place, attempts=place.attempts + 1)


def record_page(
    place: Place,
    items: Sequence[Named],
    *,
    now: datetime,
    token: Token = None,
    unread: Sequence[Unread] = (),
) -> Place:
    """Write down what a page names, and with its last batch where to go on.

    Either both are written or neither, so that a listing neither skips nor repeats a page. Raises
    StaleSource.
    """
    told = tuple(f"{each.where}: {each.why}"[:LONGEST_TOLD] for each in unread)
    room = max(0, MOST_TOLD - len(place.told))
    of_page = replace(
        place,
        token=token if token is not None else place.token,
        unread=place.unread + len(unread),
        told=place.told + told[:room],
    )
    parts: list[Sequence[Named]] = list(batches(place.source, items)) or [[]]
    for part in parts:
        is_last = part is parts[-1]
        place = _record_part(of_page if is_last else place, place, part, now=now)
    return place


def _record_part(goal: Place, place: Place, items: Sequence[Named], *, now: datetime) -> Place:
    after = place

    def advance(recorded: Recorded) -> None:
        nonlocal after
        total = place.recorded + recorded
        goal_now = replace(goal, version=place.version, recorded=total, attempts=0)
        after = _saved(goal_now, now=now)

    record_batch(place.source, items, now=now, advance=advance)
    return after


def save_state(place: Place, state: Mapping[str, Any], *, now: datetime) -> Place:
    """Save what the source's code wants to find next time. Raises StaleSource."""
    return _saved(replace(place, state=dict(state)), now=now)


def advance(place: Place, *, now: datetime) -> Place:
    """Save where an ending listing stands, in the caller's transaction. Raises StaleSource."""
    return _saved(place, now=now)


def _saved(place: Place, *, now: datetime, **columns: Any) -> Place:
    ours = {
        **place.source.state.get(OURS, {}),
        place.kind: {
            "number": place.number,
            "began_at": place.began_at.isoformat(),
            "at": now.isoformat(),
            "token": place.token,
            "recorded": {
                "created": place.recorded.created,
                "seen": place.recorded.seen,
                "changed": place.recorded.changed,
                "resumed": place.recorded.resumed,
            },
            "unread": place.unread,
            "told": list(place.told),
            "is_listed": place.is_listed,
            "swept": place.swept,
            "vanish_after": place.vanish_after,
            "attempts": place.attempts,
            "gone": place.gone,
        },
    }
    _write(place.source, place.version, {**place.state, OURS: ours}, **columns)
    return replace(place, version=place.version + 1)


def close_listing(place: Place, *, now: datetime, is_whole: bool) -> None:
    """Record that a listing has come to its end; `is_whole`: it has named all that it meant to.

    Raises StaleSource.
    """
    ours = dict(place.source.state.get(OURS, {}))
    ours.pop(place.kind, None)
    columns: dict[str, Any] = {"listing_ended_at": now}
    if is_whole:
        since = max(place.began_at, place.since or place.began_at)
        ours["since"] = since.isoformat()
        if place.full:
            columns["full_listing_ended_at"] = now
    with short_transaction():
        _write(place.source, place.version, {**place.state, OURS: ours}, **columns)
    # First looks in the express lane begin with the end of a listing.
    pool.wake_feeders(place.source.jobs.values_list("pk", flat=True))
    place.source.refresh_from_db()
    logger.info(
        "Source %s: %s listing ended, %s named, %s new, %s gone",
        place.source.name,
        place.kind,
        place.recorded.seen,
        place.recorded.created,
        place.gone,
        extra={"event": "source.listing_ended", "source": place.source.name},
    )


def _read_time(text: str | None) -> datetime | None:
    return None if text is None else datetime.fromisoformat(text)
