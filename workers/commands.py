"""Management commands as jobs, in the worker or as a process of their own; and programs."""

from __future__ import annotations

import fnmatch
import os
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from celery import shared_task, signals
from django.conf import settings
from django.core.management import call_command

from scheduling.conf import conf
from scheduling.errors import InvalidDeclaration
from scheduling.limits import limits_of
from scheduling.models import Outcome, Reason, State
from scheduling.models.job import Kind
from scheduling.runs import Result, Started
from workers import attempt, leftovers, programs, results, warm
from workers.child import run_child, signal_name
from workers.orders import Cut, Ended, Order
from workers.output import HeadTail, TextSink

# What a management command may see of the worker's environment: names and patterns. It is trusted
# with the database; a project's own variables are added by JOBS_COMMAND_ENVIRONMENT.
ENVIRONMENT = (
    *("PATH", "HOME", "USER", "LOGNAME", "SHELL", "LANG", "LANGUAGE", "LC_*", "TZ", "TMPDIR"),
    *("VIRTUAL_ENV", "PYTHON*", "LD_LIBRARY_PATH", "SSL_CERT_FILE", "SSL_CERT_DIR"),
    *("DJANGO_*", "JOBS_*", "CELERY_*", "DATABASE_URL", "REDIS_URL", "EMAIL_URL"),
    *("WEB_*", "FLOWER_*"),
)


@shared_task(name="workers.commands.run_command")
def run_command(*args: Any, **kwargs: Any) -> Result:
    """Run the management command or the program that the current run's job names.

    The message has no say in it: what to run, and with what, comes from the database.
    """
    try:
        started, open_run = attempt.executing()
    except LookupError:
        raise InvalidDeclaration(
            "workers.commands.run_command was sent by hand; trigger a job instead: "
            "manage.py jobs trigger JOB"
        ) from None
    job = started.job
    output = HeadTail(conf.OUTPUT_LIMIT, conf.OUTPUT_HEAD)
    if not job.is_external:
        return run_inside(job.command, args, kwargs, output)
    try:
        order = order_of(started, args, kwargs)
    except InvalidDeclaration as error:
        return Result(state=State.FAILED, reason=Reason.PERMANENT, error=str(error))
    open_run.heard(output)
    ended = run_child(order, open_run, output)
    if ended.cut is Cut.LOST:
        leftovers.end_run(started.run.pk, started.run.attempt)
    return result_of(ended, order, output)


def order_of(started: Started, args: Sequence[Any], kwargs: Mapping[str, Any]) -> Order:
    """Say what to run for an external job. Raises InvalidDeclaration if it may not be run."""
    job, limits = started.job, limits_of(started.job)
    call: list[str] = []
    if job.kind == Kind.PROGRAM:
        file = programs.allowed_file(job.command)
        words = [job.command, *map(str, args), *options_of(kwargs)]
        environ, where = programs.visible(os.environ), conf.PROGRAM_DIRECTORY or folder()
    else:
        call = argv(job.command, args, kwargs)
        words = [*manage(), *call]
        file, environ, where = Path(words[0]), environment(os.environ), folder()
    return Order(
        words=words,
        file=str(file),
        call=call,
        environ={**environ, **facts(started), leftovers.MARK: leftovers.mark()},
        folder=str(where),
        soft=None if limits.soft is None else limits.soft.total_seconds(),
        hard=None if limits.hard is None else limits.hard.total_seconds(),
        grace=conf.KILL_GRACE.total_seconds(),
        memory=job.memory_limit or conf.MEMORY_LIMIT,
        user=conf.RUN_AS,
    )


def run_inside(
    command: str, args: Sequence[Any], kwargs: Mapping[str, Any], output: HeadTail
) -> Result:
    """Call a command in this process, its options defaulted; what it prints past its own
    `self.stdout` and `self.stderr` goes to the worker's log instead.
    """
    sink = TextSink(output)
    try:
        value = call_command(
            command, *args, **kwargs, stdout=sink, stderr=sink, no_color=True, skip_checks=True
        )
    except (Exception, SystemExit) as error:
        if isinstance(error, SystemExit) and attempt.is_process_ending():
            raise
        if isinstance(error, Exception):
            # As manage.py would have it on a terminal.
            sink.write(f"{type(error).__name__}: {error}\n")
        return results.from_error(error, output=output.text(), output_bytes=output.total)
    return Result(
        state=State.SUCCEEDED,
        outcome=value if isinstance(value, Outcome) else None,
        output=output.text(),
        output_bytes=output.total,
    )


