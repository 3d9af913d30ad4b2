"""The only place of the tests that sleeps."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import TypeVar

T = TypeVar("T")


def wait_for(
    condition: Callable[[], T],
    *,
    timeout: float = 10.0,
    message: str | Callable[[], object] = "",
    interval: float = 0.02,
) -> T:
    """Return the first true value that `condition()` gives, asking every `interval` seconds.

    Raises AssertionError after `timeout` seconds, with `message` (called then, if it can be).
    """
    deadline = time.monotonic() + timeout
    while not (value := condition()):
        if time.monotonic() > deadline:
            text = message() if callable(message) else message
            raise AssertionError(f"Not true within {timeout:g} s: {text or condition}")
        time.sleep(interval)
    return value
