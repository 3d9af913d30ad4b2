"""Counting coverage while targets change, and adding the changes up.

Whoever writes a column of `measures.Facts` calls `note` or `note_many` in the same transaction,
with what stood there under the target's lock, and what stands there now:

    target = lock_target(pk)
    before = coverage.facts_of(target)
    ...  # change and save the target
    coverage.note(target.job_id, target.source_id, before, coverage.facts_of(target))

A new target has None before. Counted are targets with a key: `facts_of` gives None for the plain
target of a job, and nothing is noted. A target whose source changes is noted twice: as gone from
the old one (after=None), and as new at the other (before=None).

`scopes.hold` and others note by what the table says (`noting`): who changes a target and then
pauses it saves and notes its own change first.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass

from django.db import OperationalError, connection, transaction
from django.db.models import F

from scheduling.db import short_transaction, skip_locked
from scheduling.measures import Facts, difference
from scheduling.models import CoverageChange, CoverageCount, Job, Target
from scheduling.runs.cursors import lock_target

NO_SOURCE = 0
SUM_UP_BATCH = 10_000
LOCK_NOT_AVAILABLE = "55P03"  # PostgreSQL's code


# What a block that ends many runs has noted so far
_gathered: ContextVar[list[Change] | None] = ContextVar("gathered", default=None)


@dataclass(frozen=True, slots=True, kw_only=True)
class Change:
    """What became of one target. Several in a row for one target add up."""

    job_id: int
    source_id: int | None
    before: Facts | None
    after: Facts | None


def facts_of(target: Target) -> Facts | None:
    """Read the counted columns off a target; None for a plain one, which is not counted."""
    if not target.key:
        return None
    return Facts(
        created_at=target.created_at,
        retired_at=target.retired_at,
        paused_at=target.paused_at,
        found_at=target.found_at,
        staleness=target.staleness,
        misses=target.misses,
    )


def note(job_id: int, source_id: int | None, before: Facts | None, after: Facts | None) -> None:
    """Note a change of one target, in the transaction that changes it."""
    note_many([Change(job_id=job_id, source_id=source_id, before=before, after=after)])


def note_many(changes: Iterable[Change]) -> None:
    """Note changes of targets of plain keys and sources, in the transaction that makes them.

    One INSERT, with one row for each (job, source, measure) that changes: no count that everybody
    changes is locked.
    """
    gathered = _gathered.get()
    if gathered is not None:
        gathered.extend(changes)
        return
    sums: Counter[tuple[int, int, str]] = Counter()
    for change in changes:
        source = change.source_id or NO_SOURCE
        for measure, delta in difference(change.before, change.after).items():
            sums[change.job_id, source, measure] += delta
    CoverageChange.objects.bulk_create(
        CoverageChange(job_id=job_id, source=source, measure=measure, delta=delta)
        for (job_id, source, measure), delta in sorted(sums.items())
        if delta
    )


@contextmanager
def gathering() -> Iterator[None]:
    """Note all that is noted in the block by one INSERT, at its end and in its transaction."""
    changes: list[Change] = []
    before = _gathered.set(changes)
    try:
        yield
    finally:
        _gathered.reset(before)
    note_many(changes)


@contextmanager
def noting(target_id: int) -> Iterator[None]:
    """Lock a target and note what the block makes of its row, in the caller's transaction."""
    locked = lock_target(target_id)
    yield
    before = facts_of(locked)
    locked.refresh_from_db()
    note(locked.job_id, locked.source_id, before, facts_of(locked))


def sum_up(*, limit: int = SUM_UP_BATCH) -> int:
    """Add noted changes to the counts, the oldest first; give how many. Called by every tick.

    Any number of beats do this at once: each takes rows that no other holds, and a row leaves in
    the transaction that counts it. During a recount nothing is added.
    """
    if not CoverageChange.objects.exists():
        return 0
    with short_transaction():
        if not _may_add():
            return 0
        rows = CoverageChange.objects.order_by("pk")
        if skip_locked():
            rows = rows.select_for_update(skip_locked=True)
        taken = list(rows[:limit])
        _add(taken)
        CoverageChange.objects.filter(pk__in=[row.pk for row in taken]).delete()
    return len(taken)


def _may_add() -> bool:
    """Keep recounts away until the end of the transaction; False if one is under way.

    Before any row is locked: a recount deletes those rows, and would wait for us as we for it.
    """
    if connection.vendor != "postgresql":
        return True  # one writer at a time
    table = connection.ops.quote_name(CoverageCount._meta.db_table)
    try:
        with transaction.atomic(), connection.cursor() as cursor:
            cursor.execute(f"LOCK TABLE {table} IN ROW EXCLUSIVE MODE NOWAIT")
    except OperationalError as error:
        if getattr(error.__cause__, "sqlstate", None) == LOCK_NOT_AVAILABLE:
            return False
        raise
    return True


def _add(changes: Iterable[CoverageChange]) -> None:
    sums: Counter[tuple[int, int, str]] = Counter()
    for change in changes:
        sums[change.job_id, change.source, change.measure] += change.delta
    # The changes of a job may outlive it.
    known = Job.objects.filter(pk__in={job_id for job_id, _, _ in sums})
    jobs = set(known.values_list("pk", flat=True))
    # In one order, so that two beats wait for each other and not for ever.
    for (job_id, source, measure), delta in sorted(sums.items()):
        if job_id in jobs and delta:
            _add_one(delta, job_id=job_id, source=source, measure=measure)


def _add_one(delta: int, **key: int | str) -> None:
    count = CoverageCount.objects.filter(**key)
    if not count.update(value=F("value") + delta):
        CoverageCount.objects.bulk_create([CoverageCount(**key)], ignore_conflicts=True)
        count.update(value=F("value") + delta)
