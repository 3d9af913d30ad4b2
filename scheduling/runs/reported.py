"""Starts and ends that executors tell of, one by one and in bulk, in any order, more than once.

Known by the run's id. An end is final: whatever is told afterwards changes nothing.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any
from uuid import UUID

from scheduling import redis
from scheduling.conf import conf
from scheduling.db import short_transaction, update_free
from scheduling.errors import InvalidRequest, SchedulingError
from scheduling.models import Job, Outcome, Reason, Run, State
from scheduling.outcome import LONGEST_FINGERPRINT
from scheduling.runs import arrows, attempts, batches, bulk, ends, log, observing, one_offs, pausing
from scheduling.runs.adding import BY_HAND
from scheduling.runs.result import Result, may_retry
from scheduling.zones import require_aware

BATCH = 500
LOST, PERMANENT = "lost", "permanent"
# How a run may be said to have ended: state and reason of its row.
WORDS: Mapping[str, tuple[State, Reason | None]] = {
    "succeeded": (State.SUCCEEDED, None),
    "failed": (State.FAILED, Reason.ERROR),
    LOST: (State.FAILED, Reason.LOST),
    PERMANENT: (State.FAILED, Reason.PERMANENT),
    "cancelled": (State.FAILED, Reason.CANCELLED),
}


@dataclass(frozen=True, slots=True, kw_only=True)
class RunEnd:
    """That a run has ended: "succeeded", "failed", "lost" (nobody knows how), "permanent" (failed,
    and no retry can mend it) or "cancelled".

    `fingerprint` of what a success found says its outcome; or `outcome` does. `retry_after`: the
    target is not to be looked at again before so much time has passed. `at`: when, default now.
    """

    id: UUID
    state: str = "succeeded"
    outcome: Outcome | str | None = None
    fingerprint: str = ""
    retry_after: timedelta | None = None
    metadata: Mapping[str, Any] = field(default_factory=dict)
    error: str = ""
    at: datetime | None = None

    def result(self) -> Result:
        """Raises InvalidRequest, NaiveTime."""
        if self.state not in WORDS:
            raise InvalidRequest(
                f"Run {self.id} is said to have ended {self.state!r}; known are {', '.join(WORDS)}"
            )
        if self.at is not None:
            require_aware(self.at)
        if self.retry_after is not None and self.retry_after <= timedelta(0):
            raise InvalidRequest(
                f"retry_after of run {self.id} is {self.retry_after!r}; give a positive timedelta"
            )
        one_offs.as_text(self.metadata)
        state, reason = WORDS[self.state]
        return Result(
            state=state,
            reason=reason,
            outcome=self._outcome(state),
            fingerprint=one_offs.storable(self.fingerprint),
            next_after=self.retry_after,
            error=one_offs.storable(self.error),
        )

    def _outcome(self, state: State) -> Outcome | None:
        if self.outcome is not None and self.outcome not in set(Outcome):
            raise InvalidRequest(
                f"The outcome of run {self.id} is {self.outcome!r}; known are {', '.join(Outcome)}"
            )
        if (self.outcome or self.fingerprint) and state != State.SUCCEEDED:
            raise InvalidRequest(
                f"Run {self.id} has {self.state} and yet found something; only a success has an "
                "outcome or a fingerprint"
            )
        if self.outcome and self.fingerprint:
            raise InvalidRequest(
                f"Run {self.id} has an outcome and a fingerprint, which says the outcome; give one"
            )
        if len(self.fingerprint) > LONGEST_FINGERPRINT:
            raise InvalidRequest(
                f"The fingerprint of run {self.id} has {len(self.fingerprint)} characters; give a "
                f"digest of {LONGEST_FINGERPRINT} at most"
            )
        return None if self.outcome is None else Outcome(self.outcome)


@dataclass(slots=True, kw_only=True)
class Reported:
    """What became of reports: ids of runs by what they have led to."""

    changed: list[UUID] = field(default_factory=list)
    # It was known already, or comes too late: nothing has changed.
    unchanged: list[UUID] = field(default_factory=list)
    # There is no such run.
    unknown: list[UUID] = field(default_factory=list)
    # id -> what is wrong with its report
    refused: dict[UUID, str] = field(default_factory=dict)


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
        run.metadata = {**run.metadata, **one_offs.storable(metadata)}
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
    """Take note of ends, at most `BATCH` in a transaction. What is wrong with one of them, or that
    nobody knows its run, stops no other.

    A failure with retries left puts the run back into the queue, as a worker's does. A run that is
    not said to have started has done so now. After "permanent" a target that would come up again
    is paused.
    """
    told = Reported()
    results: dict[UUID, Told] = {}
    for report in reports:
        try:
            result = report.result()
        except SchedulingError as error:
            told.refused[report.id] = str(error)
        else:
            # The first word counts.
            results.setdefault(report.id, (report, result))
    ids = list(results)
    for begin in range(0, len(ids), BATCH):
        batch = [results[run_id] for run_id in ids[begin : begin + BATCH]]
        _end_batch(batch, told, now=now)
    return told


def _end_batch(batch: Sequence[Told], told: Reported, *, now: datetime) -> None:
    with short_transaction():
        known = Run.objects.filter(
            pk__in=[report.id for report, _ in batch], job__isnull=False, target__isnull=False
        )
        targets = one_offs.lock_in_order(set(known.values_list("target_id", flat=True)))
        # The rows themselves, too: workers renew their leases without the target.
        rows = known.filter(target__in=targets).order_by("pk").select_for_update(no_key=True)
        runs = {run.pk: run for run in rows.defer("output")}
        together: list[tuple[Run, Told]] = []
        alone: list[tuple[Run, Told]] = []
        for report, result in batch:
            run = runs.get(report.id)
            if run is None:
                told.unknown.append(report.id)
            elif run.ended_at is not None:
                told.unchanged.append(run.pk)
            else:
                run.target = targets[run.target_id or 0]
                run.job = run.target.job
                kind = together if _is_plain(run, run.job, result, together) else alone
                kind.append((run, (report, result)))
                told.changed.append(run.pk)
        _end_together(together, now=now)
        for run, (report, result) in alone:
            _end_alone(run, report, result, now=now)
        for run, (report, _) in (*together, *alone):
            if report.state == PERMANENT:
                _pause(run, report, now=now)


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
    watched = batches.not_alone([run.pk for run in runs])
    for run, (report, result) in ends_of:
        at = _time_of(report, now)
        columns = {
            **arrows.columns_of_end(result.state, reason=result.reason or "", now=at),
            **ends.columns_of(run, result),
            "metadata": {**run.metadata, **one_offs.storable(report.metadata)},
            "started_at": run.started_at or at,
        }
        for name, value in columns.items():
            setattr(run, name, value)
    bulk.write(runs, END_FIELDS)
    ready = 0
    for run, (report, result) in ends_of:
        at = _time_of(report, now)
        ready += arrows.follow(run, given=result, now=at, is_alone=run.pk not in watched)
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


def _end_alone(run: Run, report: RunEnd, result: Result, *, now: datetime) -> None:
    """End a run by the arrows of everybody, or let it be tried again; its target is locked."""
    at = _time_of(report, now)
    columns: dict[str, Any] = {
        "metadata": {**run.metadata, **one_offs.storable(report.metadata)},
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


def _pause(run: Run, report: RunEnd, *, now: datetime) -> None:
    """Pause a target that would come up again, after a failure that nothing can mend."""
    target, job = run.target, run.job
    assert target is not None
    assert job is not None
    if job.feed is not None or target.schedule_text != BY_HAND:
        reason = one_offs.storable(report.error) or f"run {run.pk} failed for good"
        pausing.pause(target, by=observing.BY, reason=reason, now=_time_of(report, now))
