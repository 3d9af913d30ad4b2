"""Starts and ends that executors tell of, one by one and in bulk, in any order, more than once.

Known by the run's id. An end is final: whatever is told afterwards changes nothing.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from datetime import datetime, timedelta
from typing import Any
from uuid import UUID

from scheduling import redis
from scheduling.conf import conf
from scheduling.db import short_transaction, update_free
from scheduling.errors import SchedulingError
from scheduling.models import Job, Reason, Run, State
from scheduling.runs import (
    arrows,
    attempts,
    bulk,
    coverage,
    ends,
    follow_ups,
    log,
    observing,
    one_offs,
    pausing,
)
from scheduling.runs.adding import BY_HAND
from scheduling.runs.result import Result, may_retry
from scheduling.runs.run_end import LOST, PERMANENT, Reported, RunEnd
from scheduling.runs.stored_json import storable
from scheduling.runs.together import Together, seated

BATCH = 500

Told = tuple[RunEnd, Result]
END_FIELDS = (
    *("state", "reason", "started_at", "ended_at", "lease_until", "publish_at", "feed_at"),
    *("waiting_on_id", "waiting_for", "exit_code", "output", "output_bytes", "error", "outcome"),
    *("result", "metadata"),
)


# --- starts ---------------------------------------------------------------------------------------


def start(
    run_id: UUID,
    *,
    worker: str,
    metadata: Mapping[str, Any],
    lease: timedelta,
    at: datetime,
    now: datetime,
) -> Run | None:
    """Begin a queued run; or take note again that it runs in the hands of `worker`.

    None: it is not this worker's to run. It is unknown, has ended or was taken by another; or it
    may not start now, and has been skipped or waits.
    """
    found = Run.objects.filter(pk=run_id).values_list("state", "attempt").first()
    if found is None:
        return None
    state, attempt = found
    with short_transaction():
        if state == State.QUEUED:
            attempts.start(run_id, attempt, worker=worker, now=at)
        mine = Run.objects.filter(pk=run_id, state=State.RUNNING, worker=worker)
        # Two reports must not both add to the metadata that they have read.
        run = mine.select_for_update(no_key=True).first()
        if run is None:
            # If it waits for a run or a lock, then no longer for a slot.
            waits = Run.objects.queued().exclude(waiting_on=None, waiting_for="")
            waits.filter(pk=run_id, feed_at__isnull=False).update(feed_at=None)
            return None
        run.metadata = {**run.metadata, **storable(metadata)}
        run.lease_until, run.feed_at, run.publish_at = max(at, now) + lease, None, None
        run.save(update_fields=("metadata", "lease_until", "feed_at", "publish_at"))
    return run


def renew(run_ids: Collection[UUID], *, worker: str, lease: timedelta, now: datetime) -> set[UUID]:
    """Prolong the leases of what this worker has in hand; give the runs that are still its."""
    mine = Run.objects.running().filter(pk__in=run_ids, worker=worker)
    update_free(mine, lease_until=now + lease)
    return set(mine.values_list("pk", flat=True))


# --- ends -----------------------------------------------------------------------------------------


def end(reports: Sequence[RunEnd], *, now: datetime) -> Reported:
    """Take note of ends, at most `BATCH` in a transaction; those that lock more than their targets,
    each in its own. What is wrong with one of them, or that nobody knows its run, stops no other.

    A failure with retries left puts the run back into the queue, as a worker's does. A run that is
    not said to have started has done so now. After "permanent" a target that would come up again
    is paused.
    """
    results: dict[UUID, Told] = {}
    refused: dict[UUID, str] = {}
    for report in reports:
        if report.id in results:
            continue
        try:
            results[report.id] = report, report.result()
        except SchedulingError as error:
            refused.setdefault(report.id, str(error))
    told = Reported(refused={pk: why for pk, why in refused.items() if pk not in results})
    ids = list(results)
    for begin in range(0, len(ids), BATCH):
        batch = [results[run_id] for run_id in ids[begin : begin + BATCH]]
        _end_batch(batch, told, now=now)
    return told


def _end_batch(batch: Sequence[Told], told: Reported, *, now: datetime) -> None:
    together: list[tuple[Run, Told]] = []
    alone: list[Told] = []
    with short_transaction():
        known = Run.objects.filter(
            pk__in=[report.id for report, _ in batch], job__isnull=False, target__isnull=False
        )
        targets = one_offs.lock_in_order(set(known.values_list("target_id", flat=True)))
        # The rows themselves, too: workers renew their leases without the target.
        rows = known.filter(target__in=targets).order_by("pk").select_for_update(no_key=True)
        runs = {run.pk: run for run in rows.defer("output")}
        with_seats = seated(runs)
        for report, result in batch:
            run = runs.get(report.id)
            if run is None:
                told.unknown.append(report.id)
            elif run.ended_at is not None:
                told.unchanged.append(run.pk)
            else:
                run.target = targets[run.target_id or 0]
                run.job = run.target.job
                is_alone = run.pk in with_seats or _locks_more(run, run.job, result)
                if is_alone or not _is_plain(run, run.job, result, together):
                    alone.append((report, result))
                else:
                    together.append((run, (report, result)))
        # Two batches are not to make targets of followers for the same keys in another order.
        together.sort(key=lambda each: (each[0].key, each[0].job_id))
        _end_together(together, now=now)
        for run, (report, _) in together:
            if report.state == PERMANENT:
                _pause(run, report, now=now)
    told.changed += [run.pk for run, _ in together]
    for report, result in alone:
        has_ended = _end_alone(report, result, now=now)
        (told.changed if has_ended else told.unchanged).append(report.id)


def _locks_more(run: Run, job: Job, result: Result) -> bool:
    """Whether its end may lock a job, a circuit or the first run of its chain: two that end several
    of these in one transaction, in whatever order, would wait for each other.
    """
    if not run.key and observing.chances_of(job):
        return True
    if result.state == State.FAILED and job.circuit_id is not None:
        return True
    return run.root_id is not None and bool(follow_ups.rules_of(job))


def _is_plain(run: Run, job: Job, result: Result, others: Sequence[tuple[Run, Told]]) -> bool:
    """Whether a run ends by this, and what it has found does not hang on one of the others."""
    if result.reason == Reason.LOST:
        return False
    if result.state == State.FAILED and may_retry(run, job, result):
        return False
    return not result.fingerprint or all(run.target_id != other.target_id for other, _ in others)


def _end_together(ends_of: Sequence[tuple[Run, Told]], *, now: datetime) -> None:
    """What `arrows.end` does, in as many statements for many runs as it takes for one.

    Runs and targets are locked, so that what is written here is what was read.
    """
    runs = [run for run, _ in ends_of]
    for run, (report, result) in ends_of:
        at = _time_of(report, now)
        columns = {
            **arrows.columns_of_end(result.state, reason=result.reason or "", now=at),
            **ends.columns_of(run, result),
            "metadata": {**run.metadata, **storable(report.metadata)},
            "started_at": run.started_at or at,
        }
        for name, value in columns.items():
            setattr(run, name, value)
    bulk.write(runs, END_FIELDS)
    ready, asked = 0, Together.of(runs)
    with coverage.gathering():
        for run, (report, result) in ends_of:
            at = _time_of(report, now)
            ready += arrows.follow(run, given=result, now=at, together=asked)
    targets = {run.target_id: run.target for run in runs if run.target is not None}
    for job in {run.job_id: run.job for run in runs if run.job is not None}.values():
        mine = [target for target in targets.values() if target.job_id == job.pk]
        bulk.write(mine, arrows.fields_after_end(job))
    for run in runs:
        log.changed(run, str(run.state))
    if ready:
        redis.ring_on_commit()


def _time_of(report: RunEnd, now: datetime) -> datetime:
    """When it ended; by a clock that is ahead now, or nothing until then would count any more."""
    return min(report.at or now, now + conf.CLOCK_SKEW)


def _end_alone(report: RunEnd, result: Result, *, now: datetime) -> bool:
    """End a run by the arrows of everybody, or let it be tried again; False: it has ended."""
    at = _time_of(report, now)
    with short_transaction():
        run = arrows.locked(Run.objects.filter(pk=report.id, ended_at=None))
        if run is None:
            return False
        columns: dict[str, Any] = {
            "metadata": {**run.metadata, **storable(report.metadata)},
            "feed_at": None,
        }
        if run.state == State.QUEUED:
            others = Run.objects.running().filter(target=run.target_id, exclusive=True)
            columns |= {
                "state": State.RUNNING,
                "started_at": at,
                # It has run beside another one, whatever its job says.
                "exclusive": run.exclusive and not others.exists(),
                "waiting_on": None,
                "waiting_for": "",
            }
        Run.objects.filter(pk=run.pk, attempt=run.attempt, state=run.state).update(**columns)
        if report.state == LOST:
            ends.lose(run.pk, run.attempt, detail=result.error, now=at)
        else:
            ends.finish(run.pk, run.attempt, token=None, result=result, now=at)
        if report.state == PERMANENT:
            _pause(run, report, now=now)
    return True


def _pause(run: Run, report: RunEnd, *, now: datetime) -> None:
    """Pause a target that would come up again, after a failure that nothing can mend."""
    target, job = run.target, run.job
    assert target is not None
    assert job is not None
    if job.feed is not None or target.schedule_text != BY_HAND:
        reason = storable(report.error) or f"run {run.pk} failed for good"
        pausing.pause(target, by=observing.BY, reason=reason, now=_time_of(report, now))
