"""HTTP listings with paging as sources: JSON, over the standard library."""

from __future__ import annotations

import json
import urllib.error
import urllib.request
from collections.abc import Callable, Collection, Iterator, Mapping
from datetime import timedelta
from http.client import HTTPMessage
from typing import IO, Any
from urllib.parse import parse_qsl, urlencode, urljoin, urlsplit, urlunsplit

from scheduling.errors import UnreadablePage
from scheduling.sources.progress import Listing
from scheduling.sources.reading import Field, Fields, Reading, named_or_unread, value_of
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
    link to the next page is, or its token, which the query `parameter` then takes; none: it is the
    last page. Links lead to the listing's own host, or to one of `hosts`, which are given the
    `headers` as well. Raises UnreadablePage; the job's retries go on from the page that failed.
    """
    read = Reading(
        key=key, hint=hint, kwargs=kwargs, enabled=enabled, labels=labels, description=description
    )
    allowed = _Allowed(url, hosts)
    address = listing.token if isinstance(listing.token, str) else url
    while True:
        page = _get(address, allowed, headers or {}, timeout, largest)
        entries = _entries(page, items, address)
        found: list[Named] = []
        for number, entry in enumerate(entries, start=1):
            item = named_or_unread(read, entry, f"entry {number} of {address}")
            if isinstance(item, Named):
                found.append(item)
            else:
                yield item
        following = _next(page, next, address, parameter)
        if following is None:
            yield Page(found, None)
            return
        allowed.require(following)
        if following == address:
            raise UnreadablePage(f"{address} names itself as its next page; its paging is broken")
        yield Page(found, following)
        address = following


class _Allowed:
    """Where a listing may lead: over the same scheme or a safer one, to its own host or others
    that were named.
    """

    def __init__(self, url: str, hosts: Collection[str]) -> None:
        start = urlsplit(url)
        self._is_secure = start.scheme == "https"
        self._hosts = {start.netloc.lower(), *(host.lower() for host in hosts)}
        self.require(url)

    def require(self, url: str) -> None:
        """Raises UnreadablePage."""
        parts = urlsplit(url)
        if parts.scheme not in ("http", "https"):
            raise UnreadablePage(f"{url!r} is no address of a listing; give one with http or https")
        if self._is_secure and parts.scheme != "https":
            raise UnreadablePage(f"{url!r} leaves https, on which the listing began")
        if parts.netloc.lower() not in self._hosts:
            raise UnreadablePage(
                f"{url!r} leads to {parts.netloc!r}; name it in hosts= if it belongs to the listing"
            )


class _Redirects(urllib.request.HTTPRedirectHandler):
    """Follows a redirection only where a link may lead."""

    def __init__(self, allowed: _Allowed) -> None:
        self._allowed = allowed

    def redirect_request(
        self,
        req: urllib.request.Request,
        fp: IO[bytes],
        code: int,
        msg: str,
        headers: HTTPMessage,
        newurl: str,
    ) -> urllib.request.Request | None:
        self._allowed.require(newurl)
        return super().redirect_request(req, fp, code, msg, headers, newurl)


def _get(
    url: str, allowed: _Allowed, headers: Mapping[str, str], timeout: timedelta, largest: int
) -> Any:
    """Read one page of JSON. Raises UnreadablePage."""
    allowed.require(url)
    opener = urllib.request.build_opener(_Redirects(allowed))
    request = urllib.request.Request(url, headers={"Accept": "application/json", **headers})
    try:
        with opener.open(request, timeout=timeout.total_seconds()) as answer:
            body = answer.read(largest + 1)
    except (OSError, ValueError) as error:  # URLError and HTTPError are OSErrors
        raise UnreadablePage(f"{url} cannot be read: {error}") from error
    if len(body) > largest:
        raise UnreadablePage(f"{url} is larger than {largest} bytes; ask for smaller pages")
    try:
        return json.loads(body)
    except (ValueError, RecursionError) as error:
        raise UnreadablePage(f"{url} is no JSON: {error}") from error


def _entries(page: Any, items: str | Callable[[Any], Any], url: str) -> list[Any]:
    try:
        found = page if items == "" else value_of(page, items)
    except (ValueError, AttributeError) as error:
        raise UnreadablePage(f"{url} has no entries at {items!r}: {error}") from error
    if not isinstance(found, list):
        raise UnreadablePage(f"{url} has {type(found).__name__} at {items!r} instead of a list")
    return found


def _next(page: Any, next: str | Callable[[Any], Any], url: str, parameter: str) -> str | None:
    try:
        found = value_of(page, next) if callable(next) or isinstance(page, Mapping) else None
    except (ValueError, AttributeError):
        return None
    if found is None or found == "":
        return None
    if not parameter:
        return urljoin(url, str(found))
    parts = urlsplit(url)
    query = [(name, value) for name, value in parse_qsl(parts.query) if name != parameter]
    return urlunsplit(parts._replace(query=urlencode([*query, (parameter, str(found))])))
