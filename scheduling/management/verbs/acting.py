"""trigger, run, cancel: one run, by hand."""

from __future__ import annotations

import json
import sys
import time
from argparse import ArgumentParser, ArgumentTypeError, Namespace
from contextlib import redirect_stdout
from datetime import timedelta
from typing import Any
from uuid import UUID

from celery import current_app
from celery.exceptions import NotRegistered

from scheduling import clock, declarations, runs
from scheduling.explanations import explanation
from scheduling.ledger import run_as_dict
from scheduling.management.verbs.base import (
    Answer,
    BadInput,
    Say,
    Verb,
    find_job,
    moment,
    operator,
    span,
)
from scheduling.message_headers import RUN_HEADER
from scheduling.models import Job, Reason, Run, State
from scheduling.models.job import Kind
from scheduling.models.run import OPEN_STATES
from scheduling.outbox import COMMAND_TASK
from scheduling.policies import Overlap
from workers.output import listener
from workers.task import install

# Beats leave a run alone for so long: it is to start here. If this process dies, they send it.
HEAD_START = timedelta(seconds=15)
POLL_SECONDS = 0.5


def argument(text: str) -> tuple[str, Any]:
    """Read NAME=VALUE; the value as JSON where it is JSON, otherwise as text."""
    name, equals, value = text.partition("=")
    if not equals or not name.isidentifier():
        raise ArgumentTypeError(f"{text!r} is not NAME=VALUE with the name of an argument")
    try:
        read = json.loads(value)
        json.dumps(read, allow_nan=False)  # Python reads NaN and Infinity, which are not JSON
    except ValueError:
        return name, value
    return name, read


def run_id(text: str) -> UUID:
    try:
        return UUID(text)
    except ValueError:
        raise ArgumentTypeError(
            f"{text!r} is no run; copy its id from `manage.py jobs history JOB`"
        ) from None


def run_arguments(parser: ArgumentParser) -> None:
    parser.add_argument("job", metavar="JOB")
    parser.add_argument(
        "--as-of", type=moment, metavar="ISO", help="the scheduled time that the job is told"
    )
    parser.add_argument("--key", default="", help="of the target; default: the one without a key")
    parser.add_argument(
        "--arg",
        type=argument,
        action="append",
        default=[],
        metavar="NAME=VALUE",
        help="""may be repeated; n=3 is a number, n='"3"' and n=three are texts""",
    )


def trigger_arguments(parser: ArgumentParser) -> None:
    run_arguments(parser)
    parser.add_argument("--delay", type=span, metavar="SPAN", help="such as 90s or 1h30m")
    parser.add_argument(
        "--overlap",
        choices=[member.value for member in Overlap],
        help="towards the runs that are open now (default: after them)",
    )


def here_arguments(parser: ArgumentParser) -> None:
    run_arguments(parser)
    parser.add_argument(
        "--timeout",
        type=span,
        default=timedelta(hours=1),
        metavar="SPAN",
        help="how long to wait if it cannot start here at once (default: 1h)",
    )


def cancel_arguments(parser: ArgumentParser) -> None:
    parser.add_argument("run", type=run_id, metavar="RUN", help="its id, or that of a backfill")
    parser.add_argument("--kill", action="store_true", help="do not wait for it to stop by itself")


def trigger(options: Namespace, say: Say) -> Answer:
    if options.delay is not None and options.overlap is not None:
        raise BadInput("--overlap is about the runs that are open now; drop it or --delay")
    overlap = None if options.overlap is None else Overlap(options.overlap)
    return answer(ask_for(options, delay=options.delay, overlap=overlap), ok=True)


def ask_for(
    options: Namespace,
    delay: timedelta | None = None,
    overlap: Overlap | None = None,
    head_start: timedelta = timedelta(0),
) -> Run:
    """Insert the run that the arguments ask for."""
    return runs.trigger(
        find_job(options.job),
        key=options.key,
        kwargs=dict(options.arg),
        delay=delay,
        overlap=overlap,
        as_of=options.as_of,
        head_start=head_start,
        by=operator(),
        now=clock.now(),
    )


