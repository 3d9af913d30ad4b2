"""What a running job can ask about itself. Pure."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass
from datetime import datetime
from typing import Any
from uuid import UUID

from scheduling.errors import NotInARun


@dataclass(frozen=True, slots=True, kw_only=True)
class ParentRun:
    """An ended run that led to the present one. `result` is what it returned, as JSON has it."""

    id: UUID
    job: str
    key: str
    scheduled_at: datetime
    state: str  # succeeded, failed
    reason: str
    outcome: str
    result: Any


@dataclass(frozen=True, slots=True, kw_only=True)
class CurrentRun:
    """One attempt, seen from inside the job. Times are aware UTC.

    `token` grows with every attempt on the same target and resource: hand it to whatever you
    write to, and let that refuse a smaller one. `parent` is the run that this one follows; after
    several (`after_all`) the one that ended last.
    """

    id: UUID
    job: str
    key: str
    resource: str
    scheduled_at: datetime
    attempt: int
    token: int
    parent: ParentRun | None = None
    stop_flag: Callable[[], bool] = lambda: False
    find_parents: Callable[[], tuple[ParentRun, ...]] = tuple

    def should_stop(self) -> bool:
        """Whether somebody asked this run to stop; cheap enough to call in a loop."""
        return self.stop_flag()

    @property
    def parents(self) -> tuple[ParentRun, ...]:
        """All the runs that this one follows, by end; read from the database at each call."""
        return self.find_parents()


_current: ContextVar[CurrentRun | None] = ContextVar("current_run", default=None)


def current_run() -> CurrentRun:
    """Give the run that is executing here. Raises NotInARun outside of one."""
    found = _current.get()
    if found is None:
        raise NotInARun
    return found


@contextmanager
def running(run: CurrentRun) -> Iterator[None]:
    before = _current.set(run)
    try:
        yield
    finally:
        _current.reset(before)
