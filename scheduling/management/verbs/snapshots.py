"""snapshot, restore: checkpoints outside of the database."""

from __future__ import annotations

from argparse import ArgumentParser, ArgumentTypeError, Namespace
from pathlib import Path

from scheduling import clock, runs, snapshots
from scheduling.conf import conf
from scheduling.errors import CheckpointError
from scheduling.management.verbs.base import Answer, Say, Verb, brief, iso, table

# Beats take checkpoints too, and only one of those who do it at once has its way.
TRIES = 5


def a_file(text: str) -> str:
    if not text:
        raise ArgumentTypeError("the name of the file is empty")
    return str(Path(text).absolute())


def snapshot_arguments(parser: ArgumentParser) -> None:
    parser.add_argument("--to", type=a_file, metavar="FILE", help="default: JOBS_SNAPSHOT")


def restore_arguments(parser: ArgumentParser) -> None:
    parser.add_argument(
        "--from", dest="source", type=a_file, metavar="FILE", help="default: JOBS_SNAPSHOT"
    )
    parser.add_argument("--dry-run", action="store_true", help="change nothing")


def store(file: str | None) -> snapshots.Store:
    return snapshots.store_at(file or conf.SNAPSHOT, installation=str(runs.installation().key))


def snapshot(options: Namespace, say: Say) -> Answer:
    place = store(options.to)
    for _ in range(TRIES):
        taken = snapshots.take(place, now=clock.now())
        if taken is not None:
            break
    else:
        raise CheckpointError("Other processes take checkpoints all the time; try again")
    cursors = sum(len(found) for found in taken.cursors.values())
    document = {
        "sequence": taken.sequence,
        "taken_at": iso(taken.taken_at),
        "jobs": len(taken.jobs),
        "cursors": cursors,
        "stored_in": str(place),
    }
    return Answer(
        data=document,
        text=f"Checkpoint {taken.sequence}: {len(taken.jobs)} jobs, {cursors} targets with fires "
        f"that are not claimed; stored in {place}",
    )


def restore(options: Namespace, say: Say) -> Answer:
    place = store(options.source)
    found = snapshots.compare(place, now=clock.now(), dry_run=options.dry_run)
    checkpoint = found.checkpoint
    if checkpoint is None:
        raise CheckpointError(f"There is no checkpoint in {place}; name its file with --from")
    document = {
        "older": found.is_older,
        "restored": found.is_older and not options.dry_run,
        "sequence": checkpoint.sequence,
        "taken_at": iso(checkpoint.taken_at),
        "refused": found.refused,
        "jobs": dict(found.jobs),
        "waiting": [
            {"job": row.job, "key": row.key, "scheduled_at": iso(row.scheduled_at)}
            for row in found.waiting
        ],
    }
    taken = brief(checkpoint.taken_at)
    if not found.is_older:
        text = f"The database is not older than checkpoint {checkpoint.sequence} of {taken}."
        return Answer(data=document, text=text)
    would = "would not be" if options.dry_run else "are not"
    lines = [
        f"The database is older than checkpoint {checkpoint.sequence} of {taken}: "
        f"{found.refused} fires {would} fired again."
    ]
    if found.jobs:
        lines += ["", table(("JOB", "FIRES"), found.jobs.items())]
    if found.waiting:
        rows = [(row.job, row.key or "-", brief(row.scheduled_at)) for row in found.waiting]
        lines += [
            "",
            "Queued at the checkpoint and lost with the newer database; nobody runs these unless "
            "you do:",
            table(("JOB", "KEY", "SCHEDULED"), rows),
        ]
    return Answer(data=document, text="\n".join(lines))


VERBS = (
    Verb(
        "snapshot", "store a checkpoint outside of the database now", snapshot_arguments, snapshot
    ),
    Verb(
        "restore",
        "after an older database was restored: do not fire again what has fired",
        restore_arguments,
        restore,
    ),
)
