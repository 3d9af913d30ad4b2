"""shadow: would Beatkeeper fire what the stock scheduler fires?"""

from __future__ import annotations

from argparse import ArgumentParser, Namespace
from collections.abc import Iterator, Sequence
from datetime import datetime, timedelta

from scheduling import clock
from scheduling.conf import conf
from scheduling.explanations import rounded
from scheduling.management.verbs.base import (
    Answer,
    BadInput,
    Say,
    Verb,
    brief,
    iso,
    moment,
    span,
    table,
)
from scheduling.shadow import TOLERANCE, Report, begin_of_stretch, report
from scheduling.shadow_report import Comparison

LONGEST = timedelta(days=31)
# Of each kind, for each job; --json gives all.
LINES_SHOWN = 20


def shadow_arguments(parser: ArgumentParser) -> None:
    parser.add_argument(
        "--from",
        dest="after",
        type=moment,
        metavar="ISO",
        help="exclusive; default: an hour ago or, if that is later, the first fire that was seen",
    )
    parser.add_argument(
        "--to", dest="until", type=moment, metavar="ISO", help="inclusive; default: now"
    )
    parser.add_argument(
        "--tolerance",
        type=span,
        default=TOLERANCE,
        metavar="SPAN",
        help="how far apart the fires of both may be; the newest are not judged for so long "
        "(default: 10s)",
    )


def show_shadow(options: Namespace, say: Say) -> Answer:
    now = clock.now()
    after = options.after or begin_of_stretch(now)
    until = options.until or now
    if options.until is not None and until <= after:
        raise BadInput(f"--to {iso(until)} is not after --from {iso(after)}; exchange them")
    if until - after > LONGEST:
        raise BadInput(
            f"From {iso(after)} to {iso(until)} are {rounded(until - after)}; "
            f"compare at most {LONGEST.days} days at once"
        )
    found = report(after=after, until=until, tolerance=options.tolerance, now=now)
    return Answer(data=as_dict(found), text=as_text(found), ok=not found.differences)


def as_dict(found: Report) -> dict[str, object]:
    return {
        "from": iso(found.after),
        "to": iso(found.until),
        "jobs": [
            {
                "name": each.name,
                "would": each.would,
                "did": each.did,
                "matched": each.matched,
                "missing": [iso(fire) for fire in each.missing],
                "extra": [iso(fire) for fire in each.extra],
                "max_delay": each.max_delay.total_seconds(),
            }
            for each in found.jobs
        ],
        "differences": found.differences,
    }


def as_text(found: Report) -> str:
    rows = [
        (
            each.name,
            each.would,
            each.did,
            each.matched,
            len(each.missing),
            len(each.extra),
            f"{each.max_delay.total_seconds():.1f} s",
        )
        for each in found.jobs
    ]
    lines = [f"From {brief(found.after)} to {brief(found.until)}:", ""]
    if not conf.SHADOW:
        lines.insert(0, "JOBS_SHADOW is off here; what was seen while it was on is compared.")
    if rows:
        head = ("JOB", "WOULD", "DID", "MATCHED", "MISSING", "EXTRA", "MAX DELAY")
        lines += [table(head, rows), ""]
    for each in found.jobs:
        lines += sentences(each)
    if not any(each.did for each in found.jobs):
        lines.append(
            "No message of the stock scheduler was seen. Are the apps and JOBS_SHADOW in the "
            "settings of all workers?"
        )
    number = found.differences
    lines.append("No differences." if not number else f"Differences: {number}.")
    return "\n".join(lines)


def sentences(each: Comparison) -> Iterator[str]:
    told: tuple[tuple[Sequence[datetime], str], ...] = (
        (each.missing, "stock did not fire {}; Beatkeeper would have"),
        (each.extra, "stock fired {}; Beatkeeper would not have"),
    )
    for fires, sentence in told:
        for fire in fires[:LINES_SHOWN]:
            yield f"{each.name}: {sentence.format(brief(fire))}"
        if len(fires) > LINES_SHOWN:
            yield f"{each.name}: and {len(fires) - LINES_SHOWN} more, which --json gives"


VERBS = (
    Verb(
        "shadow",
        "what would fire against what the stock scheduler fired. Exit code 1 if they differ",
        shadow_arguments,
        show_shadow,
    ),
)
