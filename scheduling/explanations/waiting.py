"""Why a run has not started yet, or had not when its time was over."""

from __future__ import annotations

from datetime import datetime

from scheduling.explanations.surroundings import Surroundings, default_queue, waited_for
from scheduling.explanations.words import ago, stamp
from scheduling.models import Reason, Run, State


def why_queued(run: Run, now: datetime, around: Surroundings) -> str:
    if run.waiting_on_id is not None:
        before = around.runs.get(run.waiting_on_id)
        what = f", {standing(before)}" if before is not None else ""
        return f"it waits for the end of run {run.waiting_on_id}{what}"
    if run.waiting_for:
        return f"it waits for the lock {run.waiting_for!r}{_held(run.waiting_for, around)}"
    if run.ready_at is not None and run.ready_at > now:
        again = " again" if run.reason else ""
        because = f": {run.detail}" if run.detail else ""
        return f"it may start{again} at {stamp(run.ready_at)}{again_because(run)}{because}"
    if run.published_at is None:
        beat = f"; {beats(around.beat_seen_at, now)}" if around.looked_for_beats else ""
        return f"no beat has sent it to a worker yet{again_because(run)}{beat}"
    queue = f" on queue {run.queue!r}" if run.queue else ""
    return (
        f"sent to the workers {ago(run.published_at, now)}{queue}, "
        f"and none has started it yet{again_because(run)}{_nobody_took(run, around)}"
    )


def why_late(run: Run, around: Surroundings) -> str:
    """What a run was waiting for when it could no longer start in time."""
    end = run.start_by
    said = f"could not start in time, by {stamp(end)}"
    if key := waited_for(run):
        seat = around.seats.get(key)
        since = seat and seat.taken_at
        still = _held(key, around) if since and end and since <= end else ""
        return f"{said}: it waited for the lock {key!r}{still}"
    for before in around.before.get(run.target_id or 0, ()):
        if before.started_at is None or end is None or before.pk == run.pk:
            continue
        if before.started_at <= end and (before.ended_at is None or before.ended_at >= end):
            return f"{said}: it waited for the end of run {before.pk}, {standing(before)}"
    if run.published_at is None:
        return f"{said}: no beat had sent it to a worker"
    queue = f" on queue {run.queue!r}" if run.queue else ""
    return (
        f"{said}: it was sent to the workers at {stamp(run.published_at)}{queue}, and none took it"
        f"{_nobody_took(run, around)}"
    )


def standing(run: Run) -> str:
    """Where a run stands that another one names: 'which has been running on w since ...'."""
    of = f"of {stamp(run.scheduled_at)}, which"
    if run.state == State.QUEUED:
        return f"{of} is still queued"
    if run.state == State.RUNNING:
        worker = f" on {run.worker}" if run.worker else ""
        return f"{of} has been running{worker} since {stamp(run.started_at)}"
    if run.started_at is None:
        return f"{of} was {run.state} at {stamp(run.ended_at)}"
    return f"{of} ran from {stamp(run.started_at)} to {stamp(run.ended_at)} and {_ended(run)}"


def _ended(run: Run) -> str:
    return "was skipped" if run.state == State.SKIPPED else str(run.state)


def again_because(run: Run) -> str:
    if not run.reason:
        return ""
    return f" (attempt {run.attempt}: {Reason(run.reason).label})"


def beats(seen_at: datetime | None, now: datetime) -> str:
    if seen_at is None:
        return "no beat is running; start one with `celery -A config beat`"
    return f"the last sign of a beat was {ago(seen_at, now)}"


def _held(key: str, around: Surroundings) -> str:
    """', which run 7 of job ... holds'; nothing if nobody looked, or nobody holds it now."""
    seat = around.seats.get(key)
    if seat is None:
        return ""
    if seat.holder:
        return f", which {seat.holder} has held since {stamp(seat.taken_at)}"
    holder = seat.run
    if holder is None:
        return ""
    if seat.held_until is not None:
        return f", which {holder.name!r} holds until its next fire, {stamp(seat.held_until)}"
    name = f"{holder.name}[{holder.key}]" if holder.key else holder.name
    worker = f" on {holder.worker}" if holder.worker else ""
    return f", which run {holder.pk} of {name!r} has held{worker} since {stamp(seat.taken_at)}"


def _nobody_took(run: Run, around: Surroundings) -> str:
    """Who could take it; nothing if nobody looked, or its queue is not ours to know."""
    if around.workers is None or _is_routed_elsewhere(run):
        return ""
    if not around.workers:
        return "; no worker is running: start one with `celery -A config worker`"
    consumers = around.consumers(run.queue)
    if not consumers:
        served = sorted({queue for worker in around.workers for queue in worker.queues})
        those = ", ".join(map(repr, served[:5]))
        return (
            f"; no worker consumes {_queue(run)}, only {those}: start one with "
            f"`celery -A config worker -Q {run.queue or default_queue()}`"
        )
    names = ", ".join(worker.name for worker in consumers[:5])
    if not any(worker.has_room for worker in consumers):
        places = sum(worker.places for worker in consumers)
        return f"; all {places} places of {names} are busy"
    return f"; {names} consumes {_queue(run)} and has room"


def _queue(run: Run) -> str:
    return f"queue {run.queue!r}" if run.queue else "the default queue"


def _is_routed_elsewhere(run: Run) -> bool:
    options = run.job.options if run.job is not None else {}
    return not run.queue and bool(options.get("exchange") or options.get("routing_key"))
