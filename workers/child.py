"""An external run, seen from its worker: a shepherd is told what to run, and its output is read."""

from __future__ import annotations

import os
import select
import signal
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import asdict, replace
from pathlib import Path
from typing import Any, Protocol

from workers import warm
from workers.orders import CHUNK, Channel, Cut, Ended, Order
from workers.output import HeadTail

# Longest time between two looks at what is to be passed on, in seconds.
LOOK = 0.2
# How long a shepherd may take to end what it owns when nobody waits for the run, in seconds.
PATIENCE = 15.0
# What a shepherd that was killed would have said.
LOST = Ended(exit_code=-signal.SIGKILL, cut=Cut.LOST)


class Wishes(Protocol):
    """What a run's worker has to pass on while it goes on; an OpenRun knows it."""

    def should_stop(self) -> bool: ...
    def must_die(self) -> bool: ...
    def lease_until(self) -> float: ...


def run_child(order: Order, wishes: Wishes, output: HeadTail) -> Ended:
    """Have `order` run to its end, with everything that it starts; both its outputs go to `output`.

    Nothing of it is left then, also if this raises: a time limit of the pool, say.
    """
    source, sink = os.pipe()
    os.set_blocking(source, False)
    try:
        with shepherd() as channel:
            channel.send_file(sink)
            os.close(sink)
            sink = -1
            channel.send(asdict(replace(order, lease_until=wishes.lease_until())))
            return Attendant(channel, source, wishes, output).attend()
    except ConnectionError:
        return LOST  # killed before it had the whole order
    finally:
        os.close(source)
        if sink >= 0:
            os.close(sink)


@contextmanager
def shepherd() -> Iterator[Channel]:
    """Give the channel to a shepherd of its own, forked from a warm process or else started."""
    channel = warm.shepherd()
    process: subprocess.Popen[bytes] | None = None
    if channel is None:
        process, channel = start_shepherd()
    with channel.socket:
        try:
            yield channel
        except BaseException:
            # It ends everything when it reads the end, and closes its own side when it is done.
            with suppress(OSError):
                channel.socket.shutdown(socket.SHUT_WR)
                channel.socket.settimeout(PATIENCE)
                while channel.wait_for():
                    pass
            if process is not None and channel.is_open:
                process.kill()  # it is frozen
            raise
        finally:
            if process is not None:
                process.wait()


def start_shepherd() -> tuple[subprocess.Popen[bytes], Channel]:
    ours, theirs = socket.socketpair()
    with theirs:
        process = subprocess.Popen(
            [sys.executable, "-I", "-S", str(Path(__file__).with_name("launch.py"))],
            env={},
            stdin=theirs.fileno(),
            start_new_session=True,
        )
    channel = Channel(ours)
    channel.wait_for()
    return process, channel


class Attendant:
    """Passes the worker's wishes on to a shepherd, and reads what its job writes."""

    def __init__(self, channel: Channel, source: int, wishes: Wishes, output: HeadTail) -> None:
        self._channel = channel
        self._source = source
        self._wishes = wishes
        self._output = output
        self._is_source_open = True
        self._told: dict[str, Any] = {}

    def attend(self) -> Ended:
        """Wait for the end. A shepherd that is gone without a word has been killed."""
        self._channel.socket.setblocking(False)
        look = 0.0
        ended: dict[str, Any] | None = None
        while ended is None and self._channel.is_open:
            if time.monotonic() >= look:
                self._pass_on()
                look = time.monotonic() + LOOK
            for word in self._wait():
                ended = word.get("ended", ended)
        # The pipe holds what was written last. It need not end: a process that this one has forked
        # meanwhile may have the other end, too.
        while self._is_source_open and self._read():
            pass
        if ended is None:
            return LOST
        cut = ended["cut"]
        return Ended(**{**ended, "cut": cut and Cut(cut)})

    def _wait(self) -> list[dict[str, Any]]:
        """Read one chunk of output and the shepherd's words, if they come within LOOK seconds."""
        watched = select.poll()
        watched.register(self._channel.socket, select.POLLIN)
        if self._is_source_open:
            watched.register(self._source, select.POLLIN)
        ready = {file for file, _ in watched.poll(LOOK * 1000)}
        if self._source in ready:
            self._read()
        return self._channel.receive() if self._channel.socket.fileno() in ready else []

    def _read(self) -> bool:
        """Read one chunk; False: there is nothing at present."""
        try:
            data = os.read(self._source, CHUNK)
        except BlockingIOError:
            return False
        self._is_source_open = bool(data)
        if data:
            self._output.write(data)
        return True

    def _pass_on(self) -> None:
        wishes: dict[str, Any] = {"lease_until": self._wishes.lease_until()}
        if self._wishes.must_die():
            wishes["kill"] = True
        elif self._wishes.should_stop():
            wishes["stop"] = True
        news = {name: value for name, value in wishes.items() if self._told.get(name) != value}
        # Its shepherd is frozen and hears nothing more, or it is gone, which is read soon.
        with suppress(BlockingIOError, ConnectionError):
            if news:
                self._channel.send(news)
                self._told |= news


def signal_name(number: int) -> str:
    try:
        return signal.Signals(number).name
    except ValueError:
        return f"signal {number}"
