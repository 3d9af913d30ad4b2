"""Run the services of the Procfile: their output, their restarts, and the order in which they stop.

One thread, one loop. Standard library only.
"""

from __future__ import annotations

import os
import selectors
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass, field
from pathlib import Path
from types import FrameType
from typing import IO

from config.process import kill_group, spawn
from config.undertaker import Undertaker

# Beat first, so that nothing new is published; Flower and the broker last, so that the workers can
# finish what they run, acknowledge it and be watched doing so. Unknown services go with the web.
STOP_ORDER = ("beat", "web", "services", "worker", "flower", "broker")
WORKERS = ("services", "worker")
STOP_TIMEOUT = 10.0
WARM_TIMEOUT = 60.0

FIRST_DELAY = 1.0
LONGEST_DELAY = 30.0
# A service that lived this long was well: its next end counts as its first.
SETTLED = 60.0

COLOURS = (36, 33, 32, 35, 34)


@dataclass(kw_only=True, slots=True, eq=False)
class Service:
    """One line of the Procfile, and its process while it has one."""

    name: str
    command: Sequence[str]
    process: subprocess.Popen[bytes] | None = None
    started_at: float = 0.0
    start_at: float | None = None
    failures: int = 0
    unfinished: bytes = b""

    @property
    def stop_timeout(self) -> float:
        return WARM_TIMEOUT if self.name in WORKERS else STOP_TIMEOUT


def read_procfile(path: Path) -> list[Service]:
    """Return the services of a Procfile, `name: shell command` by line, in its order."""
    lines = (line.partition(":") for line in path.read_text(encoding="utf-8").splitlines())
    return [
        # exec: signals must reach the program, not a shell in front of it.
        Service(name=name.strip(), command=["/bin/sh", "-c", f"exec {command.strip()}"])
        for name, _, command in lines
        if command and not name.startswith("#")
    ]


@dataclass(kw_only=True, slots=True)
class Log:
    """Lines with the name of who says them in front, coloured on a terminal."""

    stream: IO[str] = field(default_factory=lambda: sys.stdout)
    width: int = 8
    colours: dict[str, int] = field(default_factory=dict)

    def line(self, name: str, text: str) -> None:
        mark = f"{name:<{self.width}} |"
        if self.stream.isatty() and "NO_COLOR" not in os.environ:
            colour = self.colours.setdefault(name, COLOURS[len(self.colours) % len(COLOURS)])
            mark = f"\033[{colour}m{mark}\033[0m"
        # The terminal may have gone; the services go on until a signal says otherwise.
        with suppress(OSError, ValueError):
            print(mark, text, file=self.stream, flush=True)


