"""A run that this process executes: how long it is surely ours, and what its body is to know."""

from __future__ import annotations

import enum
import logging
import os
import signal
import threading
from collections.abc import Callable, Mapping, Sequence
from datetime import timedelta
from uuid import UUID

from billiard.process import current_process
from django.db import connection

from scheduling.conf import conf
from workers import locks
from workers.live_output import LiveOutput
from workers.orders import boot_time
from workers.output import HeadTail
from workers.politeness import Turn

logger = logging.getLogger(__name__)

# This part of a lease is left unused: in it the processes of a run die, and a look may be late.
MARGIN = 1 / 12
# For so long a process that is to be killed may tell others what they need to know, in seconds, and
# not beyond its lease; but at least for a moment, which the unused part of the lease has room for.
LAST_WORDS = 5.0
A_MOMENT = 0.5


class Stop(enum.IntEnum):
    """Why a body is to stop; what counts more is greater."""

    NOT = 0
    WORKER_STOPS = 1
    ASKED = 2  # a person or a newer fire wants it
    CUT_OFF = 3  # its lease could not be renewed, and others may begin it
    SUPERSEDED = 4  # it has ended without us; another attempt may have begun


def sure(lease: timedelta) -> float:
    """For how many seconds one may rely on a lease of this length."""
    return lease.total_seconds() - MARGIN * conf.lease.total_seconds()


class OpenRun:
    """A run that this process executes.

    To be made before its start is written, as its lease is counted from here.
    """

    def __init__(
        self,
        run_id: UUID,
        attempt: int,
        keys: Sequence[str],
        *,
        seats: Mapping[str, int] | None = None,
        is_external: bool = False,
        is_service: bool = False,
        turn: Turn | None = None,
        has_begun: bool = True,
    ) -> None:
        self.run_id = run_id
        self.attempt = attempt
        self.token = 0  # of its start, once that is accepted
        self.holder = holder_of(run_id, attempt)
        self.keys: Sequence[str] = keys
        self.seats: Mapping[str, int] = seats or {}
        self.is_service = is_service
        self.turn = turn
        # One of several of a message waits for its turn here.
        self.has_begun = has_begun
        # What the others of its message have to say, if this one has the process killed.
        self.before_death: Callable[[], None] = lambda: None
        self.is_watched = False
        self.is_over = False  # its body has ended, and only its end is left to be recorded
        self.told = Stop.NOT  # what the body has heard
        self.live_output: LiveOutput | None = None
        self._lease_until = boot_time() + sure(conf.lease)
        self._wish = Stop.NOT
        self._is_external = is_external
        self._is_dying = False

    # --- what its body asks and tells -------------------------------------------------------------

    def should_stop(self) -> bool:
        """Whether the body is to stop, as of the last beat.

        The first question makes each beat look, so that a run that never asks costs little.
        """
        self.is_watched = True
        self.told = max(self.told, self._wish)
        return self.told > Stop.NOT

    def must_die(self) -> bool:
        """Whether its processes are to be killed at once, as of the last beat."""
        if self._is_dying:
            self.told = max(self.told, self._wish)
        return self._is_dying

    def lease_until(self) -> float:
        """Until when, by `boot_time`, nobody else can begin this run; each renewal moves it on.

        Then its processes must be dead.
        """
        return self._lease_until

    def heard(self, output: HeadTail) -> None:
        """Have what is written to `output` shown while the run goes on."""
        self.live_output = LiveOutput(output)

    # --- what the heartbeat knows -----------------------------------------------------------------

    def prolong(self, until: float) -> None:
        self._lease_until = max(self._lease_until, until)
        if self._wish is Stop.CUT_OFF:
            # Back in time; unless the body has heard of it already.
            self._wish, self._is_dying = Stop.NOT, False

    def is_cut_off(self) -> bool:
        return not self.is_over and boot_time() >= self._lease_until

    def give_up_locks(self) -> None:
        """Open the gate for others. The heartbeat does not take the locks again."""
        keys, self.keys = self.keys, ()
        locks.release(keys, self.holder)
        if self.turn is not None:
            self.turn.end()

    def stop(self, why: Stop, *, at_once: bool) -> None:
        """Pass on that the body is to stop; if at once, kill this process.

        Who finds the process gone records the end. Who watches an external one kills only that.
        """
        if not self.has_begun:
            self._wish = max(self._wish, why)
            return
        if at_once and not self._is_external and is_pool_child():
            # Not told before: it would begin to end by itself, and do so halfway.
            logger.warning("Run %s is to end at once: killing its process", self.run_id)
            self._die(why)
        if why is Stop.SUPERSEDED:
            self.give_up_locks()
        self._wish = max(self._wish, why)
        if not at_once or self._is_dying:
            return
        self._is_dying = True
        if self._is_external:
            return
        logger.warning(
            "Run %s is to end at once, but other runs share its process: it goes on unless it asks "
            "should_stop(); only the prefork pool can have it killed",
            self.run_id,
        )

    def _die(self, why: Stop) -> None:
        """Kill this process, after its last words, if they are heard in time."""
        last_words = threading.Thread(
            target=self._say_last_words, args=(why,), name="last words", daemon=True
        )
        try:
            last_words.start()
            # The heartbeat stands still meanwhile, and so does who watches the lease.
            left = min(LAST_WORDS, self._lease_until - boot_time())
            last_words.join(max(left, A_MOMENT))
        finally:
            os.kill(os.getpid(), signal.SIGKILL)

    def _say_last_words(self, why: Stop) -> None:
        try:
            self.give_up_locks()
            if why is Stop.ASKED:
                self.before_death()
        finally:
            connection.close()


def holder_of(run_id: UUID, attempt: int) -> str:
    return f"{run_id}/{attempt}"


def is_pool_child() -> bool:
    """Whether this is a process of the prefork pool: one task at a time, replaced when it dies."""
    return "PoolWorker" in current_process().name
