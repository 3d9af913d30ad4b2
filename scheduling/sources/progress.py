"""A listing in progress: what a source's function is given, and the run that goes through it."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from datetime import datetime
from typing import Any

from scheduling import clock, runs
from scheduling.conf import conf
from scheduling.context import current_run
from scheduling.errors import NotInARun, TooManyVanished
from scheduling.models import Outcome, Reason, Source, State
from scheduling.runs import listing as places
from scheduling.runs.vanishing import end_listing
from scheduling.sources.declared import SourceDeclaration
from scheduling.sources.values import Named, Page, Token, Unread

# On trial, a source is given up after so many entries that cannot be read.
UNREAD_ON_TRIAL = 1000


class Listing:
    """A listing in progress. What is given to it is written in batches, and then seen at once."""

    def __init__(self, place: places.Place, *, page_size: int) -> None:
        self.place = place
        self.page_size = page_size
        self._waiting: list[Named] = []
        self._unread: list[Unread] = []

    @property
    def is_full(self) -> bool:
        """Whether all resources are to be named; else only those that have changed."""
        return self.place.full

    @property
    def since(self) -> datetime | None:
        """What had changed before then has been named already: the beginning of the newest listing
        that came to its end. None: there was none.
        """
        return self.place.since

    @property
    def began_at(self) -> datetime:
        return self.place.began_at

    @property
    def token(self) -> Token:
        """The token of the page to go on from, if this listing was interrupted; else None."""
        return self.place.token

    @property
    def state(self) -> dict[str, Any]:
        """What was saved last, in this listing or an earlier one."""
        return dict(self.place.state)

    def save(self, state: Mapping[str, Any]) -> None:
        """Save the state, after everything that was named before. Raises StaleSource."""
        self.flush()
        self.place = places.save_state(self.place, state, now=clock.now())

    def take(self, item: Named | Page | Unread) -> None:
        """Take what the source's function gives next. Raises StaleSource."""
        if isinstance(item, Named):
            self._waiting.append(item)
            if len(self._waiting) >= conf.LIST_BATCH:
                self.flush()
        elif isinstance(item, Unread):
            self._unread.append(item)
            if len(self._unread) >= conf.LIST_BATCH:
                self.flush()
        elif isinstance(item, Page):
            self._waiting += item.items
            self.flush(item.token)
        else:
            raise TypeError(
                f"The source {self.place.source.name!r} gives {item!r}; give Named or Page"
            )

    def flush(self, token: Token = None) -> None:
        """Write down what was taken, and where to go on."""
        if not self._waiting and not self._unread and token is None:
            return
        self.place = places.record_page(
            self.place, self._waiting, now=clock.now(), token=token, unread=self._unread
        )
        self._waiting, self._unread = [], []


def run(declaration: SourceDeclaration, *, is_full: bool) -> runs.Result:
    """List a source, or go on with its listing that was interrupted; give what it came to."""
    source = places.source_named(declaration.name)
    if source.is_trial and not is_full:
        return _succeeded("On trial: only its full listings name anything.", None)
    place = places.begin_listing(source, full=is_full, now=clock.now())
    limit = declaration.trial_limit if source.is_trial else None
    # Smaller on trial, so that a page is full before too much was read.
    page_size = min(declaration.page_size, limit or declaration.page_size)
    listing = Listing(place, page_size=page_size)
    is_whole = True
    if not place.is_listed:
        is_whole = _go_through(listing, declaration.enumerate(listing), limit=limit)
        if not is_whole and limit is None:
            # Whoever has stopped the run says how it ends; the listing goes on next time.
            return _succeeded(_told(listing.place, "Stopped before its end."), None)
    try:
        ended = end_listing(
            listing.place,
            vanish=declaration.vanish,
            vanish_after=declaration.vanish_after,
            now=clock.now(),
            is_whole=is_whole and limit is None,
        )
    except TooManyVanished as error:
        text = _told(listing.place, str(error))
        return runs.Result(
            state=State.FAILED,
            # Another attempt would list it all again.
            reason=Reason.PERMANENT,
            error=str(error),
            output=text,
            output_bytes=len(text.encode()),
        )
    return _succeeded(_told(ended, _told_of_trial(ended, limit)), ended)


def _go_through(
    listing: Listing, items: Iterable[Named | Page | Unread], *, limit: int | None
) -> bool:
    """Record what a source names; False: somebody has stopped it, or the limit is reached."""
    left, unread_left = limit, UNREAD_ON_TRIAL
    for item in items:
        if left is None:
            listing.take(item)
        elif isinstance(item, Unread):
            listing.take(item)
            unread_left -= 1
        else:
            several = item.items if isinstance(item, Page) else [item]
            for each in several[:left]:
                listing.take(each)
            left -= len(several)
        is_over = left is not None and (left <= 0 or not unread_left)
        if is_over or _is_stopped():
            listing.flush()
            return False
    listing.flush()
    return True


def _is_stopped() -> bool:
    try:
        return current_run().should_stop()
    except NotInARun:  # called as a function
        return False


def _told(place: places.Place, last: str) -> str:
    recorded = place.recorded
    lines = [
        f"{place.kind.capitalize()} listing of {place.source.name}: {recorded.seen} named, "
        f"{recorded.created} new, {recorded.changed} changed, {recorded.resumed} back, "
        f"{place.gone} gone"
    ]
    if place.unread:
        lines.append(f"{place.unread} could not be read:")
        lines += [f"  {each}" for each in place.told]
        if place.unread > len(place.told):
            lines.append(f"  and {place.unread - len(place.told)} more")
        if place.full:
            lines.append("What was not named may be among them, so none of it counts as missed.")
    return "\n".join([*lines, *([last] if last else [])])


def _told_of_trial(place: places.Place, limit: int | None) -> str:
    if limit is None:
        return ""
    told = f"On trial: at most {limit} are named."
    if place.unread >= UNREAD_ON_TRIAL:
        told += f" It ends after {UNREAD_ON_TRIAL} entries that cannot be read."
    return told


def _succeeded(text: str, ended: places.Place | None) -> runs.Result:
    outcome, value = None, None
    if ended is not None:
        made = ended.recorded
        has_changed = made.created or made.changed or made.resumed or ended.gone
        outcome = Outcome.CHANGED if has_changed else Outcome.UNCHANGED
        value = {
            "seen": made.seen,
            "created": made.created,
            "changed": made.changed,
            "resumed": made.resumed,
            "gone": ended.gone,
            "unread": ended.unread,
        }
    return runs.Result(
        state=State.SUCCEEDED,
        outcome=outcome,
        value=value,
        output=text,
        output_bytes=len(text.encode()),
    )


def listing_of(source: Source, *, full: bool, page_size: int = 1000) -> Listing:
    """Begin a listing outside of a run: for code that names resources on its own, and for tests."""
    place = places.begin_listing(source, full=full, now=clock.now())
    return Listing(place, page_size=page_size)