class Supervisor:
    """Services that are started again when they die, until they are stopped in order."""

    def __init__(self, *, environ: Mapping[str, str], log: Log) -> None:
        self.environ = environ
        self.log = log
        self.services: list[Service] = []
        self.signals = 0
        self.is_stopping = False
        self.selector = selectors.DefaultSelector()
        self.undertaker = Undertaker()
        # The loop sleeps in select(); a signal writes to this socket and wakes it.
        self.alarm, wakeup = socket.socketpair()
        self.alarm.setblocking(False)
        wakeup.setblocking(False)
        self.wakeup = wakeup
        signal.set_wakeup_fd(wakeup.fileno(), warn_on_full_buffer=False)
        for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
            signal.signal(number, self.on_signal)
        signal.signal(signal.SIGCHLD, lambda number, frame: None)
        self.selector.register(self.alarm, selectors.EVENT_READ)

    def on_signal(self, number: int, frame: FrameType | None) -> None:
        self.signals += 1

    def say(self, text: str) -> None:
        self.log.line("config", text)

    # --- running ----------------------------------------------------------------------------------

    def start(self, service: Service) -> None:
        if service not in self.services:
            self.services.append(service)
        service.process = spawn(service.command, environ=self.environ)
        service.started_at = time.monotonic()
        service.start_at = None
        self.undertaker.look_after(service.process.pid)
        assert service.process.stdout is not None
        os.set_blocking(service.process.stdout.fileno(), False)
        self.selector.register(service.process.stdout, selectors.EVENT_READ, service)

    def serve(
        self, *, until: Callable[[], bool] = lambda: False, timeout: float | None = None
    ) -> bool:
        """Look after the services until `until()`: True; on a signal or time-out: False."""
        deadline = None if timeout is None else time.monotonic() + timeout
        while not self.signals and (deadline is None or time.monotonic() < deadline):
            if until():
                return True
            self.look()
        return False

    def look(self, timeout: float = 0.1) -> None:
        """Pass on output, notice who ended, and start again whose time has come."""
        for key, _ in self.selector.select(timeout):
            if key.fileobj is self.alarm:
                self.alarm.recv(4096)
            else:
                self.read(key.data)
        for service in self.services:
            if service.process is not None and service.process.poll() is not None:
                self.bury(service)
            elif service.start_at is not None and service.start_at <= time.monotonic():
                self.start(service)

    def read(self, service: Service) -> None:
        assert service.process is not None
        assert service.process.stdout is not None
        chunk = service.process.stdout.read(65536)
        if chunk:
            *lines, service.unfinished = (service.unfinished + chunk).split(b"\n")
            for line in lines:
                self.log.line(service.name, line.decode(errors="replace"))
        elif chunk == b"":
            self.selector.unregister(service.process.stdout)

    def bury(self, service: Service) -> None:
        """Take leave of a process that has ended, with all of its group, and plan its successor."""
        process, service.process = service.process, None
        assert process is not None
        assert process.stdout is not None
        kill_group(process.pid)
        self.undertaker.forget(process.pid)
        rest = process.stdout.read() or b""
        for line in (service.unfinished + rest).splitlines():
            self.log.line(service.name, line.decode(errors="replace"))
        service.unfinished = b""
        if process.stdout in self.selector.get_map():
            self.selector.unregister(process.stdout)
        process.stdout.close()
        if self.is_stopping:
            self.say(f"{service.name} has stopped.")
            return
        if time.monotonic() - service.started_at > SETTLED:
            service.failures = 0
        delay = min(FIRST_DELAY * 2**service.failures, LONGEST_DELAY)
        service.failures += 1
        service.start_at = time.monotonic() + delay
        self.say(
            f"{service.name} {epitaph(process.returncode)}; starting it again in {delay:.0f} s."
        )

    # --- stopping ---------------------------------------------------------------------------------

    def stop(self) -> None:
        """Stop all services, each after the one before has ended; at once on a further signal."""
        self.is_stopping = True
        patience = self.signals
        for service in self.services:
            service.start_at = None
        for service in in_stop_order(self.services):
            if service.process is None:
                continue
            if self.signals > patience and service.name != "broker":
                kill_group(service.process.pid)
            else:
                self.say(f"Stopping {service.name} ...")
                service.process.terminate()
            self.wait_for_end(service, patience)
        self.undertaker.dismiss()
        signal.set_wakeup_fd(-1)
        self.alarm.close()
        self.wakeup.close()
        self.selector.close()

    def wait_for_end(self, service: Service, patience: int) -> None:
        deadline = time.monotonic() + service.stop_timeout
        while service.process is not None:
            if time.monotonic() > deadline:
                self.say(
                    f"{service.name} has not stopped in {service.stop_timeout:.0f} s; killing it."
                )
                kill_group(service.process.pid)
            elif self.signals > patience and service.name != "broker":
                kill_group(service.process.pid)
            self.look()


def in_stop_order(services: Iterable[Service]) -> list[Service]:
    def rank(service: Service) -> int:
        return STOP_ORDER.index(service.name if service.name in STOP_ORDER else "web")

    return sorted(services, key=rank)


def epitaph(code: int) -> str:
    return f"was killed by {signal.Signals(-code).name}" if code < 0 else f"ended with code {code}"
