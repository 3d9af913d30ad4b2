"""What an open circuit keeps from running, and how it goes on when it closes."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import datetime

from django.db.models import Q

from scheduling import redis
from scheduling.conf import conf
from scheduling.db import short_transaction
from scheduling.errors import InvalidSchedule
from scheduling.models import Cause, Circuit, Event, Job, Parked, Reason, Run, Target
from scheduling.runs import circuits, edits, ends, log
from scheduling.runs.cursors import (
    CURSOR_FIELDS,
    earliest,
    first_fire,
    job_of,
    lock_counted_jobs,
    lock_target,
    park,
    schedule_of,
    set_cursor,
    within_life,
)
from scheduling.runs.make import FIRST_RUN
from scheduling.runs.scopes import installation, scopes_of
from scheduling.runs.settle import settle_up_to

BATCH = 200
REARM_BATCH = 500


def close_circuit(
    circuit: Circuit, *, by: str, reason: str, now: datetime, probed: bool = False
) -> bool:
    """Close a circuit: its members go on. False: it was closed, or opened anew, meanwhile.

    The fires of the time that it was open are skipped; services and pauses between runs begin at
    once. By hand, not `probed`, the next failure finds the first, short back-off again.
    """
    if circuit.opened_at is None:
        return False
    columns = {} if probed else {"probes": 0}
    held = circuits.told(circuit)
    with short_transaction():
        changed = Circuit.objects.filter(pk=circuit.pk, opened_at=circuit.opened_at).update(
            opened_at=None,
            opened_by="",
            open_reason="",
            check_at=now + conf.CIRCUIT_EVERY,
            **columns,
        )
        if changed:
            circuits.tell(circuit, Event.CIRCUIT_CLOSED, by=by, reason=reason, now=now)
    circuit.refresh_from_db()
    if not changed:
        return False
    parked = Target.objects.parked_for(Parked.CIRCUIT)
    mine = parked.filter(job__circuit=circuit, retired_at=None)
    rearm(mine.order_by("pk").values_list("pk", flat=True), held=held, now=now)
    redis.ring()
    return True


def leave_out(circuit: Circuit, job: Job, *, by: str, now: datetime) -> bool:
    """Take a member out of its circuit's sight, as long as it is not taken in again: it runs on
    its own. False: it was left out already. Raises NotAMember.
    """
    return _set_left_out(circuit, job, True, by=by)


def take_in(circuit: Circuit, job: Job, *, by: str, now: datetime) -> bool:
    """Let the circuit ask, and stop, a member again. Raises NotAMember."""
    return _set_left_out(circuit, job, False, by=by)


def _set_left_out(circuit: Circuit, job: Job, left_out: bool, *, by: str) -> bool:
    if job.circuit_id != circuit.name:
        raise circuits.NotAMember(
            f"Job {job.name!r} does not belong to the circuit {circuit.name!r}; "
            f"it belongs to {repr(job.circuit_id) if job.circuit_id else 'none'}"
        )
    changed = Job.objects.filter(pk=job.pk, left_out=not left_out).update(left_out=left_out)
    job.left_out = left_out
    if changed:
        log.circuit(circuit.name, f"{'leaves out' if left_out else 'takes in'} {job.name}", by, "")
        # A beat arms what was parked.
        redis.ring()
    return bool(changed)


def skip_held(now: datetime) -> int:
    """Skip queued runs whose circuit is open, a batch; give how many. Those by hand may run."""
    if not Circuit.objects.filter(opened_at__isnull=False).exists():
        return 0
    by_hand = Q(cause__in=(Cause.MANUAL, Cause.BACKFILL)) & ~Q(requested_by=FIRST_RUN)
    queued = (
        Run.objects.queued()
        .filter(job__circuit__opened_at__isnull=False, job__left_out=False)
        .exclude(by_hand)
        .defer("output", "error")
        .order_by("created_at")
    )
    return sum(_skip(run, now) for run in queued[:BATCH])


def _skip(run: Run, now: datetime) -> bool:
    assert run.target_id is not None
    with short_transaction():
        target = lock_target(run.target_id)
        run.job = job_of(target)
        circuit = circuits.held_by(run.job)
        if circuit is None:
            return False
        detail = circuits.told(circuit)
        if run.failures or run.losses:
            # It has run, and failed: nobody would hear of that if it were skipped.
            return ends.give_up_retry(run, target, detail=detail, now=now)
        return ends.skip_queued(run, target, reason=Reason.CIRCUIT, detail=detail, now=now)


def rearm_forgotten(now: datetime) -> int:
    """Arm a batch of targets that no open circuit holds any more; give how many.

    Whoever closed it may have died halfway, a claim may have parked a target meanwhile, or its
    job has left the circuit.
    """
    parked = Target.objects.parked_for(Parked.CIRCUIT).filter(retired_at=None)
    if not parked.exists():
        return 0
    held = Job.objects.filter(circuit__opened_at__isnull=False, left_out=False)
    forgotten = parked.exclude(job__in=list(held.values_list("pk", flat=True)))
    ids = forgotten.order_by("pk").values_list("pk", flat=True)[:REARM_BATCH]
    return rearm(ids, held="Its circuit was open", now=now)


def rearm(target_ids: Iterable[int], *, held: str, now: datetime) -> int:
    """Arm targets that were parked for a circuit; `held` says why their fires were missed."""
    ids, armed = list(target_ids), 0
    for begin in range(0, len(ids), REARM_BATCH):
        with short_transaction():
            targets = [lock_target(target_id) for target_id in ids[begin : begin + REARM_BATCH]]
            lock_counted_jobs(targets)
            edits.bring_up(targets, now=now)
            for target in targets:
                armed += _rearm(target, job_of(target), held=held, now=now)
    return armed


def _rearm(target: Target, job: Job, *, held: str, now: datetime) -> bool:
    if target.parked != Parked.CIRCUIT or circuits.held_by(job) is not None:
        return False
    if job.retired_at is not None or target.retired_at is not None:
        park(target, Parked.RETIRED)
    elif any(scope.paused_at for _, scope in scopes_of(job, target, everything=installation())):
        # Whoever resumes it accounts for what it has missed.
        park(target, Parked.PAUSED)
    else:
        _go_on(target, job, held=held, now=now)
    target.save(update_fields=CURSOR_FIELDS)
    return True


def _go_on(target: Target, job: Job, *, held: str, now: datetime) -> None:
    cursor = target.parked_cursor
    try:
        schedule = schedule_of(target, job)
    except InvalidSchedule:
        # Due at once: the claim puts it aside with an error.
        set_cursor(target, now)
        return
    if not schedule.is_anchored:
        if Run.objects.open().filter(target=target).exists():
            park(target, Parked.OPEN)
        else:
            set_cursor(target, within_life(job, max(now, earliest(target, job) or now)))
        return
    set_cursor(target, cursor or first_fire(schedule, job, after=now, name=target.name))
    if cursor is not None and cursor <= now:
        settle_up_to(target, job, now=now, held=held, reason=Reason.CIRCUIT)
