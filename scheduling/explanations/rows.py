"""What became of a fire time, in English sentences."""

from __future__ import annotations

from datetime import datetime

from scheduling.conf import conf
from scheduling.explanations.skipped import skip_reason
from scheduling.explanations.surroundings import NOTHING_ELSE, Surroundings
from scheduling.explanations.waiting import why_queued
from scheduling.explanations.words import ago, fires_in_words, rounded, stamp
from scheduling.models import Cause, Reason, Run, State

# As `scheduling.runs.line` signs it.
BY_OVERLAP = "a newer fire"

BORN = {
    Cause.SCHEDULE: "The fire",
    Cause.CATCH_UP: "The missed fire",
    Cause.FOLLOW_UP: "The follow-up",
    Cause.BACKFILL: "The backfilled fire",
    Cause.MANUAL: "The run by hand",
    Cause.FOREIGN: "The task",
}


def explanation(
    run: Run,
    now: datetime,
    around: Surroundings = NOTHING_ELSE,
    *,
    with_error: bool = True,
) -> str:
    """Say what became of the fire time, or stretch of fire times, that this row accounts for.

    `with_error`: also what a failed run said, which not everybody may read.
    """
    match run.state:
        case State.SKIPPED:
            said = f"{subject(run)} skipped: {skip_reason(run, around)}"
        case State.QUEUED:
            said = f"{subject(run)} queued: {why_queued(run, now, around)}"
        case State.RUNNING:
            said = f"{subject(run)} started{lateness(run)}: {how_it_runs(run, now, around)}"
        case State.SUCCEEDED:
            found = f", outcome {run.outcome}" if run.outcome else ""
            said = f"{subject(run)} run{lateness(run)} and succeeded{duration(run)}"
            said += f"{attempts(run)}{found}"
        case _:
            why = failure(run, around, with_error=with_error)
            said = f"{subject(run)} run{lateness(run)} and failed{duration(run)}: {why}"
    return f"{said}."


def subject(run: Run) -> str:
    key = f" for {run.key!r}" if run.key else ""
    if run.fires > 1 and run.scheduled_until is not None:
        return f"{fires_in_words(run.fires, run.scheduled_at, run.scheduled_until)}{key} were"
    by = f", asked for by {run.requested_by}," if run.requested_by else ""
    return f"{BORN[Cause(run.cause)]} of {stamp(run.scheduled_at)}{key}{by} was"


def how_it_runs(run: Run, now: datetime, around: Surroundings) -> str:
    since = f" since {stamp(run.started_at)}" if run.started_at else ""
    worker = f" on {run.worker}" if run.worker else ""
    said = f"attempt {run.attempt} has been running{worker}{since}"
    if run.lease_until is not None and run.lease_until < now:
        said += f", but its worker has been silent beyond its lease, {stamp(run.lease_until)}"
    if run.stop_requested_at is not None:
        told = "is to be killed" if run.stop_at_once else "was asked to stop"
        said += f"; it {told}{stopped_by(run, around)} {ago(run.stop_requested_at, now)}"
    return said


def stopped_by(run: Run, around: Surroundings) -> str:
    """' by anna', or ' by a newer fire, that of ...'."""
    if run.stop_requested_by == BY_OVERLAP and run.stop_requested_at is not None:
        newer = around.replacing.get((run.target_id or 0, run.stop_requested_at))
        which = f", that of {stamp(newer.scheduled_at)}" if newer is not None else ""
        return f" by {BY_OVERLAP}{which}"
    return f" by {run.stop_requested_by}" if run.stop_requested_by else ""


def failure(run: Run, around: Surroundings, *, with_error: bool) -> str:
    why = str(Reason(run.reason).label) if run.reason else "for a reason that was not stored"
    if run.reason == Reason.EXIT_CODE:
        why = f"ended with exit code {run.exit_code}"
    if run.reason in (Reason.CANCELLED, Reason.TERMINATED) and run.stop_requested_by:
        why = f"{run.reason}{stopped_by(run, around)}"
    why += attempts(run)
    lines = run.error.strip().splitlines() if with_error else []
    told = (run.detail or (lines[-1][:300] if lines else "")) if with_error else ""
    return f"{why} ({told.rstrip('.')})" if told else why


def attempts(run: Run) -> str:
    """', at attempt 3 (1 failed and 1 was lost before)'."""
    if run.attempt == 1:
        return ""
    before = [
        f"{number} {word}"
        for number, word in ((run.failures, "failed"), (run.losses, "lost"))
        if number
    ]
    return f", at attempt {run.attempt}" + (f" ({' and '.join(before)})" if before else "")


def lateness(run: Run) -> str:
    """How long after its time it started, if that is more than the grace; who was late with it."""
    if run.started_at is None or run.cause not in (Cause.SCHEDULE, Cause.CATCH_UP):
        return ""
    late = run.started_at - run.scheduled_at
    if late <= conf.GRACE:
        return ""
    claimed = run.created_at - run.scheduled_at > conf.GRACE
    since = f" (no beat claimed it until {stamp(run.created_at)})" if claimed else ""
    return f" {rounded(late)} late{since}"


def duration(run: Run) -> str:
    if run.started_at is None or run.ended_at is None:
        return ""
    return f" after {rounded(run.ended_at - run.started_at)}"
