"""Whom to tell: e-mail addresses, and names of channels (JOBS_CHANNELS). Pure."""

from __future__ import annotations

import re
from collections.abc import Iterable

from scheduling.errors import InvalidDeclaration

LONGEST = 254  # of an address (RFC 5321)
# What a header could be broken with, or a second address begun, is in neither.
_ADDRESS = re.compile(r"""[^@\s,;:<>()\[\]\\"]+@[^@\s,;:<>()\[\]\\"]+""")
_CHANNEL = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]*")


def is_address(text: str) -> bool:
    return (
        len(text) <= LONGEST
        and text.isprintable()
        and bool(_ADDRESS.fullmatch(text))
        and _is_host(text.rpartition("@")[2])
    )


def _is_host(name: str) -> bool:
    # One that is none would break the mail that all addresses share.
    try:
        return not name.encode("idna").endswith(b".")
    except UnicodeError:
        return False


def is_channel_name(text: str) -> bool:
    return len(text) <= LONGEST and bool(_CHANNEL.fullmatch(text))


def require_recipient(text: str) -> str:
    """Give the recipient. Raises InvalidDeclaration; whether a channel exists is not looked at."""
    if is_address(text) or is_channel_name(text):
        return text
    raise InvalidDeclaration(
        f"{text[:80]!r} is not an e-mail address or the name of a channel; give one of them, such "
        "as 'ops@example.org' or 'slack'"
    )


def distinct(recipients: Iterable[str]) -> list[str]:
    """Each once, in order; case tells channels apart, but no addresses."""
    found: dict[str, str] = {}
    for each in recipients:
        found.setdefault(_same(each), each)
    return list(found.values())


def _same(recipient: str) -> str:
    return recipient.casefold() if "@" in recipient else recipient
