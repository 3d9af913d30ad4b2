"""The connection to Redis: a doorbell and a gate, never the truth.

Everything in here may fail at any time; callers go on without it.
"""

from __future__ import annotations

import functools
import logging
import time

import redis
from django.conf import settings
from django.db import transaction

logger = logging.getLogger(__name__)

RedisError = redis.RedisError

DOORBELL = "jobs:doorbell"
# A lost Redis must not hold up a tick, a web request or a job.
CONNECT_TIMEOUT = 1.0
ANSWER_TIMEOUT = 2.0

# A beat that has the database says so in each tick, and is believed for so long, in seconds.
BEAT = "jobs:beat"
BEAT_LASTS = 5
# Who asks for it has a lease that runs out.
BEAT_TIMEOUT = 0.5


@functools.cache
def client() -> redis.Redis:
    """The client of this process, made on first use; redis-py renews connections after a fork."""
    return _client(CONNECT_TIMEOUT, ANSWER_TIMEOUT)


@functools.cache
def hasty_client() -> redis.Redis:
    return _client(BEAT_TIMEOUT, BEAT_TIMEOUT)


def _client(connect_timeout: float, answer_timeout: float) -> redis.Redis:
    return redis.Redis.from_url(
        settings.REDIS_URL,
        socket_connect_timeout=connect_timeout,
        socket_timeout=answer_timeout,
        decode_responses=True,
    )


def ring() -> None:
    """Wake one beat: there is something to claim or to publish. Losing the ring costs a tick."""
    try:
        with client().pipeline(transaction=False) as pipe:
            pipe.lpush(DOORBELL, "1")
            pipe.ltrim(DOORBELL, 0, 0)
            pipe.expire(DOORBELL, 5)
            pipe.execute()
    except RedisError as error:
        logger.debug("Doorbell not rung: %s", error)


def wait_for_ring(seconds: float) -> None:
    """Sleep until somebody rings, at most `seconds`; without Redis simply sleep."""
    seconds = max(seconds, 0.01)
    began = time.monotonic()
    try:
        client().blpop([DOORBELL], timeout=seconds)
    except RedisError as error:
        logger.debug("No doorbell: %s", error)
        time.sleep(max(0.0, seconds - (time.monotonic() - began)))


def ring_on_commit() -> None:
    """Ring once the transaction is through; at once outside of one."""
    transaction.on_commit(ring, robust=True)


def say_beat_is_well() -> None:
    """Say that there is a beat with the database, which could end runs and begin them again."""
    try:
        client().set(BEAT, "1", ex=BEAT_LASTS)
    except RedisError as error:
        logger.debug("Nobody hears that a beat has the database: %s", error)


def is_a_beat_well() -> bool | None:
    """Whether some beat has the database; None: Redis does not answer."""
    try:
        return bool(hasty_client().exists(BEAT))
    except RedisError as error:
        logger.debug("Unknown whether a beat has the database: %s", error)
        return None
