"""Transactions of ours: short, and lost rather than held by a frozen process."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, TypeVar

from django.db import connection, transaction
from django.db.models import Model, QuerySet

M = TypeVar("M", bound=Model)

IDLE_LIMIT_MS = 3000


@contextmanager
def short_transaction(*, durable: bool = True, in_index_order: bool = False) -> Iterator[None]:
    """Run a block in a transaction that PostgreSQL ends if this process freezes inside it.

    A beat stopped in the middle (SIGSTOP, a paused machine) would otherwise keep its row locks,
    and its targets would never fire again. SQLite has no such limit: a frozen writer blocks the
    machine until it is gone.

    Not `durable`: its commit does not wait for the disk. For what may be lost as a whole when the
    server dies, before anything that follows from it is committed.

    `in_index_order`: rows that an index has in the wanted order are read by it. Without statistics,
    which fresh rows have not, PostgreSQL would rather read and sort a million to take a thousand.
    """
    outermost = not connection.in_atomic_block
    with transaction.atomic():
        if outermost and connection.vendor == "postgresql":
            settings = [f"SET LOCAL idle_in_transaction_session_timeout = {IDLE_LIMIT_MS}"]
            if not durable:
                settings.append("SET LOCAL synchronous_commit = off")
            if in_index_order:
                # What has to be sorted all the same is only made to look dear: compile none of it.
                settings += ["SET LOCAL enable_sort = off", "SET LOCAL jit = off"]
            with connection.cursor() as cursor:
                cursor.execute("; ".join(settings))
        yield


def update_free(rows: QuerySet[M], **columns: Any) -> int:
    """Update those of `rows` that no transaction holds, in bulk; give how many.

    Whoever holds a row is moving it on. Waiting for several such rows, in whatever order they are
    met, is how a tick and a worker would wait for each other.
    """
    if not skip_locked():
        return rows.update(**columns)
    with short_transaction():
        held = rows.select_for_update(skip_locked=True, no_key=True, of=("self",))
        ids = list(held.values_list("pk", flat=True))
        return rows.model._base_manager.filter(pk__in=ids).update(**columns) if ids else 0


@contextmanager
def patience(milliseconds: int) -> Iterator[None]:
    """Wait so long for a lock at most; then OperationalError. SQLite has one lock and waits.

    PostgreSQL looks for deadlocks after a second: less than that, and it is we who give way.
    """
    if connection.vendor != "postgresql":
        yield
        return
    with connection.cursor() as cursor:
        cursor.execute("SELECT current_setting('lock_timeout')")
        before = cursor.fetchone()[0]
        cursor.execute("SELECT set_config('lock_timeout', %s, true)", [f"{milliseconds}ms"])
    yield
    # After an error there is no need: the rollback to the caller's savepoint does it.
    with connection.cursor() as cursor:
        cursor.execute("SELECT set_config('lock_timeout', %s, true)", [before])


def skip_locked() -> bool:
    """Whether rows that another transaction holds can be passed over (not on SQLite)."""
    return connection.features.has_select_for_update_skip_locked
