"""The heartbeat of a pool process: it keeps the leases of the runs that are open in it.

Threads of their own, started by the first run and gone when nothing is open. They alone talk to
the database about open runs, on their own connections, so that a job's transaction is never
touched. One renews the leases and learns what is no longer ours. One watches how long they last,
and asks no database, as that may take its time to answer. One stores what runs have written, if
they do, so that a long text holds up no renewal.

When the database is away, a run goes on only while nobody else could begin it: as long as Redis
answers, and no beat says there that it has the database. Beats wait for one lease after an outage
before they end anything, so such a look is worth as much as a renewal.
"""

from __future__ import annotations

import logging
import os
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack, contextmanager

from django.db import connection

from scheduling import clock, redis, runs
from scheduling.conf import conf
from workers import locks, stopping
from workers.open_run import OpenRun, Stop, is_pool_child, sure
from workers.orders import boot_time

__all__ = ["Heartbeat", "OpenRun", "heartbeat", "is_pool_child", "worker_name"]

logger = logging.getLogger(__name__)

# How long somebody's wish to stop a run may go unnoticed, in seconds.
POLL = 1.0
# How long a renewal has that comes at the last moment, say after the machine slept, in seconds.
LAST_CHANCE = 0.5
# No beat must have been seen for so long, in seconds: Redis may have forgotten a moment ago.
SILENCE = 2.0


