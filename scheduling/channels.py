"""Channels: named ways to tell people besides mail, from the setting JOBS_CHANNELS.

A channel is the address of a service that apprise knows, as text, or a webhook, as a dict. Both
carry secrets, so nothing in here repeats one in an error.
"""

from __future__ import annotations

import logging
import threading
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import TYPE_CHECKING, Any
from urllib.parse import urlsplit

from scheduling.conf import conf
from scheduling.errors import SchedulingError
from scheduling.recipients import is_channel_name

if TYPE_CHECKING:
    from apprise import NotifyBase

BODIES = ("json", "form")
KEYS = {"url", "body", "fields"}


class UnusableChannel(SchedulingError, ValueError):
    """This channel cannot be used as it is set."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Webhook:
    """A POST to an address of the team's, with `fields` of theirs and ours in its body."""

    url: str = field(repr=False)
    body: str = "json"
    fields: Mapping[str, str | int | float | bool] = field(default_factory=dict, repr=False)


def known() -> list[str]:
    """The names of all channels, whether they can be used or not."""
    return sorted(map(str, conf.CHANNELS)) if isinstance(conf.CHANNELS, dict) else []


def unknown(name: str) -> str:
    """Say that there is no such channel, and which there are."""
    return f"There is no channel {name!r} in JOBS_CHANNELS; known: {', '.join(known()) or 'none'}"


def find(name: str) -> NotifyBase | Webhook:
    """Give the channel, ready to be sent to. Raises UnusableChannel.

    Reading the address of a service imports apprise, which takes most of a second.
    """
    if name not in known():
        raise UnusableChannel(unknown(name))
    given = conf.CHANNELS[name]
    if not is_channel_name(name):
        raise UnusableChannel(
            f"Channel {name!r}: use letters, digits, '.', '_' and '-' for its name"
        )
    if isinstance(given, str):
        return _service(name, given)
    if isinstance(given, Mapping):
        return _webhook(name, given)
    raise UnusableChannel(
        f"Channel {name!r} is of type {type(given).__name__}; give an address as text, or a dict "
        "with the 'url' of a webhook"
    )


def _service(name: str, address: str) -> NotifyBase:
    from apprise import Apprise, AppriseAsset

    asset = AppriseAsset(app_id="Beatkeeper", app_desc="Beatkeeper", http_redirects=False)
    with unlogged():
        service = Apprise.instantiate(address, asset=asset)
    if service is None:
        raise UnusableChannel(
            f"Channel {name!r} is no address that apprise can read; look up its form at "
            "https://appriseit.com, or give a dict with the 'url' of a webhook"
        )
    return service


def _webhook(name: str, given: Mapping[Any, Any]) -> Webhook:
    if odd := sorted(map(str, given.keys() - KEYS)):
        raise UnusableChannel(
            f"Channel {name!r} has {odd[0]!r}; a webhook has 'url', 'body' and 'fields'"
        )
    body, fields = given.get("body", "json"), given.get("fields", {})
    if body not in BODIES:
        raise UnusableChannel(f"Channel {name!r}: body is {body!r}; write 'json' or 'form'")
    if not isinstance(fields, Mapping) or not all(
        isinstance(key, str) and isinstance(value, str | int | float)
        for key, value in fields.items()
    ):
        raise UnusableChannel(
            f"Channel {name!r}: fields is not a dict of names and texts or numbers"
        )
    url = given.get("url")
    if not isinstance(url, str) or not _is_web_address(url):
        raise UnusableChannel(
            f"Channel {name!r}: its url is no web address; begin with https:// and the host, and "
            "leave out user names and spaces"
        )
    return Webhook(url=url, body=body, fields=dict(fields))


def _is_web_address(url: str) -> bool:
    if not url.isascii() or not url.isprintable() or " " in url:
        return False
    try:
        parts = urlsplit(url)
        has_host = bool((parts.hostname or "").encode("idna")) and parts.port != 0
    except ValueError:
        return False
    return has_host and parts.scheme in ("http", "https") and "@" not in parts.netloc


_heard = threading.local()


class _Unlogged(logging.Filter):
    def filter(self, record: logging.LogRecord) -> bool:
        lines: list[str] | None = getattr(_heard, "lines", None)
        if lines is None:
            return True
        lines.append(record.getMessage())
        return False


for _library in ("apprise", "urllib3.connectionpool"):
    logging.getLogger(_library).addFilter(_Unlogged())


@contextmanager
def unlogged() -> Iterator[list[str]]:
    """Give, instead of logging it, what is said on this thread of a call to a service.

    It may quote the address, down to the level DEBUG.
    """
    _heard.lines = []
    try:
        yield _heard.lines
    finally:
        _heard.lines = None
