"""Whether this worker has begun to stop, for those who cannot hear the signal of it: its children.

They share one byte of memory with the main process, by being forked from it. (Children that are
spawned, as on macOS, have a byte of their own and are not told.)
"""

from __future__ import annotations

import mmap
from datetime import timedelta
from typing import Any
from weakref import WeakSet

from celery import signals
from celery.worker import state
from celery.worker.request import Request

from scheduling import clock, runs
from workers.ticket import Ticket, tickets_of

EVERY = timedelta(seconds=1)
DETAIL = "its message was in the hands of a worker that was told to stop"

_flag = mmap.mmap(-1, 1)
# What was received by then; Celery drops it, and its messages stay away from the queue.
_received: list[Request] = []
_handed_back: WeakSet[Request] = WeakSet()


def connect() -> None:
    signals.worker_init.connect(reset)
    signals.worker_shutting_down.connect(begin)


def reset(**_: Any) -> None:
    _received.clear()
    _flag[0] = 0


def begin(**_: Any) -> None:
    """Called in a signal handler, in the middle of anything: no locks, no log."""
    if not has_begun():
        _received.extend(state.reserved_requests)
    _flag[0] = 1


def has_begun() -> bool:
    return bool(_flag[0])


def hand_back_received() -> None:
    """Have published again what this worker has received and will not begin, once it is to stop.

    Celery gives such messages back only when the last run here has ended, which may take hours.
    """
    if not has_begun():
        return
    # Pools without an event loop receive one more message.
    for request in [*_received, *state.reserved_requests]:
        if request.time_start is None and request not in _handed_back:
            for ticket in tickets_of(request.request_dict):
                hand_back(ticket)
        _handed_back.add(request)


def hand_back(ticket: Ticket) -> None:
    now = clock.sample()
    runs.postpone(*ticket, until=now, detail=DETAIL, now=now)
