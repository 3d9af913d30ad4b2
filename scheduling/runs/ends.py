"""How runs end, or go back into the queue for another attempt.

Every arrow is one conditional UPDATE that names the state it leaves; what follows from an end
(waiters, seats, follow-ups, notifications, the next cursor) is in the same transaction.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any
from uuid import UUID

from django.db.models import F

from scheduling import redis
from scheduling.conf import conf
from scheduling.db import short_transaction
from scheduling.errors import InvalidSchedule
from scheduling.models import Attempt, Cause, Job, Outcome, Parked, Reason, Run, State, Target
from scheduling.models.run import RunQuerySet
from scheduling.policies import retry_delay
from scheduling.runs import consequences, log, restarts, seats, tickets
from scheduling.runs.cursors import (
    CURSOR_FIELDS,
    first_fire,
    job_of,
    lock_target,
    schedule_of,
    set_cursor,
    within_life,
)
from scheduling.services import is_service

# Characters of the output of an attempt that did not end its run: its end.
ATTEMPT_OUTPUT = 16 * 1024
# Ends by somebody's will, or that another attempt cannot mend.
NOT_RETRIED = {
    Reason.CANCELLED,
    Reason.TERMINATED,
    Reason.PERMANENT,
    Reason.UNKNOWN_TASK,
    Reason.POISON,
    Reason.LOST,
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Result:
    """How an attempt ended, as its worker saw it."""

    state: State  # SUCCEEDED or FAILED
    reason: Reason | None = None
    outcome: Outcome | None = None
    exit_code: int | None = None
    output: str = ""
    output_bytes: int = 0
    error: str = ""
    # The names of the error's class and of those that it is derived from, for `retry_on`.
    error_types: tuple[str, ...] = ()
    # What the job gave back, as JSON has it, for its follow-ups; None: nothing, or too much.
    value: Any = None
    # Asked for by the job itself: wait so long and try again.
    retry_after: timedelta | None = None


def finish(run_id: UUID, attempt: int, *, token: int | None, result: Result, now: datetime) -> bool:
    """Record the end of an attempt. False: refused, the attempt is no longer the accepted one.

    A failure with retries left moves the run back to queued instead. `token` is None for signal
    handlers, which do not know it; then run and attempt decide.
    """
    with short_transaction():
        run = _running(run_id, attempt, token)
        if run is None or run.job is None or run.target is None:
            return False
        columns: dict[str, Any] = {
            "exit_code": result.exit_code,
            "output": result.output,
            "output_bytes": result.output_bytes,
            "error": result.error,
            "outcome": result.outcome or "",
            "result": result.value,
        }
        failed = result.state == State.FAILED
        if failed and _may_retry(run, run.job, result):
            delay = result.retry_after
            if delay is None:
                delay = retry_delay(
                    run.failures + 1, base=run.job.retry_delay, cap=run.job.retry_delay_max
                )
            return _requeue(
                run,
                reason=Reason.RETRY,
                ready_at=now + delay,
                now=now,
                failures=run.failures + 1,
                **columns,
            )
        return _end(run, result.state, reason=result.reason or "", now=now, **columns)


def decline(run_id: UUID, attempt: int, *, token: int, detail: str, now: datetime) -> bool:
    """Record that `should_run` said no: a skipped row that leads to nothing."""
    with short_transaction():
        run = _running(run_id, attempt, token)
        if run is None:
            return False
        return _end(run, State.SKIPPED, reason=Reason.DECLINED, now=now, detail=detail[:500])


def hand_back(run_id: UUID, attempt: int, *, token: int, now: datetime) -> bool:
    """Put a run back whose worker stops; one that somebody wants to stop ends with that."""
    with short_transaction():
        run = _running(run_id, attempt, token)
        if run is None:
            return False
        if run.stop_requested_at is not None:
            reason = Reason.TERMINATED if run.stop_at_once else Reason.CANCELLED
            return _end(run, State.FAILED, reason=reason, now=now)
        return _requeue(run, reason=Reason.HANDED_BACK, ready_at=now, now=now)


def lose(
    run_id: UUID,
    attempt: int,
    *,
    detail: str,
    now: datetime,
    if_lapsed: bool = False,
    result: Result | None = None,
) -> bool:
    """Record that the process of a running attempt is gone.

    The job's policy decides: run again (at least once), or fail as lost (at most once). A job
    that keeps killing its workers is stopped as poison. `if_lapsed`: only if the lease has lapsed,
    for who judges by the lease alone; the worker may have renewed it a moment ago. `result` has
    what the run had written, where that is known; else what was shown of it stays.
    """
    with short_transaction():
        found = Run.objects.filter(pk=run_id, attempt=attempt, state=State.RUNNING)
        run = _locked(found.filter(lease_until__lt=now) if if_lapsed else found)
        if run is None or run.job is None:
            return False
        losses = run.losses + 1
        known: dict[str, Any] = {"losses": losses, "error": detail}
        if result is not None:
            known |= {"output": result.output, "output_bytes": result.output_bytes}
        if run.stop_requested_at is not None:
            reason = Reason.TERMINATED if run.stop_at_once else Reason.CANCELLED
            return _end(run, State.FAILED, reason=reason, now=now, **known)
        if not run.job.rerun_if_lost or is_service(run.job):
            return _end(run, State.FAILED, reason=Reason.LOST, now=now, **known)
        if losses >= conf.LOSSES_TO_POISON:
            return _end(run, State.FAILED, reason=Reason.POISON, now=now, **known)
        return _requeue(run, reason=Reason.LOST, ready_at=now, now=now, **known)


def break_off(run_id: UUID, attempt: int, *, why: str, now: datetime) -> bool:
    """End a running attempt in the database, whatever its worker is doing: its token is worth
    nothing from now on, and its worker ends it when it notices.
    """
    with short_transaction():
        run = _running(run_id, attempt, None)
        if run is None:
            return False
        return _end(run, State.FAILED, reason=Reason.TERMINATED, now=now, error=why)


def refuse(run_id: UUID, attempt: int, *, reason: Reason, error: str, now: datetime) -> bool:
    """Fail a queued run that no worker can ever start: its task is unknown, or cannot be sent."""
    with short_transaction():
        run = _locked(Run.objects.filter(pk=run_id, attempt=attempt, state=State.QUEUED))
        if run is None:
            return False
        return _end(run, State.FAILED, reason=reason, now=now, leaving=State.QUEUED, error=error)


def skip_queued(
    run: Run, target: Target, *, reason: Reason, now: datetime, detail: str = ""
) -> bool:
    """Skip a queued run. The caller holds the target's lock."""
    run.target = target
    skipped = _end(
        run, State.SKIPPED, reason=reason, now=now, leaving=State.QUEUED, detail=detail[:500]
    )
    if skipped and run.cause in (Cause.SCHEDULE, Cause.CATCH_UP):
        _give_back(run, target, now=now)
    return skipped


