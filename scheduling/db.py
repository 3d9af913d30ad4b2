"""Transactions of ours: short, and lost rather than held by a frozen process."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

from django.db import connection, transaction

IDLE_LIMIT_MS = 3000


@contextmanager
def short_transaction() -> Iterator[None]:
    """Run a block in a transaction that PostgreSQL ends if this process freezes inside it.

    A beat stopped in the middle (SIGSTOP, a paused machine) would otherwise keep its row locks,
    and its targets would never fire again. SQLite has no such limit: a frozen writer blocks the
    machine until it is gone.
    """
    outermost = not connection.in_atomic_block
    with transaction.atomic():
        if outermost and connection.vendor == "postgresql":
            with connection.cursor() as cursor:
                cursor.execute(f"SET LOCAL idle_in_transaction_session_timeout = {IDLE_LIMIT_MS}")
        yield


def skip_locked() -> bool:
    """Whether rows that another transaction holds can be passed over (not on SQLite)."""
    return connection.features.has_select_for_update_skip_locked
