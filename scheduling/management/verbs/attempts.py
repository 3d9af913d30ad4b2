"""attempts: every attempt of one run, with what it wrote."""

from __future__ import annotations

from argparse import ArgumentParser, Namespace
from datetime import datetime
from typing import Any

from scheduling.errors import UnknownRun
from scheduling.explanations import rounded
from scheduling.management.verbs.acting import run_id
from scheduling.management.verbs.base import Answer, Say, Verb, brief, iso, table
from scheduling.models import Attempt, Run

COLUMNS = ("ATTEMPT", "STARTED", "TOOK", "STATE", "REASON", "EXIT CODE", "WORKER")


def arguments(parser: ArgumentParser) -> None:
    parser.add_argument("run", type=run_id, metavar="RUN", help="its id")


def attempts(options: Namespace, say: Say) -> Answer:
    run = Run.objects.filter(pk=options.run).first()
    if run is None:
        raise UnknownRun(f"There is no run {str(options.run)!r}", run=options.run)
    rows = [earlier_as_dict(each) for each in Attempt.objects.filter(run=run)]
    rows.append(present_as_dict(run))
    return Answer(data=rows, text=table(COLUMNS, [cells(row) for row in rows]))


def earlier_as_dict(attempt: Attempt) -> dict[str, Any]:
    """An attempt after which the run went on; the reason says why."""
    return {
        "attempt": attempt.number,
        "state": "ended",
        "reason": attempt.reason,
        "worker": attempt.worker or None,
        "token": attempt.token,
        "started_at": iso(attempt.started_at),
        "ended_at": iso(attempt.ended_at),
        "exit_code": attempt.exit_code,
        "error": attempt.error,
        "output": attempt.output,
    }


def present_as_dict(run: Run) -> dict[str, Any]:
    """The newest attempt: the run itself says how it stands."""
    return {
        "attempt": run.attempt,
        "state": run.state,
        "reason": run.reason or None,
        "worker": run.worker or None,
        "token": run.token,
        "started_at": iso(run.started_at),
        "ended_at": iso(run.ended_at),
        "exit_code": run.exit_code,
        "error": run.error,
        "output": run.output,
    }


def cells(row: dict[str, Any]) -> tuple[object, ...]:
    started, ended = (
        datetime.fromisoformat(row[name]) if row[name] else None
        for name in ("started_at", "ended_at")
    )
    return (
        row["attempt"],
        brief(started),
        rounded(ended - started) if started and ended else "-",
        row["state"],
        row["reason"] or "-",
        "-" if row["exit_code"] is None else row["exit_code"],
        row["worker"] or "-",
    )


VERBS = (Verb("attempts", "every attempt of a run, with what it wrote", arguments, attempts),)
