"""The output of a running run, line by line as it comes."""

from __future__ import annotations

import re

# As `workers.output.HeadTail` writes it between the beginning and the end.
LEFT_OUT = re.compile(r"\n\.\.\. ([\d,]+) bytes left out \.\.\.\n")
# What stands for a byte that is no text; also for a letter of which only a part is there yet.
REPLACED = "\N{REPLACEMENT CHARACTER}"
NUL = "\0"  # in no stored output


class Growing:
    """What of an output has been told, and what is new in it.

    Of a long output the beginning and the end are stored, so that between two looks some of it
    can go by unseen; then the number of bytes is told in its place.
    """

    def __init__(self) -> None:
        self._letters = 0  # told, while nothing was left out
        self._bytes = 0  # told, as the job wrote them
        self._rest = ""

    def lines(self, text: str, total: int, *, ended: bool) -> list[str]:
        """Give the new lines of an output of `total` bytes; at its end also an unfinished one."""
        if not ended:
            text = text.rstrip(REPLACED)
        *lines, self._rest = (self._rest + self._fresh(text, total)).split("\n")
        if ended and self._rest:
            lines.append(self._rest)
            self._rest = ""
        return lines

    def last_lines(self, end: str, total: int) -> list[str]:
        """Give the new lines of an output that has ended and of which only the end is kept."""
        fresh = self._of_the_end(end, total - self._bytes)
        self._bytes = total
        return (self._rest + fresh).removesuffix("\n").split("\n") if fresh else []

    def _fresh(self, text: str, total: int) -> str:
        cut = _cut_of(text, total)
        if cut is None:
            fresh, self._letters = text[self._letters :], len(text)
            self._bytes = _size(text)
            return fresh
        new, self._bytes = total - self._bytes, total
        head, tail = text[: cut.start()], text[cut.end() :]
        begun, self._letters = head[self._letters :], max(self._letters, len(head))
        return begun + self._of_the_end(tail, new - _size(begun), after=begun)

    def _of_the_end(self, end: str, new: int, *, after: str = "") -> str:
        """The last `new` bytes, as far as they are kept; what went by before them is counted."""
        lost = new - _size(end)
        if lost <= 0:
            return _end_of(end, new)
        told = self._rest + after
        begin = "\n" if told and not told.endswith("\n") else ""
        return f"{begin}... {lost:,} bytes went by ...\n{end}"


def _cut_of(text: str, total: int) -> re.Match[str] | None:
    """Where the middle was left out, if it was; the job may write such a line itself."""
    cut = LEFT_OUT.search(text)
    if cut is None:
        return None
    left_out = int(cut[1].replace(",", ""))
    adds_up = _size(text) - _size(cut[0]) + left_out == total
    return None if _size(text) == total and not adds_up else cut


def _as_written(text: str) -> bytes:
    return text.replace(REPLACED, NUL).encode()


def _size(text: str) -> int:
    return len(_as_written(text))


def _end_of(text: str, size: int) -> str:
    """The end of a text that took so many bytes."""
    end = _as_written(text)[-size:] if size > 0 else b""
    return end.decode("utf-8", "ignore").replace(NUL, REPLACED)
