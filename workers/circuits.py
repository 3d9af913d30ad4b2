"""The watch over circuits: some worker asks the members, on a thread of its main process.

While a circuit is closed, its members are asked for their `status`, every JOBS_CIRCUIT_EVERY;
while it is open, whether they are `ready`, less and less often. Of several workers one takes each
check on; one that dies in the middle leaves the next check to the others.
"""

from __future__ import annotations

from datetime import datetime, timedelta

from scheduling import clock, runs
from scheduling.conf import conf
from scheduling.models import Circuit
from workers import hooks

EVERY = timedelta(seconds=1)


def watch() -> int:
    """Do the checks that are due; give how many."""
    if conf.SHADOW:
        return 0  # somebody else runs the members
    now = clock.sample()
    mine = [circuit for circuit in runs.due_checks(now) if runs.take_check(circuit, now=now)]
    for circuit in mine:
        if circuit.is_open:
            probe(circuit, now=now)
        else:
            look_after(circuit, now=now)
    return len(mine)


def look_after(circuit: Circuit, *, now: datetime) -> None:
    """Open a closed circuit if the `status` of a member is anything but yes.

    One that has never been ready is not asked: it has not begun.
    """
    members = {
        job.name: job
        for job in runs.asked_members(circuit, now)
        if job.ready_since is not None or not hooks.has(job.name, "ready")
    }
    for name, answer in hooks.ask_all(members, "status").items():
        if answer is None:
            continue
        runs.note_status(members[name], "" if answer.is_yes else answer.detail, now=clock.now())
        if not answer.is_yes:
            runs.fail_circuit(circuit, member=name, reason=answer.detail, now=clock.now())


def probe(circuit: Circuit, *, now: datetime) -> None:
    """Close an open circuit if all members are ready; one without a `ready` always is.

    While all are paused, nobody can say so.
    """
    members = {job.name: job for job in runs.asked_members(circuit, now)}
    is_ready = bool(members)
    for name, answer in hooks.ask_all(members, "ready").items():
        if answer is None:
            continue
        if answer.is_yes:
            runs.note_ready(members[name], now=clock.now())
        else:
            runs.note_unready(members[name], answer.detail, now=clock.now())
            is_ready = False
    if is_ready:
        runs.close_circuit(
            circuit, by="", reason="all members are ready", now=clock.now(), probed=True
        )
