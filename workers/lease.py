"""The heartbeat of a pool process: it keeps the leases of the runs that are open in it.

One thread per process, started by the first run and gone when nothing is open. It alone talks to
the database about open runs, on its own connection, so that a job's transaction is never touched.
"""

from __future__ import annotations

import logging
import os
import signal
import threading
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from uuid import UUID

from billiard.process import current_process
from django.db import connection

from scheduling import clock, runs
from scheduling.conf import conf
from workers import locks

logger = logging.getLogger(__name__)

# How long somebody's wish to stop a run may go unnoticed, in seconds.
POLL = 1.0


class OpenRun:
    """A run that this process executes."""

    def __init__(
        self, run_id: UUID, attempt: int, keys: Sequence[str], *, is_external: bool = False
    ) -> None:
        self.run_id = run_id
        self.holder = holder_of(run_id, attempt)
        self.keys: Sequence[str] = keys
        self.was_told = False  # the job knows that it is to stop
        self.is_watched = False
        self._is_stopping = False
        self._is_external = is_external
        self._is_dying = False

    def should_stop(self) -> bool:
        """Whether somebody asked this run to stop, as of the last beat.

        The first question makes each beat look, so that a run that never asks costs little.
        """
        self.is_watched = True
        self.was_told = self._is_stopping
        return self.was_told

    def must_die(self) -> bool:
        """Whether somebody asked for its end at once, as of the last beat."""
        return self._is_dying

    def give_up_locks(self) -> None:
        """Open the gate for others. The heartbeat does not take the locks again."""
        keys, self.keys = self.keys, ()
        locks.release(keys, self.holder)

    def stop(self, *, at_once: bool) -> None:
        """Pass somebody's wish on to the job; if it is for a kill, kill this process.

        Who finds the process gone records the end. Who watches an external one kills only that.
        """
        if at_once and not self._is_external and is_pool_child():
            # Not told before: it would begin to end by itself, and do so halfway.
            logger.warning("Run %s is to end at once: killing its process", self.run_id)
            self.give_up_locks()
            os.kill(os.getpid(), signal.SIGKILL)
        self._is_stopping = True
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


def holder_of(run_id: UUID, attempt: int) -> str:
    return f"{run_id}/{attempt}"


class Heartbeat:
    """Renews the leases of the open runs of one worker name."""

    def __init__(self, worker: str) -> None:
        self._worker = worker
        self._changed = threading.Condition()
        self._open: set[OpenRun] = set()
        self._thread: threading.Thread | None = None
        self._is_failing = False

    @contextmanager
    def keep(self, run: OpenRun) -> Iterator[OpenRun]:
        """Keep the lease and the locks of `run` until the block ends."""
        with self._changed:
            self._open.add(run)
            if self._thread is None:
                self._thread = threading.Thread(target=self._beat, name="heartbeat", daemon=True)
                self._thread.start()
        try:
            yield run
        finally:
            with self._changed:
                self._open.discard(run)
                self._changed.notify()

    def _beat(self) -> None:
        renewal = time.monotonic() + conf.LEASE_RENEWAL.total_seconds()
        try:
            while True:
                with self._changed:
                    self._changed.wait_for(lambda: not self._open, timeout=POLL)
                    if not self._open:
                        self._thread = None
                        return
                    open_runs = list(self._open)
                is_due = time.monotonic() >= renewal
                if self._try(open_runs, renew=is_due) and is_due:
                    renewal = time.monotonic() + conf.LEASE_RENEWAL.total_seconds()
        finally:
            connection.close()

    def _try(self, open_runs: Sequence[OpenRun], *, renew: bool) -> bool:
        """Beat once; an error is logged once per outage, and the next beat tries again."""
        try:
            if renew:
                runs.renew(
                    worker=self._worker,
                    run_ids=[run.run_id for run in open_runs],
                    now=clock.sample(),
                )
                for run in open_runs:
                    locks.acquire(run.keys, run.holder, lease=conf.lease)
            self._look(open_runs if renew else [run for run in open_runs if run.is_watched])
        except Exception:
            if not self._is_failing:
                logger.exception("Leases of %s not renewed; trying again", self._worker)
            self._is_failing = True
            connection.close()
            return False
        self._is_failing = False
        return True

    def _look(self, open_runs: Sequence[OpenRun]) -> None:
        """Ask for all of them at once who is to stop."""
        if not open_runs:
            return
        asked = runs.stop_requests([run.run_id for run in open_runs])
        # Held meanwhile: a run that has ended must not take the next one of its process with it.
        with self._changed:
            for run in self._open.intersection(open_runs):
                if run.run_id in asked:
                    run.stop(at_once=asked[run.run_id])


def is_pool_child() -> bool:
    """Whether this is a process of the prefork pool: one task at a time, replaced when it dies."""
    return "PoolWorker" in current_process().name


_heartbeats: dict[str, Heartbeat] = {}
_guard = threading.Lock()


def worker_name(hostname: str) -> str:
    """Name this process: a worker's children hold leases of their own."""
    return f"{hostname}/{os.getpid()}"


def heartbeat(worker: str) -> Heartbeat:
    with _guard:
        return _heartbeats.setdefault(worker, Heartbeat(worker))


def _forget() -> None:
    """Threads do not survive a fork, nor may a child use its parent's connections."""
    global _guard
    _guard = threading.Lock()
    _heartbeats.clear()


os.register_at_fork(after_in_child=_forget)
