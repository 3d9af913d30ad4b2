"""locks: who holds what, who waits for it, and breaking one."""

from __future__ import annotations

from argparse import ArgumentParser, Namespace
from collections.abc import Sequence
from datetime import datetime
from typing import Any

from scheduling import clock, runs
from scheduling.explanations import rounded
from scheduling.management.verbs.base import (
    Answer,
    BadInput,
    Say,
    Verb,
    add_reason,
    brief,
    iso,
    operator,
    table,
)
from scheduling.models import Run

COLUMNS = ("LOCK", "SEAT", "HELD BY", "HOST", "FOR", "WAITING")


def arguments(parser: ArgumentParser) -> None:
    parser.add_argument("action", nargs="?", choices=["break"], help="take a lock from its holders")
    parser.add_argument("key", nargs="?", metavar="KEY", help="of the lock to break")
    add_reason(parser, help="why it is broken; stays with the run")


def locks(options: Namespace, say: Say) -> Answer:
    if options.action is None:
        if options.reason:
            raise BadInput("--reason says why a lock is broken; write: jobs locks break KEY")
        return show(clock.now())
    return break_one(options.key, options.reason)


def show(now: datetime) -> Answer:
    held = runs.locks_held(now)
    rows = [
        (
            lock.key,
            lock.number,
            who(lock.run, lock.holder) + (until(lock.held_until) if lock.held_until else ""),
            lock.host or "-",
            rounded(now - lock.since) if lock.since else "-",
            ", ".join(who(each.run, each.holder) for each in lock.waiters) or "-",
        )
        for lock in held
    ]
    return Answer(
        data=[as_dict(lock, now) for lock in held],
        text=table(COLUMNS, rows) if rows else "Nobody holds a lock.",
    )


def as_dict(lock: runs.HeldLock, now: datetime) -> dict[str, Any]:
    return {
        "key": lock.key,
        "number": lock.number,
        **holder(lock.run, lock.holder),
        "host": lock.host or None,
        "since": iso(lock.since),
        "age": None if lock.since is None else (now - lock.since).total_seconds(),
        "held_until": iso(lock.held_until),
        "waiters": waiters(lock.waiters),
    }


def waiters(line: Sequence[runs.Waiter]) -> list[dict[str, Any]]:
    return [{**holder(each.run, each.holder), "since": iso(each.since)} for each in line]


def holder(run: Run | None, name: str) -> dict[str, Any]:
    return {
        "run": None if run is None else str(run.pk),
        "job": None if run is None else run.name,
        "holder": name or None,
    }


def who(run: Run | None, name: str) -> str:
    """A run by its job, key and id; code outside of runs by the name that it has given."""
    if run is None:
        return name or "-"
    return f"{run.name}[{run.key}] {run.pk}" if run.key else f"{run.name} {run.pk}"


def until(time: datetime) -> str:
    return f", held on until {brief(time)}"


def break_one(key: str | None, reason: str) -> Answer:
    if not key:
        raise BadInput("Name the lock: jobs locks break KEY --reason TEXT")
    if not reason:
        raise BadInput(f"Say why the lock {key!r} is broken: --reason TEXT")
    broken = runs.break_lock(key, by=operator(), reason=reason, now=clock.now())
    return Answer(data={"changed": broken}, text=f"Taken from holders of {key!r}: {broken}")


VERBS = (Verb("locks", "who holds which lock and who waits; `break` one", arguments, locks),)
