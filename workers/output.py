"""What a job writes, bounded: the beginning and the end are kept, the middle is counted."""

from __future__ import annotations

import io
import threading
from collections.abc import Callable
from contextvars import ContextVar

# Who else hears what jobs write that are started from here: a person at a terminal.
listener: ContextVar[Callable[[bytes], None] | None] = ContextVar("listener", default=None)


def harmless(text: str) -> str:
    """Give text that every database stores: PostgreSQL refuses NUL, no driver takes surrogates."""
    return text.replace("\0", "\N{REPLACEMENT CHARACTER}").encode("utf-8", "replace").decode()


class HeadTail:
    """The first `head` and the last `limit - head` bytes of what was written; thread-safe."""

    def __init__(self, limit: int, head: int) -> None:
        self.total = 0
        self._head_limit = min(head, limit)
        self._tail_limit = limit - self._head_limit
        self._head = bytearray()
        self._tail = bytearray()
        self._guard = threading.Lock()
        self._listener = listener.get()

    def write(self, data: bytes) -> None:
        if self._listener is not None:
            self._listener(data)
        with self._guard:
            self.total += len(data)
            room = self._head_limit - len(self._head)
            self._head += data[:room]
            self._tail += data[room:]
            # Cut only now and then: every cut copies the tail.
            if len(self._tail) > 2 * self._tail_limit:
                self._cut()

    def text(self) -> str:
        with self._guard:
            self._cut()
            left_out = self.total - len(self._head) - len(self._tail)
            if not left_out:
                return harmless((self._head + self._tail).decode("utf-8", "replace"))
            head = self._head.decode("utf-8", "replace")
            tail = self._tail.decode("utf-8", "replace")
            return harmless(f"{head}\n... {left_out:,} bytes left out ...\n{tail}")

    def _cut(self) -> None:
        del self._tail[: max(0, len(self._tail) - self._tail_limit)]


class TextSink(io.TextIOBase):
    """A text stream that ends in a HeadTail, for management commands inside the worker."""

    def __init__(self, kept: HeadTail) -> None:
        super().__init__()
        self._kept = kept

    def writable(self) -> bool:
        return True

    def write(self, text: str, /) -> int:
        self._kept.write(text.encode("utf-8", "replace"))
        return len(text)
