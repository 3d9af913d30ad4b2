"""`with lock("ledger"): ...`: the locks of jobs, for team code."""

from __future__ import annotations

import logging
import os
import socket
import threading
import time
import uuid
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import timedelta

from django.db import close_old_connections, connection, transaction

from scheduling import clock
from scheduling.conf import conf
from scheduling.context import current_run
from scheduling.errors import LockBusy, LockInTransaction, NotInARun
from scheduling.runs import held
from scheduling.runs.seats import fitting

logger = logging.getLogger(__name__)

# How often a waiter looks again, in seconds: at first, and at most.
LOOK, LOOK_MAX = 0.05, 1.0


class Hold:
    """A lock that is held. Hand `token` to what you write to, and let that refuse a smaller one."""

    def __init__(self, key: str, token: int) -> None:
        self.key = key
        self.token = token
        self._is_lost = False

    def is_lost(self) -> bool:
        """Whether it was taken away meanwhile, as far as this process knows: its lease could not
        be renewed, or somebody broke it. Inside a run ask `current_run().should_stop()`.
        """
        return self._is_lost

    def lose(self) -> None:
        self._is_lost = True


@contextmanager
def lock(key: str, *, wait: timedelta = timedelta(seconds=60)) -> Iterator[Hold]:
    """Hold a seat of the lock `key`, the same that jobs name in `locks`, for the length of a block.

    Inside a run it belongs to the run and ends with it. Outside it belongs to this process, which
    renews its lease from a thread. Who asks first is served first, jobs and code alike; whoever
    takes several should take them in the same order everywhere, or name them in the job's `locks`.

    Raises LockBusy if it is not to be had within `wait`, RunIsOver if the run was ended elsewhere
    meanwhile, and LockInTransaction inside of one: the lock would not be seen by others, and would
    end with the transaction.
    """
    try:
        with transaction.atomic(durable=True):
            pass
    except RuntimeError:
        raise LockInTransaction(
            f"lock({key!r}) was asked for inside of a transaction; take the lock first"
        ) from None
    key, owner = fitting(key), _owner()
    token = held.seat_of(key, owner)
    if token is not None:
        # The job names the lock, or a block around this one holds it.
        yield Hold(key, token)
        return
    hold = Hold(key, _wait_for_seat(key, owner, wait))
    try:
        if owner.run_id is None:
            with _renewing(hold, owner):
                yield hold
        else:
            yield hold
    finally:
        held.stand_up(key, owner, token=hold.token, now=clock.now())


def _owner() -> held.Owner:
    try:
        run = current_run()
    except NotInARun:
        return held.Owner(name=f"{socket.gethostname()}/{os.getpid()}/{uuid.uuid4().hex[:8]}")
    return held.Owner(run_id=run.id, attempt=run.attempt)


def _wait_for_seat(key: str, owner: held.Owner, wait: timedelta) -> int:
    since, until = clock.now(), time.monotonic() + wait.total_seconds()
    look = LOOK
    token = None
    try:
        while (token := held.sit_down(key, owner, since=since, now=clock.now())) is None:
            if time.monotonic() >= until:
                raise LockBusy(
                    f"The lock {key!r} was not free within {wait.total_seconds():g} s; "
                    "`manage.py jobs locks` shows who holds it",
                    key=key,
                )
            time.sleep(min(look, max(0.0, until - time.monotonic())))
            look = min(2 * look, LOOK_MAX)
    finally:
        # Also of a wait that a time limit or Ctrl+C breaks off: others would wait behind it.
        if token is None:
            held.step_back(key, owner, now=clock.now())
    return token


@contextmanager
def _renewing(hold: Hold, owner: held.Owner) -> Iterator[None]:
    """Say from a thread, on its own connection, that the holder is alive."""
    done = threading.Event()
    began = time.monotonic()

    def renew() -> None:
        alive_at = began
        while not done.wait(conf.LEASE_RENEWAL.total_seconds()):
            try:
                close_old_connections()
                asked_at = time.monotonic()
                if not held.still_sits(hold.key, owner, token=hold.token, now=clock.sample()):
                    logger.error("The lock %r was taken away from %s", hold.key, owner.name)
                    hold.lose()
                    break
                alive_at = asked_at
            except Exception:
                logger.exception("The lease of lock %r was not renewed; trying again", hold.key)
                connection.close()
            if time.monotonic() - alive_at > conf.lease.total_seconds():
                hold.lose()
        connection.close()

    thread = threading.Thread(target=renew, name=f"lock {hold.key}", daemon=True)
    thread.start()
    try:
        yield
    finally:
        done.set()
        thread.join()
