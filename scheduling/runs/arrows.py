"""The arrows out of queued and running, each with everything that follows from it.

Every arrow is one conditional UPDATE that names the state it leaves; what follows from an end
(waiters, seats, follow-ups, notifications, the next cursor) is in the same transaction.
"""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from typing import Any
from uuid import UUID

from scheduling import redis
from scheduling.models import Attempt, Job, Reason, Run, State
from scheduling.models.run import RunQuerySet
from scheduling.runs import consequences, log, pool, rearming, seats, tickets, waking
from scheduling.runs.cursors import CURSOR_FIELDS, job_of, lock_target
from scheduling.runs.result import Result
from scheduling.runs.together import Together

# Characters of the output of an attempt that did not end its run: its end.
ATTEMPT_OUTPUT = 16 * 1024


def running(run_id: UUID, attempt: int, token: int | None) -> Run | None:
    """The accepted attempt, its target locked; None if it is no longer accepted."""
    found = Run.objects.filter(pk=run_id, attempt=attempt, state=State.RUNNING)
    if token is not None:
        found = found.filter(token=token)
    return locked(found)


def locked(found: RunQuerySet) -> Run | None:
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


def requeue(run: Run, *, reason: Reason, ready_at: datetime, now: datetime, **columns: Any) -> bool:
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


def end(
    run: Run,
    state: State,
    *,
    reason: str,
    now: datetime,
    leaving: State = State.RUNNING,
    given: Result | None = None,
    **columns: Any,
) -> bool:
    """Move a run to an end state, with everything that follows from it.

    `given`: what its body gave back, which says more of the target than there are columns for.
    """
    moved = Run.objects.filter(pk=run.pk, attempt=run.attempt, state=leaving).update(
        **columns_of_end(state, reason=reason, now=now), **columns
    )
    if moved != 1:
        return False
    run.state, run.reason, run.ended_at = state, reason, now
    for name, value in columns.items():
        setattr(run, name, value)
    ready = follow(run, given=given, now=now)
    assert run.target is not None
    assert run.job is not None
    run.target.save(update_fields=fields_after_end(run.job))
    pool.wake_feeders_of([run.target])
    log.changed(run, str(state.value))
    if ready:
        redis.ring_on_commit()
    return True


def columns_of_end(state: State, *, reason: str, now: datetime) -> dict[str, Any]:
    return {
        "state": state,
        "reason": reason,
        "ended_at": now,
        "lease_until": None,
        "publish_at": None,
        "feed_at": None,
        "waiting_on": None,
        "waiting_for": "",
    }


def follow(
    run: Run, *, given: Result | None, now: datetime, together: Together | None = None
) -> int:
    """Do what follows from the end of a run; give how many runs became ready. The columns of its
    target (`fields_after_end`) are set on the instance, for the caller to save.

    `together`: the run, which has no seat, ends with others, for all of which this was asked.
    """
    target, job = run.target, run.job
    assert target is not None
    assert job is not None
    is_watched = together is None or run.pk in together.watched
    is_busy = None if together is None else target.pk in together.busy
    clock = None if together is None else together.clocks.get(job.pk, 0)
    ready = waking.wake_waiters(run, now=now) if is_watched else 0
    ready += consequences.record(run, target, job, now=now, given=given, clock=clock)
    rearming.rearm_after_end(target, job, ended=now, is_busy=is_busy)
    pool.after_result(target, job, now=now, is_busy=is_busy)
    if not is_watched:
        return ready
    keep = target.next_fire_at if job.locks_until_next_fire else None
    # Also of a run that was only in line: it may have been the one that was woken.
    freed = tickets.leave(run) + seats.release(run, now=now, until=keep)
    return ready + tickets.wake(freed, now=now)


def fields_after_end(job: Job) -> tuple[str, ...]:
    """The columns of a target that the end of a run may change."""
    pool_fields = () if job.feed is None else pool.POOL_FIELDS
    return (*consequences.TARGET_FIELDS, *CURSOR_FIELDS, *pool_fields)
