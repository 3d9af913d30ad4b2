"""What every verb of `manage.py jobs` is made of: arguments in, one answer out."""

from __future__ import annotations

import difflib
import getpass
import os
from argparse import ArgumentParser, ArgumentTypeError, Namespace
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import TYPE_CHECKING, Any

from scheduling.errors import SchedulingError, UnknownJob
from scheduling.spans import parse_span

if TYPE_CHECKING:
    from scheduling.models import Job

Say = Callable[[str], None]


@dataclass(frozen=True, slots=True, kw_only=True)
class Answer:
    """`data` is the JSON document, `text` the same for people; not `ok`: a problem was found."""

    data: Any
    text: str
    ok: bool = True


@dataclass(frozen=True, slots=True)
class Verb:
    """`answer` may say lines before its answer; with --json nobody hears them."""

    name: str
    help: str
    add_arguments: Callable[[ArgumentParser], None]
    answer: Callable[[Namespace, Say], Answer]


class BadInput(SchedulingError, ValueError):
    """The arguments contradict each other."""


# --- types of arguments ---------------------------------------------------------------------------


def moment(text: str) -> datetime:
    """Read an ISO 8601 time that names its zone, as UTC."""
    try:
        read = datetime.fromisoformat(text)
        if read.tzinfo is None:
            raise ArgumentTypeError(
                f"time {text!r} has no time zone; end it with Z or an offset such as +00:00"
            )
        return read.astimezone(UTC)
    except (ValueError, OverflowError):
        raise ArgumentTypeError(
            f"time {text!r} cannot be read; write ISO 8601, such as 2027-01-31T03:00:00+00:00"
        ) from None


def span(text: str) -> timedelta:
    try:
        return parse_span(text)
    except SchedulingError as error:
        raise ArgumentTypeError(str(error)) from None


def count(text: str) -> int:
    # int() alone takes "1_0" and digits of every script.
    if text.isascii() and text.isdecimal() and len(text) <= 5 and 1 <= int(text) <= 10_000:
        return int(text)
    raise ArgumentTypeError(f"{text!r} is not a number from 1 to 10000")


def add_reason(parser: ArgumentParser, *, help: str, longest: int = 300) -> None:
    """Add `--reason`: one line, as it stands in logs, mails and banners."""

    def reason(text: str) -> str:
        text = text.strip()
        if not text.isprintable():
            raise ArgumentTypeError(
                f"{text[:40]!r} has a character that cannot be seen; write one line"
            )
        if len(text) > longest:
            raise ArgumentTypeError(f"it has {len(text)} characters; at most {longest} are kept")
        return text

    parser.add_argument("--reason", default="", type=reason, metavar="TEXT", help=help)


def nothing(parser: ArgumentParser) -> None:
    """Add no arguments."""


# --- jobs -----------------------------------------------------------------------------------------


def find_job(name: str) -> Job:
    """Give the job. Raises UnknownJob, which names the nearest that there is."""
    from scheduling.models import Job

    job = Job.objects.filter(name=name).first()
    if job is None:
        raise UnknownJob(unknown_job(name))
    return job


def unknown_job(name: str) -> str:
    from scheduling.models import Job

    known = list(Job.objects.values_list("name", flat=True))
    nearest = difflib.get_close_matches(name, known, n=1)
    if nearest:
        return f"No job is named {name!r}; did you mean {nearest[0]!r}?"
    if known:
        return f"No job is named {name!r}; `manage.py jobs list` shows those that there are"
    return f"No job is named {name!r}: there is none yet; `manage.py jobs sync` reads the code"


def operator() -> str:
    """Say who sits at this command line."""
    try:
        return f"{getpass.getuser()} (command line)"
    except (KeyError, OSError):  # a container may run as a user id without a name
        return f"user {os.getuid()} (command line)"


# --- text for people ------------------------------------------------------------------------------


def iso(time: datetime | None) -> str | None:
    return None if time is None else time.astimezone(UTC).isoformat()


def table(head: Sequence[str], rows: Iterable[Sequence[object]]) -> str:
    """Lay out columns; the last one may be as wide as it likes."""
    lines = [head, *([visible(cell) for cell in row] for row in rows)]
    widths = [max(len(line[column]) for line in lines) for column in range(len(head))]
    return "\n".join(
        "  ".join(cell.ljust(width) for cell, width in zip(line, widths, strict=True)).rstrip()
        for line in lines
    )


def visible(cell: object) -> str:
    """Keep it in its cell: strangers name queues and keys, and a terminal obeys what it is told."""
    return "".join(
        each if each.isprintable() else "\N{REPLACEMENT CHARACTER}" for each in str(cell)
    )


def brief(time: datetime | None) -> str:
    return "-" if time is None else f"{time.astimezone(UTC):%Y-%m-%d %H:%M:%SZ}"
