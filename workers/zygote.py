"""The warm process: Django is set up in it, and what it forks begins at once.

Single-threaded, without a connection to anything. It listens at the worker's door; whoever knocks
gets a shepherd, forked from here, which forks the job. It is the subreaper above the shepherds: if
one of them is killed, what it leaves behind comes here, and is killed. It ends with its worker.
"""

from __future__ import annotations

import gc
import json
import logging
import os
import runpy
import select
import signal
import socket
import sys
import time
from contextlib import suppress
from functools import partial
from pathlib import Path
from typing import Any

from workers import called, job_process, process_tree, shepherd
from workers.job_process import Call
from workers.orders import credentials_of
from workers.warm import CANNOT

logger = logging.getLogger(__name__)

# Between two looks for what a killed shepherd has left, in seconds.
ROUND = 0.05
# How long shepherds may take to end everything after the worker's death, in seconds.
GRACE = 15.0


def main() -> None:
    order: dict[str, Any] = json.loads(sys.stdin.buffer.readline())
    listener = socket.socket(fileno=order["listener"])
    try:
        worker = os.pidfd_open(order["worker"])
        given: dict[str, str] = order["environ"]
        os.environ.clear()
        os.environ.update(given)
        warm_up()
    except Exception:
        logger.exception("The warm process could not be made")
        sys.exit(CANNOT)
    settled = {name: value for name, value in os.environ.items() if given.get(name) != value}
    Zygote(listener, worker, partial(called.call, settled=settled)).serve()


def warm_up() -> None:
    """Load what every management command loads; nothing may stay open or run beside."""
    import django
    from celery import current_app
    from django.core.management import BaseCommand, get_commands
    from django.db import connections

    script = Path("manage.py")
    if script.exists():
        runpy.run_path(str(script), run_name="zygote")
    django.setup()

    # As a worker does: every module with tasks, every command with a job.
    current_app.loader.import_default_modules()
    # What the first use makes and keeps.
    get_commands()
    BaseCommand().create_parser("manage.py", "")
    for each in connections.all():
        each.close()
    threads = len(os.listdir("/proc/self/task"))
    if threads > 1:
        # A fork takes along their locks, but not those who would open them.
        raise RuntimeError(
            f"{threads - 1} threads were started while Django was set up; set JOBS_WARM_START = "
            "False, or let the app start them later"
        )
    gc.collect()
    gc.freeze()


class Zygote:
    def __init__(self, listener: socket.socket, worker: int, call: Call) -> None:
        self._listener = listener
        self._call = call
        self._worker = worker
        self._shepherds: set[int] = set()
        self._has_strangers = False

    def serve(self) -> None:
        for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
            signal.signal(number, signal.SIG_IGN)
        job_process.prctl(shepherd.PR_SET_CHILD_SUBREAPER, 1)
        self._alarm = shepherd.Alarm()
        sources = [self._listener.fileno(), self._worker, self._alarm.fileno()]
        while True:
            ready, _, _ = select.select(sources, [], [], ROUND if self._has_strangers else None)
            self._alarm.reset()
            self._reap()
            if self._has_strangers:
                self._end_strangers()
            if self._worker in ready:
                break
            if self._listener.fileno() in ready:
                self._answer()
        self._end()

    def _answer(self) -> None:
        """Fork a shepherd for who has knocked, if that is a process of our own user."""
        try:
            control, _ = self._listener.accept()
        except OSError:
            return
        with control:
            found = credentials_of(control)
            if found is None or found[1] != os.geteuid():
                return
            pid = os.fork()
            if pid:
                self._shepherds.add(pid)
                return
            self._become_shepherd(control)

    def _become_shepherd(self, control: socket.socket) -> None:
        code = 1
        try:
            os.setsid()
            for file in (*self._alarm.files(), self._worker, self._listener.fileno()):
                os.close(file)
            shepherd.serve(control, call=self._call)
            code = 0
        except BaseException:
            logger.exception("A shepherd failed")
        finally:
            os._exit(code)

    def _reap(self) -> None:
        """Take the dead away. Who was killed, or is no shepherd, tells of others left behind."""
        with suppress(ChildProcessError):
            while True:
                pid, status = os.waitpid(-1, os.WNOHANG)
                if pid == 0:
                    return
                self._has_strangers |= status != 0 or pid not in self._shepherds
                self._shepherds.discard(pid)

    def _end_strangers(self) -> None:
        """Kill whoever is our child and no shepherd, with all below."""
        found = [pid for pid in process_tree.children(os.getpid()) if pid not in self._shepherds]
        self._has_strangers = bool(found)
        for stranger in found:
            process_tree.kill_all([stranger, *process_tree.descendants(stranger)])

    def _end(self) -> None:
        """The worker is gone: its shepherds see that, too, and end what they own."""
        path = Path(self._listener.getsockname())
        self._listener.close()
        give_up = time.monotonic() + GRACE
        while time.monotonic() < give_up and process_tree.children(os.getpid()):
            self._alarm.wait(ROUND)
            self._reap()
        process_tree.kill_all(process_tree.descendants(os.getpid()))
        with suppress(OSError):
            path.unlink()
            path.parent.rmdir()
