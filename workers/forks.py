"""No fork in the middle of a thread's work.

The main process of a prefork worker forks a child whenever one has died, and has threads beside.
A child that is forked while one of them is inside SQLite or a driver inherits their locks, but not
the thread that would open them: it hangs at its first query, with the message that it was given.
"""

from __future__ import annotations

import logging
import os
import threading
from collections.abc import Iterator
from contextlib import contextmanager

logger = logging.getLogger(__name__)

# How long a fork waits for what is under way, and that for a fork, in seconds. A mail server may
# take longer; by then a thread is in the network, and holds no such lock.
PATIENCE = 1.0


class Forks:
    """Between the threads that work, side by side, and the one that forks."""

    def __init__(self) -> None:
        self._changed = threading.Condition()
        self._at_work = 0
        self._is_forking = False

    @contextmanager
    def none_meanwhile(self) -> Iterator[None]:
        """Let no process be forked in this block, unless it takes long."""
        with self._changed:
            self._changed.wait_for(lambda: not self._is_forking, timeout=PATIENCE)
            self._at_work += 1
        try:
            yield
        finally:
            with self._changed:
                self._at_work -= 1
                self._changed.notify_all()

    def before(self) -> None:
        with self._changed:
            self._is_forking = True
            self._changed.wait_for(lambda: self._at_work == 0, timeout=PATIENCE)

    def after_in_parent(self) -> None:
        with self._changed:
            self._is_forking = False
            self._changed.notify_all()

    def after_in_child(self) -> None:
        self.__init__()  # type: ignore[misc]  # its threads are not here, nor who holds its lock


forks = Forks()
os.register_at_fork(
    before=forks.before,
    after_in_parent=forks.after_in_parent,
    after_in_child=forks.after_in_child,
)
