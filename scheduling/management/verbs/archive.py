"""archive, prune: old runs leave the table."""

from __future__ import annotations

from argparse import ArgumentParser, Namespace
from typing import Any

from scheduling import clock
from scheduling.archive import files, passes
from scheduling.archive.rules import Rule, rule_of
from scheduling.conf import conf
from scheduling.errors import ArchiveDamaged
from scheduling.management.verbs.base import (
    Answer,
    BadInput,
    Say,
    Verb,
    brief,
    count,
    iso,
    moment,
    table,
)
from scheduling.models import ArchiveFile

NOTHING_GOES = "Nothing goes: JOBS_RETENTION is None; name --before or --keep."


def prune_arguments(parser: ArgumentParser) -> None:
    parser.add_argument(
        "--before", type=moment, metavar="ISO", help="what ended before then; default: by age"
    )
    parser.add_argument(
        "--keep", type=count, metavar="N", help="and what is beyond the newest N runs of each job"
    )
    parser.add_argument("--dry-run", action="store_true", help="change nothing")


def archive_arguments(parser: ArgumentParser) -> None:
    prune_arguments(parser)
    other = parser.add_mutually_exclusive_group()
    other.add_argument("--verify", metavar="FILE", help="only read a file and compare its sum")
    other.add_argument("--all", action="store_true", help="only verify all files")
    other.add_argument(
        "--forget", metavar="FILE", help="only rely no longer on a file that is damaged"
    )


def archive(options: Namespace, say: Say) -> Answer:
    alone = options.verify or options.all or options.forget
    if alone and (options.before or options.keep or options.dry_run):
        raise BadInput("--verify, --all and --forget archive nothing; drop the other options")
    if options.all:
        return verify_all()
    if options.verify:
        return verify(options.verify)
    if options.forget:
        return forget(options.forget)
    files.folder()  # or there is no archive
    return prune(options, say)


def prune(options: Namespace, say: Say) -> Answer:
    rule = rule_of(now=clock.sample(), before=options.before, keep=options.keep)
    if options.dry_run:
        return planned(rule)
    report = passes.prune(rule)
    document = {
        **_bounds(rule),
        "dry_run": False,
        "deleted": report.deleted,
        "archived": report.archived,
        "files": [_file(row) for row in report.files],
        "changed": report.changed,
        "left": report.left,
        "others": report.others,
    }
    has_rule = rule.before is not None or rule.keep is not None
    lines = [
        f"{report.deleted} runs have left the table{_by(rule)}."
        if has_rule or report.deleted
        else NOTHING_GOES
    ]
    if report.files:
        rows = [(row.name, row.runs, row.size) for row in report.files]
        lines += [f"In {conf.ARCHIVE}:", table(("FILE", "RUNS", "BYTES"), rows)]
    if report.changed:
        lines.append(f"{report.changed} changed after they were written, and stay.")
    if report.left:
        lines.append(f"{report.left} were held by somebody else; the next pass deletes them.")
    others = [f"{number} {name}" for name, number in report.others.items() if number]
    if others:
        lines.append(f"Besides: {', '.join(others)}.")
    return Answer(data=document, text="\n".join(lines))


def planned(rule: Rule) -> Answer:
    found = passes.plan(rule)
    jobs = dict(sorted(found.jobs.items()))
    document = {**_bounds(rule), "dry_run": True, "runs": found.runs, "jobs": jobs}
    where = f"be archived in {conf.ARCHIVE} and deleted" if conf.ARCHIVE else "be deleted for good"
    lines = [f"{found.runs} runs would {where}{_by(rule)}."]
    if jobs:
        lines += ["", table(("JOB", "RUNS"), jobs.items())]
    return Answer(data=document, text="\n".join(lines))


def verify(name: str) -> Answer:
    row = files.find(name)
    try:
        files.verify(row)
        error = ""
    except ArchiveDamaged as damaged:
        error = str(damaged)
    return _verified([(row.name, error)])


def verify_all() -> Answer:
    return _verified(list(files.verify_all()))


def _verified(found: list[tuple[str, str]]) -> Answer:
    bad = [error for _, error in found if error]
    lines = [*bad, f"{len(found) - len(bad)} of {len(found)} files are as they were written."]
    return Answer(
        data=[{"name": name, "ok": not error, "error": error or None} for name, error in found],
        text="\n".join(lines),
        ok=not bad,
    )


def forget(name: str) -> Answer:
    row = files.forget(name)
    return Answer(
        data=_file(row),
        text=f"{row.name} is no longer relied on. What is left of its {row.runs} runs in the table "
        "is archived anew; the file itself stays where it is.",
    )


def _bounds(rule: Rule) -> dict[str, Any]:
    return {"before": iso(rule.before), "keep": rule.keep}


def _by(rule: Rule) -> str:
    told = []
    if rule.before is not None:
        told.append(f"ended before {brief(rule.before)}")
    if rule.keep is not None:
        told.append(f"beyond the newest {rule.keep} of each job")
    return f" ({', or '.join(told)})" if told else ""


def _file(row: ArchiveFile) -> dict[str, Any]:
    return {"name": row.name, "runs": row.runs, "size": row.size, "sha256": row.sha256}


VERBS = (
    Verb(
        "archive",
        "write old runs to files in JOBS_ARCHIVE, then delete them. With --verify, exit code 1 if "
        "a file is damaged",
        archive_arguments,
        archive,
    ),
    Verb(
        "prune",
        "delete old runs: through the archive if there is one, else for good",
        prune_arguments,
        prune,
    ),
)
