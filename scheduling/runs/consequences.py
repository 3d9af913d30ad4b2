"""What an end leads to: statistics, notifications, follow-up runs."""

from __future__ import annotations

from datetime import datetime

from scheduling.models import Cause, Event, Job, Reason, Run, State, Target
from scheduling.runs import (
    circuits,
    coverage,
    follow_ups,
    late_fires,
    observing,
    pings,
    restarts,
    scopes,
    telling,
)
from scheduling.runs.joins import BY_WILL
from scheduling.runs.result import Result

TARGET_FIELDS = (
    "last_scheduled_at",
    "last_ended_at",
    "last_succeeded_at",
    "last_skipped_at",
    "last_alerted_at",
    "failing_since",
    "failures_in_a_row",
    "short_runs",
    *observing.STANDING_FIELDS,
)
# Why a pick comes to nothing that no strategy would have made had it known.
IN_VAIN = (Reason.PAUSED, Reason.CIRCUIT)
PAUSE_FIELDS = ("paused_at", "paused_by", "pause_reason", "paused_until")


def record(
    run: Run,
    target: Target,
    job: Job,
    *,
    now: datetime,
    given: Result | None = None,
    clock: int | None = None,
) -> int:
    """Write what follows from the end of `run`; give how many runs became ready.

    `given`: what its body gave back; `clock`: the virtual one of its job, if that is known. The
    target's columns (TARGET_FIELDS) are set on the instance, for the caller to save.
    """
    restarts.count(run, target, job)
    # Newer than the pick: nothing is in flight any more, whatever the end was.
    ended_at = now if job.feed is None else observing.after_pick(target, now)
    if run.state == State.SKIPPED:
        target.last_skipped_at = ended_at
        if run.strategy and run.reason in IN_VAIN:
            # The next pick comes as if this one had not been.
            target.last_scheduled_at = target.last_started_at
        late_fires.given_up(run, target, job, now=now)
        pings.of_nothing(run)
        return follow_ups.insert(run, target, job, now)
    target.last_ended_at = ended_at
    if run.state == State.FAILED and run.reason in BY_WILL:
        _ask(target, given, now)
        pings.of_nothing(run)
        return follow_ups.insert(run, target, job, now)
    pings.of_end(run, job, now=now)
    event = telling.event_of(run, target, job, now)
    events = {} if event is None else {event: telling.standing_before(target)}
    _count(run, target, now)
    if event in telling.ALERTS:
        target.last_alerted_at = now
    # Old days that are run again say nothing about today.
    if run.cause == Cause.BACKFILL:
        target.last_state, target.last_outcome = run.state, run.outcome
        _ask(target, given, now)
    else:
        before = coverage.facts_of(target)
        observing.of_run(run, target, job, given=given, now=now, clock=clock)
        coverage.note(job.pk, target.source_id, before, coverage.facts_of(target))
        is_paused = observing.has_run_out(target, job) and _pause(target, job, now)
        if is_paused and telling.tells_of_each(job):
            events[Event.PAUSED] = f"{observing.why_run_out(target)}; resume it once mended"
    telling.insert(run, job, events, now=now)
    circuits.after_failure(run, target, job, now=now)
    return follow_ups.insert(run, target, job, now)


def _pause(target: Target, job: Job, now: datetime) -> bool:
    """Pause what was not found as often in a row as its job allows: a plain job, or one target."""
    why = observing.why_run_out(target)
    if not target.key:
        return scopes.hold(job, by=observing.BY, reason=why, now=now)
    # Before the pause, which is counted by what the table says.
    target.save(update_fields=TARGET_FIELDS)
    is_paused = scopes.hold(target, by=observing.BY, reason=why, now=now)
    target.refresh_from_db(fields=PAUSE_FIELDS)
    return is_paused


def _ask(target: Target, given: Result | None, now: datetime) -> None:
    """Let a run that says nothing else about today ask for its target to be left alone."""
    if given is not None and given.next_after is not None:
        target.not_before = max(target.not_before or now, now + given.next_after)


def _count(run: Run, target: Target, now: datetime) -> None:
    if run.state == State.SUCCEEDED:
        target.last_succeeded_at, target.failing_since, target.failures_in_a_row = now, None, 0
    else:
        target.failing_since = target.failing_since or now
        target.failures_in_a_row += 1
