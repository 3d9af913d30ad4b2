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


@functools.cache
def client() -> redis.Redis:
    """The client of this process, made on first use; redis-py renews connections after a fork."""
    return redis.Redis.from_url(
        settings.REDIS_URL,
        socket_connect_timeout=CONNECT_TIMEOUT,
        socket_timeout=ANSWER_TIMEOUT,
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
