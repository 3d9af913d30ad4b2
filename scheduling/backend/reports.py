"""What executors of others tell: what they have been given, has begun, is alive, has ended."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any
from uuid import UUID

from scheduling import clock
from scheduling.backend.jobs import BY
from scheduling.backend.one_off_runs import as_id
from scheduling.backend.ready import LEASE, require_lease
from scheduling.models import Outcome, Run
from scheduling.runs import one_offs, reported
from scheduling.runs.new_run import NewRun
from scheduling.runs.run_end import Reported, RunEnd


@dataclass(frozen=True, slots=True, kw_only=True)
class ScheduledRun:
    """A run of a job's target that the caller has given to an executor. `at`: default now."""

    job: str
    key: str = ""
    id: UUID | None = None
    kwargs: Mapping[str, Any] = field(default_factory=dict)
    metadata: Mapping[str, Any] = field(default_factory=dict)
    at: datetime | None = None


def schedule_run(
    job: str,
    key: str = "",
    *,
    run_id: UUID | str | None = None,
    kwargs: Mapping[str, Any] | None = None,
    metadata: Mapping[str, Any] | None = None,
    at: datetime | None = None,
    lease: timedelta = LEASE,
    by: str = BY,
) -> Run:
    """Queue a run that the caller gives to an executor of its own; beats leave it alone.

    One that has the id is given as it is. Not started within the `lease`, it is ready for others.
    Raises UnknownJob, UnknownTarget, JobRetired, InvalidRequest. The reference:
    `schedule_task_run`.
    """
    row = ScheduledRun(
        job=job,
        key=key,
        id=None if run_id is None else as_id(run_id),
        kwargs=kwargs or {},
        metadata=metadata or {},
        at=at,
    )
    return schedule_runs([row], lease=lease, by=by)[0]


def schedule_runs(
    given: Iterable[ScheduledRun], *, lease: timedelta = LEASE, by: str = BY
) -> list[Run]:
    """`schedule_run` in bulk, in that order; nothing is made if one of them cannot be.

    The reference: `mass_schedule_task_runs`.
    """
    wanted = [
        NewRun(
            job=row.job,
            key=row.key,
            id=row.id,
            kwargs=row.kwargs,
            metadata=row.metadata,
            due_at=row.at,
        )
        for row in given
    ]
    return one_offs.create(wanted, by=by, now=clock.now(), reserved=require_lease(lease))


def start_run(
    run_id: UUID | str,
    *,
    worker: str = BY,
    metadata: Mapping[str, Any] | None = None,
    at: datetime | None = None,
    lease: timedelta = LEASE,
) -> Run | None:
    """Say that a run begins, and give it; its metadata are added to, key by key.

    None, and nothing has changed: there is no such run, it has ended, another worker has it, or it
    may not start now (it waits for another run or a lock, or was skipped): do not run it. Said
    again by the same `worker`, it is given again. It is believed lost after the `lease`, unless
    `renew` is called. Raises InvalidRequest. The reference: `start_task_run`.
    """
    now = clock.now()
    return reported.start(
        as_id(run_id),
        worker=worker,
        metadata=metadata or {},
        lease=require_lease(lease),
        at=at or now,
        now=now,
    )


def start_runs(
    run_ids: Iterable[UUID | str], *, worker: str = BY, lease: timedelta = LEASE
) -> list[Run]:
    """`start_run` for several; give those that begin. The reference has no such call."""
    started = (start_run(run_id, worker=worker, lease=lease) for run_id in run_ids)
    return [run for run in started if run is not None]


def renew(
    run_ids: Iterable[UUID | str], *, worker: str = BY, lease: timedelta = LEASE
) -> set[UUID]:
    """Say that runs go on; give those that are still this worker's. End what is not among them.

    Raises InvalidRequest. The reference has no such call: what its workers lose stays in flight for
    ever.
    """
    ids = [as_id(run_id) for run_id in run_ids]
    return reported.renew(ids, worker=worker, lease=require_lease(lease), now=clock.now())


def end_run(
    run_id: UUID | str,
    state: str = "succeeded",
    *,
    outcome: Outcome | str | None = None,
    fingerprint: str = "",
    retry_after: timedelta | None = None,
    metadata: Mapping[str, Any] | None = None,
    error: str = "",
    at: datetime | None = None,
) -> Run | None:
    """Say that a run has ended, and give it as it is then; see `RunEnd` for the words.

    None: there is no such run. An end is final: of one that has ended nothing is changed. A failure
    with retries left is queued again. Raises InvalidRequest. The reference: `end_task_run`.
    """
    report = RunEnd(
        id=as_id(run_id),
        state=state,
        outcome=outcome,
        fingerprint=fingerprint,
        retry_after=retry_after,
        metadata=metadata or {},
        error=error,
        at=at,
    )
    report.result()
    reported.end([report], now=clock.now())
    return Run.objects.filter(pk=report.id).first()


def end_runs(reports: Iterable[RunEnd]) -> Reported:
    """`end_run` in bulk. What is wrong with one report, or that there is no such run, stops no
    other: the answer says what became of each, once; of several reports of a run the first counts
    that is not refused. The reference has no such call.
    """
    return reported.end(list(reports), now=clock.now())
