"""The process that owns the tree of an external run, and ends all of it. Standard library only.

One shepherd per run. It takes an order over a socket from the worker, forks the job, watches the
limits, and heeds what the worker says meanwhile. However the run ends, it kills the job's group,
then every descendant until none is left (it is their subreaper: who daemonises becomes its child),
and only then reports.

It is told to end by words, by the end of the socket, by the death of the worker, whatever kills
that, and by a deadline that the worker renews: a worker that is frozen or cut off has lost the run
to another by then.
"""

from __future__ import annotations

import math
import os
import select
import signal
import socket
import time
from contextlib import suppress
from dataclasses import asdict

from workers import job_process, process_tree
from workers.job_process import Call
from workers.orders import Channel, Cut, Ended, Order, boot_time, peer_of

PR_SET_CHILD_SUBREAPER = 36
# Longest time between two looks at the clocks, in seconds; memory is looked at as often.
LOOK = 1.0
# Between two rounds of killing, in seconds.
ROUND = 0.02
# How long what cannot be killed is waited for, in seconds: it hangs in the kernel or is root's.
PATIENCE = 10.0


def serve(control: socket.socket, *, call: Call | None = None) -> None:
    """Be the shepherd of the run that the worker at the other end of `control` orders.

    A worker that has not waited for us has closed its end, and then nothing is started.
    """
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGHUP):
        signal.signal(number, signal.SIG_IGN)  # the worker decides, not who ends its machine
    job_process.prctl(PR_SET_CHILD_SUBREAPER, 1)
    control.setblocking(True)
    channel = Channel(control)
    try:
        worker = Worker(channel)
        channel.send({"shepherd": os.getpid()})
        output = channel.take_file()
        order = channel.wait_for()
    except OSError:
        return
    if output is None or order is None:
        return
    alarm = Alarm()
    wanted = Order(**order)
    job = job_process.start(wanted, output, call, ours=[*alarm.files(), *worker.files()])
    os.close(output)
    ended = Shepherd(wanted, job, worker, alarm).tend()
    with suppress(OSError):
        channel.send({"ended": asdict(ended)})


class Alarm:
    """Readable when a child has changed. Made before there are any."""

    def __init__(self) -> None:
        self._bell, self._rope = os.pipe()
        os.set_blocking(self._bell, False)
        os.set_blocking(self._rope, False)
        signal.set_wakeup_fd(self._rope, warn_on_full_buffer=False)
        signal.signal(signal.SIGCHLD, lambda *_: None)

    def fileno(self) -> int:
        return self._bell

    def files(self) -> list[int]:
        return [self._bell, self._rope]

    def reset(self) -> None:
        with suppress(BlockingIOError):
            while os.read(self._bell, 4096):
                pass

    def wait(self, seconds: float) -> None:
        select.select([self], [], [], seconds)
        self.reset()


class Worker:
    """The worker's words, and whether it lives."""

    def __init__(self, channel: Channel) -> None:
        self.channel = channel
        self.wants_stop = False
        self.wants_kill = False
        self.lease_until: float | None = None
        # Its end of the socket may also be in the hands of a process that it has forked.
        self._process = pidfd_of(peer_of(channel.socket))

    def files(self) -> list[int]:
        control = self.channel.socket.fileno()
        return [control] if self._process is None else [control, self._process]

    def listen(self) -> None:
        """Take in what it has said. Its leases are points in time: an old one does no harm."""
        while self.channel.has_more():
            for word in self.channel.receive():
                self.wants_stop |= "stop" in word
                self.wants_kill |= "kill" in word
                self.lease_until = word.get("lease_until", self.lease_until)

    def is_gone(self) -> bool:
        return not self.channel.is_open or (
            self._process is not None and bool(select.select([self._process], [], [], 0)[0])
        )


