"""What an end leads to: statistics, notifications, follow-up runs."""

from __future__ import annotations

from datetime import datetime

from scheduling.models import Cause, Event, Job, Run, State, Target
from scheduling.runs import circuits, follow_ups, late_fires, pings, restarts, scopes, telling
from scheduling.runs.joins import BY_WILL

TARGET_FIELDS = (
    "last_ended_at",
    "last_succeeded_at",
    "last_skipped_at",
    "last_state",
    "last_outcome",
    "last_alerted_at",
    "failing_since",
    "failures_in_a_row",
    "short_runs",
)


def record(run: Run, target: Target, job: Job, *, now: datetime) -> int:
    """Write what follows from the end of `run`; give how many runs became ready.

    The target's columns (TARGET_FIELDS) are set on the instance, for the caller to save.
    """
    restarts.count(run, target, job)
    if run.state == State.SKIPPED:
        target.last_skipped_at = now
        late_fires.given_up(run, target, job, now=now)
        pings.of_nothing(run)
        return follow_ups.insert(run, target, job, now)
    target.last_ended_at = now
    if run.state == State.FAILED and run.reason in BY_WILL:
        pings.of_nothing(run)
        return follow_ups.insert(run, target, job, now)
    pings.of_end(run, job, now=now)
    event = telling.event_of(run, target, job, now)
    events = {} if event is None else {event: telling.standing_before(target)}
    _count(run, target, now)
    if event in telling.ALERTS:
        target.last_alerted_at = now
    # Old days that are run again say nothing about today.
    counts = run.state == State.FAILED and run.cause != Cause.BACKFILL
    if counts and _pause_after_failures(target, job, now):
        events[Event.PAUSED] = (
            f"{target.failures_in_a_row} failures in a row; resume it once mended"
        )
    telling.insert(run, job, events, now=now)
    circuits.after_failure(run, target, job, now=now)
    return follow_ups.insert(run, target, job, now)


def _pause_after_failures(target: Target, job: Job, now: datetime) -> bool:
    """Pause what has failed as often in a row as its job allows: a plain job, or one target."""
    if job.pause_after is None or target.failures_in_a_row < job.pause_after:
        return False
    reason = f"{target.failures_in_a_row} failures in a row"
    return scopes.hold(target if target.key else job, by="Beatkeeper", reason=reason, now=now)


def _count(run: Run, target: Target, now: datetime) -> None:
    target.last_state, target.last_outcome = run.state, run.outcome
    if run.state == State.SUCCEEDED:
        target.last_succeeded_at, target.failing_since, target.failures_in_a_row = now, None, 0
    else:
        target.failing_since = target.failing_since or now
        target.failures_in_a_row += 1
