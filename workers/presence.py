"""What a worker's main process does on threads beside Celery's work.

It has a row among the processes: written while it lives, deleted when it stops cleanly. And it
does what must be done although no beat is alive: it looks for late targets, delivers notifications
that are left lying, sends pings, and watches over circuits; each on a thread of its own, so that a
mail server that does not answer makes no worker look dead.
"""

from __future__ import annotations

import atexit
import logging
import os
import socket
import threading
from datetime import UTC, datetime, timedelta
from typing import Any

from celery import signals
from django.db import connection

from scheduling import clock, lateness, pools, runs
from scheduling.conf import conf
from scheduling.models import Process, ProcessKind, Run
from workers import circuits, intake, lease, leftovers, notifications, pings, stopping
from workers.forks import forks
from workers.loop import Loop

logger = logging.getLogger(__name__)


class Presence:
    """Says every few seconds that the worker `name` is alive, on a thread of its main process."""

    def __init__(self, name: str, detail: dict[str, Any], *, default_queue: str = "") -> None:
        self.name = name
        self._default_queue = default_queue
        self._detail = detail
        self._since = clock.elapsed()
        self._started_at: datetime | None = None
        self._has_warned = False
        self._stopping = threading.Event()
        self._is_failing = False
        self._thread = threading.Thread(target=self._say, name="presence", daemon=True)

    def start(self) -> None:
        self._thread.start()

    def stop(self) -> None:
        self._stopping.set()
        self._thread.join(timeout=5)

    def _say(self) -> None:
        while True:
            with forks.none_meanwhile():
                self._try(self._report)
            if self._stopping.wait(conf.LEASE_RENEWAL.total_seconds()):
                break
        self._try(self.delete)

    def _report(self) -> None:
        self.write()
        if not self._has_warned:
            self.warn()
            self._has_warned = True

    def write(self) -> None:
        skew = (datetime.now(UTC) - clock.read_database_time()).total_seconds()
        seen_at = clock.sample()
        # What began before the first sign is this process's own all the same.
        age = timedelta(seconds=clock.elapsed() - self._since)
        self._started_at = self._started_at or seen_at - age
        row = {
            "seen_at": seen_at,
            "detail": {**self._detail, "clock_skew": round(skew, 3)},
            "kind": ProcessKind.WORKER,
            "host": socket.gethostname(),
            "pid": os.getpid(),
            "started_at": self._started_at,
        }
        if not Process.objects.filter(name=self.name).update(**row):
            Process.objects.create(name=self.name, **row)
        intake.answered()

    def warn(self) -> None:
        """Name the jobs that this worker refuses, as their limits would have no effect in it."""
        pool, queues = self._detail.get("pool", ""), self._detail.get("queues", ())
        refused = pools.jobs_with_vain_limits(pool, queues, self._default_queue)
        if refused:
            logger.warning(
                "The %s pool does not enforce all time limits: runs of these jobs are refused "
                "here, give them another queue: %s",
                pool,
                ", ".join(refused),
            )

    def record_lost(self) -> None:
        """Say of runs whose processes were ended with this worker that they are lost.

        After a warm shutdown there are none. Its row stays after another one, so that beats publish
        again what it had taken off the broker.
        """
        if self._started_at is None:
            return
        cut_short = Run.objects.running().filter(
            worker__startswith=f"{self.name}/", started_at__gte=self._started_at
        )
        own = lease.worker_name(self.name)  # threads are waited for
        for run in cut_short.exclude(worker=own).only("attempt"):
            runs.lose(
                run.pk, run.attempt, detail="Its worker was told to end at once", now=clock.now()
            )

    def delete(self) -> None:
        Process.objects.filter(name=self.name, pid=os.getpid()).delete()

    def leave(self, pid: int) -> None:
        if os.getpid() == pid:
            self._try(self.record_lost)

    def _try(self, act: Any) -> None:
        """An error is logged once per outage. The connection is closed each time, because the
        pool forks from this process.
        """
        try:
            act()
            self._is_failing = False
        except Exception:
            if not self._is_failing:
                logger.exception("Presence of worker %s not recorded; trying again", self.name)
            self._is_failing = True
        finally:
            connection.close()


_present: list[Presence | Loop] = []


def connect() -> None:
    signals.worker_ready.connect(begin)
    signals.worker_shutdown.connect(end)


def begin(sender: Any, **_: Any) -> None:
    detail = {
        "queues": sorted(sender.app.amqp.queues.consume_from),
        "concurrency": sender.controller.concurrency,
        "pool": pools.pool_name(type(sender.pool)),
    }
    presence = Presence(sender.hostname, detail, default_queue=sender.app.conf.task_default_queue)
    # The last that this process does: only after a warm shutdown Celery tells of the end.
    atexit.register(presence.leave, os.getpid())
    _present.extend(
        (
            presence,
            Loop("Looking for late targets", look_for_late, every=lambda: conf.LATE_EVERY),
            Loop("Delivering mails", notifications.deliver_left, every=lambda: conf.LATE_EVERY),
            Loop("Sending pings", pings.deliver, every=lambda: pings.EVERY),
            Loop("Sweeping leftovers", leftovers.sweep, every=lambda: leftovers.EVERY),
            Loop("Handing back", stopping.hand_back_received, every=lambda: stopping.EVERY),
            Loop("Watching circuits", circuits.watch, every=lambda: circuits.EVERY),
        )
    )
    for each in _present:
        each.start()


def look_for_late() -> None:
    lateness.evaluate(clock.sample())


def end(**_: Any) -> None:
    while _present:
        _present.pop().stop()
