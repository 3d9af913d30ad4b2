"""The answers that `why` is made of, and their shape for programs."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from scheduling.explanations import Surroundings, explanation
from scheduling.ledger import iso, run_as_dict
from scheduling.models import Job, Reason, Run, State

EXPECTED_SKIPS = (Reason.COALESCED, Reason.DECLINED)


@dataclass(frozen=True, slots=True, kw_only=True)
class Finding:
    """One answer: about a row of the ledger or, without one, about fire times (None: right now)."""

    explanation: str
    is_problem: bool = False
    run: Run | None = None
    about: datetime | None = None
    until: datetime | None = None
    """The last of several fire times that it is about."""
    fires: int = 1

    @property
    def at(self) -> datetime | None:
        """The newest fire time that it is about."""
        if self.run is not None:
            return self.run.scheduled_until or self.run.scheduled_at
        return self.until or self.about


@dataclass(frozen=True, slots=True, kw_only=True)
class Account:
    """What became of the fire times that were asked for, and what comes next."""

    findings: Sequence[Finding]
    """Newest first, without what is still to come."""
    next: Finding | None = None
    """The next fire, or why none comes; None if only a fire time was asked for."""
    is_cut: bool = False
    """There is more in the stretch than was looked at: the oldest is missing."""
    of_targets: int = 1
    """With several, fires without a row are not told: each target has its own."""
    by_itself: bool = True
    """Whether the schedule names fire times, or something else has to ask for runs."""

    is_asked_for: bool = False
    """The times were named: each of them counts, not only the newest."""

    @property
    def is_problem(self) -> bool:
        """The past is past: unless it was asked for, only its newest answer counts."""
        past = self.findings if self.is_asked_for else self.findings[:1]
        coming = [self.next] if self.next is not None else []
        return any(finding.is_problem for finding in [*coming, *past])

    def answers(self) -> list[Finding]:
        """Everything as one list, newest first."""
        if self.next is None or (self.findings and not self.by_itself and not self.next.is_problem):
            return list(self.findings)
        return [self.next, *self.findings]


def of_run(run: Run, now: datetime, around: Surroundings, *, with_error: bool = True) -> Finding:
    skipped = run.state == State.SKIPPED and run.reason not in EXPECTED_SKIPS
    return Finding(
        run=run,
        explanation=explanation(run, now, around, with_error=with_error),
        is_problem=skipped or run.state == State.FAILED,
    )


def finding_as_dict(finding: Finding, job: Job, key: str) -> dict[str, Any]:
    """Give the shape of the history with the explanation; without a row, its fields are None."""
    if finding.run is not None:
        row = run_as_dict(finding.run)
    else:
        row = dict.fromkeys(run_as_dict(Run()))
        row |= {"job": job.name, "key": key, "scheduled_at": iso(finding.about)}
        row["fires"] = None if finding.about is None else finding.fires
    return {**row, "explanation": finding.explanation}
