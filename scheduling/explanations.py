"""What became of a fire time, in English sentences."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

from scheduling.models import Cause, Reason, Run, State
from scheduling.spans import span_in_words

BORN = {
    Cause.SCHEDULE: "The fire",
    Cause.CATCH_UP: "The missed fire",
    Cause.FOLLOW_UP: "The follow-up",
    Cause.BACKFILL: "The backfilled fire",
    Cause.MANUAL: "The run by hand",
    Cause.FOREIGN: "The task",
}


def explanation(run: Run, now: datetime) -> str:
    """Say what became of the fire time, or stretch of fire times, that this row accounts for."""
    match run.state:
        case State.SKIPPED:
            said = f"{subject(run)} skipped: {skip_reason(run)}"
        case State.QUEUED:
            said = f"{subject(run)} queued: {why_queued(run, now)}"
        case State.RUNNING:
            said = f"{subject(run)} started: {how_it_runs(run, now)}"
        case State.SUCCEEDED:
            found = f", outcome {run.outcome}" if run.outcome else ""
            said = f"{subject(run)} run{lateness(run)} and succeeded{duration(run)}{found}"
        case _:
            said = f"{subject(run)} run{lateness(run)} and failed{duration(run)}: {failure(run)}"
    return f"{said}."


def subject(run: Run) -> str:
    what = BORN.get(Cause(run.cause), "The fire")
    if run.fires > 1 and run.scheduled_until is not None:
        return (
            f"{run.fires} fires from {stamp(run.scheduled_at)} to {stamp(run.scheduled_until)} were"
        )
    return f"{what} of {stamp(run.scheduled_at)} was"


def skip_reason(run: Run) -> str:
    return f"{reason(run)} ({run.detail.rstrip('.')})" if run.detail else reason(run)


def why_queued(run: Run, now: datetime) -> str:
    if run.waiting_on_id is not None:
        return f"it waits for the end of run {run.waiting_on_id}"
    if run.waiting_for:
        return f"it waits for the lock {run.waiting_for!r}"
    if run.ready_at is not None and run.ready_at > now:
        again = " again" if run.reason else ""
        return f"it may start{again} at {stamp(run.ready_at)}{again_because(run)}"
    if run.published_at is None:
        return f"no beat has sent it to a worker yet{again_because(run)}"
    queue = f" on queue {run.queue!r}" if run.queue else ""
    return (
        f"sent to the workers {ago(run.published_at, now)}{queue}, "
        f"and none has started it yet{again_because(run)}"
    )


def again_because(run: Run) -> str:
    if not run.reason:
        return ""
    return f" (attempt {run.attempt}: {reason(run)})"


def how_it_runs(run: Run, now: datetime) -> str:
    since = f" since {stamp(run.started_at)}" if run.started_at else ""
    worker = f" on {run.worker}" if run.worker else ""
    said = f"attempt {run.attempt} has been running{worker}{since}"
    if run.lease_until is not None and run.lease_until < now:
        said += f", but its worker has been silent beyond its lease, {stamp(run.lease_until)}"
    if run.stop_requested_at is not None:
        by = f" by {run.stop_requested_by}" if run.stop_requested_by else ""
        said += f"; it was asked to stop{by} {ago(run.stop_requested_at, now)}"
    return said


def failure(run: Run) -> str:
    why = reason(run)
    if run.reason == Reason.EXIT_CODE:
        why = f"ended with exit code {run.exit_code}"
    if run.attempt > 1:
        why += f", at attempt {run.attempt}"
    lines = run.error.strip().splitlines()
    told = run.detail or (lines[-1][:300] if lines else "")
    return f"{why} ({told.rstrip('.')})" if told else why


def reason(run: Run) -> str:
    return str(Reason(run.reason).label) if run.reason else "for a reason that was not stored"


def lateness(run: Run) -> str:
    """How long after its time it started, if that is worth a word."""
    if run.started_at is None or run.cause not in (Cause.SCHEDULE, Cause.CATCH_UP):
        return ""
    late = run.started_at - run.scheduled_at
    return f" {rounded(late)} late" if late >= timedelta(seconds=5) else ""


def duration(run: Run) -> str:
    if run.started_at is None or run.ended_at is None:
        return ""
    return f" after {rounded(run.ended_at - run.started_at)}"


def rounded(span: timedelta) -> str:
    if span < timedelta(seconds=10):
        return f"{max(span.total_seconds(), 0):.1f} s"
    if span > timedelta(hours=1):
        span -= span % timedelta(minutes=1)
    return span_in_words(span)


def ago(moment: datetime, now: datetime) -> str:
    return f"{rounded(now - moment)} ago"


def stamp(moment: datetime | None) -> str:
    return "-" if moment is None else f"{moment.astimezone(UTC):%Y-%m-%d %H:%M:%S} UTC"
