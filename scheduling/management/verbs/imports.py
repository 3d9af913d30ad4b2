"""import: jobs from a crontab."""

from __future__ import annotations

import getpass
import sys
from argparse import ArgumentParser, ArgumentTypeError, Namespace
from pathlib import Path
from typing import Any

from django.conf import settings

from scheduling import clock
from scheduling.crontab_files import read_crontab
from scheduling.management.crontab import Imported, import_crontab
from scheduling.management.verbs.base import Answer, BadInput, Say, Verb, operator
from scheduling.management.verbs.times import zone

OUTCOMES = ("created", "updated", "retired", "unchanged")
STDIN = "-"
LARGEST = 1024 * 1024  # bytes; cron itself reads much smaller ones
LONGEST_PREFIX = 60


def prefix(text: str) -> str:
    if len(text) <= LONGEST_PREFIX and text.isprintable():
        return text
    raise ArgumentTypeError(f"{text!r} is no prefix; write at most {LONGEST_PREFIX} characters")


def import_arguments(parser: ArgumentParser) -> None:
    parser.add_argument("kind", choices=["crontab"])
    parser.add_argument("file", metavar="FILE", help="- for standard input")
    parser.add_argument(
        "--system", action="store_true", help="its lines name users, as those of /etc/crontab do"
    )
    parser.add_argument(
        "--user",
        action="append",
        default=[],
        metavar="NAME",
        help="with --system: whose lines to take, may be repeated (default: yours)",
    )
    parser.add_argument(
        "--prefix",
        type=prefix,
        default="",
        metavar="P",
        help="begin names with P; jobs of an earlier import with P are this one's, whatever FILE",
    )
    parser.add_argument(
        "--tz", type=zone, metavar="ZONE", help="of the machine's cron (default: TIME_ZONE)"
    )
    parser.add_argument("--dry-run", action="store_true", help="change nothing")


def import_file(options: Namespace, say: Say) -> Answer:
    if options.user and not options.system:
        raise BadInput("--user is for files whose lines name users; add --system")
    users = frozenset(options.user or [this_user()]) if options.system else None
    result = import_crontab(
        read_crontab(text_of(options.file), zone=options.tz or settings.TIME_ZONE, users=users),
        source=options.prefix or source_of(options.file),
        prefix=options.prefix,
        now=clock.now(),
        by=operator(),
        dry_run=options.dry_run,
    )
    return Answer(
        data=document_of(result),
        text=text_for_people(result, dry_run=options.dry_run),
        ok=not result.problems,
    )


def this_user() -> str:
    try:
        return getpass.getuser()
    except (KeyError, OSError):  # a container may run as a user id without a name
        raise BadInput("This user has no name; say --user NAME") from None


def source_of(file: str) -> str:
    return STDIN if file == STDIN else str(Path(file).resolve())


def text_of(file: str) -> str:
    """Read the crontab. Raises BadInput."""
    try:
        if file == STDIN:
            data = sys.stdin.buffer.read(LARGEST + 1)
        else:
            with Path(file).open("rb") as stream:
                data = stream.read(LARGEST + 1)
        if len(data) > LARGEST:
            raise BadInput(f"{file} has more than {LARGEST} bytes; is it a crontab?")
        return data.decode("utf-8-sig")
    except UnicodeDecodeError as error:
        raise BadInput(f"{file} is not text in UTF-8 ({error}); convert it") from error
    except OSError as error:
        raise BadInput(f"{file} cannot be read: {error.strerror}") from error


def document_of(result: Imported) -> dict[str, Any]:
    document: dict[str, Any] = {outcome: getattr(result, outcome) for outcome in OUTCOMES}
    document["problems"] = [
        {"line": problem.number, "text": problem.text, "problem": problem.problem}
        for problem in result.problems
    ]
    document["notes"] = result.notes
    return document


def text_for_people(result: Imported, *, dry_run: bool) -> str:
    would = "would be " if dry_run else ""
    lines = []
    for outcome in OUTCOMES[:-1]:
        for name in getattr(result, outcome):
            lines.append(f"{name}: {would}{outcome}")
            lines += [f"  {change}" for change in result.diff.get(name, [])]
    lines.append(f"{len(result.unchanged)} unchanged")
    lines += [f"note: {note}" for note in result.notes]
    for problem in result.problems:
        lines += [f"problem in line {problem.number}: {problem.text}", f"  {problem.problem}"]
    return "\n".join(lines)


VERBS = (Verb("import", "make jobs of the lines of a crontab", import_arguments, import_file),)