def cancel(options: Namespace, say: Say) -> Answer:
    now = clock.now()
    if Run.objects.filter(backfill=options.run).exists():
        stopped = runs.cancel_backfill(options.run, by=operator(), now=now, at_once=options.kill)
        return Answer(data={"changed": stopped}, text=f"Cancelled or asked to stop: {stopped}")
    run = runs.cancel(options.run, by=operator(), now=now, at_once=options.kill)
    return answer(run, ok=True)


def run_here(options: Namespace, say: Say) -> Answer:
    """Run a job in this process, as a worker would: same guard, same locks, same history.

    If it has to wait (its last run is open, a lock is held), a worker runs it and this waits.
    """
    task = task_of(find_job(options.job))
    run = ask_for(options, head_start=HEAD_START)
    lines = Lines(say)
    try:
        attempt_here(task, run, lines)
        ended = wait_for_end(run.pk, options.timeout, say)
    except KeyboardInterrupt:
        give_up(run)
        ended = Run.objects.get(pk=run.pk)
    if ended.output and not lines.said:
        say(ended.output.rstrip("\n"))
    return answer(ended, ok=ended.state == State.SUCCEEDED)


def task_of(job: Job) -> Any:
    name = job.task if job.kind == Kind.TASK else COMMAND_TASK
    # As a worker does when it starts: the tasks, the hooks of the jobs, the guard.
    current_app.loader.import_default_modules()
    declarations.load()
    install(current_app)
    try:
        return current_app.tasks[name]
    except NotRegistered:
        raise BadInput(
            f"Task {name!r} of job {job.name!r} is not registered here; use `jobs trigger`, "
            "and a worker that knows it runs it"
        ) from None


def attempt_here(task: Any, run: Run, lines: Lines) -> None:
    """Deliver the run's message to this process; what comes of it is in the ledger.

    What a task prints by itself goes to stderr, as to the log of a worker.
    """
    before = listener.set(lines.hear)
    try:
        with redirect_stdout(sys.stderr):
            task.apply(
                args=[str(run.pk), run.attempt],
                task_id=str(run.pk),
                headers={RUN_HEADER: [str(run.pk), run.attempt]},
                throw=False,
            )
    finally:
        listener.reset(before)
        lines.end()


class Lines:
    """Says the output of a job line by line as it comes, whatever the pieces it comes in."""

    def __init__(self, say: Say) -> None:
        self.said = False
        self._say = say
        self._rest = b""

    def hear(self, data: bytes) -> None:
        *lines, self._rest = (self._rest + data).split(b"\n")
        for line in lines:
            self._tell(line)

    def end(self) -> None:
        if self._rest:
            self._tell(self._rest)
            self._rest = b""

    def _tell(self, line: bytes) -> None:
        self.said = True
        self._say(line.decode("utf-8", "replace"))


def wait_for_end(pk: UUID, timeout: timedelta, say: Say) -> Run:
    """Give the run when it has ended or, after the timeout, as it is."""
    deadline = time.monotonic() + timeout.total_seconds()
    said = ""
    while True:
        run = Run.objects.get(pk=pk)
        if run.state not in OPEN_STATES or time.monotonic() > deadline:
            return run
        if (sentence := explanation(run, clock.now())) != said:
            say(sentence)
            said = sentence
        time.sleep(POLL_SECONDS)


def give_up(run: Run) -> None:
    """Ctrl-C: end the run if it is running here, take it back if it is waiting."""
    result = runs.Result(
        state=State.FAILED, reason=Reason.CANCELLED, error="interrupted at the command line"
    )
    if not runs.finish(run.pk, run.attempt, token=None, result=result, now=clock.now()):
        runs.cancel(run.pk, by=operator(), now=clock.now())


def answer(run: Run, *, ok: bool) -> Answer:
    return Answer(
        data=run_as_dict(run), text=f"{explanation(run, clock.now())}\nrun {run.pk}", ok=ok
    )


VERBS = (
    Verb("trigger", "have a job run by a worker, now or after a delay", trigger_arguments, trigger),
    Verb("run", "run a job here and wait for its end", here_arguments, run_here),
    Verb("cancel", "skip a queued run, or ask a running one to stop", cancel_arguments, cancel),
)
