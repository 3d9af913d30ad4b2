"""Locks that are held: showing them, breaking one, and holding one outside of a job's own.

Team code may hold a lock inside a run, on top of those that its job names, or where there is no
run at all (a view, a shell). The second has no lease of a run: it has one of its own, and says
again and again that it is alive.
"""

from __future__ import annotations

import logging
from collections import defaultdict
from dataclasses import dataclass
from datetime import datetime
from uuid import UUID

from django.db.models import QuerySet

from scheduling import redis
from scheduling.conf import conf
from scheduling.db import short_transaction
from scheduling.errors import RunIsOver, UnknownLock
from scheduling.models import Run, Seat, State, Ticket
from scheduling.runs import ends, seats, tickets

logger = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True, kw_only=True)
class Waiter:
    """Somebody in the line of a lock: a run, or code outside of runs."""

    run: Run | None
    holder: str
    since: datetime


@dataclass(frozen=True, slots=True, kw_only=True)
class HeldLock:
    """One seat of a lock that is held, and who waits for the lock, the first first.

    `held_until`: its run has ended, and it is held on until the next fire.
    """

    key: str
    number: int
    run: Run | None
    holder: str
    host: str
    since: datetime | None
    held_until: datetime | None
    token: int
    waiters: tuple[Waiter, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Owner:
    """Who asks for a lock: the attempt of a run, or code outside of runs by a name of its own."""

    run_id: UUID | None = None
    attempt: int = 0
    name: str = ""


def locks_held(now: datetime, *, key: str | None = None) -> list[HeldLock]:
    """All seats that are held, by key and number; of one lock, if `key` names it."""
    rows = Seat.objects.select_related("run").defer("run__output", "run__error")
    rows = rows.filter(run__isnull=False) | rows.exclude(holder="")
    if key is not None:
        rows = rows.filter(key=key)
    found = seats.held_among(rows.order_by("key", "number"), now=now)
    lines: dict[str, list[Waiter]] = defaultdict(list)
    waiting = tickets.in_line(now).filter(key__in={seat.key for seat in found})
    for ticket in waiting.select_related("run").defer("run__output", "run__error"):
        lines[ticket.key].append(Waiter(run=ticket.run, holder=ticket.holder, since=ticket.since))
    return [
        HeldLock(
            key=seat.key,
            number=seat.number,
            run=seat.run,
            holder=seat.holder,
            host=host_of(seat),
            since=seat.taken_at,
            held_until=seat.held_until,
            token=seat.token,
            waiters=tuple(lines[seat.key]),
        )
        for seat in found
    ]


def host_of(seat: Seat) -> str:
    """The machine on which a seat's holder is: of `celery@host/123` and `host/123/...`, `host`."""
    name = seat.holder or (seat.run.worker if seat.run is not None else "")
    return name.partition("/")[0].rpartition("@")[2]


def break_lock(key: str, *, by: str, reason: str, now: datetime) -> int:
    """Take a lock from all who hold it; give how many. Raises UnknownLock if nobody does.

    A run that holds it fails as terminated: what it writes from now on with its token is an older
    token's, its result is refused, and its worker ends it as soon as it looks.
    """
    found = locks_held(now, key=key)
    if not found:
        raise UnknownLock(f"Nobody holds the lock {key!r}; `jobs locks` shows who holds what")
    why = f"The lock {key!r} was broken by {by}: {reason}"
    broken = 0
    for lock in found:
        if lock.run is not None and lock.held_until is None and not lock.holder:
            broken += ends.break_off(lock.run.pk, lock.run.attempt, why=why, now=now)
        else:
            broken += _take_away(lock, now=now)
    with short_transaction():
        # Also where the run goes on to be held until its next fire.
        seats.lock_seats([key])
        Seat.objects.filter(key=key, held_until__gt=now).update(run=None, held_until=None)
        tickets.wake([key], now=now)
        redis.ring_on_commit()
    logger.warning("%s (%s holders)", why, broken, extra={"event": "lock.broken", "key": key})
    return broken


def _take_away(lock: HeldLock, *, now: datetime) -> int:
    with short_transaction():
        seats.lock_seats([lock.key])
        same = Seat.objects.filter(key=lock.key, number=lock.number, token=lock.token)
        return same.update(run=None, holder="", lease_until=None, held_until=None)


def sit_down(key: str, owner: Owner, *, since: datetime, now: datetime) -> int | None:
    """Take a seat of `key` for `owner`, who waits since `since`; give its token.

    None: it is not to be had yet; then the owner has a place in line, for the length of a lease.
    Raises RunIsOver.
    """
    with short_transaction():
        run = _run_of(owner)
        busy = tickets.name_for_the_first_time([key], run.target if run is not None else None)
        if busy is None:
            rows = seats.lock_seats([key])
            busy = tickets.busy_key([key], now=now, run=run, since=since, holder=owner.name)
        if busy is not None:
            _stand_in_line(key, owner, since=since, now=now)
            return None
        (seat,) = seats.choose(rows, now=now)
        token = seat.token + 1
        if run is not None:
            seats.take([seat], run, token=max(token, run.token or 0), now=now)
        else:
            Seat.objects.filter(pk=seat.pk).update(
                run=None,
                attempt=0,
                token=token,
                taken_at=now,
                holder=owner.name,
                lease_until=now + conf.lease,
                held_until=None,
            )
        _tickets_of(key, owner).delete()
    return seat.token if run is not None else token


def seat_of(key: str, owner: Owner) -> int | None:
    """The token of the seat that the run of `owner` holds already, if there is one."""
    mine = Seat.objects.filter(key=key, run=owner.run_id, attempt=owner.attempt)
    running = mine.filter(run__state=State.RUNNING, run__attempt=owner.attempt)
    return running.values_list("token", flat=True).first()


def _run_of(owner: Owner) -> Run | None:
    """The run that asks. Raises RunIsOver: a frozen attempt that wakes up gets no newer token."""
    if owner.run_id is None:
        return None
    accepted = Run.objects.running().filter(pk=owner.run_id, attempt=owner.attempt)
    # Locked, before the seats as everywhere, so that it does not end before it has the seat.
    run = accepted.select_for_update(no_key=True).defer("output", "error").first()
    if run is None:
        raise RunIsOver(
            f"Attempt {owner.attempt} of run {owner.run_id} is no longer running; end it",
            run=owner.run_id,
        )
    return run


def _tickets_of(key: str, owner: Owner) -> QuerySet[Ticket]:
    mine = Ticket.objects.filter(key=key)
    if owner.run_id is not None:
        return mine.filter(run=owner.run_id)
    return mine.filter(run=None, holder=owner.name)


def _stand_in_line(key: str, owner: Owner, *, since: datetime, now: datetime) -> None:
    until = now + conf.lease
    if not _tickets_of(key, owner).update(lease_until=until):
        # Of those who died in this line nobody else takes the ticket away.
        Ticket.objects.filter(key=key, run=None, lease_until__lte=now).delete()
        Ticket.objects.create(
            key=key, run_id=owner.run_id, holder=owner.name, since=since, lease_until=until
        )


def step_back(key: str, owner: Owner, *, now: datetime) -> None:
    """Leave the line of a lock that was waited for in vain."""
    with short_transaction():
        _tickets_of(key, owner).delete()
        tickets.wake([key], now=now)
        redis.ring_on_commit()


def stand_up(key: str, owner: Owner, *, token: int, now: datetime) -> bool:
    """Give a seat back. False: it was no longer the owner's."""
    with short_transaction():
        seats.lock_seats([key])
        mine = Seat.objects.filter(key=key, token=token)
        mine = mine.filter(run=owner.run_id, attempt=owner.attempt, holder=owner.name)
        # One that is held until the next fire is no longer the block's.
        if not mine.filter(held_until=None).update(run=None, holder="", lease_until=None):
            return False
        tickets.wake([key], now=now)
        redis.ring_on_commit()
    return True


def still_sits(key: str, owner: Owner, *, token: int, now: datetime) -> bool:
    """Renew the lease of an outsider's seat. False: it has lapsed or was taken away."""
    mine = Seat.objects.filter(key=key, token=token, lease_until__gte=now)
    return bool(mine.filter(run=None, holder=owner.name).update(lease_until=now + conf.lease))
