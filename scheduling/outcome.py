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
        if self.fingerprint is not None and not 0 < len(self.fingerprint) <= LONGEST_FINGERPRINT:
            raise ValueError(
                f"The fingerprint {self.fingerprint!r} must have 1 to {LONGEST_FINGERPRINT} "
                "characters; give a digest such as hashlib.sha256(...).hexdigest()"
            )
        if self.fingerprint is not None and self.outcome is not None:
            raise ValueError("Give an outcome or a fingerprint, which says the outcome; not both")
        if self.retry_after is not None and self.retry_after <= timedelta(0):
            raise ValueError(f"retry_after is {self.retry_after!r}; give a positive timedelta")
