"""What a successful run found. Pure."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import timedelta
from enum import StrEnum

LONGEST_FINGERPRINT = 128


class Outcome(StrEnum):
    """Return it from a job: it decides how soon a target with adaptive cadence is looked at."""

    CHANGED = "changed"
    UNCHANGED = "unchanged"
    MISSING = "missing"


@dataclass(frozen=True, slots=True, kw_only=True)
class Found:
    """Return it from a job that knows more than an outcome.

    A `fingerprint` of what was found says by itself whether it has changed since the last time.
    `retry_after`: not to be looked at again before so much time has passed.
    """

    outcome: Outcome | None = None
    fingerprint: str | None = None
    retry_after: timedelta | None = None

    def __post_init__(self) -> None:
        """Raises ValueError, which fails the run: what is wrong must not count as found."""
        if self.fingerprint is not None:
            require_fingerprint(self.fingerprint)
        if self.outcome is not None:
            Outcome(self.outcome)
        if self.fingerprint is not None and self.outcome is not None:
            raise ValueError("Give an outcome or a fingerprint, which says the outcome; not both")
        wait = self.retry_after
        if wait is not None and not (isinstance(wait, timedelta) and wait > timedelta(0)):
            raise ValueError(f"retry_after is {wait!r}; give a positive timedelta")


def require_fingerprint(value: object) -> str:
    """Raises ValueError for what no column keeps as it is."""
    if isinstance(value, str) and 0 < len(value) <= LONGEST_FINGERPRINT and value.isprintable():
        return value
    raise ValueError(
        f"The fingerprint {str(value)[:40]!r} must be 1 to {LONGEST_FINGERPRINT} printable "
        "characters; give a digest such as hashlib.sha256(...).hexdigest()"
    )
