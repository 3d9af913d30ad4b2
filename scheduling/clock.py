"""The one source of `now`: the database's time, sampled, with a monotonic clock in between.

Two machines that disagree about the time agree about the database's. Between samples the host's
monotonic clock carries on, so a step of the host's wall clock changes nothing.
"""

from __future__ import annotations

import logging
import os
import threading
import time
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from functools import partial

from django.db import connection

from scheduling.conf import conf

logger = logging.getLogger(__name__)

# A sample that is further behind than this is a step of the database host, not drift.
STEP = timedelta(seconds=60)


# Seconds that never go back; on Linux they go on while the machine sleeps.
elapsed: Callable[[], float] = (
    partial(time.clock_gettime, time.CLOCK_BOOTTIME)
    if hasattr(time, "CLOCK_BOOTTIME")
    else time.monotonic
)


def read_database_time() -> datetime:
    """On SQLite the database is on this machine, so the host's clock is the database's."""
    if connection.vendor == "postgresql":
        with connection.cursor() as cursor:
            cursor.execute("SELECT clock_timestamp()")
            row = cursor.fetchone()
        moment = row[0]
        assert isinstance(moment, datetime)
        return moment.astimezone(UTC)
    return datetime.now(UTC)


class Clock:
    """Never goes back within a process; thread-safe."""

    def __init__(self) -> None:
        self._guard = threading.Lock()
        self._anchor: tuple[datetime, float] | None = None
        self._floor: datetime | None = None

    def now(self) -> datetime:
        """Give the time by the last sample, taking one if there was none."""
        with self._guard:
            if self._anchor is None:
                self._anchor = (read_database_time(), elapsed())
            return self._not_before_floor(self._projected())

    def sample(self) -> datetime:
        """Read the database's time and go on from there.

        Small steps back are waited out. A large one (somebody set the database host's clock) is
        not followed: what has fired stays in the past.
        """
        read = read_database_time()
        with self._guard:
            if self._anchor is not None and self._projected() - read > STEP:
                logger.warning("The database's clock went back to %s; not followed", read)
            else:
                self._anchor = (read, elapsed())
            return self._not_before_floor(self._projected())

    def _projected(self) -> datetime:
        assert self._anchor is not None
        read, at = self._anchor
        return read + timedelta(seconds=elapsed() - at)

    def _not_before_floor(self, moment: datetime) -> datetime:
        moment += timedelta(seconds=conf.CLOCK)
        if self._floor is None or moment > self._floor:
            self._floor = moment
        return self._floor

    def after_fork(self) -> None:
        """Free the lock: a thread that held it while the process forked is not in the child."""
        self._guard = threading.Lock()


_clock = Clock()
os.register_at_fork(after_in_child=_clock.after_fork)
now = _clock.now
sample = _clock.sample
