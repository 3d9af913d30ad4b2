"""What executors say of the end of a run, and what is answered to many of them."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any
from uuid import UUID

from scheduling.errors import InvalidRequest
from scheduling.models import Outcome, Reason, State
from scheduling.outcome import LONGEST_FINGERPRINT, require_wait
from scheduling.runs.result import Result
from scheduling.runs.stored_json import as_text, storable
from scheduling.zones import require_aware

LOST, PERMANENT = "lost", "permanent"
# How a run may be said to have ended: state and reason of its row.
WORDS: Mapping[str, tuple[State, Reason | None]] = {
    "succeeded": (State.SUCCEEDED, None),
    "failed": (State.FAILED, Reason.ERROR),
    LOST: (State.FAILED, Reason.LOST),
    PERMANENT: (State.FAILED, Reason.PERMANENT),
    "cancelled": (State.FAILED, Reason.CANCELLED),
}
# What the fields of a report have to be; `at` may be left out.
KINDS = {
    **{"id": UUID, "state": str, "outcome": str | None, "fingerprint": str, "error": str},
    **{"metadata": Mapping, "at": datetime | None},
}


@dataclass(frozen=True, slots=True, kw_only=True)
class RunEnd:
    """That a run has ended: "succeeded", "failed", "lost" (nobody knows how), "permanent" (failed,
    and no retry can mend it) or "cancelled".

    `fingerprint` of what a success found says its outcome; or `outcome` does. `retry_after`: the
    target is not to be looked at again before so much time has passed, ten years at most. `at`:
    when, default now.
    """

    id: UUID
    state: str = "succeeded"
    outcome: Outcome | str | None = None
    fingerprint: str = ""
    retry_after: timedelta | None = None
    metadata: Mapping[str, Any] = field(default_factory=dict)
    error: str = ""
    at: datetime | None = None

    def result(self) -> Result:
        """Raises InvalidRequest, NaiveTime."""
        for name, kind in KINDS.items():
            if not isinstance(getattr(self, name), kind):
                raise InvalidRequest(
                    f"The {name} of run {self.id} is {getattr(self, name)!r}; "
                    f"give a {getattr(kind, '__name__', kind)}"
                )
        if self.state not in WORDS:
            raise InvalidRequest(
                f"Run {self.id} is said to have ended {self.state!r}; known are {', '.join(WORDS)}"
            )
        if self.at is not None:
            require_aware(self.at)
        if self.retry_after is not None:
            try:
                require_wait(self.retry_after)
            except ValueError as error:
                raise InvalidRequest(f"Of run {self.id}, {error}") from error
        as_text(self.metadata)
        state, reason = WORDS[self.state]
        return Result(
            state=state,
            reason=reason,
            outcome=self._outcome(state),
            fingerprint=storable(self.fingerprint),
            next_after=self.retry_after,
            error=storable(self.error),
        )

    def _outcome(self, state: State) -> Outcome | None:
        if self.outcome is not None and self.outcome not in set(Outcome):
            raise InvalidRequest(
                f"The outcome of run {self.id} is {self.outcome!r}; known are {', '.join(Outcome)}"
            )
        if (self.outcome or self.fingerprint) and state != State.SUCCEEDED:
            raise InvalidRequest(
                f"Run {self.id} has {self.state} and yet found something; only a success has an "
                "outcome or a fingerprint"
            )
        if self.outcome and self.fingerprint:
            raise InvalidRequest(
                f"Run {self.id} has an outcome and a fingerprint, which says the outcome; give one"
            )
        if len(self.fingerprint) > LONGEST_FINGERPRINT:
            raise InvalidRequest(
                f"The fingerprint of run {self.id} has {len(self.fingerprint)} characters; give a "
                f"digest of {LONGEST_FINGERPRINT} at most"
            )
        return None if self.outcome is None else Outcome(self.outcome)


@dataclass(slots=True, kw_only=True)
class Reported:
    """What became of reports: ids of runs by what they have led to, each in one place and once.

    Of several reports of a run in one call the first counts that is not refused.
    """

    changed: list[UUID] = field(default_factory=list)
    # It was known already, or comes too late: nothing has changed.
    unchanged: list[UUID] = field(default_factory=list)
    # There is no such run.
    unknown: list[UUID] = field(default_factory=list)
    # id -> what is wrong with its report, or with the first of them
    refused: dict[UUID, str] = field(default_factory=dict)