def _give_back(run: Run, target: Target, *, now: datetime) -> None:
    """Let a skipped fire not count against its job's number of runs."""
    job = run.job
    if job is None or job.runs_left is None:
        return
    Job.objects.filter(pk=job.pk, runs_left__isnull=False).update(runs_left=F("runs_left") + 1)
    job.runs_left += 1
    if target.next_fire_at is not None or target.parked:
        return
    # It had come to its end.
    try:
        schedule = schedule_of(target, job)
    except InvalidSchedule:
        return
    set_cursor(target, first_fire(schedule, job, after=now, name=target.name))
    target.save(update_fields=CURSOR_FIELDS)


def give_up_retry(run: Run, target: Target, *, detail: str, now: datetime) -> bool:
    """End a queued run whose attempts so far have failed, as they have ended; its next attempt is
    not waited for. The caller holds the target's lock.
    """
    run.target = target
    reason = Reason.LOST if run.reason == Reason.LOST else Reason.ERROR
    return _end(
        run, State.FAILED, reason=reason, now=now, leaving=State.QUEUED, detail=detail[:500]
    )


def _running(run_id: UUID, attempt: int, token: int | None) -> Run | None:
    """The accepted attempt, its target locked; None if it is no longer accepted."""
    found = Run.objects.filter(pk=run_id, attempt=attempt, state=State.RUNNING)
    if token is not None:
        found = found.filter(token=token)
    return _locked(found)


def _locked(found: RunQuerySet) -> Run | None:
    """The run of a query for one, if the query still finds it once its target is locked."""
    target_id = found.values_list("target_id", flat=True).first()
    if target_id is None:
        return None
    target = lock_target(target_id)
    # The row itself, too: a worker renews its lease, a person asks for a stop without the target.
    run = found.select_for_update(no_key=True).first()
    if run is None or run.job_id is None:
        return None
    run.target = target
    run.job = job_of(target)
    return run


def _may_retry(run: Run, job: Job, result: Result) -> bool:
    if run.stop_requested_at is not None or result.reason in NOT_RETRIED or is_service(job):
        return False
    if result.retry_after is not None:
        # Celery's own retries count by the task's `max_retries`, which the worker has checked.
        return True
    return run.failures < job.retries and is_retried(job.retry_on, result)


def is_retried(retry_on: Collection[str | int], result: Result) -> bool:
    """Whether a job that names what is retried names this: an error or a class that it is derived
    from, an exit code, or a reason such as hard_limit. Without names everything is.
    """
    if not retry_on:
        return True
    known = (*result.error_types, result.exit_code, str(result.reason or ""))
    # What was written by hand may be anything that JSON has.
    named = retry_on if isinstance(retry_on, list | tuple) else [retry_on]
    return any(each in known for each in named)


