"""Politeness: how much of a job presses on one host, or another key, at once and per second.

The limits are kept in Redis, by its clock, for all workers together. Who may not begin yet goes
back to the database until its turn: no worker waits, and no message. Each is told a time of its
own, so that it comes back about once. Those who hold a place have a lease that the heartbeat
extends.

A courtesy, no fence: if Redis has forgotten, limits count from anew; while it does not answer, runs
begin. What must never happen twice at once is what locks are for.
"""

from __future__ import annotations

import ipaddress
import logging
import math
import threading
import time
from datetime import timedelta
from urllib.parse import urlsplit
from uuid import UUID

from django.db import Error

from scheduling import Polite, clock, runs
from scheduling.conf import conf
from scheduling.errors import InvalidDeclaration
from scheduling.models import Run, Target
from workers import locks

logger = logging.getLogger(__name__)

PREFIX = "jobs:polite:"
# Who comes later than that after its time has lost its place in the line.
PATIENCE = timedelta(seconds=10)
# Before a run asks again: a holder's end is only an estimate, and those ahead may be cancelled.
LONGEST_FOR_PLACE = timedelta(minutes=5)
LONGEST_FOR_START = timedelta(hours=1)
# How long runs typically go on is forgotten after that.
REMEMBERED = timedelta(days=1)
# How long a run that came too late still has its old place when it does come.
TICKETS_KEPT = timedelta(hours=1)
# The lane of runs without one, after all others; those of such high numbers are one.
NORMAL_LANE = 1000
# How often, at a run's end, the line is asked again for somebody who still waits.
TRIES = 20


class Turn:
    """The turn of one attempt of a run whose job is polite."""

    def __init__(self, run: Run, polite: Polite, key: str) -> None:
        self.run_id = run.pk
        self.attempt = run.attempt
        self.polite = polite
        self.key = key
        assert run.job is not None
        whose = f"group {polite.group}" if polite.group else f"job {run.job.name}"
        base = f"{PREFIX}{whose}:{key}"
        self._line, self._expected = f"{base}:line", f"{base}:expected"
        self._missed, self._holders = f"{base}:missed", f"{base}:holders"
        self._starts, self._hold = f"{base}:starts", f"{base}:hold"
        self._name = f"{run.pk}/{run.attempt}"
        self._lane = NORMAL_LANE if run.priority is None else min(run.priority, NORMAL_LANE - 1)
        self._guard = threading.Lock()
        self._since: float | None = None

    def begins(self) -> bool:
        """Take a place; False: the run has been postponed until its turn."""
        wait = self._take()
        if wait is None:
            self._since = time.monotonic()
            return True
        now = clock.sample()
        detail = f"{self.key or 'it'} takes {in_words(self.polite)}"
        runs.postpone(self.run_id, self.attempt, until=now + wait, detail=detail, now=now)
        return False

    def _take(self) -> timedelta | None:
        burst, window = self._starts_in_window()
        waits: int = locks.call(
            "polite_begin.lua",
            keys=[
                self._line,
                self._expected,
                self._missed,
                self._holders,
                self._starts,
                self._hold,
            ],
            args=[
                self._name,
                self._lane,
                locks.milliseconds(conf.lease),
                self.polite.at_once or 0,
                burst,
                window,
                locks.milliseconds(PATIENCE),
                locks.milliseconds(LONGEST_FOR_PLACE),
                locks.milliseconds(LONGEST_FOR_START),
                locks.milliseconds(TICKETS_KEPT),
            ],
            without=0,
        )
        return timedelta(milliseconds=waits) if waits else None

    def keep(self) -> None:
        """Extend the lease of the place; not once it has been given up."""
        with self._guard:
            if self._since is not None:
                locks.call(
                    "polite_keep.lua",
                    keys=[self._holders, self._hold],
                    args=[
                        self._name,
                        locks.milliseconds(conf.lease),
                        self._held(self._since),
                        locks.milliseconds(REMEMBERED),
                    ],
                    without=None,
                )

    def end(self) -> None:
        """Give up the place, if it has one."""
        with self._guard:
            since, self._since = self._since, None
            if since is not None:
                self._give_up(self._held(since))

    def undo(self) -> None:
        """Give up the place of a start that came to nothing: the run may come back at any time."""
        with self._guard:
            self._since = None
            self._give_up(-1)

    def _give_up(self, held: int) -> None:
        locks.call(
            "polite_end.lua",
            keys=[self._missed, self._holders, self._starts, self._hold],
            args=[
                self._name,
                self._lane,
                held,
                locks.milliseconds(TICKETS_KEPT),
                locks.milliseconds(REMEMBERED),
            ],
            without=None,
        )

    def call_next(self) -> None:
        """Let those come for whom there is room now; whoever is not called comes by himself."""
        if self.polite.at_once is None:
            return
        gone: list[str] = []
        for _ in range(TRIES):
            called: list[str] = locks.call(
                "polite_next.lua",
                keys=[self._line, self._expected, self._holders, self._starts],
                args=[self.polite.at_once, *self._starts_in_window(), *gone],
                without=[],
            )
            gone = [name for name in called if not _hurry(name)]
            if not gone:
                return

    def _starts_in_window(self) -> tuple[int, int]:
        """How many may start within how many milliseconds; (0, 0): any number."""
        rate = self.polite.per_second
        if rate is None:
            return 0, 0
        burst = max(1, math.floor(rate))
        return burst, math.ceil(1000 * burst / rate)

    @staticmethod
    def _held(since: float) -> int:
        return round(1000 * (time.monotonic() - since))


