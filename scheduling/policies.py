"""Decisions about fires: which are started, which are skipped and why. Pure; `now` is given."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from datetime import datetime, timedelta
from enum import StrEnum
from itertools import islice
from typing import Literal

from scheduling.schedules import Every, Schedule
from scheduling.zones import require_aware

GRACE = timedelta(seconds=15)
MAX_FIRES = 10_000

Cause = Literal["schedule", "catch_up"]
SkipReason = Literal["late", "coalesced", "window"]

_TICK = timedelta(microseconds=1)  # the finest step of a datetime: turns [a, b) into (a, b]


class CatchUp(StrEnum):
    """What becomes of fires that were missed while nothing ran."""

    NONE = "none"
    LATEST = "latest"
    ALL = "all"


class Overlap(StrEnum):
    """What becomes of a fire while the target's previous run is open."""

    SKIP = "skip"
    WAIT = "wait"
    QUEUE = "queue"
    CANCEL = "cancel"
    TERMINATE = "terminate"
    ALLOW = "allow"


@dataclass(frozen=True, slots=True, kw_only=True)
class Fire:
    """A fire time that gets a run."""

    at: datetime
    cause: Cause


@dataclass(frozen=True, slots=True, kw_only=True)
class Skip:
    """A stretch of neighbouring fire times that get none; `first` and `last` are among them."""

    first: datetime
    last: datetime
    fires: int
    reason: SkipReason


@dataclass(frozen=True, slots=True, kw_only=True)
class Plan:
    """Every fire time in [old cursor, cursor), each exactly once: started or skipped."""

    start: tuple[Fire, ...] = ()
    skips: tuple[Skip, ...] = ()
    cursor: datetime | None
    """The first fire time not decided here; None when the schedule has ended."""
    truncated: bool = False
    """More fires are due already: plan again from the cursor."""


def plan_fires(
    schedule: Schedule,
    *,
    cursor: datetime,
    now: datetime,
    catch_up: CatchUp,
    window: timedelta,
    grace: timedelta = GRACE,
    budget: int | None = None,
    max_fires: int = MAX_FIRES,
    name: str = "",
) -> Plan:
    """Decide about the fires from the cursor, itself included, up to now.

    1. A fire not older than `grace` is simply due and is started.
    2. Older ones are missed: `none` skips them as late. `latest` starts the newest, if it lies
       within the window and nothing is due. `all` starts those within the window, oldest first,
       at most `budget`; what is due then waits until they are through.
    3. The rest is skipped: as `window` where older than the window, otherwise as `coalesced`.

    At most `max_fires` fires are looked at one by one (skipped stretches of an interval are
    counted by arithmetic); then the plan is truncated.
    """
    cursor, now = require_aware(cursor), require_aware(now)
    if cursor > now:
        return Plan(cursor=cursor)
    ledger = _Ledger(schedule=schedule, name=name, room=max_fires)
    if schedule.after_end(cursor) is not None and not ledger.has_fire(cursor, cursor + _TICK):
        # A pause counted from a run's end is over. That is due however late, and never missed.
        ledger.start.append(Fire(at=cursor, cause="schedule"))
    due_from = now - min(grace, now - cursor)
    kept_from = now - min(max(window, grace), now - cursor)
    if catch_up == CatchUp.NONE:
        ledger.skip(cursor, due_from, "late")
    else:
        ledger.skip(cursor, kept_from, "window")
        if catch_up == CatchUp.ALL:
            ledger.take(kept_from, due_from, "catch_up", limit=budget)
        else:
            is_due = ledger.has_fire(due_from, now + _TICK)
            ledger.skip(kept_from, due_from, "coalesced", start_last=not is_due)
    ledger.take(due_from, now + _TICK, "schedule")
    return Plan(
        start=tuple(ledger.start),
        skips=tuple(ledger.skips),
        cursor=ledger.rest or schedule.next(now, name=name),
        truncated=ledger.rest is not None,
    )


def plan(
    schedule: Schedule,
    *,
    after: datetime,
    until: datetime,
    catch_up: CatchUp,
    window: timedelta,
    name: str = "",
) -> Plan:
    """Decide about the fires in (after, until] as if it were `until` now."""
    cursor = schedule.next(after, name=name)
    if cursor is None:
        return Plan(cursor=None)
    return plan_fires(
        schedule, cursor=cursor, now=until, catch_up=catch_up, window=window, name=name
    )


def catch_up_window(
    schedule: Schedule, at: datetime, *, configured: timedelta | None, name: str = ""
) -> timedelta:
    """How old a missed fire may be and still be run: one period, from an hour to a week."""
    if configured is not None:
        return configured
    period = schedule.period(at, name=name)
    longest = timedelta(days=7)
    return longest if period is None else min(max(period, timedelta(hours=1)), longest)


