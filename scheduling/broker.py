"""What the broker can tell: its epoch, and which published runs it still has."""

from __future__ import annotations

import json
import logging
from collections.abc import Iterable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any
from uuid import uuid4

from celery import Celery
from kombu.exceptions import OperationalError

logger = logging.getLogger(__name__)

EPOCH = "jobs:epoch"
# Reading a longer queue whole would hold up the tick.
LONGEST_READ = 50_000


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


def _ids(messages: Iterable[Any]) -> Iterable[str]:
    for message in messages:
        try:
            decoded = message if isinstance(message, dict) else json.loads(message)
            yield str(decoded["headers"]["id"])
        except (ValueError, KeyError, TypeError):
            continue  # Not a task of Celery's: none of ours.


def _text(value: Any) -> str | None:
    if value is None:
        return None
    return value.decode() if isinstance(value, bytes) else str(value)
