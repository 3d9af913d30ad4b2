"""Seats of resources: the fence in the database. Always taken in the order of their keys."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from hashlib import sha256

from django.db.models import F

from scheduling.db import update_free
from scheduling.models import Job, Run, Seat, State, Target

LONGEST_KEY = 300


def seat_keys(job: Job, target: Target) -> list[str]:
    """The keys of the resources that a run of this target holds, sorted, without repeats."""
    keys = {fitting(key) for key in job.locks}
    if job.lock_resource and target.resource_id is not None and target.resource is not None:
        keys.add(target.resource.key)
    return sorted(keys)


def fitting(key: str) -> str:
    """The key or, of one too long for the columns (it was written by hand), what stands for it."""
    if len(key) <= LONGEST_KEY:
        return key
    digest = sha256(key.encode()).hexdigest()
    return f"{key[: LONGEST_KEY - len(digest)]}{digest}"


def lock_seats(keys: Sequence[str]) -> list[Seat]:
    """Lock the rows of these seats until the transaction ends, making those that are missing."""
    known = set(Seat.objects.filter(key__in=keys).values_list("key", flat=True))
    Seat.objects.bulk_create(
        [Seat(key=key) for key in keys if key not in known], ignore_conflicts=True
    )
    # One order for everybody, so that two runs with the same keys cannot wait for each other.
    held = Seat.objects.filter(key__in=keys).order_by("key", "number")
    return list(held.select_for_update(no_key=True))


def busy_key(seats: Sequence[Seat], run: Run) -> str | None:
    """Give the first key that `run` must wait for: it is held, or somebody was earlier in line."""
    held_by = [seat.run_id for seat in seats if seat.run_id]
    running = Run.objects.filter(pk__in=held_by, state=State.RUNNING)
    holders = dict(running.values_list("pk", "attempt"))
    for seat in seats:
        if seat.run_id is not None and holders.get(seat.run_id) == seat.attempt:
            return seat.key
    earlier = (
        Run.objects.queued().filter(waiting_for__in=[seat.key for seat in seats]).exclude(pk=run.pk)
    )
    if run.waiting_since is not None:
        earlier = earlier.filter(waiting_since__lt=run.waiting_since)
    return earlier.order_by("waiting_since").values_list("waiting_for", flat=True).first()


def take(seats: Sequence[Seat], run: Run, *, token: int, now: datetime) -> None:
    for seat in seats:
        seat.run, seat.attempt, seat.token, seat.taken_at = run, run.attempt, token, now
    Seat.objects.bulk_update(seats, ("run", "attempt", "token", "taken_at"))


def release(run: Run, *, now: datetime) -> int:
    """Free the seats of `run` and wake the first waiter of each; give how many were woken."""
    keys = sorted(set(Seat.objects.filter(run=run).values_list("key", flat=True)))
    if not keys:
        return 0
    lock_seats(keys)
    Seat.objects.filter(run=run).update(run=None)
    return wake(keys, now=now)


def wake(keys: Sequence[str], *, now: datetime) -> int:
    """Let the first in line for each of these free seats be published.

    It keeps its ticket until it has started, so that no newcomer passes it meanwhile.
    """
    first = [
        pk
        for key in keys
        if (
            pk := Run.objects.queued()
            .filter(waiting_for=key)
            .order_by("waiting_since", "created_at")
            .values_list("pk", flat=True)
            .first()
        )
    ]
    return update_free(
        # Not who is being published already: its stamp would miss it.
        Run.objects.filter(pk__in=first, state=State.QUEUED, publish_at=None, published_at=None),
        publish_at=now,
    )


def free_keys_with_waiters() -> list[str]:
    """Keys that somebody sleeps for although nobody holds them: a hand-over was lost."""
    waiting = (
        Run.objects.queued()
        .filter(publish_at=None, published_at=None)
        .exclude(waiting_for="")
        .order_by()
        .values_list("waiting_for", flat=True)
        .distinct()
    )
    keys = list(waiting[:1000])
    held = set(
        Seat.objects.filter(
            key__in=keys, run__state=State.RUNNING, attempt=F("run__attempt")
        ).values_list("key", flat=True)
    )
    return [key for key in keys if key not in held]
