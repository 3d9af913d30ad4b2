"""What a successful run found. Pure."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import timedelta
from enum import StrEnum

LONGEST_FINGERPRINT = 128
# Until another attempt or look; the calendar has an end.
LONGEST_WAIT = timedelta(days=3650)


class Outcome(StrEnum):
    """Return it from a job: it decides how soon a target with adaptive cadence is looked at."""

    CHANGED = "changed"
    UNCHANGED = "unchanged"
    MISSING = "missing"


@dataclass(frozen=True, slots=True, kw_only=True)
class Found:
    """Return it from a job that knows more than an outcome.

    A `fingerprint` of what was found says by itself whether it has changed since the last time.
    `retry_after`: not to be looked at again before so much time has passed, ten years at most.
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
        if self.retry_after is not None:
            # A longer one is cut: the run has found something all the same.
            require_wait(self.retry_after, longest=timedelta.max)


def require_fingerprint(value: object) -> str:
    """Raises ValueError for what no column keeps as it is."""
    if isinstance(value, str) and 0 < len(value) <= LONGEST_FINGERPRINT and value.isprintable():
        return value
    raise ValueError(
        f"The fingerprint {str(value)[:40]!r} must be 1 to {LONGEST_FINGERPRINT} printable "
        "characters; give a digest such as hashlib.sha256(...).hexdigest()"
    )


def require_wait(value: object, *, longest: timedelta = LONGEST_WAIT) -> timedelta:
    """Raises ValueError for a `retry_after` that is none."""
    if not isinstance(value, timedelta) or value <= timedelta(0):
        raise ValueError(f"retry_after is {value!r}; give a positive timedelta")
    if value > longest:
        raise ValueError(f"retry_after is {value!r}; give {longest.days} days at most")
    return value
