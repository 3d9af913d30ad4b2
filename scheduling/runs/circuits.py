"""Circuits: who opens one, who it holds, and when its members are asked next.

Closing, and what becomes of the members' targets, is in `closing`.
"""

from __future__ import annotations

from datetime import datetime, timedelta

from django.db.models import Q

from scheduling import redis
from scheduling.conf import conf
from scheduling.db import short_transaction
from scheduling.errors import SchedulingError
from scheduling.models import Cause, Circuit, Event, Installation, Job, Reason, Run, State, Target
from scheduling.models.system import Notification
from scheduling.policies import retry_delay
from scheduling.runs import log, scopes
from scheduling.schedules import Manual

# What a person runs by hand, or again, says nothing about today.
OPENING = (Cause.SCHEDULE, Cause.CATCH_UP, Cause.FOLLOW_UP)
SINGLE = str(Manual())


class NotAMember(SchedulingError, LookupError):
    """The job does not belong to the circuit."""


def held_by(job: Job) -> Circuit | None:
    """The open circuit that holds a job, whose circuit is loaded; None if none does."""
    circuit = job.circuit
    return None if circuit is None or not circuit.is_open or job.left_out else circuit


def told(circuit: Circuit) -> str:
    """Tell of an open circuit: who opened it, why."""
    by = f" by {circuit.opened_by}" if circuit.opened_by else ""
    why = f": {circuit.open_reason}" if circuit.open_reason else ""
    return f"The circuit {circuit.name!r} was opened{by}{why}"


def open_circuit(circuit: Circuit, *, by: str, reason: str, now: datetime) -> bool:
    """Open it by hand: it stays open until somebody closes it. False: it was open already."""
    changed = _open(circuit, by=by, reason=reason, now=now, check_at=None, probes=0)
    circuit.refresh_from_db()
    return changed


def fail(circuit: Circuit, *, member: str, reason: str, now: datetime) -> bool:
    """Open it because of a member. False: it was open already.

    Its members are asked whether they are ready after a while. That is longer each time, until
    the circuit has stayed closed for as long.
    """
    probes = 0 if _has_run_well(circuit, now) else circuit.probes
    check_at = now + delay(probes)
    return _open(circuit, by=member, reason=reason, now=now, check_at=check_at, probes=probes)


def after_failure(run: Run, target: Target, job: Job, *, now: datetime) -> None:
    """Open the circuit of a job whose run has failed for good, in the same transaction."""
    if run.state != State.FAILED or run.cause not in OPENING:
        return
    if job.circuit is None or job.left_out or (target.schedule or job.schedule) == SINGLE:
        return
    if not job.circuit.is_open:
        why = str(Reason(run.reason).label) if run.reason else "failed"
        fail(job.circuit, member=job.name, reason=f"run {run.pk} {why}", now=now)


def delay(probes: int) -> timedelta:
    """The wait before members are asked that were asked `probes` times; stays at the maximum."""
    return retry_delay(probes + 1, base=conf.CIRCUIT_DELAY, cap=conf.CIRCUIT_DELAY_MAX)


def _has_run_well(circuit: Circuit, now: datetime) -> bool:
    """Whether it has been closed as long as its members would have to wait next."""
    closed = Notification.objects.filter(circuit=circuit, event=Event.CIRCUIT_CLOSED)
    last = closed.order_by("-created_at").values_list("created_at", flat=True).first()
    return last is None or now - last >= delay(circuit.probes)


def _open(
    circuit: Circuit, *, by: str, reason: str, now: datetime, check_at: datetime | None, probes: int
) -> bool:
    with short_transaction():
        changed = Circuit.objects.filter(pk=circuit.pk, opened_at=None).update(
            opened_at=now,
            opened_by=by[:200],
            open_reason=reason[:500],
            check_at=check_at,
            probes=probes,
        )
        if changed:
            tell(circuit, Event.CIRCUIT_OPENED, by=by, reason=reason, now=now)
    return bool(changed)


def tell(circuit: Circuit, event: Event, *, by: str, reason: str, now: datetime) -> None:
    """Write, log and ring that a circuit has been opened or closed; in a transaction."""
    Notification.objects.create(
        circuit=circuit,
        name=circuit.name,
        event=event,
        detail=": ".join(filter(None, (by, reason))),
        created_at=now,
        deliver_at=now,
    )
    log.circuit(circuit.name, "opened" if event == Event.CIRCUIT_OPENED else "closed", by, reason)
    redis.ring_on_commit()


# --- asking ---------------------------------------------------------------------------------------


def due_checks(now: datetime) -> list[Circuit]:
    """The circuits whose members are to be asked now: open ones whether they are ready, closed
    ones how they are. One that was opened by hand is not asked.
    """
    is_closed = Q(opened_at=None) & (Q(check_at=None) | Q(check_at__lte=now))
    return list(Circuit.objects.filter(is_closed | Q(opened_at__isnull=False, check_at__lte=now)))


def take_check(circuit: Circuit, *, now: datetime) -> bool:
    """Take a check on, and set the time of the next. False: another worker was first."""
    mine = Circuit.objects.filter(
        pk=circuit.pk, opened_at=circuit.opened_at, check_at=circuit.check_at
    )
    if not circuit.is_open:
        return bool(mine.update(check_at=now + conf.CIRCUIT_EVERY))
    probes = circuit.probes + 1
    return bool(mine.update(check_at=now + delay(probes), probes=probes))


def asked_members(circuit: Circuit, now: datetime) -> list[Job]:
    """The jobs that are asked, and waited for: not those that are left out, paused or retired."""
    jobs = Job.objects.active().filter(circuit=circuit, left_out=False).select_related("circuit")
    everything = Installation.objects.filter(pk=1).first()
    return [
        job
        for job in jobs.order_by("name")
        if scopes.pause_of(job, None, now, everything=everything) is None
    ]


def note_ready(job: Job, *, now: datetime) -> None:
    """Take note that its `ready` has said yes."""
    job.ready_since, job.unready_detail, job.asked_at = job.ready_since or now, "", now
    job.save(update_fields=("ready_since", "unready_detail", "asked_at"))


def note_unready(job: Job, detail: str, *, now: datetime) -> None:
    """Take note that its `ready` has not said yes, and what it did instead."""
    job.ready_since, job.unready_detail, job.asked_at = None, detail[:500], now
    job.save(update_fields=("ready_since", "unready_detail", "asked_at"))


def note_status(job: Job, detail: str, *, now: datetime) -> None:
    """Take note of what its `status` said: "" if all is well."""
    if detail or job.unready_detail:
        job.unready_detail, job.asked_at = detail[:500], now
        job.save(update_fields=("unready_detail", "asked_at"))
