"""Processes of this machine as /proc shows them. Standard library only: shepherds use nothing else.

Empty where there is no /proc.
"""

from __future__ import annotations

import os
import signal
from collections.abc import Iterable, Iterator
from contextlib import suppress
from pathlib import Path

PROC = Path("/proc")


def all_pids() -> Iterator[int]:
    with suppress(OSError):
        yield from (int(name) for name in os.listdir(PROC) if name.isdigit())


def families() -> dict[int, list[int]]:
    """Give parent -> its children, the dead too that nobody has taken away: others of their threads
    may live.
    """
    found: dict[int, list[int]] = {}
    for pid in all_pids():
        # The name in brackets may hold anything, brackets and blanks included.
        with suppress(OSError, ValueError):
            stat = (PROC / str(pid) / "stat").read_text(errors="replace")
            found.setdefault(int(stat.rpartition(")")[2].split()[1]), []).append(pid)
    return found


def children(parent: int) -> list[int]:
    return families().get(parent, [])


def descendants(root: int) -> list[int]:
    """Give the processes below `root`, parents before their children."""
    known = families()
    found = [root]
    for pid in found:
        found += known.get(pid, ())
    return found[1:]


def resident_bytes(pids: Iterable[int]) -> int:
    """Add up the memory that these processes have in RAM; what they share counts in each."""
    pages = 0
    for pid in pids:
        with suppress(OSError, ValueError, IndexError):
            pages += int((PROC / str(pid) / "statm").read_text().split()[1])
    return pages * os.sysconf("SC_PAGE_SIZE")


def kill_all(pids: Iterable[int]) -> None:
    for pid in pids:
        # Gone already, or made another user's by a program that may do that.
        with suppress(ProcessLookupError, PermissionError):
            os.kill(pid, signal.SIGKILL)
