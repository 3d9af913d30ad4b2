"""What a worker's main process does on threads beside Celery's work.

It has a row among the processes: written while it lives, deleted when it stops cleanly. And it
does what must be done although no beat is alive: it looks for late targets, delivers notifications
that are left lying, and sends pings; each on a thread of its own, so that a mail server that does
not answer makes no worker look dead.
"""

from __future__ import annotations

import logging
import os
import socket
import threading
from datetime import UTC, datetime
from typing import Any

from celery import signals
from django.db import connection

from scheduling import clock, lateness
from scheduling.conf import conf
from scheduling.models import Process, ProcessKind
from workers import notifications, pings
from workers.loop import Loop

logger = logging.getLogger(__name__)


class Presence:
    """Says every few seconds that the worker `name` is alive, on a thread of its main process."""

    def __init__(self, name: str, detail: dict[str, Any]) -> None:
        self.name = name
        self._detail = detail
        self._started_at: datetime | None = None
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
            self._try(self.write)
            if self._stopping.wait(conf.LEASE_RENEWAL.total_seconds()):
                break
        self._try(self.delete)

    def write(self) -> None:
        skew = (datetime.now(UTC) - clock.read_database_time()).total_seconds()
        seen_at = clock.sample()
        self._started_at = self._started_at or seen_at
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

    def delete(self) -> None:
        Process.objects.filter(name=self.name, pid=os.getpid()).delete()

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
        "pool": sender.pool.__class__.__module__.rpartition(".")[2],
    }
    _present.extend(
        (
            Presence(sender.hostname, detail),
            Loop("Looking for late targets", look_for_late, every=lambda: conf.LATE_EVERY),
            Loop("Delivering mails", notifications.deliver_left, every=lambda: conf.LATE_EVERY),
            Loop("Sending pings", pings.deliver, every=lambda: pings.EVERY),
        )
    )
    for each in _present:
        each.start()


def look_for_late() -> None:
    lateness.evaluate(clock.sample())


def end(**_: Any) -> None:
    while _present:
        _present.pop().stop()
