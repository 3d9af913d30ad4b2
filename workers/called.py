"""A management command in a process that was forked for it, as `manage.py NAME ...` would run it.

Except that the system checks are left out, unless the command names checks of its own.
"""

from __future__ import annotations

import atexit
import ctypes
import os
import runpy
import signal
import sys
import threading
import time
import weakref
from collections.abc import Mapping, Sequence
from pathlib import Path
from typing import NoReturn

from workers.orders import Order

# What others may read of a job in /proc; the sweep finds by it what no shepherd owns any more.
SHOWN = ("RUN_ID", "ATTEMPT", "JOBS_INSTALLATION")
ENV_START, ENV_END = 47, 48  # places in /proc/self/stat, counted after the name


def call(order: Order, *, settled: Mapping[str, str]) -> NoReturn:
    """Run the command that `order` names, and end the process as the interpreter would.

    `settled` are the variables that the project itself has set while it was loaded.
    """
    adopt(order.environ, settled)
    for number in (signal.SIGPIPE, signal.SIGXFSZ):
        signal.signal(number, signal.SIG_IGN)
    signal.signal(signal.SIGINT, signal.default_int_handler)
    # What the warm process would tidy up at its end is not ours to tidy up at ours.
    for each in list(weakref.finalize._registry):  # type: ignore[attr-defined]
        each.atexit = False
    code = exit_code_of(order.call)
    threading._shutdown()  # type: ignore[attr-defined]  # waits for threads that are no daemons
    atexit._run_exitfuncs()
    for stream in (sys.stdout, sys.stderr):
        stream.flush()
    os._exit(code)


def exit_code_of(words: Sequence[str]) -> int:
    try:
        manage(without_checks(words))
    except SystemExit as error:
        if error.code is None or isinstance(error.code, int):
            return (error.code or 0) & 0xFF
        sys.stderr.write(f"{error.code}\n")
        return 1
    except BaseException:
        sys.excepthook(*sys.exc_info())
        return 1
    return 0


def manage(words: Sequence[str]) -> None:
    script = Path("manage.py")
    sys.argv = [str(script.absolute()), *words]
    if script.exists():
        runpy.run_path(sys.argv[0], run_name="__main__")
    else:
        runpy.run_module("django", run_name="__main__")


def without_checks(words: Sequence[str]) -> list[str]:
    from django.core.management import BaseCommand, get_commands, load_command_class

    name, *rest = words
    try:
        app = get_commands()[name]
        command = app if isinstance(app, BaseCommand) else load_command_class(app, name)
    except Exception:
        return list(words)  # Django says it better
    if command.requires_system_checks != BaseCommand.requires_system_checks:
        return list(words)
    return [name, "--skip-checks", *rest]


def adopt(environ: Mapping[str, str], settled: Mapping[str, str]) -> None:
    """Have this environment, and no other, in Python, in C, and for who looks into /proc."""
    os.environ.clear()
    os.environ.update({**environ, **settled})
    time.tzset()  # Django has set TZ, by TIME_ZONE
    show({name: environ[name] for name in SHOWN if name in environ})


def show(environ: Mapping[str, str]) -> None:
    """Write over what this process was started with, which nothing points to any more."""
    stat = Path("/proc/self/stat").read_text(encoding="utf-8", errors="replace")
    facts = stat.rpartition(")")[2].split()
    start, end = int(facts[ENV_START]), int(facts[ENV_END])
    text = b"".join(os.fsencode(f"{name}={value}") + b"\0" for name, value in environ.items())
    if start and len(text) <= end - start:
        ctypes.memset(start, 0, end - start)
        ctypes.memmove(start, text, len(text))
