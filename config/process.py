"""Start child processes that cannot outlive this one. Standard library only."""

from __future__ import annotations

import ctypes
import os
import signal
import subprocess
import sys
from collections.abc import Mapping, Sequence
from contextlib import suppress

PR_SET_PDEATHSIG = 1
LIBC = ctypes.CDLL(None) if sys.platform == "linux" else None


def spawn(command: Sequence[str], *, environ: Mapping[str, str]) -> subprocess.Popen[bytes]:
    """Start `command` in a session of its own, both outputs in one pipe, no input.

    Its own session keeps the terminal's Ctrl-C away from it: when it stops is for its parent to
    decide. On Linux the kernel sends it TERM when the parent dies; `config.undertaker` kills what
    does not heed that.
    """
    return subprocess.Popen(
        command,
        env=environ,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        start_new_session=True,
        preexec_fn=terminate_with_parent,
    )


def terminate_with_parent() -> None:
    if LIBC is not None:
        LIBC.prctl(PR_SET_PDEATHSIG, signal.SIGTERM)


def kill_group(group: int) -> None:
    """Kill every process of `group`; quietly nothing if there is none."""
    # macOS calls a group of zombies a matter of permission.
    with suppress(ProcessLookupError, PermissionError):
        os.killpg(group, signal.SIGKILL)