def turn_of(run: Run) -> Turn | None:
    """The turn that a run (with job, target and its resource loaded) has to wait for, if any."""
    if run.job is None or run.job.polite is None or run.target is None:
        return None
    try:
        polite = Polite.read(run.job.polite)
    except InvalidDeclaration as error:
        # Written past every form; sent away, its runs would come again and again.
        logger.error("Job %s is not polite: %s", run.job.name, error)
        return None
    return Turn(run, polite, key_of(polite, run.target))


def key_of(polite: Polite, target: Target) -> str:
    """What the limits of a target's runs are counted by; its own key, if it has nothing of that."""
    resource = target.resource
    match polite.by.partition(":"):
        case "host", _, _:
            return host_of(target.key) or target.key
        case "resource", _, _ if resource is not None:
            return resource.key
        case "label", _, label if resource is not None and label in resource.labels:
            return str(resource.labels[label])
        case _:
            return target.key


def host_of(text: str) -> str:
    """The host in an address, as DNS writes it; "" if there is none.

    An address is a URL, or `host`, `host:port`, `user@host` and the like, where the host is an IP
    address or has a dot in its name.
    """
    is_url = "://" in text
    try:
        if not is_url and text.count(":") > 1 and not text.startswith("["):
            return str(ipaddress.ip_address(text))  # 2001:db8::1
        host = urlsplit(text if is_url else f"//{text}").hostname or ""
        host = host.rstrip(".")
        if ":" in host:
            return str(ipaddress.ip_address(host))
        host = host.encode("idna").decode()
    except ValueError:
        return ""
    is_name = all(each.isalnum() or each in "-_." for each in host)
    return host.lower() if is_name and (is_url or "." in host) else ""


def in_words(polite: Polite) -> str:
    """Say what is allowed: "at most 2 runs at once and 0.5 starts per second"."""
    told = []
    if polite.at_once is not None:
        told.append(f"{polite.at_once} run{'s' * (polite.at_once != 1)} at once")
    if polite.per_second is not None:
        told.append(f"{polite.per_second:g} start{'s' * (polite.per_second != 1)} per second")
    return "at most " + " and ".join(told)


def _hurry(name: str) -> bool:
    """Have a run that waits for its turn published now; False: it does not wait any more."""
    run_id, _, attempt = name.partition("/")
    try:
        return runs.hurry(UUID(run_id), int(attempt), now=clock.now())
    except Error as error:
        logger.warning("Run %s is not told that its turn has come: %s", run_id, error)
        return True