def _requeue(
    run: Run, *, reason: Reason, ready_at: datetime, now: datetime, **columns: Any
) -> bool:
    """running -> queued, as the next attempt. What waits behind it keeps waiting."""
    moved = Run.objects.filter(pk=run.pk, attempt=run.attempt, state=State.RUNNING).update(
        state=State.QUEUED,
        reason=reason,
        attempt=run.attempt + 1,
        ready_at=ready_at,
        publish_at=ready_at,
        published_at=None,
        start_by=None,
        lease_until=None,
        token=None,
        waiting_since=None,
        **columns,
    )
    if moved != 1:
        return False
    _remember(run, reason, now, columns)
    run.state, run.reason = State.QUEUED, reason
    tickets.wake(tickets.leave(run) + seats.release(run, now=now), now=now)
    log.changed(run, f"attempt {run.attempt} ended, queued again")
    redis.ring_on_commit()
    return True


def _remember(run: Run, reason: Reason, now: datetime, columns: Mapping[str, Any]) -> None:
    """Keep what is known of an attempt that has ended, though its run goes on."""
    Attempt.objects.create(
        run=run,
        number=run.attempt,
        worker=run.worker,
        token=run.token,
        started_at=run.started_at,
        ended_at=now,
        reason=reason,
        exit_code=columns.get("exit_code"),
        # What a lost one had written is in the run, stored while it ran.
        output=columns.get("output", run.output)[-ATTEMPT_OUTPUT:],
        output_bytes=columns.get("output_bytes", run.output_bytes),
        error=columns.get("error", ""),
    )


def _end(
    run: Run,
    state: State,
    *,
    reason: str,
    now: datetime,
    leaving: State = State.RUNNING,
    **columns: Any,
) -> bool:
    """Move a run to an end state, with everything that follows from it."""
    moved = Run.objects.filter(pk=run.pk, attempt=run.attempt, state=leaving).update(
        state=state,
        reason=reason,
        ended_at=now,
        lease_until=None,
        publish_at=None,
        waiting_on=None,
        waiting_for="",
        **columns,
    )
    if moved != 1:
        return False
    run.state, run.reason, run.ended_at = state, reason, now
    for name, value in columns.items():
        setattr(run, name, value)
    target, job = run.target, run.job
    assert target is not None
    assert job is not None
    ready = wake_waiters(run, now=now)
    ready += consequences.record(run, target, job, now=now)
    rearm_after_end(target, job, ended=now)
    keep = target.next_fire_at if job.locks_until_next_fire else None
    # Also of a run that was only in line: it may have been the one that was woken.
    freed = tickets.leave(run) + seats.release(run, now=now, until=keep)
    ready += tickets.wake(freed, now=now)
    target.save(update_fields=(*consequences.TARGET_FIELDS, *CURSOR_FIELDS))
    log.changed(run, str(state.value))
    if ready:
        redis.ring_on_commit()
    return True


def wake_waiters(run: Run, *, now: datetime) -> int:
    """Let the runs that waited for the end of `run` be published; give how many."""
    waiters = Run.objects.queued().filter(waiting_on=run).select_related("job")
    return sum(wake(waiter, now=now) for waiter in waiters.defer("output", "error"))


def wake(run: Run, *, now: datetime) -> bool:
    """Let a run no longer wait for another one. A delay that it has on top is kept.

    The time in which it must start begins now, unless its job has named that time: then waiting
    counts, whatever for.
    """
    ready = max(run.ready_at or now, now)
    start_by = run.start_by
    is_named = run.job is not None and run.job.start_within is not None
    if start_by is not None and run.ready_at is not None and not is_named:
        start_by += ready - run.ready_at
    changed = Run.objects.queued().filter(pk=run.pk, waiting_on=run.waiting_on_id)
    return bool(
        changed.update(
            waiting_on=None, ready_at=ready, publish_at=ready, published_at=None, start_by=start_by
        )
    )


def rearm_after_end(target: Target, job: Job, *, ended: datetime) -> None:
    """Give a target that counts from the end of its runs its next cursor, on the instance.

    Only if it still waits for that: a pause, an edit or a retirement since then has its own say.
    """
    if target.parked != Parked.OPEN:
        return
    if Run.objects.open().filter(target=target).exists():
        return
    try:
        schedule = schedule_of(target, job)
    except InvalidSchedule:
        # Due at once: the claim puts it aside with an error.
        set_cursor(target, ended)
        return
    following = schedule.after_end(ended)
    if following is not None and is_service(job, target):
        following += restarts.delay(target)
    set_cursor(target, within_life(job, following))
