"""Management commands as jobs, in the worker or as a process of their own; and programs."""

from __future__ import annotations

import fnmatch
import os
import sys
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import Any

from celery import shared_task
from django.conf import settings
from django.core.management import call_command

from scheduling.conf import conf
from scheduling.errors import InvalidDeclaration
from scheduling.limits import Limits, limits_of
from scheduling.models import Outcome, Reason, State
from scheduling.models.job import Kind
from scheduling.runs import Result, Started
from workers import attempt, programs, results
from workers.child import Cut, Ended, run_child, signal_name
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
    file: Path | None = None
    if job.kind == Kind.PROGRAM:
        try:
            file = programs.allowed_file(job.command)
        except InvalidDeclaration as error:
            return Result(state=State.FAILED, reason=Reason.PERMANENT, error=str(error))
        words = [job.command, *map(str, args), *options_of(kwargs)]
        environ = programs.visible(os.environ) | facts(started)
        where = Path(conf.PROGRAM_DIRECTORY or folder())
    else:
        words = [*manage(), *argv(job.command, args, kwargs)]
        environ, where = environment(os.environ, started), folder()
    limits = limits_of(job)
    ended = run_child(
        words,
        file=file,
        environ=environ,
        folder=where,
        limits=limits,
        grace=conf.KILL_GRACE,
        should_stop=open_run.should_stop,
        must_die=open_run.must_die,
        output=output,
    )
    return result_of(ended, limits, output)


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


def folder() -> Path:
    """Where external commands run: the project's folder, whatever the worker was started in."""
    return Path(getattr(settings, "BASE_DIR", None) or Path.cwd())


def manage() -> list[str]:
    script = folder() / "manage.py"
    return [sys.executable, *([str(script)] if script.exists() else ["-m", "django"])]


def environment(worker: Mapping[str, str], started: Started) -> dict[str, str]:
    """Give what an external command sees: the allowed part of the worker's, and its run's."""
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
        **facts(started),
    }


def facts(started: Started) -> dict[str, str]:
    """What every process of a run is told of it."""
    current = started.current(lambda: False)
    return {
        "RUN_ID": str(current.id),
        "SCHEDULED_AT": current.scheduled_at.isoformat(),
        "ATTEMPT": str(current.attempt),
        "FENCING_TOKEN": str(current.token),
        "JOB": current.job,
        "KEY": current.key,
    }


def result_of(ended: Ended, limits: Limits, output: HeadTail) -> Result:
    """Say how an external process ended; what cut it short outweighs its exit code."""
    soft, hard = limits.soft.total_seconds(), limits.hard.total_seconds()
    failures: dict[Cut, tuple[Reason, str]] = {
        Cut.STOPPED: (Reason.CANCELLED, "Stopped because somebody asked for it"),
        Cut.TERMINATED: (Reason.TERMINATED, "Killed because somebody asked for it"),
        Cut.SOFT_LIMIT: (
            Reason.SOFT_LIMIT,
            f"Told to end at its soft limit of {soft:g} s (hard limit: {hard:g} s)",
        ),
        Cut.HARD_LIMIT: (Reason.HARD_LIMIT, f"Killed at its hard limit of {hard:g} s"),
    }
    reason: Reason | None = None
    error = ""
    if ended.cut is not None:
        reason, error = failures[ended.cut]
    elif ended.exit_code < 0:
        reason, error = Reason.KILLED, f"Killed by {signal_name(-ended.exit_code)}"
    elif ended.exit_code > 0:
        reason, error = Reason.EXIT_CODE, f"Ended with exit code {ended.exit_code}"
    return Result(
        state=State.SUCCEEDED if reason is None else State.FAILED,
        reason=reason,
        exit_code=ended.exit_code,
        output=output.text(),
        output_bytes=output.total,
        error=error,
    )
