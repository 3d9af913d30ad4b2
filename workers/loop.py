"""What a worker's main process does again and again beside Celery's work."""

from __future__ import annotations

import logging
import threading
from collections.abc import Callable
from datetime import timedelta

from django.db import connection

from workers.forks import forks

logger = logging.getLogger(__name__)


class Loop:
    """Calls `act` every now and then, on a thread of its own, whatever becomes of it.

    The connection is closed each time, because the pool forks from this process.
    """

    def __init__(
        self, what: str, act: Callable[[], object], *, every: Callable[[], timedelta]
    ) -> None:
        self._what = what
        self._act = act
        self._every = every
        self._stopping = threading.Event()
        self._is_failing = False
        self._thread = threading.Thread(target=self._run, name=what, daemon=True)

    def start(self) -> None:
        self._thread.start()

    def stop(self) -> None:
        """End after the present call; one that takes its time ends with the process."""
        self._stopping.set()
        self._thread.join(timeout=1)

    def _run(self) -> None:
        while not self._stopping.wait(self._every().total_seconds()):
            with forks.none_meanwhile():
                self._try()

    def _try(self) -> None:
        try:
            self._act()
            self._is_failing = False
        except Exception:
            # Once per outage.
            if not self._is_failing:
                logger.exception("%s failed; trying again", self._what)
            self._is_failing = True
        finally:
            connection.close()
