"""The pool that this process runs jobs in."""

from __future__ import annotations

import sys
from typing import Any

from celery import signals

from scheduling import pools
from scheduling.models import Job

# Of the worker; "": this process belongs to none (`manage.py jobs run`).
_name = ""


def connect() -> None:
    # Sent before the first message is taken.
    signals.worker_ready.connect(note)


def note(sender: Any, **_: Any) -> None:
    global _name
    _name = pools.pool_name(type(sender.pool))


def refusal(job: Job) -> str:
    """Say why a job must not run inside this worker; "" if it may.

    Who names a limit relies on it. A run without it might never end.
    """
    if job.is_external:
        return ""
    limits = pools.unenforced(_name, soft=job.soft_limit, hard=job.hard_limit)
    if not limits:
        return ""
    return (
        f"The {_name} pool of this worker cannot enforce {limits}: give the job a queue of a "
        "worker with the prefork pool, run it as an external command, or take the limit away"
    )


def timed_out(error: BaseException) -> float | None:
    """For gevent's timeouts, after how many seconds it came; None for any other error."""
    gevent = sys.modules.get("gevent")
    if gevent is None or not isinstance(error, gevent.Timeout):
        return None
    return float(error.seconds or 0)
