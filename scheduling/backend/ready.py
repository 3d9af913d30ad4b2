"""What may start now, for a caller with an executor of its own: looked at, and claimed."""

from __future__ import annotations

from datetime import datetime, timedelta

from scheduling import clock
from scheduling.backend.filters import Lane, of_lanes
from scheduling.backend.jobs import jobs_named
from scheduling.backend.pages import require_limit
from scheduling.errors import InvalidRequest
from scheduling.models import Run
from scheduling.models.run import OUTSIDE, RunQuerySet
from scheduling.runs import giving_out

# So long a claimed or a started run is left alone without a sign of life of its executor.
LEASE = timedelta(minutes=5)
LONGEST_LEASE = timedelta(days=365)

__all__ = ["LEASE", "OUTSIDE", "claim_ready", "peek_ready"]


def peek_ready(job: str, *, limit: int, lane: Lane = None, at: datetime | None = None) -> list[Run]:
    """Give the runs that `claim_ready` would, and leave them as they are.

    The reference: `peek_ready_tasks`, `peek_ready_priority_tasks` (lane="any").
    """
    rows = _ready(job, limit=limit, lane=lane, at=at or clock.now())
    return list(rows.defer("output", "error")[:limit])


def claim_ready(
    job: str,
    *,
    limit: int,
    lane: Lane = None,
    at: datetime | None = None,
    lease: timedelta = LEASE,
) -> list[Run]:
    """Take runs that may start at `at` (default: now): nobody else is given them for the `lease`.

    `lane`: the normal one (None), a number, or "any": strict lanes, 1 first, the normal one last;
    in a lane by due time. Start each by `start_run` within the lease: after it the run is ready
    again, for the next claim or, unless its job has the queue OUTSIDE, for our workers. Raises
    UnknownJob, InvalidRequest. The reference: `grab_ready_tasks`, `grab_ready_priority_tasks`.
    """
    require_lease(lease)
    now = clock.now()
    rows = _ready(job, limit=limit, lane=lane, at=at or now)
    return giving_out.take(rows, limit=limit, until=max(at or now, now) + lease)


def require_lease(lease: timedelta) -> timedelta:
    """Raises InvalidRequest."""
    if not isinstance(lease, timedelta) or not timedelta(0) < lease <= LONGEST_LEASE:
        raise InvalidRequest(
            f"The lease is {lease!r}; give a positive timedelta, {LONGEST_LEASE.days} days at most"
        )
    return lease


def _ready(job: str, *, limit: int, lane: Lane, at: datetime) -> RunQuerySet:
    require_limit(limit)
    return giving_out.ready(jobs_named([job])[job], at=at).filter(of_lanes(lane))
