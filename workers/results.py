"""From what a job's body did to what is recorded. Pure."""

from __future__ import annotations

import json
import logging
import math
import os
import traceback
from datetime import UTC, datetime, timedelta
from numbers import Real
from pathlib import Path
from typing import Any

from celery.exceptions import Retry, SoftTimeLimitExceeded
from django.core.management import CommandError

from scheduling import Found
from scheduling.conf import conf
from scheduling.errors import SchedulingError
from scheduling.models import Outcome, Reason, State
from scheduling.outcome import LONGEST_WAIT
from scheduling.runs import Result
from workers.output import harmless

logger = logging.getLogger(__name__)

ERROR_LIMIT = 20_000  # characters of a traceback: its end, where the error is
OURS = str(Path(__file__).parent) + os.sep


class JobFailed(SchedulingError):
    """The job failed."""


def from_return(value: object) -> Result:
    """A body may give a whole Result, the Outcome of its success, or what it Found; other values
    are kept for its follow-ups, as far as JSON and JOBS_RESULT_LIMIT go.
    """
    if isinstance(value, Result):
        return value
    if isinstance(value, Outcome):
        return Result(state=State.SUCCEEDED, outcome=value)
    if isinstance(value, Found):
        return Result(
            state=State.SUCCEEDED,
            outcome=None if value.outcome is None else Outcome(value.outcome),
            fingerprint=value.fingerprint or "",
            next_after=value.retry_after and min(value.retry_after, LONGEST_WAIT),
        )
    return Result(state=State.SUCCEEDED, value=kept(value))


def kept(value: object) -> Any:
    """Give a value as JSON has it; None if it is nothing for JSON, or too much of it.

    PostgreSQL stores neither NUL nor half of a surrogate pair.
    """
    if value is None:
        return None
    pieces: list[bytes] = []
    left = conf.RESULT_LIMIT
    try:
        # Piece by piece: of a value without end only the beginning is written.
        for piece in json.JSONEncoder(ensure_ascii=False, allow_nan=False).iterencode(value):
            pieces.append(piece.encode())
            left -= len(pieces[-1])
            if left < 0 or "\\u0000" in piece:
                raise ValueError("too long" if left < 0 else "it contains NUL")
    except (TypeError, ValueError, RecursionError) as error:
        logger.info("What a job gave back is not kept for its follow-ups: %s", error)
        return None
    return json.loads(b"".join(pieces))


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
        error_types=names_of(type(cause)),
    )


def names_of(error: type[BaseException]) -> tuple[str, ...]:
    """Give the names of an error's class and of those it is derived from, dotted and bare.

    Without those that everything is; of what is built in, the dotted name is the bare one.
    """
    names: dict[str, None] = {}
    for each in error.__mro__:
        if each in (object, BaseException):
            continue
        if each.__module__ != "builtins":
            names[f"{each.__module__}.{each.__qualname__}"] = None
        names[each.__name__] = None
    return tuple(names)


def from_retry(error: Retry, *, now: datetime) -> Result:
    """The job itself asked for another attempt."""
    failed = from_error(error)
    return Result(
        state=failed.state,
        reason=failed.reason,
        error=failed.error,
        error_types=failed.error_types,
        retry_after=wait_of(error, now=now),
    )


def wait_of(error: Retry, *, now: datetime) -> timedelta:
    """Celery gives seconds or a time, naive ones being UTC. A wait beyond all bounds is cut."""
    if isinstance(error.when, datetime):
        at = error.when if error.when.tzinfo is not None else error.when.replace(tzinfo=UTC)
        return min(max(at - now, timedelta(0)), LONGEST_WAIT)
    if isinstance(error.when, Real) and not math.isnan(float(error.when)):
        return timedelta(seconds=min(max(float(error.when), 0.0), LONGEST_WAIT.total_seconds()))
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
