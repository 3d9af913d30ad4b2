"""HTTP listings with paging as sources: JSON, over the standard library."""

from __future__ import annotations

from collections.abc import Callable, Collection, Iterator, Mapping
from datetime import timedelta
from typing import Any
from urllib.parse import parse_qsl, urlencode, urljoin, urlsplit, urlunsplit

from scheduling.errors import UnreadablePage
from scheduling.sources.fetching import Allowed, get, shown
from scheduling.sources.progress import Listing
from scheduling.sources.reading import (
    Field,
    Fields,
    Reading,
    in_words,
    named_or_unread,
    value_of,
)
from scheduling.sources.values import Named, Page, Unread

LARGEST_PAGE = 16 * 1024 * 1024  # bytes
TIMEOUT = timedelta(seconds=30)


def from_pages(
    listing: Listing,
    url: str,
    *,
    key: Field,
    items: str | Callable[[Any], Any] = "",
    next: str | Callable[[Any], Any] = "next",
    parameter: str = "",
    headers: Mapping[str, str] | None = None,
    hosts: Collection[str] = (),
    timeout: timedelta = TIMEOUT,
    largest: int = LARGEST_PAGE,
    hint: Field | None = None,
    kwargs: Fields = (),
    enabled: Field | None = None,
    labels: Fields = (),
    description: Field | None = None,
) -> Iterator[Page | Unread]:
    """Name what the pages of an HTTP listing hold.

    `items` says where in a page its entries are ("": the page is a list of them), `next` where its
    link to the next page is, or its token, which the query `parameter` then takes. The last page
    has none: the last name of `next` is missing, None or "". Links lead to the listing's own host,
    or to one of `hosts`, which are given the `headers` as well. Raises UnreadablePage; the job's
    retries go on from the page that failed.

    Until the listing ends, the address of the next page is kept in the source's state, as it is:
    a secret belongs into `headers`.
    """
    read = Reading(
        key=key, hint=hint, kwargs=kwargs, enabled=enabled, labels=labels, description=description
    )
    allowed = Allowed(url, hosts)
    address = listing.token if isinstance(listing.token, str) else url
    circle = _Circle(address)
    while True:
        page = get(address, allowed, headers or {}, timeout, largest)
        entries = _entries(page, items, address)
        found: list[Named] = []
        for number, entry in enumerate(entries, start=1):
            item = named_or_unread(read, entry, f"entry {number} of {shown(address)}")
            if isinstance(item, Named):
                found.append(item)
            else:
                yield item
        following = _next(page, next, address, parameter)
        if following is None:
            yield Page(found, None)
            return
        allowed.require(following)
        circle.go_on(address, following)
        yield Page(found, following)
        address = following


class _Circle:
    """Notices addresses that lead back to where they were, however long the way, by one that it
    remembers: each time after twice as many pages it is another.
    """

    def __init__(self, address: str) -> None:
        self._remembered = address
        self._pages, self._limit = 0, 1

    def go_on(self, address: str, following: str) -> None:
        """Raises UnreadablePage."""
        if following == address:
            raise UnreadablePage(
                f"{shown(address)} names itself as its next page; its paging is broken"
            )
        if following == self._remembered:
            raise UnreadablePage(
                f"{shown(following)} comes again as the page after {shown(address)}; "
                "its paging is broken"
            )
        self._pages += 1
        if self._pages == self._limit:
            self._remembered, self._pages = following, 0
            self._limit *= 2


def _entries(page: Any, items: str | Callable[[Any], Any], url: str) -> list[Any]:
    try:
        found = page if items == "" else value_of(page, items)
    # Whatever somebody's function raises
    except Exception as error:
        raise UnreadablePage(
            f"{shown(url)} has no entries at {items!r}: {in_words(error)}"
        ) from error
    if not isinstance(found, list):
        raise UnreadablePage(
            f"{shown(url)} has {type(found).__name__} at {items!r} instead of a list"
        )
    return found


def _next(page: Any, next: str | Callable[[Any], Any], url: str, parameter: str) -> str | None:
    """Give the address of the next page, None after the last. Raises UnreadablePage."""
    try:
        found = next(page) if callable(next) else _at_end_of(page, next)
        return None if found is None or found == "" else _address_of(found, url, parameter)
    # Whatever somebody's function raises. To take it for the end would let the rest vanish.
    except Exception as error:
        raise UnreadablePage(
            f"{shown(url)} does not say which page is next: {in_words(error)}"
        ) from error


def _at_end_of(page: Any, path: str) -> Any:
    """What is there; None also if only the last name of the path is missing. Raises ValueError."""
    way, _, last = path.rpartition(".")
    holder = value_of(page, way) if way else page
    if isinstance(holder, Mapping):
        return holder.get(last)
    if holder is page and isinstance(page, list):  # of entries, and nothing else
        return None
    raise ValueError(f"it has {type(holder).__name__} instead of what holds {last!r}")


def _address_of(found: Any, url: str, parameter: str) -> str:
    """Raises ValueError."""
    if not parameter:
        if not isinstance(found, str):
            raise ValueError(
                f"it has {type(found).__name__} instead of a link; name its query parameter="
            )
        link = urljoin(url, found)
        urlsplit(link)  # raises what is no address
        return link
    if not isinstance(found, str | int | float) or isinstance(found, bool):
        raise ValueError(f"it has {type(found).__name__} instead of a token")
    parts = urlsplit(url)
    given = parse_qsl(parts.query, keep_blank_values=True)
    query = [*((name, value) for name, value in given if name != parameter), (parameter, found)]
    return urlunsplit(parts._replace(query=urlencode(query)))
