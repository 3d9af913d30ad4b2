"""What a source says: of one resource, and a page of them. Plain values. Pure."""

from __future__ import annotations

import json
import unicodedata
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

from scheduling.declared_values import LONGEST_KEY
from scheduling.zones import require_aware

LONGEST_DESCRIPTION = 300

# Where a listing goes on: whatever JSON has. None: at its beginning.
Token = Any


@dataclass(frozen=True, slots=True)
class Named:
    """What a source says of one resource.

    `kwargs` are given to the job's runs for it. `hint_at`: when it changed last, None if the source
    does not say. `enabled=False`: it is there, and is not to be worked on. Raises ValueError.
    """

    key: str
    kwargs: Mapping[str, Any] = field(default_factory=dict)
    hint_at: datetime | None = None
    enabled: bool = True
    labels: Mapping[str, Any] = field(default_factory=dict)
    description: str = ""

    def __post_init__(self) -> None:
        if not isinstance(self.key, str) or not 0 < len(self.key) <= LONGEST_KEY:
            raise ValueError(f"{self.key!r} is no key; give text of 1 to {LONGEST_KEY} characters")
        for name in ("kwargs", "labels"):
            object.__setattr__(self, name, _as_json(getattr(self, name), f"{name} of {self.key!r}"))
        # PostgreSQL stores no NUL, and no driver half of a surrogate pair.
        _require_storable(self.key, "the key")
        # It stands in logs, in mails and on terminals.
        if any(unicodedata.category(each) == "Cc" for each in self.key):
            raise ValueError(f"{self.key[:60]!r} is no key: take the control character out")
        _require_storable(self.description, f"the description of {self.key!r}")
        if self.hint_at is not None:
            object.__setattr__(self, "hint_at", require_aware(self.hint_at))
        object.__setattr__(self, "description", self.description[:LONGEST_DESCRIPTION])


@dataclass(frozen=True, slots=True)
class Page:
    """Some of what a source names, and where to go on after them.

    Once a page is recorded, a listing that dies goes on at its `token`.
    """

    items: Sequence[Named]
    token: Token


@dataclass(frozen=True, slots=True)
class Unread:
    """An entry that cannot be read, such as a line of a file: it is told and counted."""

    where: str
    why: str


def _as_json(value: Mapping[str, Any], what: str) -> dict[str, Any]:
    """Give values as the database will give them back."""
    if not value:
        return {}
    try:
        text = json.dumps(dict(value), allow_nan=False)
    except (TypeError, ValueError) as error:
        raise ValueError(f"The {what} are nothing for JSON: {error}") from None
    if "\\u0000" in text:
        raise ValueError(f"The {what} contain a NUL; take it out")
    found: dict[str, Any] = json.loads(text)
    return found


def _require_storable(text: str, what: str) -> None:
    if any(each == "\0" or "\ud800" <= each <= "\udfff" for each in text):
        raise ValueError(f"{what} {text[:60]!r} has a character that no database stores")
