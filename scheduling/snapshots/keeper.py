"""What a beat does about checkpoints: compare before it claims, take one at an interval."""

from __future__ import annotations

import logging
from collections.abc import Callable
from datetime import datetime, timedelta
from typing import Any

from scheduling import clock, runs
from scheduling.conf import conf
from scheduling.errors import CheckpointError, DatabaseIsOlder, UnreadableCheckpoint
from scheduling.models import Installation
from scheduling.snapshots.restoring import compare
from scheduling.snapshots.stores import Store, store_at
from scheduling.snapshots.taking import take

logger = logging.getLogger(__name__)

# How soon a place that was out of reach is tried again.
RETRY = timedelta(seconds=5)
# With many unclaimed fires a checkpoint takes a while: a beat spends a twentieth of its time on it.
LIGHT = 20


class Keeper:
    """Never stops a beat: without a place for checkpoints it goes on, says so, and tries again."""

    def __init__(self) -> None:
        self._is_compared = False
        self._retry_at: datetime | None = None
        self._sequence: int | None = None
        # When somebody was last seen to have taken one, and how long until the next.
        self._seen_at: datetime | None = None
        self._due_at: datetime | None = None
        self._least_pause = timedelta(0)
        self._trouble = ""

    def doubt(self) -> None:
        """The database was away: it may be another one that comes back."""
        self._is_compared = False

    def compare(self, *, now: datetime) -> None:
        """Make sure, before anything is claimed, that the database is not an older backup."""
        if not conf.SNAPSHOT:
            return
        installation = runs.installation()
        sequence = installation.checkpoints
        if self._sequence is not None and sequence != self._sequence:
            if sequence < self._sequence:
                self.doubt()
            self._seen_at, self._due_at = now, now + self._pause
        self._sequence = sequence
        if self._is_compared or (self._retry_at is not None and now < self._retry_at):
            return
        self._is_compared = self._try(installation, lambda store: compare(store, now=now), now=now)
        self._retry_at = None if self._is_compared else now + RETRY

    def keep(self, *, now: datetime) -> None:
        """Take a checkpoint if nobody has taken one for JOBS_SNAPSHOT_EVERY."""
        if not conf.SNAPSHOT or not self._is_compared:
            return
        if self._due_at is not None and now < self._due_at:
            return
        began = clock.elapsed()
        self._try(runs.installation(), lambda store: self._take(store, now=now), now=now)
        self._least_pause = LIGHT * timedelta(seconds=clock.elapsed() - began)
        self._due_at = now + self._pause

    @property
    def _pause(self) -> timedelta:
        return max(conf.SNAPSHOT_EVERY, self._least_pause)

    def _take(self, store: Store, *, now: datetime) -> None:
        try:
            # Other beats find at the same moment that one is due.
            take(store, now=now, counted=self._sequence)
        except DatabaseIsOlder:
            self.doubt()

    def _try(
        self, installation: Installation, act: Callable[[Store], object], *, now: datetime
    ) -> bool:
        """Do something with the place of checkpoints; trouble with it is logged once.

        What is there and cannot be read is kept for people, and then it is as if nothing was there.
        """
        try:
            store = store_at(conf.SNAPSHOT, installation=str(installation.key))
            try:
                act(store)
            except UnreadableCheckpoint as error:
                logger.error(
                    "%s. It is kept in %s. If an older database was restored just now, pause "
                    "everything, mend it, and `manage.py jobs restore --from FILE`",
                    error,
                    store.set_aside(now),
                )
        except CheckpointError as error:
            if not self._trouble:
                logger.error("%s. Nothing stops; `jobs health` tells when it is over", error)
            self._trouble = str(error)
            return False
        if self._trouble:
            logger.info("Checkpoints are kept again")
        self._trouble = ""
        return True

    def detail(self) -> dict[str, Any]:
        """What a beat says of it among the processes."""
        if not conf.SNAPSHOT or conf.SHADOW:
            return {}
        return {
            "checkpoint_at": self._seen_at and self._seen_at.isoformat(),
            "checkpoint_error": self._trouble,
        }
