"""`runs=`: a number that the database counts down, and that a sync must not put back.

A mark among the overrides remembers the number that was declared, so that only another number in
the code begins a new count.
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from typing import Any

BY = "each run"


def mark(declared: int, *, now: datetime) -> dict[str, Any]:
    return {"code": declared, "by": BY, "at": now.isoformat()}


def is_count(override: Mapping[str, Any] | None) -> bool:
    """Whether nobody has set the number: it has been counted down since it was declared."""
    return override is not None and override.get("by") == BY


def follow(
    override: Mapping[str, Any] | None, declared: int | None, *, now: datetime
) -> tuple[bool, dict[str, Any] | None]:
    """Say whether the count begins anew, with what is declared, and give the mark to keep.

    A number that an operator has set stays, and learns what the code says.
    """
    if override is None:
        # Without a number in the code, what is left is a row's to say, or an operator's.
        return declared is not None, None if declared is None else mark(declared, now=now)
    if not is_count(override):
        return False, {**override, "code": declared}
    if override["code"] == declared:
        return False, dict(override)
    return True, None if declared is None else mark(declared, now=now)
