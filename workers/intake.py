"""Whether this worker takes messages off its queues: not while it cannot reach the database.

What it took then it could not start, and nobody else could: such a message is not lost, so nobody
sends it again. Its main process asks the database every few seconds anyway (see `presence`); when
that has gone unanswered for too long, the gate is closed, before the leases of its runs lapse and
others are to begin them.
"""

from __future__ import annotations

import logging

from scheduling import clock
from scheduling.conf import conf

logger = logging.getLogger(__name__)

# The part of a lease for which the database may be silent.
PATIENCE = 2 / 3

_answered_at: float | None = None
_was_open = True


def answered() -> None:
    """Take note that the database has just answered."""
    global _answered_at
    _answered_at = clock.elapsed()


def is_open() -> bool:
    """Whether messages may be taken; asked by the event loop before each look at the queues."""
    global _was_open
    limit = PATIENCE * conf.lease.total_seconds()
    # Who has never said that it is there is no worker, or about to become one.
    is_now = _answered_at is None or clock.elapsed() - _answered_at <= limit
    if is_now is not _was_open:
        _was_open = is_now
        if is_now:
            logger.info("The database answers again: this worker takes messages")
        else:
            logger.warning("The database has not answered for %.0f s: no messages are taken", limit)
    return is_now
