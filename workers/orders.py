"""What workers and shepherds say to each other: JSON objects, one on each line. Standard library.

shepherd  {"shepherd": PID}     it is there
worker    a byte with a file    where the job's output goes
worker    an Order
worker    {"lease_until": T}, {"stop": true}, {"kill": true}, as often as it likes
shepherd  {"ended": Ended}      nothing of the job is left
"""

from __future__ import annotations

import enum
import json
import select
import socket
import struct
import time
from dataclasses import dataclass, field
from typing import Any

CHUNK = 64 * 1024


class Cut(enum.StrEnum):
    """Why a process was made to end."""

    SOFT_LIMIT = "soft_limit"
    HARD_LIMIT = "hard_limit"
    MEMORY = "memory"
    STOPPED = "stopped"
    TERMINATED = "terminated"
    LEASE = "lease"  # the worker did not renew it in time: the run is another's
    LOST = "lost"  # the worker or the shepherd has died


@dataclass(frozen=True, slots=True, kw_only=True)
class Order:
    """What to run, with what, and for how long. Spans are seconds; None: no limit."""

    words: list[str]
    file: str  # what is executed; the first word is what it is told to be called
    # The same as a management command and its arguments, for a process that can just call it.
    call: list[str] = field(default_factory=list)
    environ: dict[str, str]
    folder: str
    soft: float | None
    hard: float | None
    grace: float
    memory: int | None = None  # bytes, of all its processes together
    user: str = ""
    lease_until: float | None = None  # see boot_time


@dataclass(frozen=True, slots=True, kw_only=True)
class Ended:
    exit_code: int  # negative: the number of the signal
    cut: Cut | None
    left: int = 0  # processes that could not be killed


def boot_time() -> float:
    """Seconds on a clock that goes on while the machine sleeps, the same in every process."""
    return time.clock_gettime(getattr(time, "CLOCK_BOOTTIME", time.CLOCK_MONOTONIC))


class Channel:
    def __init__(self, end: socket.socket) -> None:
        self.socket = end
        self.is_open = True
        self._rest = b""
        self._unread: list[dict[str, Any]] = []

    def send(self, word: dict[str, Any]) -> None:
        # Surrogates, which stand for bytes that are no UTF-8, survive as escapes.
        self.socket.sendall(json.dumps(word).encode() + b"\n")

    def receive(self) -> list[dict[str, Any]]:
        """Read once, and give the objects that are whole by now."""
        words, self._unread = self._unread, []
        if words:
            return words
        try:
            data = self.socket.recv(CHUNK)
        except BlockingIOError:
            return []
        except ConnectionError:
            data = b""
        self.is_open = bool(data)
        *lines, self._rest = (self._rest + data).split(b"\n")
        return [json.loads(line) for line in lines]

    def has_more(self) -> bool:
        """Whether `receive` has something to give, if only the news that the channel is closed."""
        return bool(self._unread) or (
            self.is_open and bool(select.select([self.socket], [], [], 0)[0])
        )

    def wait_for(self) -> dict[str, Any] | None:
        """Give the next object; None: the other side has closed the channel."""
        while self.is_open:
            words = self.receive()
            if words:
                self._unread = words[1:]
                return words[0]
        return None

    def send_file(self, file: int) -> None:
        socket.send_fds(self.socket, [b"\n"], [file])

    def take_file(self) -> int | None:
        data, files, _, _ = socket.recv_fds(self.socket, 1, 1)
        return files[0] if data and files else None


def peer_of(end: socket.socket) -> int | None:
    """Give the process that has opened the other end; None where the system does not tell."""
    found = credentials_of(end)
    return found and found[0]


def credentials_of(end: socket.socket) -> tuple[int, int] | None:
    """Give pid and uid of who has opened the other end."""
    if not hasattr(socket, "SO_PEERCRED"):
        return None
    layout = struct.Struct("3i")
    pid, uid, _ = layout.unpack(end.getsockopt(socket.SOL_SOCKET, socket.SO_PEERCRED, layout.size))
    return pid, uid