def argv(command: str, args: Sequence[Any], kwargs: Mapping[str, Any]) -> list[str]:
    """Write a call as a command line, each value one item, never read by a shell.

    `kwargs` become options: `dry_run=True` is `--dry-run`, False and None are left out, a list
    repeats the option. `args` are positional: if one begins with `-`, all stand after `--`, so
    that a value is never taken for an option.
    """
    positional = [str(item) for item in args]
    if any(item.startswith("-") for item in positional):
        positional.insert(0, "--")
    return [command, *options_of(kwargs), *positional]


def options_of(kwargs: Mapping[str, Any]) -> list[str]:
    options = []
    for name, value in kwargs.items():
        option = f"--{name.replace('_', '-')}"
        if value is True:
            options.append(option)
        elif value is not None and value is not False:
            values = value if isinstance(value, list | tuple) else [value]
            options += [f"{option}={item}" for item in values]
    return options


def connect() -> None:
    signals.worker_init.connect(open_door)
    signals.worker_shutdown.connect(warm.close_door)


def open_door(**_: Any) -> None:
    """Before the pool is forked, so that all of it shares one warm process."""
    warm.open_door(lambda: environment(os.environ), folder())


def folder() -> Path:
    """Where external commands run: the project's folder, whatever the worker was started in."""
    return Path(getattr(settings, "BASE_DIR", None) or Path.cwd())


def manage() -> list[str]:
    script = folder() / "manage.py"
    return [sys.executable, *([str(script)] if script.exists() else ["-m", "django"])]


def environment(worker: Mapping[str, str]) -> dict[str, str]:
    """Give the part of the worker's environment that an external management command sees."""
    allowed = (*ENVIRONMENT, *conf.COMMAND_ENVIRONMENT)
    passed = {
        name: value
        for name, value in worker.items()
        if any(fnmatch.fnmatchcase(name, pattern) for pattern in allowed)
    }
    return {
        **passed,
        "DJANGO_SETTINGS_MODULE": worker.get("DJANGO_SETTINGS_MODULE", settings.SETTINGS_MODULE),
        # What it has printed is kept even if it is killed.
        "PYTHONUNBUFFERED": "1",
    }


def facts(started: Started) -> dict[str, str]:
    """What every process of a run is told of it."""
    current = started.current(lambda: False)
    told = {
        "RUN_ID": str(current.id),
        "SCHEDULED_AT": current.scheduled_at.isoformat(),
        "ATTEMPT": str(current.attempt),
        "FENCING_TOKEN": str(current.token),
        "JOB": current.job,
        "KEY": current.key,
    }
    if (parent := current.parent) is not None:
        told["PARENT_RUN_ID"], told["PARENT_JOB"] = str(parent.id), parent.job
        told["PARENT_STATE"] = parent.state
        told["PARENT_SCHEDULED_AT"] = parent.scheduled_at.isoformat()
    return told


def result_of(ended: Ended, order: Order, output: HeadTail) -> Result:
    """Say how an external process ended; what cut it short outweighs its exit code."""
    reason: Reason | None = None
    error = ""
    if ended.cut is not None:
        reason, error = cut_short(ended.cut, order)
    elif ended.exit_code < 0:
        reason, error = Reason.KILLED, f"Killed by {signal_name(-ended.exit_code)}"
    elif ended.exit_code > 0:
        reason, error = Reason.EXIT_CODE, f"Ended with exit code {ended.exit_code}"
    if ended.left:
        reason = reason or Reason.KILLED
        error = f"{error}\n{ended.left} of its processes could not be killed".lstrip()
    return Result(
        state=State.SUCCEEDED if reason is None else State.FAILED,
        reason=reason,
        exit_code=ended.exit_code,
        output=output.text(),
        output_bytes=output.total,
        error=error,
    )


def cut_short(cut: Cut, order: Order) -> tuple[Reason, str]:
    match cut:
        case Cut.STOPPED:
            return Reason.CANCELLED, "Stopped because somebody asked for it"
        case Cut.TERMINATED:
            return Reason.TERMINATED, "Killed because somebody asked for it"
        case Cut.SOFT_LIMIT:
            until = f" (hard limit: {order.hard:g} s)" if order.hard is not None else ""
            return Reason.SOFT_LIMIT, f"Told to end at its soft limit of {order.soft:g} s{until}"
        case Cut.HARD_LIMIT:
            return Reason.HARD_LIMIT, f"Killed at its hard limit of {order.hard:g} s"
        case Cut.MEMORY:
            return Reason.MEMORY, f"Killed at its memory limit of {order.memory:,} bytes"
        case Cut.LEASE:
            return Reason.LOST, "Killed because its worker did not renew its lease in time"
        case Cut.LOST:
            return Reason.LOST, "Killed with its shepherd, the process that looks after it"
