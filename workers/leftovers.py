"""Processes of external runs that nobody owns any more: found by what they were started with.

A shepherd ends all that it owns, and the warm process what a killed shepherd leaves. Where both
were killed, or there is no warm process, this is the net below.
"""

from __future__ import annotations

import json
import logging
import os
import signal
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from datetime import timedelta
from functools import cache
from uuid import UUID

from django.conf import settings
from django.utils.crypto import salted_hmac

from scheduling.models import Run
from scheduling.models.run import OPEN_STATES
from workers import process_tree

logger = logging.getLogger(__name__)

EVERY = timedelta(seconds=10)
# The variable that tells this installation's runs from another's, say one on a copy of the
# database.
MARK = "JOBS_INSTALLATION"

COLUMNS = ("pk", "attempt", "state")

Attempt = tuple[UUID, int]


@cache
def mark() -> str:
    """Stand for this database, at this address, with this secret key."""
    database = settings.DATABASES["default"]
    address = [str(database.get(name, "")) for name in ("ENGINE", "HOST", "PORT", "NAME")]
    return salted_hmac("workers.leftovers", json.dumps(address)).hexdigest()[:32]


def sweep() -> int:
    """Kill what belongs to attempts that are over, as the database knows; give how many.

    A run that the database does not know at all is left alone: who knows whose it is. So is an
    attempt that it does not know yet, and everything if it does not answer.
    """
    seen = {attempt for pid in process_tree.all_pids() if (attempt := attempt_of(pid))}
    if not seen:
        return 0
    runs = Run.objects.filter(pk__in={run_id for run_id, _ in seen})
    known = {pk: (attempt, state) for pk, attempt, state in runs.values_list(*COLUMNS)}

    def is_over(attempt: Attempt) -> bool:
        run_id, number = attempt
        current, state = known.get(run_id, (0, ""))
        return number < current or (number == current and state not in OPEN_STATES)

    return end(is_over)


def end_run(run_id: UUID, attempt: int) -> int:
    """Kill what is left of an attempt whose shepherd is gone."""
    return end(lambda found: found == (run_id, attempt))


def end(is_left: Callable[[Attempt], bool]) -> int:
    """Kill the processes of such attempts with all below, until there are none."""
    killed: set[int] = set()
    while found := [pid for pid in process_tree.all_pids() if kill_if(pid, is_left)]:
        if killed.issuperset(found):
            break  # they are dying, or cannot
        killed.update(found)
    return len(killed)


def kill_if(pid: int, is_left: Callable[[Attempt], bool]) -> bool:
    with pinned(pid) as process:
        attempt = attempt_of(pid) if process is not None else None
        if process is None or attempt is None or not is_left(attempt):
            return False
        logger.warning("Killing process %s: attempt %s of run %s is over", pid, *reversed(attempt))
        below = process_tree.descendants(pid)
        with suppress(ProcessLookupError, PermissionError):
            signal.pidfd_send_signal(process, signal.SIGKILL)
        process_tree.kill_all(below)
        return True


@contextmanager
def pinned(pid: int) -> Iterator[int | None]:
    """Hold on to a process: its number may be another's by the time it is killed."""
    process: int | None = None
    with suppress(OSError, AttributeError):
        process = os.pidfd_open(pid)
    try:
        yield process
    finally:
        if process is not None:
            os.close(process)


def attempt_of(pid: int) -> Attempt | None:
    """Give the attempt of a run of this installation that a process was started for."""
    try:
        block = (process_tree.PROC / str(pid) / "environ").read_bytes()
    except OSError:
        return None  # gone, or another user's
    facts = dict(line.partition(b"=")[::2] for line in block.split(b"\0"))
    if facts.get(MARK.encode()) != mark().encode():
        return None
    try:
        return UUID(facts[b"RUN_ID"].decode()), int(facts[b"ATTEMPT"])
    except (KeyError, ValueError):
        return None