class Shepherd:
    """Decides at each look whether the job is to be told to end, or the tree to be killed."""

    def __init__(self, order: Order, job: int, worker: Worker, alarm: Alarm) -> None:
        began = time.monotonic()
        self._job = job
        self._worker = worker
        self._alarm = alarm
        worker.lease_until = order.lease_until
        self._soft = began + (math.inf if order.soft is None else order.soft)
        self._hard = began + (math.inf if order.hard is None else order.hard)
        self._grace = order.grace
        self._memory = order.memory
        self._cut: Cut | None = None
        self._status: int | None = None

    def tend(self) -> Ended:
        while not (self._has_ended() or self._look()):
            files = [self._alarm.fileno(), *self._worker.files()]
            select.select(files, [], [], self._pause())
            self._alarm.reset()
        return self._clear_up()

    def _look(self) -> bool:
        """Send what is due; True: kill everything."""
        self._worker.listen()
        lease = self._worker.lease_until
        now = time.monotonic()
        if lease is not None and boot_time() >= lease:
            self._cut = Cut.LEASE
        elif self._worker.is_gone():
            self._cut = Cut.LOST
        elif self._worker.wants_kill:
            self._cut = Cut.TERMINATED
        elif self._is_too_big():
            self._cut = Cut.MEMORY
        elif now >= self._hard:
            self._cut = self._cut if self._cut is Cut.STOPPED else Cut.HARD_LIMIT
        else:
            self._tell(now)
            return False
        return True

    def _tell(self, now: float) -> None:
        if self._cut is not None:
            return
        if self._worker.wants_stop:
            self._cut = Cut.STOPPED
            self._hard = min(self._hard, now + self._grace)
        elif now >= self._soft:
            self._cut = Cut.SOFT_LIMIT
        else:
            return
        signal_group(self._job, signal.SIGTERM)

    def _pause(self) -> float:
        lease = self._worker.lease_until
        now = time.monotonic()
        waits = [LOOK, self._hard - now]
        if self._cut is None:
            waits.append(self._soft - now)
        if lease is not None:
            waits.append(lease - boot_time())
        return max(0.0, min(waits))

    def _is_too_big(self) -> bool:
        if self._memory is None:
            return False
        return process_tree.resident_bytes(process_tree.descendants(os.getpid())) > self._memory

    def _has_ended(self) -> bool:
        """Whether the job has ended; it is not reaped, so its number is nobody else's yet.

        The orphans that it has left to us meanwhile are.
        """
        while True:
            found = os.waitid(os.P_ALL, 0, os.WEXITED | os.WNOHANG | os.WNOWAIT)
            if found is None or found.si_pid == self._job:
                return found is not None
            os.waitpid(found.si_pid, 0)

    def _clear_up(self) -> Ended:
        """Kill the group, then all descendants, until the kernel says that there is no child."""
        give_up = time.monotonic() + PATIENCE
        left = 0
        signal_group(self._job, signal.SIGKILL)
        while self._reap():
            found = process_tree.descendants(os.getpid())
            process_tree.kill_all(found)
            if time.monotonic() > give_up:
                left = len(found)
                break
            self._alarm.wait(ROUND)
        status = signal.SIGKILL if self._status is None else self._status
        return Ended(exit_code=os.waitstatus_to_exitcode(status), cut=self._cut, left=left)

    def _reap(self) -> bool:
        """Whether children are left after the dead ones have been taken away."""
        with suppress(ChildProcessError):
            while True:
                pid, status = os.waitpid(-1, os.WNOHANG)
                if pid == 0:
                    return True
                if pid == self._job:
                    self._status = status
        return False


def signal_group(job: int, number: signal.Signals) -> None:
    """Signal the job's group; itself alone, if it has not got so far as to have one.

    Each once: a second TERM would kill a Python that has heeded the first and is about to exit.
    macOS says PermissionError for a group of zombies.
    """
    try:
        os.killpg(job, number)
    except ProcessLookupError:
        with suppress(ProcessLookupError):
            os.kill(job, number)
    except PermissionError:
        pass


def pidfd_of(pid: int | None) -> int | None:
    """Give a file that becomes readable when the process dies; None where there are none.

    Raises ProcessLookupError if it is dead.
    """
    if pid is None or not hasattr(os, "pidfd_open"):
        return None
    return os.pidfd_open(pid)
