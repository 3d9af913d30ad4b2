"""From what a job's body did to what is recorded. Pure."""

from __future__ import annotations

import os
import traceback
from datetime import UTC, datetime, timedelta
from numbers import Real
from pathlib import Path

from celery.exceptions import Retry, SoftTimeLimitExceeded
from django.core.management import CommandError

from scheduling.errors import SchedulingError
from scheduling.models import Outcome, Reason, State
from scheduling.runs import Result
from workers.output import harmless

ERROR_LIMIT = 20_000  # characters of a traceback: its end, where the error is
OURS = str(Path(__file__).parent) + os.sep


class JobFailed(SchedulingError):
    """The job failed."""


def from_return(value: object) -> Result:
    """A body may give a whole Result, or the Outcome of its success; anything else is dropped."""
    if isinstance(value, Result):
        return value
    return Result(state=State.SUCCEEDED, outcome=value if isinstance(value, Outcome) else None)


def from_error(error: BaseException, *, output: str = "", output_bytes: int = 0) -> Result:
    """Say how an attempt ended that raised `error`; `sys.exit(0)` is a success."""
    if isinstance(error, SystemExit) and error.code in (None, 0):
        return Result(state=State.SUCCEEDED, output=output, output_bytes=output_bytes)
    reason, exit_code = Reason.ERROR, None
    if isinstance(error, SystemExit):
        # As the interpreter does: a text is printed, and the code is 1.
        reason, exit_code = Reason.EXIT_CODE, error.code if isinstance(error.code, int) else 1
    elif isinstance(error, SoftTimeLimitExceeded):
        reason = Reason.SOFT_LIMIT
    elif isinstance(error, CommandError):
        exit_code = error.returncode
    cause = error.exc if isinstance(error, Retry) and error.exc is not None else error
    return Result(
        state=State.FAILED,
        reason=reason,
        exit_code=exit_code,
        output=output,
        output_bytes=output_bytes,
        error=traceback_of(cause),
    )


def from_retry(error: Retry, *, now: datetime) -> Result:
    """The job itself asked for another attempt."""
    failed = from_error(error)
    return Result(
        state=failed.state,
        reason=failed.reason,
        error=failed.error,
        retry_after=wait_of(error, now=now),
    )


def wait_of(error: Retry, *, now: datetime) -> timedelta:
    """Celery gives seconds or a time, naive ones being UTC."""
    if isinstance(error.when, datetime):
        at = error.when if error.when.tzinfo is not None else error.when.replace(tzinfo=UTC)
        return max(at - now, timedelta(0))
    if isinstance(error.when, Real):
        return timedelta(seconds=max(float(error.when), 0.0))
    return timedelta(0)


def traceback_of(error: BaseException) -> str:
    """Give the end of the traceback, from where the job's own code begins; no values."""
    frames = error.__traceback__
    while frames is not None and frames.tb_frame.f_code.co_filename.startswith(OURS):
        frames = frames.tb_next
    lines = traceback.format_exception(type(error), error, frames)
    return harmless("".join(lines)[-ERROR_LIMIT:])


def failure_message(result: Result) -> str:
    """One line for Celery and Flower; the history has the whole."""
    last = result.error.strip().rpartition("\n")[2]
    return last or str(result.reason or "failed")
