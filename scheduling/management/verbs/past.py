"""history, why: what became of the fire times of a job."""

from __future__ import annotations

import time
from argparse import ArgumentParser, Namespace
from dataclasses import replace

from scheduling import clock
from scheduling.errors import UnknownJob
from scheduling.explanations import rounded
from scheduling.ledger import foreign_runs, history, run_as_dict
from scheduling.management.verbs.base import (
    Answer,
    BadInput,
    Say,
    Verb,
    brief,
    count,
    find_job,
    iso,
    moment,
    table,
    unknown_job,
)
from scheduling.management.verbs.following import Follower
from scheduling.models import Job, Run
from scheduling.why import Account, Finding, finding_as_dict, why

POLL_SECONDS = 1.0
NEWEST = 5
WHOLE_STRETCH = 1000
NOTHING = "No fire time in this stretch."
CUT = "The stretch has more fires than are told here; the oldest are left out: narrow it."
COLUMNS = ("SCHEDULED AT", "KEY", "STATE", "REASON", "CAUSE", "TOOK", "RUN")


def history_arguments(parser: ArgumentParser) -> None:
    parser.add_argument("job", metavar="JOB")
    parser.add_argument("--key", help="one target's only; empty for the one without a key")
    parser.add_argument("--limit", type=count, default=20, metavar="N")
    parser.add_argument(
        "--follow", action="store_true", help="go on with new and changed runs until Ctrl-C"
    )


def show_history(options: Namespace, say: Say) -> Answer:
    job = find_job_or_task(options.job)
    if options.follow:
        if options.json:
            raise BadInput("--follow never ends and --json is one document; drop one of them")
        follow(job, options, say)
        return Answer(data=None, text="")
    runs = history(job, key=options.key, limit=options.limit)
    return Answer(
        data=[run_as_dict(run) for run in runs],
        text=table(COLUMNS, [cells(run) for run in runs]) if runs else "No runs.",
    )


def find_job_or_task(name: str) -> Job | str:
    """Give the job, or the name itself if there is history of a foreign task of that name."""
    job = Job.objects.filter(name=name).first()
    if job is not None:
        return job
    if foreign_runs(name).exists():
        return name
    raise UnknownJob(unknown_job(name))


def follow(job: Job | str, options: Namespace, say: Say) -> None:
    """Say each run once in each state it is seen in, oldest first, and what it writes."""
    follower = Follower(say)
    while True:
        try:
            rows = history(job, key=options.key, limit=options.limit, with_output=False)
            follower.look(rows[::-1])
            time.sleep(POLL_SECONDS)
        except KeyboardInterrupt:
            return


def cells(run: Run) -> tuple[object, ...]:
    took = rounded(run.ended_at - run.started_at) if run.ended_at and run.started_at else "-"
    many = f" x {run.fires}" if run.fires > 1 else ""
    return (
        brief(run.scheduled_at) + many,
        run.key or "-",
        run.state,
        run.reason or "-",
        run.cause,
        took,
        run.pk,
    )


def why_arguments(parser: ArgumentParser) -> None:
    parser.add_argument("job", metavar="JOB")
    parser.add_argument("--at", type=moment, metavar="ISO", help="this fire time")
    parser.add_argument(
        "--from", dest="after", type=moment, metavar="ISO", help="fire times after this one"
    )
    parser.add_argument(
        "--to", dest="until", type=moment, metavar="ISO", help="and up to this one, included"
    )
    parser.add_argument("--key", help="one target's only; empty for the one without a key")
    parser.add_argument(
        "--limit",
        type=count,
        metavar="N",
        help=f"answers; {NEWEST} if none is given, {WHOLE_STRETCH} with --from",
    )


def show_why(options: Namespace, say: Say) -> Answer:
    if options.at is not None and (options.after is not None or options.until is not None):
        raise BadInput("--at is one fire time, --from and --to are a stretch; choose one of them")
    if options.after is not None and options.until is not None and options.until <= options.after:
        raise BadInput(f"--to {iso(options.until)} is not after --from {iso(options.after)}")
    job = find_job(options.job)
    account = why(
        job,
        at=options.at,
        after=options.after,
        until=options.until,
        key=options.key,
        limit=options.limit or (NEWEST if options.after is None else WHOLE_STRETCH),
        now=clock.now(),
    )
    cut = [Finding(explanation=CUT)] if account.is_cut and options.after is not None else []
    if options.until is not None:
        account = replace(account, next=None)  # it lies beyond what was asked for
    told = [*([account.next] if account.next else []), *account.findings, *cut]
    return Answer(
        data=[finding_as_dict(each, job, options.key or "") for each in [*account.answers(), *cut]],
        text=("\n".join(each.explanation for each in told) or NOTHING) + hint(account),
        ok=not account.is_problem,
    )


def hint(account: Account) -> str:
    """Say to people what the answers leave out."""
    if account.of_targets > 1:
        return (
            f"\nThese are rows of its {account.of_targets:,} targets; "
            "with --key KEY one is told with every fire time."
        )
    return ""


VERBS = (
    Verb("history", "the runs and skips of a job, newest first", history_arguments, show_history),
    Verb("why", "why a job ran, or did not, in a sentence", why_arguments, show_why),
)
