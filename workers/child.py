"""An external process: in a session of its own, within its limits, its output read as it comes."""

from __future__ import annotations

import contextlib
import enum
import os
import selectors
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import IO

from scheduling.limits import Limits
from workers.output import HeadTail

CHUNK = 64 * 1024
# Longest time between two looks at the process, in seconds.
LOOK = 0.2
# How long the output of a process that left the group is still waited for, in seconds.
DRAIN = 1.0


class Cut(enum.Enum):
    """Why a process was made to end."""

    SOFT_LIMIT = enum.auto()
    HARD_LIMIT = enum.auto()
    STOPPED = enum.auto()
    TERMINATED = enum.auto()


@dataclass(frozen=True, slots=True, kw_only=True)
class Ended:
    exit_code: int  # negative: the number of the signal
    cut: Cut | None


def run_child(
    command: Sequence[str],
    *,
    environ: Mapping[str, str],
    folder: Path,
    limits: Limits,
    grace: timedelta,
    should_stop: Callable[[], bool],
    must_die: Callable[[], bool],
    output: HeadTail,
    file: Path | None = None,
) -> Ended:
    """Run `command` to its end, and end its whole process group with it.

    `file` is executed, if it is another than the command's first word.

    TERM at the soft limit, KILL at the hard one; when `should_stop` says so, TERM at once and
    KILL after `grace`; when `must_die` does, KILL at once. Both outputs go to `output`; there is
    no input.
    """
    launcher = [sys.executable, "-I", "-S", str(Path(__file__).with_name("launch.py"))]
    process = subprocess.Popen(
        [*launcher, str(os.getpid()), str(file or command[0]), *command],
        env=environ,
        cwd=folder,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        start_new_session=True,
    )
    assert process.stdout is not None
    watch = Watch(
        process.pid, limits=limits, grace=grace, should_stop=should_stop, must_die=must_die
    )
    try:
        with process.stdout as pipe, Reader(pipe, output) as reader:
            while not (watch.look() or has_ended(process)):
                reader.read()
            # Before it is reaped: until then its number, and so the group's, is nobody else's.
            signal_group(process.pid, signal.SIGKILL)
            drained = time.monotonic() + DRAIN
            while reader.is_open and time.monotonic() < drained:
                reader.read()
    finally:
        signal_group(process.pid, signal.SIGKILL)
        process.wait()
    return Ended(exit_code=process.returncode, cut=watch.cut)


class Watch:
    """Decides at each look whether the group is to be told to end."""

    def __init__(
        self,
        group: int,
        *,
        limits: Limits,
        grace: timedelta,
        should_stop: Callable[[], bool],
        must_die: Callable[[], bool],
    ) -> None:
        began = time.monotonic()
        self.cut: Cut | None = None
        self._group = group
        self._soft = began + limits.soft.total_seconds()
        self._hard = began + limits.hard.total_seconds()
        self._grace = grace.total_seconds()
        self._should_stop = should_stop
        self._must_die = must_die

    def look(self) -> bool:
        """Send what is due; True once the group has been killed."""
        now = time.monotonic()
        if self._must_die():
            self.cut = Cut.TERMINATED
            signal_group(self._group, signal.SIGKILL)
            return True
        if now >= self._hard:
            if self.cut is not Cut.STOPPED:
                self.cut = Cut.HARD_LIMIT
            signal_group(self._group, signal.SIGKILL)
            return True
        if self.cut is None and self._should_stop():
            self.cut = Cut.STOPPED
            self._hard = min(self._hard, now + self._grace)
            signal_group(self._group, signal.SIGTERM)
        elif self.cut is None and now >= self._soft:
            self.cut = Cut.SOFT_LIMIT
            signal_group(self._group, signal.SIGTERM)
        return False


class Reader:
    """Reads what a process writes, without ever waiting long."""

    def __init__(self, pipe: IO[bytes], output: HeadTail) -> None:
        os.set_blocking(pipe.fileno(), False)
        self.is_open = True
        self._pipe = pipe
        self._output = output
        self._selector = selectors.DefaultSelector()
        self._selector.register(pipe, selectors.EVENT_READ)

    def __enter__(self) -> Reader:
        return self

    def __exit__(self, *exc: object) -> None:
        self._selector.close()

    def read(self) -> None:
        """Read one chunk, waiting at most LOOK seconds for it."""
        if not self.is_open:
            time.sleep(LOOK / 10)  # it has closed its output and goes on
        elif self._selector.select(LOOK):
            data = os.read(self._pipe.fileno(), CHUNK)
            self._output.write(data)
            self.is_open = bool(data)


def has_ended(process: subprocess.Popen[bytes]) -> bool:
    """Whether the process has ended, without reaping it."""
    return os.waitid(os.P_PID, process.pid, os.WEXITED | os.WNOHANG | os.WNOWAIT) is not None


def signal_group(group: int, number: signal.Signals) -> None:
    # macOS says PermissionError for a group of zombies.
    with contextlib.suppress(ProcessLookupError, PermissionError):
        os.killpg(group, number)


def signal_name(number: int) -> str:
    try:
        return signal.Signals(number).name
    except ValueError:
        return f"signal {number}"