def start_within(
    schedule: Schedule, at: datetime, *, configured: timedelta | None, cause: str, name: str = ""
) -> timedelta | None:
    """How long a claimed run may wait for its start; None is for ever.

    Without a configured limit, only runs that came by schedule have one: a period, at least 60 s.
    """
    if configured is not None or cause != "schedule":
        return configured
    period = schedule.period(at, name=name)
    return None if period is None else max(period, timedelta(seconds=60))


def late_after(
    schedule: Schedule, at: datetime, name: str = "", *, floor: timedelta = timedelta(minutes=5)
) -> timedelta:
    """How late a fire may be before somebody is told: a tenth of the period, at least `floor`."""
    return max(floor, (schedule.period(at, name=name) or timedelta()) / 10)


def retry_delay(attempt_failed: int, *, base: timedelta, cap: timedelta) -> timedelta:
    """The wait after the n-th failed attempt, n from 1: doubles from `base` and stays at `cap`."""
    delay = min(base, cap)
    for _ in range(attempt_failed - 1):
        if not timedelta() < delay < cap:
            break
        delay = min(delay * 2, cap)
    return delay


def on_overlap(
    policy: Overlap, *, open_runs: int, waiting: int, queue_limit: int
) -> Literal["start", "wait", "skip", "cap", "replace"]:
    """Decide about a fire while `open_runs` of its target are open, `waiting` of them not started.

    `wait` keeps the first that waits; `queue` keeps all, up to `queue_limit`, and caps the rest.
    `replace`: the open runs are ended or skipped in favour of this fire, which waits for that.
    """
    if policy is Overlap.ALLOW or open_runs == 0:
        return "start"
    if policy in (Overlap.CANCEL, Overlap.TERMINATE):
        return "replace"
    if policy is Overlap.QUEUE:
        return "wait" if waiting < queue_limit else "cap"
    return "wait" if policy is Overlap.WAIT and not waiting else "skip"


class _Ledger:
    """A plan in the making. Stretches are half open, [since, until), and given in order."""

    def __init__(self, *, schedule: Schedule, name: str, room: int) -> None:
        self.start: list[Fire] = []
        self.skips: list[Skip] = []
        self.rest: datetime | None = None
        """The first fire that is left to the next plan; once set, nothing more is decided."""
        self._schedule = schedule
        self._name = name
        self._room = room

    def has_fire(self, since: datetime, until: datetime) -> bool:
        return next(self._fires(since, until), None) is not None

    def take(
        self, since: datetime, until: datetime, cause: Cause, *, limit: int | None = None
    ) -> None:
        """Start the fires of a stretch, oldest first, as far as limit and room go."""
        if self.rest is not None:
            return
        fires = self._fires(since, until)
        room = self._room if limit is None else min(limit, self._room)
        taken = [Fire(at=at, cause=cause) for at in islice(fires, room)]
        self.start += taken
        self._room -= len(taken)
        self.rest = next(fires, None)

    def skip(
        self, since: datetime, until: datetime, reason: SkipReason, *, start_last: bool = False
    ) -> None:
        """Skip the fires of a stretch; with `start_last`, its last one is caught up instead."""
        if self.rest is not None:
            return
        first, before_last, last, fires = self._measure(since, until)
        if start_last and self.rest is None and last is not None:
            self.start.append(Fire(at=last, cause="catch_up"))
            last, fires = before_last, fires - 1
        if first is not None and last is not None and fires:
            self.skips.append(Skip(first=first, last=last, fires=fires, reason=reason))

    def _measure(
        self, since: datetime, until: datetime
    ) -> tuple[datetime | None, datetime | None, datetime | None, int]:
        """First, last but one and last fire of a stretch, and how many there are."""
        if isinstance(self._schedule, Every):
            interval = self._schedule.interval
            first = next(self._fires(since, until), None)
            if first is None:
                return None, None, None, 0
            fires = (until - _TICK - first) // interval + 1
            last = first + (fires - 1) * interval
            return first, last - interval, last, fires
        begin: datetime | None = None
        before_last: datetime | None = None
        newest: datetime | None = None
        fires = 0
        for at in self._fires(since, until):
            if fires == self._room:
                self.rest = at
                break
            begin, before_last, newest = begin or at, newest, at
            fires += 1
        self._room -= fires
        return begin, before_last, newest, fires

    def _fires(self, since: datetime, until: datetime) -> Iterator[datetime]:
        return self._schedule.between(since - _TICK, until - _TICK, name=self._name)