class Heartbeat:
    """Renews the leases of the open runs of one worker name."""

    def __init__(self, worker: str) -> None:
        self._worker = worker
        self._changed = threading.Condition()
        self._open: set[OpenRun] = set()
        self._threads: dict[str, threading.Thread] = {}
        self._renew_at = 0.0
        self._silent_since: float | None = None
        self._records: list[Callable[[], None]] = []
        self._failing: set[str] = set()

    @contextmanager
    def keep(self, *runs: OpenRun, record: Callable[[], None] | None = None) -> Iterator[None]:
        """Keep the leases and the locks of `runs` until the block ends.

        `record` is called again and again meanwhile, on a thread of its own.
        """
        with self._changed:
            if not self._open:
                self._renew_at = boot_time() + conf.LEASE_RENEWAL.total_seconds()
            self._open.update(runs)
            self._ensure("heartbeat", self._beat)
            self._ensure("lease watch", self._watch)
            if record is not None:
                self._records.append(record)
                self._ensure("records", self._record)
        try:
            yield
        finally:
            with self._changed:
                self._open.difference_update(runs)
                if record is not None:
                    self._records.remove(record)
                self._changed.notify_all()

    # --- threads ----------------------------------------------------------------------------------

    def _ensure(self, name: str, act: Callable[[Sequence[OpenRun]], None]) -> None:
        """Have a thread call `act` again and again while anything is open. Needs `_changed`."""
        if name not in self._threads:
            self._threads[name] = threading.Thread(
                target=self._repeat, args=(name, act), name=name, daemon=True
            )
            self._threads[name].start()

    def _repeat(self, name: str, act: Callable[[Sequence[OpenRun]], None]) -> None:
        try:
            while open_runs := self._wait(name):
                self._try(name, act, open_runs)
        finally:
            connection.close()

    def _wait(self, name: str) -> list[OpenRun]:
        """Give what is open after a while; nothing: the thread is to end."""
        with self._changed:
            self._changed.wait_for(lambda: not self._open, timeout=POLL)
            if not self._open:
                del self._threads[name]
            return list(self._open)

    def _try(
        self, name: str, act: Callable[[Sequence[OpenRun]], None], open_runs: Sequence[OpenRun]
    ) -> None:
        """An error is logged once per outage, and the next beat tries again."""
        try:
            act(open_runs)
            self._failing.discard(name)
        except Exception:
            if name not in self._failing:
                logger.exception("The %s of %s failed; trying again", name, self._worker)
            self._failing.add(name)
            connection.close()

    # --- renewing ---------------------------------------------------------------------------------

    def _beat(self, open_runs: Sequence[OpenRun]) -> None:
        is_due = boot_time() >= self._renew_at
        if is_due:
            self._renew(open_runs)
            self._renew_at = boot_time() + conf.LEASE_RENEWAL.total_seconds()
        self._look(open_runs if is_due else [run for run in open_runs if run.is_watched])

    def _renew(self, open_runs: Sequence[OpenRun]) -> None:
        # Before anything is asked: however long the answer takes, the lease is not older.
        began, now = boot_time(), clock.sample()
        ids = [run.run_id for run in open_runs]
        ours = runs.renew(worker=self._worker, run_ids=ids, now=now)
        # Held meanwhile: a run that has ended must not take the next one of its process with it.
        with self._changed:
            for run in self._open.intersection(open_runs):
                until = ours.get((run.run_id, run.attempt))
                if until is not None:
                    run.prolong(began + sure(until - now))
                elif not run.is_over:
                    logger.warning("Run %s is no longer ours: it has ended elsewhere", run.holder)
                    run.stop(Stop.SUPERSEDED, at_once=True)
            self._changed.notify_all()
        for run in open_runs:
            locks.acquire(run.keys, run.holder, lease=conf.lease, seats=run.seats)
            if run.turn is not None:
                run.turn.keep()

    def _look(self, open_runs: Sequence[OpenRun]) -> None:
        """Ask for all of them at once who is to stop."""
        if not open_runs:
            return
        asked = runs.stop_requests([run.run_id for run in open_runs])
        with self._changed:
            for run in self._open.intersection(open_runs):
                if run.run_id in asked and not run.is_over:
                    run.stop(Stop.ASKED, at_once=asked[run.run_id])

    # --- watching ---------------------------------------------------------------------------------

    def _watch(self, open_runs: Sequence[OpenRun]) -> None:
        if any(run.is_cut_off() for run in open_runs):
            self._cut_off()
        if boot_time() - self._renew_at > POLL and self._is_everybodys_outage():
            self._go_on_without()
        with self._changed:
            for run in self._open:
                if run.is_service and stopping.has_begun():
                    run.stop(Stop.WORKER_STOPS, at_once=False)
            if any(run.live_output for run in self._open):
                self._ensure("live output", self._show)

    def _cut_off(self) -> None:
        """End what others may begin by now."""
        with self._changed:
            self._changed.wait_for(
                lambda: not any(run.is_cut_off() for run in self._open), timeout=LAST_CHANCE
            )
            for run in self._open:
                if run.is_cut_off():
                    logger.warning("The lease of run %s was not renewed in time", run.holder)
                    run.stop(Stop.CUT_OFF, at_once=True)

    def _is_everybodys_outage(self) -> bool:
        """Whether nobody has the database, as far as Redis knows, and has not for a while."""
        asked = boot_time()
        if redis.is_a_beat_well() is not False:
            self._silent_since = None
            return False
        if self._silent_since is None or self._silent_since < self._renew_at:
            self._silent_since = asked
        return asked - self._silent_since >= SILENCE

    def _go_on_without(self) -> None:
        until = boot_time() + sure(conf.lease)
        with self._changed:
            for run in self._open:
                if not run.is_cut_off():
                    run.prolong(until)

    # --- recording --------------------------------------------------------------------------------

    def _record(self, _: Sequence[OpenRun]) -> None:
        """Have all messages that are executed here record what has ended, though one may fail."""
        with self._changed:
            records = list(self._records)
        with ExitStack() as all_of_them:
            for record in records:
                all_of_them.callback(record)

    # --- showing ----------------------------------------------------------------------------------

    def _show(self, open_runs: Sequence[OpenRun]) -> None:
        for run in open_runs:
            live = run.live_output
            if live is None or run.is_over or not live.is_due():
                continue
            text, total = live.take()
            if runs.show_output(
                run.run_id, run.attempt, token=run.token, text=text, total=total, now=clock.now()
            ):
                live.stored(total)


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
