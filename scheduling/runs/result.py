"""What an attempt came to, and whether another one may follow."""

from __future__ import annotations

from collections.abc import Collection
from dataclasses import dataclass
from datetime import timedelta
from typing import Any

from scheduling.models import Job, Outcome, Reason, Run, State
from scheduling.outcome import require_wait
from scheduling.services import is_service

# Ends by somebody's will, or that another attempt cannot mend.
NOT_RETRIED = {
    Reason.CANCELLED,
    Reason.TERMINATED,
    Reason.PERMANENT,
    Reason.UNKNOWN_TASK,
    Reason.POISON,
    Reason.LOST,
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Result:
    """How an attempt ended, as its worker saw it."""

    state: State  # SUCCEEDED or FAILED
    reason: Reason | None = None
    outcome: Outcome | None = None
    exit_code: int | None = None
    output: str = ""
    output_bytes: int = 0
    error: str = ""
    # The names of the error's class and of those that it is derived from, for `retry_on`.
    error_types: tuple[str, ...] = ()
    # What the job gave back, as JSON has it, for its follow-ups; None: nothing, or too much.
    value: Any = None
    # Asked for by the job itself: wait so long and try again.
    retry_after: timedelta | None = None
    # Of what was found: it says the outcome, if that is not said.
    fingerprint: str = ""
    # No other run of the target is to come before so much time has passed since the end.
    next_after: timedelta | None = None

    def __post_init__(self) -> None:
        """Raises ValueError."""
        if self.next_after is not None:
            require_wait(self.next_after)


def may_retry(run: Run, job: Job, result: Result) -> bool:
    if run.stop_requested_at is not None or result.reason in NOT_RETRIED or is_service(job):
        return False
    if result.retry_after is not None:
        # Celery's own retries count by the task's `max_retries`, which the worker has checked.
        return True
    retries = job.retries if run.retry_limit is None else run.retry_limit
    return run.failures < retries and is_retried(job.retry_on, result)


def is_retried(retry_on: Collection[str | int], result: Result) -> bool:
    """Whether a job that names what is retried names this: an error or a class that it is derived
    from, an exit code, or a reason such as hard_limit. Without names everything is.
    """
    if not retry_on:
        return True
    known = (*result.error_types, result.exit_code, str(result.reason or ""))
    # What was written by hand may be anything that JSON has.
    named = retry_on if isinstance(retry_on, list | tuple) else [retry_on]
    return any(each in known for each in named)
