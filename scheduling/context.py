"""What a running job can ask about itself. Pure."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from contextvars import ContextVar
from dataclasses import dataclass
from datetime import datetime
from uuid import UUID

from scheduling.errors import NotInARun


@dataclass(frozen=True, slots=True, kw_only=True)
class CurrentRun:
    """One attempt, seen from inside the job. Times are aware UTC.

    `token` grows with every attempt on the same target and resource: hand it to whatever you
    write to, and let that refuse a smaller one.
    """

    id: UUID
    job: str
    key: str
    resource: str
    scheduled_at: datetime
    attempt: int
    token: int
    stop_flag: Callable[[], bool] = lambda: False

    def should_stop(self) -> bool:
        """Whether somebody asked this run to stop; cheap enough to call in a loop."""
        return self.stop_flag()


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
