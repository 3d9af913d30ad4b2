"""Transactions of ours: short, and lost rather than held by a frozen process."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, TypeVar

from django.db import InterfaceError, OperationalError, connection, transaction
from django.db.models import Model, QuerySet

M = TypeVar("M", bound=Model)

IDLE_LIMIT_MS = 3000
# What has to be sorted all the same is only made to look dear: compile none of it.
_IN_INDEX_ORDER = ("SET LOCAL enable_sort = off", "SET LOCAL jit = off")


@contextmanager
def short_transaction(
    *, durable: bool = True, in_index_order: bool = False, statement_limit_ms: int | None = None
) -> Iterator[None]:
    """Run a block in a transaction that PostgreSQL ends if this process freezes inside it.

    A beat stopped in the middle (SIGSTOP, a paused machine) would otherwise keep its row locks,
    and its targets would never fire again. SQLite has no such limit: a frozen writer blocks the
    machine until it is gone.

    Not `durable`: its commit does not wait for the disk. For what may be lost as a whole when the
    server dies, before anything that follows from it is committed.

    `in_index_order`: as after `read_in_index_order`.

    `statement_limit_ms`: PostgreSQL ends a statement that takes longer, with OperationalError.

    Inside of another transaction it is a savepoint, and that one says all of this.
    """
    outermost = not connection.in_atomic_block
    with transaction.atomic():
        if outermost and connection.vendor == "postgresql":
            settings = [f"SET LOCAL idle_in_transaction_session_timeout = {IDLE_LIMIT_MS}"]
            if not durable:
                settings.append("SET LOCAL synchronous_commit = off")
            if in_index_order:
                settings += _IN_INDEX_ORDER
            if statement_limit_ms is not None:
                settings.append(f"SET LOCAL statement_timeout = {statement_limit_ms}")
            with connection.cursor() as cursor:
                cursor.execute("; ".join(settings))
        yield


def read_in_index_order() -> None:
    """From here to the end of this transaction, let rows that an index has in the wanted order be
    read by it.

    Without statistics, which fresh rows have not, PostgreSQL would rather read and sort a million
    to take a thousand.
    """
    if connection.vendor == "postgresql":
        with connection.cursor() as cursor:
            cursor.execute("; ".join(_IN_INDEX_ORDER))


def is_conflict(error: BaseException) -> bool:
    """Whether somebody else was first: a deadlock, or a lock that was not free in time."""
    sqlite, state = _codes(error)
    if sqlite is not None:
        return sqlite & 0xFF in (sqlite3.SQLITE_BUSY, sqlite3.SQLITE_LOCKED)
    return state is not None and state.startswith(("40", "55P03"))


def is_lost(error: BaseException) -> bool:
    """Whether the database could not be asked, or went away meanwhile."""
    if not isinstance(error, OperationalError | InterfaceError):
        return False
    sqlite, state = _codes(error)
    # An answer has a code. 08: connections; 57P: it shuts down
    return sqlite is None and (state is None or state.startswith(("08", "57P")))


def _codes(error: BaseException) -> tuple[int | None, str | None]:
    """How SQLite and PostgreSQL name an error, if they do."""
    cause = error.__cause__
    return getattr(cause, "sqlite_errorcode", None), getattr(cause, "sqlstate", None)


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
