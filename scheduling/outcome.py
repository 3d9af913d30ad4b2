"""What a successful run found. Pure."""

from __future__ import annotations

from enum import StrEnum


class Outcome(StrEnum):
    """Return it from a job: it decides how soon a target with adaptive cadence is looked at."""

    CHANGED = "changed"
    UNCHANGED = "unchanged"
    MISSING = "missing"
