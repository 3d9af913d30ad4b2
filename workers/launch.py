"""Become a command that the kernel ends with its worker. A script: no imports of ours.

Run as `python -I -S launch.py PARENT FILE NAME ARGUMENT...`: FILE is what runs, NAME what it is
told to be called (a Python of a virtual environment finds its packages by it). The signal has to
be asked for in the new process. Doing so between fork and exec (`preexec_fn`) can deadlock in a
worker with threads; this costs some ten milliseconds instead, and keeps for the program after exec.
"""

from __future__ import annotations

import ctypes
import os
import signal
import sys

PR_SET_PDEATHSIG = 1


def main() -> None:
    parent, file, *command = sys.argv[1:]
    if sys.platform == "linux":
        ctypes.CDLL(None).prctl(PR_SET_PDEATHSIG, signal.SIGKILL)
    # The worker may have died before the kernel knew of our wish.
    if os.getppid() != int(parent):
        sys.exit(f"worker {parent} is gone")
    # Python ignores these two, and what is ignored stays so after exec: `yes | head` would not end.
    signal.signal(signal.SIGPIPE, signal.SIG_DFL)
    signal.signal(signal.SIGXFSZ, signal.SIG_DFL)
    try:
        os.execv(file, command)
    except OSError as error:
        sys.exit(f"{file}: {error.strerror}")


if __name__ == "__main__":
    main()
