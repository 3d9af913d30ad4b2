"""The lines of those who wait for locks: first come, first served.

Who finds one of its locks taken gets a ticket for each of them, and sleeps in the database. A
ticket counts as a seat to everybody who came later, so that a newcomer never passes; and the
earliest ticket of all waits for nobody but holders, so that no two runs wait for each other.
"""

from __future__ import annotations

import random
from collections import defaultdict
from collections.abc import Collection, Sequence
from datetime import datetime
from uuid import UUID

from django.db.models import F, Q, QuerySet, Window
from django.db.models.functions import RowNumber

from scheduling.conf import conf
from scheduling.db import skip_locked, update_free
from scheduling.models import Resource, Run, Seat, State, Target, Ticket
from scheduling.runs import seats

# Lines that one tick looks at.
MOST_LINES = 1000
# Whoever asks: a tie is broken alike in all lines, and runs go before outsiders.
ORDER = (F("since").asc(), F("run_id").asc(nulls_last=True), F("holder").asc())


def in_line(now: datetime) -> QuerySet[Ticket]:
    """All tickets, the first first; without those of outsiders that have fallen silent."""
    valid = Ticket.objects.filter(Q(lease_until=None) | Q(lease_until__gt=now))
    return valid.order_by(*ORDER)


def busy_key(
    keys: Sequence[str],
    *,
    now: datetime,
    run: Run | None = None,
    since: datetime | None = None,
    holder: str = "",
) -> str | None:
    """Give the first of `keys` that is not to be had: held, or promised to who came earlier.

    Who asks is `run` or the outsider `holder`, in line `since`; None: not yet. The caller has
    locked the seats.
    """
    free = seats.free_of(keys, now=now)
    others = in_line(now)
    if run is not None:
        others = others.exclude(run=run)
    if holder:
        others = others.exclude(holder=holder)
    if since is not None:
        before = Q(run__isnull=False) | Q(holder__lt=holder)
        tie = Q(run_id__lt=run.pk) if run is not None else before
        others = others.filter(Q(since__lt=since) | Q(tie, since=since))
    for key in keys:
        # No more are counted than there is room for: a line may be long.
        line = others.filter(key=key).order_by()
        if free[key] <= 0 or free[key] <= line[: free[key]].count():
            return key
    return None


def name_for_the_first_time(keys: Sequence[str], own: Target | None) -> str | None:
    """Let those targets that `keys` name, but for `own`, take locks of their own from now on.

    A target takes its own lock only once somebody has named it; what runs of it then is given the
    seat here. Its row is locked meanwhile, so that no run of it begins. Gives a key whose target
    somebody else is moving on at this moment, which is soon over; waiting for it here, one's own
    target locked, is how two that name each other would wait for ever.
    """
    for key in keys:
        if not key.startswith(seats.OWN) or Seat.objects.filter(key=key).exists():
            continue
        others = Target.objects.filter(seats.named_targets([key]))
        if own is not None:
            others = others.exclude(pk=own.pk)
        locked = others.select_for_update(no_key=True, skip_locked=skip_locked(), of=("self",))
        free = list(locked.order_by("pk").values_list("pk", flat=True))
        if len(free) < others.count():
            return key
        running = Run.objects.running().filter(target__in=free, exclusive=True).first()
        if running is not None:
            seat = Seat(key=key, run=running, attempt=running.attempt, token=running.token or 0)
            seat.taken_at = running.started_at
            Seat.objects.bulk_create([seat], ignore_conflicts=True)
    return None


def queue(run: Run, keys: Collection[str], *, since: datetime) -> None:
    """Give `run` its tickets. Those that it has are kept; what it no longer wants is given back."""
    Ticket.objects.filter(run=run).exclude(key__in=keys).delete()
    Ticket.objects.bulk_create(
        [Ticket(run=run, key=key, since=since) for key in keys], ignore_conflicts=True
    )


def leave(run: Run) -> list[str]:
    """Take `run` out of its lines; give their keys."""
    mine = Ticket.objects.filter(run=run)
    keys = sorted(mine.values_list("key", flat=True))
    if keys:
        mine.delete()
    return keys


def wake(keys: Collection[str], *, now: datetime) -> int:
    """Let those be published whose turn it is now in these lines; give how many.

    They keep their tickets until they have started, so that no newcomer passes them meanwhile.
    Who waits for several locks is not woken before all of them are to be had.
    """
    if not keys or not Ticket.objects.filter(key__in=keys).exists():
        return 0
    first = _first_of(keys, now=now)
    asleep = Run.objects.filter(
        # Not who is being published already: its stamp would miss it.
        pk__in=set().union(*first.values()),
        state=State.QUEUED,
        waiting_on=None,
        publish_at=None,
        published_at=None,
    )
    wanted: dict[UUID, set[str]] = defaultdict(set)
    waiting = Ticket.objects.filter(run__in=list(asleep.values_list("pk", flat=True)))
    for run_id, key in waiting.order_by().values_list("run_id", "key"):
        if run_id is not None:
            wanted[run_id].add(key)
    if not wanted:
        return 0
    first |= _first_of(set().union(*wanted.values()) - set(keys), now=now)
    ready = [pk for pk, each in wanted.items() if all(pk in first[key] for key in each)]
    return update_free(asleep.filter(pk__in=ready), publish_at=now) if ready else 0


def _first_of(keys: Collection[str], *, now: datetime) -> dict[str, set[UUID]]:
    """key -> the runs for which it has a free seat, by their places in line."""
    first: dict[str, set[UUID]] = {key: set() for key in keys}
    free = {key: number for key, number in seats.free_of(keys, now=now).items() if number > 0}
    if not free:
        return first
    place = Window(RowNumber(), partition_by=F("key"), order_by=ORDER)
    line = in_line(now).filter(key__in=free).order_by().annotate(place=place)
    for key, run_id, number in line.filter(place__lte=max(free.values())).values_list(
        "key", "run_id", "place"
    ):
        if run_id is not None and number <= free[key]:
            first[key].add(run_id)
    return first


def forgotten(now: datetime) -> list[str]:
    """Lines in which a seat may be free: the wake-up of the first may have been lost, or a time
    has come. The caller wakes those whose turn it is.
    """
    # Of a lock with several seats one may be free although another is held.
    several = Q(key__in=Resource.objects.filter(seats__gt=1).values("key")) | Q(
        key__in=[key for key, number in conf.SEATS.items() if number > 1]
    )
    held = Seat.objects.filter(seats.is_held(now)).exclude(several)
    lines = Ticket.objects.order_by().values_list("key", flat=True)
    keys = list(lines.difference(held.order_by().values_list("key", flat=True)))
    # None is left out for ever.
    return random.sample(keys, MOST_LINES) if len(keys) > MOST_LINES else keys


def stand_in_line_anew(now: datetime) -> int:
    """Let those be published that wait for a lock and have no ticket, so that nobody would ever
    wake them: a worker of the release before put them to sleep. They have kept their places.
    """
    asleep = Run.objects.queued().filter(waiting_on=None, publish_at=None, published_at=None)
    waiting = asleep.exclude(waiting_for="").order_by().values_list("pk", flat=True)
    in_lines = Ticket.objects.order_by().values_list("run_id", flat=True)
    lost = list(waiting.difference(in_lines)[:MOST_LINES])
    return update_free(asleep.filter(pk__in=lost), publish_at=now) if lost else 0
