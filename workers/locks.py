"""The gate of a resource, in Redis: it spares the database runs that would have to wait.

It is no fence: that is the seat in the database. So without Redis the gate stands open, and what a
dead holder has left behind is cleared away.
"""

from __future__ import annotations

import functools
import logging
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import timedelta
from pathlib import Path
from typing import Any, TypeVar

from scheduling import redis

logger = logging.getLogger(__name__)

PREFIX = "jobs:seats:"

Answer = TypeVar("Answer")


@dataclass(frozen=True, slots=True)
class Busy:
    """A lock without a free seat; each of `holders` is `<run id>/<attempt>`."""

    key: str
    holders: tuple[str, ...]


class Outage:
    """Log the first failure of a row, not each."""

    def __init__(self) -> None:
        self._is_on = False

    def began(self, error: redis.RedisError) -> None:
        if not self._is_on:
            logger.warning(
                "Redis does not answer: the database alone decides on locks, and no run waits to "
                "be polite: %s",
                error,
            )
        self._is_on = True

    def ended(self) -> None:
        if self._is_on:
            logger.info("Redis answers again")
        self._is_on = False


_outage = Outage()


def acquire(
    keys: Sequence[str],
    holder: str,
    *,
    lease: timedelta,
    seats: Mapping[str, int] | None = None,
) -> Busy | None:
    """Take a seat of each of `keys` or none, for `lease`; extend those that `holder` has.

    `seats` says how many a lock has, if more than one.
    """
    if not keys:
        return None
    numbers = [(seats or {}).get(key, 1) for key in keys]
    found: list[Any] = call(
        "locks_acquire.lua",
        keys=[PREFIX + key for key in keys],
        args=[holder, milliseconds(lease), *numbers],
        without=[],
    )
    return Busy(keys[int(found[0]) - 1], tuple(map(str, found[1:]))) if found else None


def release(keys: Sequence[str], *holders: str) -> None:
    """Give up those seats that these holders still have."""
    if keys:
        call(
            "locks_release.lua",
            keys=[PREFIX + key for key in keys],
            args=list(holders),
            without=None,
        )


def call(script: str, *, keys: Sequence[str], args: Sequence[Any], without: Answer) -> Answer:
    """Run one of our scripts; `without` is the answer if Redis does not give one."""
    try:
        answer: Answer = _script(script)(keys=list(keys), args=list(args))
    except redis.RedisError as error:
        _outage.began(error)
        return without
    _outage.ended()
    return answer


@functools.cache
def _script(name: str) -> Callable[..., Any]:
    text = Path(__file__).with_name(name).read_text(encoding="utf-8")
    return redis.client().register_script(text)


def milliseconds(span: timedelta) -> int:
    return max(1, round(span.total_seconds() * 1000))
