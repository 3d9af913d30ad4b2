"""Addresses of monitors that are told of runs, in the form of healthchecks.io. Pure.

Whoever knows such an address can report in the job's name, so no message in here repeats it.
"""

from __future__ import annotations

from urllib.parse import urlencode, urlsplit, urlunsplit

from scheduling.errors import InvalidDeclaration

LONGEST = 500
ENDINGS = {"start": "/start", "success": "", "fail": "/fail"}


def require_ping_url(text: str) -> str:
    """Give the address without spaces around it; "" stays "". Raises InvalidDeclaration."""
    url = text.strip()
    if not url:
        return ""
    if len(url) > LONGEST:
        raise InvalidDeclaration(f"The ping URL is too long; give at most {LONGEST} characters")
    if not url.isascii() or not url.isprintable() or " " in url:
        raise InvalidDeclaration(
            "The ping URL has characters that no address has; copy it from the monitor"
        )
    try:
        parts = urlsplit(url)
        is_whole = bool(parts.hostname) and parts.port != 0
    except ValueError:
        is_whole = False
    if not is_whole or parts.scheme not in ("http", "https"):
        raise InvalidDeclaration(
            "The ping URL is no web address; begin with http:// or https:// and the host"
        )
    if "@" in parts.netloc or parts.fragment:
        raise InvalidDeclaration(
            "The ping URL has a user name or a fragment, which no ping carries; leave them out"
        )
    return url


def ping_address(url: str, signal: str, *, run_id: str) -> str:
    """Where to send a signal (`start`, `success`, `fail`) of a run."""
    parts = urlsplit(url)
    path = parts.path.rstrip("/") + ENDINGS[signal] if ENDINGS[signal] else parts.path
    query = "&".join(part for part in (parts.query, urlencode({"rid": run_id})) if part)
    return urlunsplit((parts.scheme, parts.netloc, path, query, ""))
