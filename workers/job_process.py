"""From a fork of the shepherd to the job itself. Standard library only.

Nothing of the worker or of the shepherd is left in it: session, signals, user, folder, files and
environment are the job's own.
"""

from __future__ import annotations

import ctypes
import os
import pwd
import signal
import sys
import traceback
from collections.abc import Callable, Iterable
from typing import NoReturn

from workers.orders import Order

PR_SET_PDEATHSIG = 1
# What a job's files are never open to, however the worker was started: writing by others.
UMASK = 0o022

Call = Callable[[Order], NoReturn]

libc = ctypes.CDLL(None)


def start(order: Order, output: int, call: Call | None, *, ours: Iterable[int]) -> int:
    """Fork the job that `order` names, writing to `output`; give its process id.

    `ours` are the shepherd's own open files. No more are closed for a call: logs that Django has
    opened are the job's as much as the warm process's.
    """
    shepherd = os.getpid()
    job = os.fork()
    if job:
        return job
    # Nothing may ever return into the shepherd's code from here.
    try:
        enter(order, output, shepherd, ours)
        if call is not None and order.call:
            call(order)
        os.closerange(3, os.sysconf("SC_OPEN_MAX"))
        try:
            os.execve(order.file, order.words, order.environ)
        except OSError as error:
            raise SystemExit(f"{order.file}: {error.strerror}") from None
    except SystemExit as error:
        os.write(2, f"{error}\n".encode(errors="backslashreplace"))
    except BaseException:
        os.write(2, traceback.format_exc().encode(errors="backslashreplace"))
    finally:
        os._exit(1)


def enter(order: Order, output: int, shepherd: int, ours: Iterable[int]) -> None:
    os.setsid()
    reset_signals()
    for file in ours:
        os.close(file)
    nothing = os.open(os.devnull, os.O_RDONLY)
    os.dup2(nothing, 0)
    os.set_inheritable(0, True)  # dup2 does it, unless they are the same
    os.dup2(output, 1)
    os.dup2(output, 2)
    for file in {nothing, output} - {0, 1, 2}:
        os.close(file)
    os.umask(os.umask(UMASK) | UMASK)
    if order.user:
        become(order)
    # Last, as a change of user takes it back.
    prctl(PR_SET_PDEATHSIG, signal.SIGKILL)
    # The shepherd may have died before the kernel knew of our wish.
    if os.getppid() != shepherd:
        os._exit(1)
    try:
        os.chdir(order.folder)
    except OSError as error:
        raise SystemExit(f"Folder {order.folder!r}: {error.strerror}") from None


def reset_signals() -> None:
    """As the kernel has them: what is ignored stays so after exec, and `yes | head` would not end.

    A management command that is called is Python's, which ignores a few by itself.
    """
    signal.set_wakeup_fd(-1)
    for number in signal.valid_signals() - {signal.SIGKILL, signal.SIGSTOP}:
        signal.signal(number, signal.SIG_DFL)
    signal.pthread_sigmask(signal.SIG_SETMASK, ())


def become(order: Order) -> None:
    """Become the user that the order names, or end: nothing may run as the worker by mistake."""
    try:
        entry = pwd.getpwnam(order.user)
    except KeyError:
        raise SystemExit(
            f"JOBS_RUN_AS names the user {order.user!r}, whom this machine does not know"
        ) from None
    try:
        if os.geteuid() != entry.pw_uid:
            os.initgroups(entry.pw_name, entry.pw_gid)
            os.setgid(entry.pw_gid)
            os.setuid(entry.pw_uid)
    except OSError as error:
        raise SystemExit(
            f"Cannot run as {order.user!r}: {error.strerror}; start the worker as root, or remove "
            "JOBS_RUN_AS from the settings"
        ) from None
    order.environ.update(HOME=entry.pw_dir, USER=entry.pw_name, LOGNAME=entry.pw_name)


def prctl(option: int, value: int) -> None:
    if sys.platform == "linux":
        libc.prctl(option, value, 0, 0, 0)
