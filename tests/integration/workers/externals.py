"""External runs as a worker starts them, by a fresh shepherd or by one from the warm process."""

from __future__ import annotations

import os
import sys
import textwrap
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from tests.waiting import wait_for
from workers import child
from workers.orders import Ended, Order, boot_time
from workers.output import HeadTail

ROOT = Path(__file__).resolve().parents[3]

# A shell with two children, one that heeds no TERM, and one that has left the family.
FAMILY = """
tell() { echo "$1" >> pids; }
tell $$
sleep 1000 & tell $!
sleep 1000 & tell $!
(trap '' TERM; exec sleep 1000) & tell $!
(setsid sleep 1000 < /dev/null > /dev/null 2>&1 & tell $!)
"""
FAMILY_SIZE = 5


@dataclass
class Wishes:
    """A worker that wants nothing, unless told otherwise."""

    stop: Callable[[], bool] = lambda: False
    die: Callable[[], bool] = lambda: False
    lease: Callable[[], float] = field(default_factory=lambda: lambda: boot_time() + 60)

    def should_stop(self) -> bool:
        return self.stop()

    def must_die(self) -> bool:
        return self.die()

    def lease_until(self) -> float:
        return self.lease()


class Runner:
    """Runs external processes in a folder of its own and keeps what they write."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.output = HeadTail(1000, 500)

    def python(self, code: str, **order: Any) -> Ended:
        return self.run([sys.executable, "-u", "-c", textwrap.dedent(code)], **order)

    def sh(self, script: str, **order: Any) -> Ended:
        return self.run(["/bin/sh", "-c", script], **order)

    def run(self, words: Sequence[str], *, wishes: Wishes | None = None, **order: Any) -> Ended:
        made = make_order(words, **{"folder": str(self.folder), **order})
        return child.run_child(made, wishes or Wishes(), self.output)

    def text(self) -> str:
        return self.output.text()

    def pids(self) -> list[int]:
        file = self.folder / "pids"
        return [int(line) for line in file.read_text().split()] if file.exists() else []

    def has_family(self) -> bool:
        return len(self.pids()) == FAMILY_SIZE

    def alive(self) -> list[int]:
        return [pid for pid in self.pids() if is_alive(pid)]

    def expect_nobody(self, *, within: float = 5) -> None:
        assert self.has_family()
        wait_for(lambda: not self.alive(), timeout=within, message=self.alive)


def make_order(words: Sequence[str], **changes: Any) -> Order:
    facts: dict[str, Any] = {
        "words": list(words),
        "file": words[0],
        "environ": {"PATH": os.environ["PATH"]},
        "folder": str(ROOT),
        "soft": 60,
        "hard": 60,
        "grace": 60,
    }
    return Order(**facts | changes)


def is_alive(pid: int) -> bool:
    return state_of(pid) not in ("", "Z")


def state_of(pid: int) -> str:
    """Give the letter of the process's state; empty if it is gone."""
    return (stat_of(pid) or [""])[0]


def parent_of(pid: int) -> int:
    return int(stat_of(pid)[1])


def stat_of(pid: int) -> list[str]:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except (FileNotFoundError, ProcessLookupError):
        return []
