"""How runs end, or go back into the queue for another attempt: who asks for it, and when."""

from __future__ import annotations

from datetime import datetime
from typing import Any
from uuid import UUID

from scheduling.conf import conf
from scheduling.db import short_transaction
from scheduling.models import Cause, Reason, Run, State, Target
from scheduling.policies import retry_delay
from scheduling.runs import arrows, observing, rearming
from scheduling.runs.result import Result, may_retry
from scheduling.services import is_service


def finish(run_id: UUID, attempt: int, *, token: int | None, result: Result, now: datetime) -> bool:
    """Record the end of an attempt. False: refused, the attempt is no longer the accepted one.

    A failure with retries left moves the run back to queued instead. `token` is None for signal
    handlers, which do not know it; then run and attempt decide.
    """
    with short_transaction():
        run = arrows.running(run_id, attempt, token)
        if run is None or run.job is None or run.target is None:
            return False
        columns = columns_of(run, result)
        failed = result.state == State.FAILED
        if failed and may_retry(run, run.job, result):
            delay = result.retry_after
            if delay is None:
                delay = retry_delay(
                    run.failures + 1, base=run.job.retry_delay, cap=run.job.retry_delay_max
                )
            return arrows.requeue(
                run,
                reason=Reason.RETRY,
                ready_at=now + delay,
                now=now,
                failures=run.failures + 1,
                **columns,
            )
        reason = result.reason or ""
        return arrows.end(run, result.state, reason=reason, now=now, given=result, **columns)


def columns_of(run: Run, result: Result) -> dict[str, Any]:
    """What a run, its target loaded, keeps of how an attempt ended."""
    assert run.target is not None
    return {
        "exit_code": result.exit_code,
        "output": result.output,
        "output_bytes": result.output_bytes,
        "error": result.error,
        "outcome": observing.outcome_of(run, run.target, result),
        "result": result.value,
    }


def decline(run_id: UUID, attempt: int, *, token: int, detail: str, now: datetime) -> bool:
    """Record that `should_run` said no: a skipped row that leads to nothing."""
    with short_transaction():
        run = arrows.running(run_id, attempt, token)
        if run is None:
            return False
        return arrows.end(run, State.SKIPPED, reason=Reason.DECLINED, now=now, detail=detail[:500])


def hand_back(run_id: UUID, attempt: int, *, token: int | None, now: datetime) -> bool:
    """Put a run back whose worker stops; one that somebody wants to stop ends with that."""
    with short_transaction():
        run = arrows.running(run_id, attempt, token)
        if run is None:
            return False
        if run.stop_requested_at is not None:
            reason = Reason.TERMINATED if run.stop_at_once else Reason.CANCELLED
            return arrows.end(run, State.FAILED, reason=reason, now=now)
        return arrows.requeue(run, reason=Reason.HANDED_BACK, ready_at=now, now=now)


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
        run = arrows.locked(found.filter(lease_until__lt=now) if if_lapsed else found)
        if run is None or run.job is None:
            return False
        losses = run.losses + 1
        known: dict[str, Any] = {"losses": losses, "error": detail}
        if result is not None:
            known |= {"output": result.output, "output_bytes": result.output_bytes}
        if run.stop_requested_at is not None:
            reason = Reason.TERMINATED if run.stop_at_once else Reason.CANCELLED
            return arrows.end(run, State.FAILED, reason=reason, now=now, **known)
        if not run.job.rerun_if_lost or is_service(run.job):
            return arrows.end(run, State.FAILED, reason=Reason.LOST, now=now, **known)
        if losses >= conf.LOSSES_TO_POISON:
            return arrows.end(run, State.FAILED, reason=Reason.POISON, now=now, **known)
        return arrows.requeue(run, reason=Reason.LOST, ready_at=now, now=now, **known)


def break_off(run_id: UUID, attempt: int, *, why: str, now: datetime) -> bool:
    """End a running attempt in the database, whatever its worker is doing: its token is worth
    nothing from now on, and its worker ends it when it notices.
    """
    with short_transaction():
        run = arrows.running(run_id, attempt, None)
        if run is None:
            return False
        return arrows.end(run, State.FAILED, reason=Reason.TERMINATED, now=now, error=why)


def refuse(run_id: UUID, attempt: int, *, reason: Reason, error: str, now: datetime) -> bool:
    """Fail a queued run that no worker can ever start: its task is unknown, or cannot be sent."""
    with short_transaction():
        run = arrows.locked(Run.objects.filter(pk=run_id, attempt=attempt, state=State.QUEUED))
        if run is None:
            return False
        return arrows.end(
            run, State.FAILED, reason=reason, now=now, leaving=State.QUEUED, error=error
        )


def skip_queued(
    run: Run, target: Target, *, reason: Reason, now: datetime, detail: str = ""
) -> bool:
    """Skip a queued run. The caller holds the target's lock."""
    run.target = target
    skipped = arrows.end(
        run, State.SKIPPED, reason=reason, now=now, leaving=State.QUEUED, detail=detail[:500]
    )
    if skipped and run.cause in (Cause.SCHEDULE, Cause.CATCH_UP):
        rearming.give_back(run, target, now=now)
    return skipped


def give_up_retry(run: Run, target: Target, *, detail: str, now: datetime) -> bool:
    """End a queued run whose attempts so far have failed, as they have ended; its next attempt is
    not waited for. The caller holds the target's lock.
    """
    run.target = target
    reason = Reason.LOST if run.reason == Reason.LOST else Reason.ERROR
    return arrows.end(
        run, State.FAILED, reason=reason, now=now, leaving=State.QUEUED, detail=detail[:500]
    )
