"""Pages of JSON over HTTP, and the addresses that may be asked for them. Standard library only."""

from __future__ import annotations

import json
import urllib.request
from collections.abc import Collection, Mapping
from datetime import timedelta
from http.client import HTTPException, HTTPMessage, InvalidURL, responses
from typing import IO, Any
from urllib.error import HTTPError
from urllib.parse import urlsplit, urlunsplit

from scheduling.errors import UnreadablePage

LONGEST_TOLD = 200


def shown(url: str) -> str:
    """Give an address as it may be told: without a password, nor what its query says."""
    try:
        parts = urlsplit(url)
    except ValueError:
        return "an address that cannot be read"
    query = "&".join(_name_of(part) for part in parts.query.split("&")) if parts.query else ""
    host = parts.netloc.rpartition("@")[2]
    return urlunsplit(parts._replace(netloc=host, query=query, fragment=""))


def _name_of(part: str) -> str:
    name, equals, _ = part.partition("=")
    return f"{name}=…" if equals else "…"


class Allowed:
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
        parts, told = urlsplit(url), repr(shown(url))
        if parts.scheme not in ("http", "https"):
            raise UnreadablePage(f"{told} is no address of a listing; give one with http or https")
        if "@" in parts.netloc:
            # No request is made with it, and it would stand in states and errors.
            raise UnreadablePage(f"{told} has a name or password before it; give it in headers=")
        if self._is_secure and parts.scheme != "https":
            raise UnreadablePage(f"{told} leaves https, on which the listing began")
        if parts.netloc.lower() not in self._hosts:
            raise UnreadablePage(
                f"{told} leads to {parts.netloc!r}; name it in hosts= if it belongs to the listing"
            )


class _Redirects(urllib.request.HTTPRedirectHandler):
    """Follows a redirection only where a link may lead."""

    def __init__(self, allowed: Allowed) -> None:
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
        try:
            self._allowed.require(newurl)
        except UnreadablePage:
            fp.close()
            raise
        return super().redirect_request(req, fp, code, msg, headers, newurl)


def get(
    url: str, allowed: Allowed, headers: Mapping[str, str], timeout: timedelta, largest: int
) -> Any:
    """Read one page of JSON. Raises UnreadablePage."""
    allowed.require(url)
    opener = urllib.request.build_opener(_Redirects(allowed))
    request = urllib.request.Request(url, headers={"Accept": "application/json", **headers})
    try:
        with opener.open(request, timeout=timeout.total_seconds()) as answer:
            body = answer.read(largest + 1)
    except (OSError, ValueError, HTTPException) as error:  # URLError is an OSError
        if isinstance(error, HTTPError):
            error.close()
        # Without its cause, whose words may have the whole address in them.
        raise UnreadablePage(f"{shown(url)} cannot be read: {_why(error)}") from None
    if len(body) > largest:
        raise UnreadablePage(f"{shown(url)} is larger than {largest} bytes; ask for smaller pages")
    try:
        return json.loads(body)
    except (ValueError, RecursionError) as error:
        raise UnreadablePage(f"{shown(url)} is no JSON: {error}") from error


def _why(error: Exception) -> str:
    match error:
        case HTTPError():
            return f"HTTP Error {error.code}: {responses.get(error.code, 'unknown')}"
        case InvalidURL():
            return "it is no address for HTTP; write spaces and the like as %20"
        case HTTPException():
            return f"{type(error).__name__}: {error}"[:LONGEST_TOLD]
    return str(error)
