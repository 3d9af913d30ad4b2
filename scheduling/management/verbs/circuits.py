"""circuits: which are open and why, and opening, closing, leaving out by hand."""

from __future__ import annotations

from argparse import ArgumentParser, Namespace
from datetime import datetime
from typing import Any

from scheduling import clock, runs
from scheduling.management.verbs.base import (
    Answer,
    BadInput,
    Say,
    Verb,
    add_reason,
    brief,
    find_job,
    iso,
    operator,
    table,
)
from scheduling.management.verbs.holding import find_circuit
from scheduling.models import Circuit, Job

SWITCHES = {"open": runs.open_circuit, "close": runs.close_circuit}
CHANGES = {"leave-out": runs.leave_out, "take-in": runs.take_in}


def arguments(parser: ArgumentParser) -> None:
    parser.add_argument(
        "action", nargs="?", choices=[*SWITCHES, *CHANGES], help="default: show them"
    )
    parser.add_argument("circuit", nargs="?", metavar="CIRCUIT")
    parser.add_argument("job", nargs="?", metavar="JOB", help="of leave-out and take-in")
    add_reason(parser, help="why it is opened or closed")


def circuits(options: Namespace, say: Say) -> Answer:
    if options.reason and options.action not in SWITCHES:
        raise BadInput("--reason says why a circuit is opened or closed; drop it")
    if options.action is None:
        return show()
    if options.circuit is None:
        raise BadInput(f"`circuits {options.action}` needs the name of a circuit")
    if (options.job is None) == (options.action in CHANGES):
        needs = "needs the name of a job" if options.action in CHANGES else "takes no job"
        raise BadInput(f"`circuits {options.action} {options.circuit}` {needs}")
    circuit, by, now = find_circuit(options.circuit), operator(), clock.now()
    if options.action in CHANGES:
        job = find_job(options.job)
        changed = CHANGES[options.action](circuit, job, by=by, now=now)
        what = f"{job.name} {'is left out of' if job.left_out else 'belongs to'} {circuit.name}"
    else:
        if not options.reason:
            raise BadInput(f"`circuits {options.action} {circuit.name}` needs a --reason")
        change = SWITCHES[options.action]
        changed = change(circuit, by=by, reason=options.reason, now=now)
        circuit.refresh_from_db()
        what = f"{circuit.name} is {'open' if circuit.is_open else 'closed'}"
    return Answer(data={"changed": int(changed)}, text=what if changed else f"{what} already")


def show() -> Answer:
    """Tell all circuits; one that is open is a problem."""
    found = [as_dict(circuit) for circuit in Circuit.objects.prefetch_related("jobs")]
    if not found:
        text = "No circuits; a job belongs to one by its `circuit`."
        return Answer(data=[], text=text)
    rows = [
        (
            row["name"],
            "open" if row["open"] else "closed",
            f"{row['opened_by']}: {row['reason']}" if row["open"] else "-",
            brief_of(row["opened_at"]),
            brief_of(row["next_check_at"]),
            ", ".join(member_in_words(member) for member in row["members"]),
        )
        for row in found
    ]
    columns = ("CIRCUIT", "STATE", "OPENED BY", "SINCE", "NEXT CHECK", "MEMBERS")
    return Answer(data=found, text=table(columns, rows), ok=not any(row["open"] for row in found))


def as_dict(circuit: Circuit) -> dict[str, Any]:
    return {
        "name": circuit.name,
        "open": circuit.is_open,
        "opened_at": iso(circuit.opened_at),
        "opened_by": circuit.opened_by or None,
        "reason": circuit.open_reason or None,
        "probes": circuit.probes,
        "next_check_at": iso(circuit.check_at),
        "members": [
            member_as_dict(job)
            for job in sorted(circuit.jobs.all(), key=lambda job: job.name)
            if job.retired_at is None
        ],
    }


def member_as_dict(job: Job) -> dict[str, Any]:
    return {
        "name": job.name,
        "left_out": job.left_out,
        "ready_since": iso(job.ready_since),
        "detail": job.unready_detail or None,
        "asked_at": iso(job.asked_at),
    }


def member_in_words(member: dict[str, Any]) -> str:
    name = str(member["name"])
    if member["left_out"]:
        return f"{name} (left out)"
    return f"{name} ({member['detail']})" if member["detail"] else name


def brief_of(time: str | None) -> str:
    return brief(datetime.fromisoformat(time) if time else None)


VERBS = (Verb("circuits", "which are open and why; open, close, leave out", arguments, circuits),)
