"""Deleting runs in batches that are over before anybody who waits for them would notice."""

from __future__ import annotations

import gc
import logging
import time
from collections.abc import Callable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import astuple, dataclass
from time import perf_counter
from uuid import UUID

from django.db import OperationalError

from scheduling.archive.cascade import delete_runs
from scheduling.archive.lines import Entry
from scheduling.conf import conf
from scheduling.db import patience, short_transaction, skip_locked
from scheduling.models import Run

logger = logging.getLogger(__name__)

# Seconds that a batch should take; 0.1 is what we promise, and a busy machine may make of it.
SHORT, LONG = 0.01, 0.025
FIRST = 20  # rows of the first batch, whose time nobody knows
LEAST = 10  # some of the time is the same for one row
GROWTH = 1.5
PATIENCE_MS = 50  # for a lock that somebody else holds
LIMIT_MS = 75  # of a statement, after which the batch is given up and made in smaller ones
PAUSE_MAX = 0.1  # seconds
TRIES = 3

# Whoever watches is told of each batch: its rows, and the seconds for which it held locks.
Watch = Callable[[int, float], None]


@dataclass(slots=True, kw_only=True)
class Deleted:
    runs: int = 0
    changed: int = 0
    """No longer as they were written; they stay."""
    left: int = 0
    """Held by others, or there was no time; the next pass deletes them."""


class Pace:
    """How many rows a batch has, by the time that the batches before it took."""

    def __init__(self) -> None:
        self.size = self._fitting(FIRST)

    def took(self, seconds: float) -> None:
        if seconds > LONG:
            self.size = self._fitting(self.size * max(LONG / seconds, 1 / 2))
        elif seconds < SHORT:
            self.size = self._fitting(self.size * GROWTH + 1)

    def _fitting(self, size: float) -> int:
        return max(1, min(max(int(size), LEAST), conf.PRUNE_BATCH))


class Deleter:
    """Deletes what it is told, batch by batch, with a pause for the others after each.

    A batch takes 10 to 25 ms; also on SQLite, where nobody else writes meanwhile. Its locks are
    those of ended runs, which nobody else takes for long; where somebody does, we give way. So we
    do when the database is slow just then, until a batch is as small as it gets.
    """

    def __init__(
        self,
        *,
        go_on: Callable[[], bool],
        watch: Watch = lambda rows, seconds: None,
        pause: Callable[[float], None] = time.sleep,
    ) -> None:
        self._go_on, self._watch, self._pause = go_on, watch, pause
        self._pace = Pace()

    def delete(self, entries: Sequence[Entry]) -> Deleted:
        """Delete the runs that are still as their entries say; what is gone already is no error."""
        told = Deleted()
        waiting = list(entries)
        for _ in range(TRIES):
            held: list[Entry] = []
            while waiting:
                if not self._go_on():
                    told.left = len(waiting) + len(held)
                    return told
                batch, waiting = waiting[: self._pace.size], waiting[self._pace.size :]
                held += self._delete(batch, told)
            waiting = held
        told.left = len(waiting)
        return told

    def _delete(self, batch: list[Entry], told: Deleted) -> list[Entry]:
        """Delete one batch; give those that somebody holds."""
        began = perf_counter()
        try:
            # A deletion that is lost with the server is made again: what says that it is done is
            # flushed after it. So nobody waits, with our locks, for a disk that is slow just then.
            limit = LIMIT_MS if len(batch) > LEAST else None
            with (
                _without_collections(),
                short_transaction(durable=False, statement_limit_ms=limit),
                patience(PATIENCE_MS),
            ):
                began = perf_counter()  # on SQLite we have waited for others until now
                gone, changed, held = _delete_unchanged(batch)
        except OperationalError as error:
            logger.info("%s old runs are left for later: %s", len(batch), str(error).strip())
            gone, changed, held = 0, 0, batch
        told.runs += gone
        told.changed += changed
        seconds = perf_counter() - began
        self._pace.took(seconds)
        self._watch(len(batch), seconds)
        self._pause(min(seconds, PAUSE_MAX))
        return held


@contextmanager
def _without_collections() -> Iterator[None]:
    """With a long list of runs to delete, collecting garbage takes 40 to 90 ms; not with locks."""
    was_enabled = gc.isenabled()
    gc.disable()
    try:
        yield
    finally:
        if was_enabled:
            gc.enable()


def _delete_unchanged(batch: Sequence[Entry]) -> tuple[int, int, list[Entry]]:
    """Give how many are deleted, how many are no longer the same, and those that somebody holds."""
    by_id = {entry.id: entry for entry in batch}
    rows = Run.objects.filter(pk__in=by_id)
    # Nobody may put a run of another task back into its queue between our look and the deletion.
    mine = rows.order_by("pk").select_for_update(skip_locked=skip_locked(), of=("self",))
    found = list(mine.values_list("pk", "state", "attempt", "ended_at"))
    same = [row[0] for row in found if row == astuple(by_id[row[0]])]
    held: set[UUID] = set()
    if len(found) < len(batch):
        held = set(rows.values_list("pk", flat=True)) - {row[0] for row in found}
    delete_runs(same)
    return len(same), len(found) - len(same), [by_id[pk] for pk in held]
