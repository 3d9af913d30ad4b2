"""What the broker can tell: its epoch, which published runs it has, how long its queues are."""

from __future__ import annotations

import functools
import json
import logging
import time
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any
from uuid import uuid4

from celery import Celery
from kombu.exceptions import OperationalError

from scheduling.message_headers import BATCH_HEADER

logger = logging.getLogger(__name__)

EPOCH = "jobs:epoch"
# Reading a longer queue whole would hold up the tick.
LONGEST_READ = 50_000
# Who asks for the length of a queue waits so long, in seconds; after silence it is not asked again
# for a while.
LENGTH_WITHIN = 1.0
SILENT_FOR = 5.0
# In Redis, kombu keeps a list for each of some priorities, and workers empty the first one first:
# those of the lanes 1, 2 and above, then what has no lane.
LANES = (0, 3, 6)
NORMAL = 9


@dataclass(frozen=True, slots=True, kw_only=True)
class Held:
    """Ids of messages that a broker holds for one queue. `waiting` None: too many to read."""

    length: int
    waiting: frozenset[str] | None
    delivered: frozenset[str]  # handed to some worker, not yet begun


def errors(app: Celery) -> tuple[type[Exception], ...]:
    """What the transport raises when the broker is unreachable or fails."""
    transport: Any = app.connection_for_write()
    return (
        OperationalError,
        OSError,
        *transport.connection_errors,
        *transport.channel_errors,
    )


@contextmanager
def _connection(app: Celery) -> Iterator[Any]:
    """A kept connection, as a tick should not open one of its own."""
    pool: Any = app.pool
    with pool.acquire(block=True) as connection:
        yield connect(connection)


def connect(connection: Any) -> Any:
    """Connect now or raise; left to itself, kombu would try for ever."""
    connection.ensure_connection(max_retries=1, interval_start=0, interval_max=0)
    return connection


def epoch(app: Celery) -> str | None:
    """The epoch of the broker; None if it does not answer.

    A Redis that lost its memory lost the key with it, and what was published under another epoch
    is gone. Brokers other than Redis keep their messages: they have one epoch, "".
    """
    try:
        with _connection(app) as connection:
            client = _redis_client(connection.default_channel)
            if client is None:
                return ""
            client.set(EPOCH, uuid4().hex, nx=True)
            return _text(client.get(EPOCH))
    except errors(app) as error:
        logger.debug("The broker does not answer: %s", error)
        return None


def can_be_asked(app: Celery) -> bool:
    """Whether this kind of broker tells what it holds."""
    transport: Any = app.connection_for_write().transport
    return bool(transport.driver_type == "redis")


@functools.lru_cache(maxsize=8)
def _puts_first(app: Celery) -> bool:
    """Whether 0 is the highest priority there, not the lowest."""
    return can_be_asked(app)


def priority_of(app: Celery, lane: int | None) -> int | None:
    """The priority of messages of a lane, 1 first; None: of no lane, after all of them."""
    priority = NORMAL if lane is None else LANES[min(max(lane, 1), len(LANES)) - 1]
    if _puts_first(app):
        return priority
    return None if lane is None else NORMAL - priority


def length(app: Celery, queue: str) -> int | None:
    """How many messages the broker holds for `queue`, in all of its lists and those delivered but
    not acknowledged; None if it cannot say, or does not answer within a second or two.
    """
    return _asker(app).length(queue)


class Asker:
    """A kept connection of its own, on which an answer is not waited for as long as elsewhere."""

    def __init__(self, app: Celery) -> None:
        self._app = app
        self._connection: Any = None
        self._silent_until = 0.0

    def length(self, queue: str) -> int | None:
        if time.monotonic() < self._silent_until:
            return None
        try:
            return self._length(queue)
        except errors(self._app) as error:
            logger.debug("The broker does not tell the length of %s: %s", queue, error)
            self._silent_until = time.monotonic() + SILENT_FOR
            connection, self._connection = self._connection, None
            connection.collect(socket_timeout=LENGTH_WITHIN)
            return None

    def _length(self, queue: str) -> int | None:
        if self._connection is None:
            within = {"socket_timeout": LENGTH_WITHIN, "socket_connect_timeout": LENGTH_WITHIN}
            self._connection = self._app.connection_for_write(transport_options=within)
        channel = connect(self._connection).default_channel
        client = _redis_client(channel)
        if client is None:
            return None
        with client.pipeline(transaction=False) as pipe:
            for step in channel.priority_steps:
                pipe.llen(channel._q_for_pri(queue, step))
            pipe.hlen(channel.unacked_key)
            *waiting, delivered = pipe.execute()
        if 0 < delivered <= LONGEST_READ:
            delivered = sum(
                routing_key == queue
                for routing_key in _routing_keys(client.hvals(channel.unacked_key))
            )
        return int(sum(waiting) + delivered)


@functools.lru_cache(maxsize=8)
def _asker(app: Celery) -> Asker:
    return Asker(app)


def held(app: Celery, queue: str, *, read: bool) -> Held | None:
    """What the broker holds for `queue`; None if it cannot say or does not answer.

    `read` asks for the ids of the waiting messages too, which costs reading the queue.
    """
    try:
        with _connection(app) as connection:
            channel = connection.default_channel
            client = _redis_client(channel)
            if client is None:
                return None
            # One list per priority.
            keys = [channel._q_for_pri(queue, step) for step in channel.priority_steps]
            length = sum(client.llen(key) for key in keys)
            waiting = None
            if read and length <= LONGEST_READ:
                waiting = frozenset(
                    _ids(message for key in keys for message in client.lrange(key, 0, -1))
                )
            return Held(
                length=length,
                waiting=waiting,
                delivered=frozenset(_ids(_delivered(client.hvals(channel.unacked_key)))),
            )
    except errors(app) as error:
        logger.debug("The broker does not answer: %s", error)
        return None


def _redis_client(channel: Any) -> Any:
    """The Redis client inside kombu's channel, or None for other transports."""
    return getattr(channel, "client", None) if hasattr(channel, "unacked_key") else None


def _delivered(values: Iterable[bytes]) -> Iterable[Any]:
    """Messages out of kombu's hash of unacknowledged ones: [message, exchange, routing key]."""
    for value in values:
        try:
            yield json.loads(value)[0]
        except (ValueError, IndexError, KeyError, TypeError):
            continue


def _routing_keys(values: Iterable[bytes]) -> Iterable[str]:
    """Where unacknowledged messages came from: a queue's name, unless a team routes otherwise."""
    for value in values:
        try:
            yield str(json.loads(value)[2])
        except (ValueError, IndexError, KeyError, TypeError):
            continue


def _ids(messages: Iterable[Any]) -> Iterable[str]:
    for message in messages:
        try:
            headers = (message if isinstance(message, dict) else json.loads(message))["headers"]
            yield str(headers["id"])
            # What shares a message has no id of its own there.
            yield from (str(run_id) for run_id, _ in headers.get(BATCH_HEADER) or ())
        except (ValueError, KeyError, TypeError):
            continue  # Not a task of Celery's: none of ours.


def _text(value: Any) -> str | None:
    if value is None:
        return None
    return value.decode() if isinstance(value, bytes) else str(value)
