"""What a run has written while it still runs, and when that is worth storing."""

from __future__ import annotations

import time

from scheduling.conf import conf
from workers.output import HeadTail

# The more is kept, the less often it is stored: so many bytes per second on average.
RATE = 100_000


class LiveOutput:
    """The output of one run; it is stored again if it has grown, and not too often."""

    def __init__(self, output: HeadTail) -> None:
        self._output = output
        self._stored = 0
        self._next = 0.0

    def is_due(self) -> bool:
        return self._output.total > self._stored and time.monotonic() >= self._next

    def take(self) -> tuple[str, int]:
        """Give the text and how many bytes were written; then it is a while until the next."""
        total = self._output.total
        text = self._output.text()
        self._next = time.monotonic() + max(conf.OUTPUT_EVERY.total_seconds(), len(text) / RATE)
        return text, total

    def stored(self, total: int) -> None:
        self._stored = total
