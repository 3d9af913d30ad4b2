"""Taking a checkpoint: read how far everything has come, count it, store it."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import datetime

from django.db import connection, transaction
from django.db.models import F

from scheduling.errors import DatabaseIsOlder
from scheduling.models import Installation, Job, Parked, Run, Target
from scheduling.snapshots.checkpoint import MOST_WAITING, Checkpoint, Waiting
from scheduling.snapshots.stores import Store

CHUNK = 2000


def take(store: Store, *, now: datetime, counted: int | None = None) -> Checkpoint | None:
    """Take a checkpoint and store it; None if another process has taken one meanwhile.

    That is while we read or, if `counted` is given, since the database had counted so many.

    1. Read the database, as of one moment.
    2. Count the checkpoint in the database.
    3. Store it.
    So a database that has counted it knows all that it says, and one that has not, although it
    is stored, is older. Raises DatabaseIsOlder (what is stored is not overwritten), and what
    the store does.
    """
    stored = store.read()
    # After the store: what is stored there has been counted before.
    installation = Installation.objects.get_or_create(pk=1)[0]
    if stored is not None and stored.sequence > installation.checkpoints:
        raise DatabaseIsOlder(
            f"The database knows {installation.checkpoints} checkpoints and {store} holds the "
            f"{stored.sequence}th: it was restored from a backup; run `manage.py jobs restore` "
            "first"
        )
    if counted is not None and installation.checkpoints != counted:
        return None
    checkpoint = read(installation, now=now)
    is_ours = Installation.objects.filter(pk=1, checkpoints=installation.checkpoints).update(
        checkpoints=F("checkpoints") + 1
    )
    if not is_ours:
        return None
    store.write(checkpoint)
    return checkpoint


def read(installation: Installation, *, now: datetime) -> Checkpoint:
    """Say how far everything has come, as of one moment; the next checkpoint's number on it."""
    with one_moment():
        jobs = dict(Job.objects.values_list("name", "runs_left"))
        cursors: dict[str, dict[str, datetime]] = defaultdict(dict)
        for name, key, cursor in unclaimed(now):
            cursors[name][key] = cursor
        queued = Run.objects.queued().filter(job__isnull=False).order_by("scheduled_at", "pk")
        waiting = [
            Waiting(name, key, scheduled_at, str(pk))
            for name, key, scheduled_at, pk in queued.values_list(
                "job__name", "key", "scheduled_at", "pk"
            )[:MOST_WAITING]
        ]
    return Checkpoint(
        installation=str(installation.key),
        sequence=installation.checkpoints + 1,
        taken_at=now,
        jobs=dict.fromkeys(jobs, now),
        cursors=cursors,
        runs_left={name: left for name, left in jobs.items() if left is not None},
        waiting=waiting,
    )


def unclaimed(now: datetime) -> Iterator[tuple[str, str, datetime]]:
    """The targets with fires up to now that nobody has claimed: job, key, the first of them."""
    due = Target.objects.filter(next_fire_at__lte=now)
    parked = Target.objects.filter(
        next_fire_at__isnull=True,
        parked__in=(Parked.PAUSED, Parked.CIRCUIT, Parked.ERROR),
        parked_cursor__lte=now,
        retired_at__isnull=True,
    )
    # Two queries, each by an index of its own.
    for targets, column in ((due, "next_fire_at"), (parked, "parked_cursor")):
        yield from targets.order_by().values_list("job__name", "key", column).iterator(CHUNK)


@contextmanager
def one_moment() -> Iterator[None]:
    """Let all queries see the database as of the first one."""
    outermost = not connection.in_atomic_block
    with transaction.atomic():
        if outermost and connection.vendor == "postgresql":
            with connection.cursor() as cursor:
                cursor.execute("SET TRANSACTION ISOLATION LEVEL REPEATABLE READ, READ ONLY")
        yield
