"""One-off runs, and runs of any cause: made in bulk, looked up, searched, cancelled, made again."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from datetime import datetime
from typing import Any, Literal
from uuid import UUID

from django.db.models import JSONField, Value
from django.db.models.fields.json import KeyTransform

from scheduling import clock, runs
from scheduling.backend.filters import ANY, Lane, OneOrMany, among, between, of_lanes, words
from scheduling.backend.jobs import BY
from scheduling.backend.pages import ROWS, Page, page, require_limit
from scheduling.errors import InvalidRequest, UnknownRun
from scheduling.models import Cause, Outcome, Reason, Run, State
from scheduling.runs import one_offs
from scheduling.runs.new_run import NewRun

# Of each run up to a megabyte: too much for a page of many.
WRITTEN = ("output", "error")
ORDERS = {
    **{
        f"{what}_at": f"{what}_at" for what in ("created", "ready", "scheduled", "started", "ended")
    },
    **{"job": "name", "key": "key", "priority": "priority", "id": "id"},
}


def create_runs(wanted: Iterable[NewRun], *, by: str = BY) -> list[Run]:
    """Queue one-off runs; give one for each that is wanted, in that order.

    Equal ones (job, key, kwargs, priority, due time) that are still queued are not made twice, nor
    inside of a call; those with an id are known by that alone, whatever has become of them. A job
    that is fed lets them out lane by lane, as slots are free. Raises UnknownJob, UnknownTarget,
    JobRetired, before anything is made. The reference: `create_tasks(policy="oneshot")`.
    """
    return one_offs.create(list(wanted), by=by, now=clock.now())


def get_runs(run_ids: Iterable[UUID | str]) -> list[Run]:
    """Give runs by id, in that order; unknown ones are left out. The reference: `get_tasks`.

    What they wrote, `output` and `error`, is read from the database when it is asked for.
    """
    ids = [as_id(run_id) for run_id in run_ids]
    found: dict[UUID, Run] = {}
    for begin in range(0, len(ids), one_offs.BATCH):
        rows = Run.objects.defer(*WRITTEN)
        found |= rows.in_bulk(ids[begin : begin + one_offs.BATCH])
    return [found[run_id] for run_id in ids if run_id in found]


def get_runs_of(target_ids: Iterable[int], *, limit: int = ROWS) -> list[Run]:
    """Give the runs of targets, newest first, at most `limit` in all; [] for unknown targets.

    What they wrote, `output` and `error`, is read from the database when it is asked for. Raises
    InvalidRequest. The reference: `get_task_runs`.
    """
    require_limit(limit)
    of_targets = Run.objects.filter(target__in=list(target_ids)).order_by("-created_at", "-pk")
    return list(of_targets.defer(*WRITTEN)[:limit])


def search_runs(
    *,
    job: OneOrMany[str] | None = None,
    key: OneOrMany[str] | None = None,
    state: OneOrMany[str] | None = None,
    reason: OneOrMany[str] | None = None,
    cause: OneOrMany[str] | None = None,
    outcome: OneOrMany[str] | None = None,
    priority: Lane | Iterable[int | None] = ANY,
    root: OneOrMany[UUID] | None = None,
    metadata: Mapping[str, Any] | None = None,
    created_after: datetime | None = None,
    created_before: datetime | None = None,
    scheduled_after: datetime | None = None,
    scheduled_before: datetime | None = None,
    due_after: datetime | None = None,
    due_before: datetime | None = None,
    ended_after: datetime | None = None,
    ended_before: datetime | None = None,
    order: str = "created_at",
    limit: int = ROWS,
    after: str | None = None,
) -> Page[Run]:
    """Give a page of the runs for which all that is given holds.

    `root`: the first run of a chain, which is given as well. `metadata`: these names have these
    values. Times lie in [after, before], both bounds included: `scheduled_...` the fire time that a
    run is for, `due_...` when it may start. Orders: created_at, ready_at, scheduled_at, started_at,
    ended_at, job, key, priority, id; with a leading - descending; without a value last. What runs
    wrote, `output` and `error`, is read from the database when it is asked for. Raises
    InvalidRequest. The reference: `search_tasks` of one-shot tasks.
    """
    asked = among("name", job) & among("key", key) & of_lanes(priority)
    asked &= among("state", words("state", state, State.values))
    asked &= among("reason", words("reason", reason, ["", *Reason.values]))
    asked &= among("cause", words("cause", cause, Cause.values))
    asked &= among("outcome", words("outcome", outcome, ["", *Outcome]))
    asked &= between("created_at", after=created_after, before=created_before)
    asked &= between("scheduled_at", after=scheduled_after, before=scheduled_before)
    asked &= between("ready_at", after=due_after, before=due_before)
    asked &= between("ended_at", after=ended_after, before=ended_before)
    if root is not None:
        asked &= among("root", root) | among("pk", root)
    rows = Run.objects.filter(asked).defer(*WRITTEN)
    for name, value in (metadata or {}).items():
        rows = rows.alias(said=_metadata(name)).filter(said=Value(value, JSONField()))
    return page(rows, order=order, orders=ORDERS, limit=limit, after=after)


def _metadata(name: str) -> KeyTransform:
    """Raises InvalidRequest for a name that databases take for something else."""
    if name.lstrip("-").isdecimal() or '"' in name:
        raise InvalidRequest(
            f"Metadata cannot be searched by {name!r}, a number or with a quotation mark; "
            "give it another name"
        )
    return KeyTransform(name, "metadata")


def set_runs(
    run_ids: Iterable[UUID | str], state: Literal["cancelled"] = "cancelled", *, by: str = BY
) -> list[Run]:
    """Cancel runs: queued ones are skipped, the workers of running ones are asked to stop.

    Gives the runs as they are then, in that order; those that have ended stay as they were, unknown
    ones are left out. The reference: `set_status_tasks`, `disable_tasks`.
    """
    words("state", state, ("cancelled",))
    now = clock.now()
    found = []
    for run_id in run_ids:
        try:
            found.append(runs.cancel(as_id(run_id), by=by, now=now))
        except UnknownRun:
            continue
    return found


def respawn(
    run_ids: Iterable[UUID | str], *, due_at: datetime | None = None, by: str = BY
) -> list[Run]:
    """Run again what has ended, as it was asked for; what is queued is due then instead.

    Gives the run that is to come for each id, in that order; what is running is left alone.
    Default: now. Raises UnknownRun. The reference: `swh scheduler task respawn`.
    """
    now = clock.now()
    ids: Sequence[UUID] = [as_id(run_id) for run_id in run_ids]
    return one_offs.respawn(ids, due_at=due_at or now, by=by, now=now)


def as_id(run_id: UUID | str) -> UUID:
    """Raises InvalidRequest."""
    try:
        return run_id if isinstance(run_id, UUID) else UUID(run_id)
    except (ValueError, TypeError, AttributeError) as error:
        raise InvalidRequest(f"{run_id!r} is no id of a run; give a UUID") from error
