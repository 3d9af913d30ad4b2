"""Seats of resources: the fence in the database. Rows are always locked in the order of keys."""

from __future__ import annotations

from collections import Counter
from collections.abc import Collection, Iterable, Sequence
from datetime import datetime
from hashlib import sha256

from django.db.models import F, Q

from scheduling.conf import conf
from scheduling.declared_values import LONGEST_KEY
from scheduling.models import Job, Resource, Run, Seat, State, Target

# Of one lock. Each is a row, which everybody locks who wants one of them.
MOST_SEATS = 1000
# The lock that all runs share under JOBS_SERIAL; without it, jobs may name it.
SERIAL = "serial"
# Before the name of a target: the lock that it has of itself
OWN = "job:"


def seat_keys(job: Job, target: Target) -> list[str]:
    """The keys of the resources that a run of this target holds, sorted, without repeats."""
    keys = {fitting(key) for key in job.locks}
    if job.lock_resource and target.resource_id is not None and target.resource is not None:
        keys.add(target.resource.key)
    # A service would keep all others from ever running.
    if conf.SERIAL and target.schedule_text != "always":
        keys.add(SERIAL)
    return sorted(keys)


def fitting(key: str) -> str:
    """The key or, of one too long for the columns (it was written by hand), what stands for it."""
    if len(key) <= LONGEST_KEY:
        return key
    digest = sha256(key.encode()).hexdigest()
    return f"{key[: LONGEST_KEY - len(digest)]}{digest}"


def capacities(keys: Collection[str]) -> dict[str, int]:
    """key -> how many may hold it at once."""
    named = Resource.objects.filter(key__in=keys, seats__isnull=False)
    known = dict(named.values_list("key", "seats"))
    return {key: min(max(1, known.get(key) or conf.SEATS.get(key, 1)), MOST_SEATS) for key in keys}


def own_key(target: Target) -> str:
    """The lock that each target has of itself. Others exclude its runs by naming it."""
    return fitting(f"{OWN}{target.name}")


def lock_seats(keys: Sequence[str], *, own: str = "") -> list[Seat]:
    """Lock the rows of these seats until the transaction ends, making those that are missing.

    Those of `own`, too, if there are any: they are made when another job names it first.
    """
    wanted = [*keys, own] if own else list(keys)
    if not wanted:
        return []
    capacity = capacities(keys)
    known = set(Seat.objects.filter(key__in=keys).values_list("key", "number"))
    missing = [
        Seat(key=key, number=number)
        for key in keys
        for number in range(capacity[key])
        if (key, number) not in known
    ]
    if missing:
        Seat.objects.bulk_create(missing, ignore_conflicts=True)
    # One order for everybody, so that two runs with the same keys cannot wait for each other.
    rows = Seat.objects.filter(key__in=wanted).order_by("key", "number")
    return list(rows.select_for_update(no_key=True))


def is_held(now: datetime) -> Q:
    """Which seats somebody holds; as `Seat.is_held` says of one."""
    by_run = Q(holder="", run__state=State.RUNNING, run__attempt=F("attempt"))
    return Q(held_until__gt=now) | ~Q(holder="") & Q(lease_until__gt=now) | by_run


def held_among(seats: Iterable[Seat], *, now: datetime) -> list[Seat]:
    """Those of the seats that somebody holds."""
    seats = list(seats)
    holders = [seat.run_id for seat in seats if seat.run_id]
    running = Run.objects.filter(pk__in=holders, state=State.RUNNING)
    attempts = dict(running.values_list("pk", "attempt"))
    return [
        seat
        for seat in seats
        if seat.is_held(now, running_attempt=attempts.get(seat.run_id) if seat.run_id else None)
    ]


def free_of(keys: Collection[str], *, now: datetime) -> dict[str, int]:
    """key -> how many of its seats nobody holds; more may be held than there are by now."""
    held = Counter(seat.key for seat in held_among(Seat.objects.filter(key__in=keys), now=now))
    return {key: number - held[key] for key, number in capacities(keys).items()}


def choose(seats: Sequence[Seat], *, now: datetime) -> list[Seat]:
    """Of locked seats, give a free one of each key. There is one: the line has been asked."""
    held = {seat.pk for seat in held_among(seats, now=now)}
    free: dict[str, Seat] = {}
    for seat in seats:
        if seat.pk not in held:
            free.setdefault(seat.key, seat)
    return list(free.values())


def take(seats: Sequence[Seat], run: Run, *, token: int, now: datetime) -> None:
    for seat in seats:
        seat.run, seat.attempt, seat.token, seat.taken_at = run, run.attempt, token, now
        seat.holder, seat.lease_until, seat.held_until = "", None, None
    Seat.objects.bulk_update(
        seats, ("run", "attempt", "token", "taken_at", "holder", "lease_until", "held_until")
    )


def release(run: Run, *, now: datetime, until: datetime | None = None) -> list[str]:
    """Give up the seats of `run`, or hold them on `until` then; give their keys.

    A seat that is held on keeps its run, so that one can see whose distance it is.
    """
    keys = sorted(set(Seat.objects.filter(run=run).values_list("key", flat=True)))
    if not keys:
        return []
    lock_seats(keys)
    mine = Seat.objects.filter(run=run)
    if until is not None and until > now:
        mine.update(held_until=until)
        return []
    mine.update(run=None, held_until=None)
    return keys


def keep_distance(targets: Collection[Target], *, now: datetime) -> None:
    """Let locks that are held until the next fire of one of these targets, which are locked, follow
    its cursor, which has moved; without one they are free.
    """
    fires = {
        target.pk: (target.next_fire_at if target.job.locks_until_next_fire else None) or now
        for target in targets
    }
    # Of a run that has ended: one that runs holds no seat until a time.
    held = Seat.objects.filter(run__target__in=fires, held_until__gt=now).select_related("run")
    held = held.defer("run__output", "run__error").order_by("key", "number")
    rows = list(held.select_for_update(no_key=True, of=("self",)))
    for seat in rows:
        if seat.run is not None and seat.run.target_id is not None:
            seat.held_until = fires[seat.run.target_id]
    Seat.objects.bulk_update(rows, ("held_until",))


def named_targets(keys: Iterable[str]) -> Q:
    """Which targets the keys, all of the form job:NAME or job:NAME/KEY, mean."""
    found = Q(pk__in=[])
    for key in keys:
        name = key.removeprefix(OWN)
        found |= Q(job__name=name, key="")
        # Either part may have slashes of its own.
        for place, letter in enumerate(name):
            if letter == "/":
                found |= Q(job__name=name[:place], key=name[place + 1 :])
    return found
