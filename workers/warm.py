"""The warm process of a worker: started by its main process when the first run asks for it.

The main process opens a door, a socket in a folder of its own, before the pool is forked; so all
the pool's processes share one warm process, and know the way to it without being told. Nobody
knocks: nothing is started. See `zygote` for what is behind the door.
"""

from __future__ import annotations

import json
import logging
import os
import select
import shutil
import socket
import subprocess
import sys
import tempfile
import threading
import time
from collections.abc import Callable, Mapping
from contextlib import suppress
from pathlib import Path
from typing import Any

from scheduling.conf import conf
from workers.orders import Channel

logger = logging.getLogger(__name__)

# How long a run waits for its shepherd from the warm process before it takes a fresh one.
PATIENCE = 15.0
# After a warm process could not be made, fresh ones are taken for so long, in seconds.
RETRY = 60.0
# The exit code that says so.
CANNOT = 3
# Variables that the interpreter itself reads as it starts. All others come through a pipe: what a
# process is started with can be read in /proc for as long as it lives.
STARTING = ("LANG", "LANGUAGE", "LC_", "PYTHON", "LD_LIBRARY_PATH")


def shepherd() -> Channel | None:
    """Give the channel to a shepherd that was forked for us; None: take a fresh one."""
    if _door is None or not conf.WARM_START:
        return None
    end = socket.socket(socket.AF_UNIX)
    try:
        end.settimeout(PATIENCE)
        end.connect(str(_door.path))
        channel = Channel(end)
        if channel.wait_for() is not None:
            end.settimeout(None)
            return channel
    except OSError as error:
        logger.warning("No warm start, a fresh interpreter instead: %s", error)
    # Whoever comes to it now finds it closed, and starts nothing.
    end.close()
    return None


class Door:
    """Starts the warm process when somebody knocks, and again when it has died."""

    def __init__(self, environ: Callable[[], Mapping[str, str]], folder: Path) -> None:
        remove_stale()
        self.path = Path(tempfile.mkdtemp(prefix=f"{own_prefix()}{os.getpid()}-")) / "zygote"
        self.process: subprocess.Popen[bytes] | None = None
        self._environ = environ
        self._folder = folder
        self._listener = socket.socket(socket.AF_UNIX)
        self._listener.bind(str(self.path))
        self._listener.listen(128)
        self._listener.setblocking(False)
        self._wake, self._bell = socket.socketpair()
        self._thread = threading.Thread(target=self._attend, name="warm process", daemon=True)
        self._thread.start()

    def close(self) -> None:
        """Runs under way go on: their shepherds live by themselves."""
        self._bell.send(b"\n")  # to close it is not enough: the pool's processes have it, too
        if self.process is not None:
            self.process.kill()
        self._thread.join(timeout=5)
        self._wake.close()
        self._bell.close()
        self._listener.close()
        shutil.rmtree(self.path.parent, ignore_errors=True)

    def _attend(self) -> None:
        cold_until = 0.0
        while self._is_wanted():
            if time.monotonic() >= cold_until and self._live() == CANNOT:
                logger.error("No warm starts for %g s: the warm process could not be made", RETRY)
                cold_until = time.monotonic() + RETRY
            self._turn_away()

    def _is_wanted(self) -> bool:
        """Wait until somebody knocks; False: the door is closed."""
        ready, _, _ = select.select([self._listener, self._wake], [], [])
        return self._wake not in ready

    def _live(self) -> int:
        """Start the warm process, and give its exit code when it has ended."""
        environ = dict(self._environ())
        first = {name: value for name, value in environ.items() if name.startswith(STARTING)}
        first["PYTHONPATH"] = os.pathsep.join(filter(None, sys.path))
        first["PAD"] = "." * 512  # room for what a job shows of itself
        try:
            self.process = subprocess.Popen(
                [sys.executable, "-u", "-c", "from workers import zygote; zygote.main()"],
                env=first,
                cwd=self._folder,
                stdin=subprocess.PIPE,
                pass_fds=[self._listener.fileno()],
                start_new_session=True,
            )
        except OSError:
            logger.exception("The warm process could not be started")
            return CANNOT
        order = {"listener": self._listener.fileno(), "worker": os.getpid(), "environ": environ}
        assert self.process.stdin is not None
        with suppress(BrokenPipeError), self.process.stdin as pipe:
            pipe.write(json.dumps(order).encode() + b"\n")
        return self.process.wait()

    def _turn_away(self) -> None:
        """Nobody waits for what is dead."""
        with suppress(BlockingIOError):
            while True:
                self._listener.accept()[0].close()


def own_prefix() -> str:
    """Begin the names of our folders; containers with numbers of their own may share the place."""
    return f"beatkeeper-{os.stat('/proc/self/ns/pid').st_ino}-"


def remove_stale() -> None:
    """Remove the folders of workers that were killed before anybody knocked."""
    for folder in Path(tempfile.gettempdir()).glob(f"{own_prefix()}*-*"):
        pid = folder.name.split("-")[2]
        with suppress(OSError):  # another worker may be at it, too
            if folder.stat().st_uid == os.geteuid() and not Path("/proc", pid).exists():
                shutil.rmtree(folder)


_door: Door | None = None


def open_door(environ: Callable[[], Mapping[str, str]], folder: Path) -> None:
    """Let runs of this process, and of those it forks, begin in a warm one. Linux only."""
    global _door
    if sys.platform != "linux" or not conf.WARM_START:
        return
    try:
        _door = Door(environ, folder)
    except OSError:
        logger.exception("No warm starts: no socket in %s", tempfile.gettempdir())


def close_door(**_: Any) -> None:
    global _door
    door, _door = _door, None
    if door is not None:
        door.close()
