"""Files as sources: CSV and JSON lines."""

from __future__ import annotations

import csv
import json
import os
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from os import PathLike
from pathlib import Path
from typing import Any, BinaryIO

from scheduling.errors import UnreadableFile
from scheduling.sources.progress import Listing
from scheduling.sources.reading import Field, Fields, Reading, named_or_unread
from scheduling.sources.values import Named, Page, Unread

LONGEST_LINE = 1024 * 1024  # bytes
LONGEST_ROW = 20  # lines; a longer one is taken for a quote that is not closed
LONGEST_TOLD = 300


class _Lines:
    """The lines of a file with their numbers; `offset` is after the line that was given last."""

    def __init__(self, file: BinaryIO, *, offset: int, number: int) -> None:
        self._file = file
        self.is_bad = ""
        self.go_to(offset, number)

    def go_to(self, offset: int, number: int) -> None:
        self.offset, self.number = offset, number
        self._file.seek(offset)

    def __iter__(self) -> Iterator[str]:
        return self

    def __next__(self) -> str:
        line = self._file.readline(LONGEST_LINE)
        if not line:
            raise StopIteration
        self.number += 1
        self.is_bad = ""
        if len(line) == LONGEST_LINE and not line.endswith(b"\n"):
            self.is_bad = f"it is longer than {LONGEST_LINE} bytes"
            while (rest := self._file.readline(LONGEST_LINE)) and not rest.endswith(b"\n"):
                pass
            line = b"\n"
        self.offset = self._file.tell()
        try:
            return line.decode("utf-8-sig" if self.number == 1 else "utf-8")
        except UnicodeDecodeError as error:
            self.is_bad = f"it is no UTF-8: {error.reason}"
            return line.decode("utf-8", "replace")


def from_json_lines(
    listing: Listing,
    path: str | PathLike[str],
    *,
    key: Field = "key",
    hint: Field | None = None,
    kwargs: Fields = (),
    enabled: Field | None = None,
    labels: Fields = (),
    description: Field | None = None,
) -> Iterator[Page | Unread]:
    """Name what the lines of a file say, one JSON object each; goes on at the byte it had come to.

    A line that cannot be read is told by its number and counted, and stops no other.
    """
    read = Reading(
        key=key, hint=hint, kwargs=kwargs, enabled=enabled, labels=labels, description=description
    )
    with Path(path).open("rb") as file:
        at = _Start.of(file, listing)
        lines = _Lines(file, offset=at.offset, number=at.number)
        yield from _pages(listing, at, lines, _objects(read, lines))


def from_csv(
    listing: Listing,
    path: str | PathLike[str],
    *,
    key: Field = "key",
    delimiter: str = ",",
    columns: tuple[str, ...] = (),
    hint: Field | None = None,
    kwargs: Fields = (),
    enabled: Field | None = None,
    labels: Fields = (),
    description: Field | None = None,
) -> Iterator[Page | Unread]:
    """Name what the rows of a file say; goes on at the byte it had come to.

    Its first line names the columns, unless `columns` does. A row that cannot be read is told by
    the number of its line and counted, and stops no other: after a quote that is not closed, the
    next row begins at the next line. Raises UnreadableFile if the columns are not as they are to
    be.
    """
    read = Reading(
        key=key, hint=hint, kwargs=kwargs, enabled=enabled, labels=labels, description=description
    )
    with Path(path).open("rb") as file:
        at = _Start.of(file, listing)
        lines = _Lines(file, offset=0, number=0)
        rows = _Rows(lines, delimiter)
        where = "columns=" if columns else f"{path}, line 1"
        try:
            names = list(columns) or next(rows, [])
        except csv.Error as error:
            raise UnreadableFile(f"{where} cannot be read: {error}") from None
        _require_usable(names, read, where)
        if at.offset:
            lines.go_to(at.offset, at.number)
        yield from _pages(listing, at, lines, _read(read, rows, names))


class _Start:
    """Where to begin in a file: where the interrupted listing stopped, if it is the same file."""

    def __init__(self, identity: str, offset: int, number: int) -> None:
        self.identity, self.offset, self.number = identity, offset, number

    @classmethod
    def of(cls, file: BinaryIO, listing: Listing) -> _Start:
        found = os.fstat(file.fileno())
        identity = f"{found.st_ino}-{found.st_size}-{found.st_mtime_ns}"
        token = listing.token
        if isinstance(token, Mapping) and token.get("file") == identity:
            return cls(identity, token["offset"], token["line"])
        return cls(identity, 0, 0)


def _pages(
    listing: Listing, at: _Start, lines: _Lines, entries: Iterator[Named | Unread | None]
) -> Iterator[Page | Unread]:
    items: list[Named] = []
    for entry in entries:
        if isinstance(entry, Unread):
            yield entry
        elif entry is not None:
            items.append(entry)
        if len(items) >= listing.page_size:
            yield Page(items, _token(at, lines))
            items = []
    yield Page(items, _token(at, lines))


def _token(at: _Start, lines: _Lines) -> dict[str, Any]:
    return {"file": at.identity, "offset": lines.offset, "line": lines.number}


def _objects(read: Reading, lines: _Lines) -> Iterator[Named | Unread | None]:
    for line in lines:
        where = f"line {lines.number}"
        if lines.is_bad:
            yield Unread(where, lines.is_bad)
        elif line.strip():
            yield _object(read, line, where)


def _object(read: Reading, line: str, where: str) -> Named | Unread:
    try:
        found = json.loads(line)
    except (ValueError, RecursionError) as error:
        return Unread(where, f"it is no JSON: {error}")
    if not isinstance(found, dict):
        return Unread(where, f"it is {str(found)[:60]!r}; write an object")
    return named_or_unread(read, found, where)


class _Rows:
    """The rows of a CSV file; `number` is that of the line at which the last one begins."""

    def __init__(self, lines: _Lines, delimiter: str) -> None:
        self._lines, self._delimiter = lines, delimiter
        self.number = 0
        self._why = ""
        self._begin()

    def _begin(self) -> None:
        # Strict: else a quote that is not closed makes all lines behind it one row without a word.
        self._rows = csv.reader(self._of_row(), delimiter=self._delimiter, strict=True)

    def _of_row(self) -> Iterator[str]:
        for line in self._lines:
            if self._lines.number - self.number >= LONGEST_ROW:
                raise csv.Error(f"it goes on for more than {LONGEST_ROW} lines")
            self._why = self._why or self._lines.is_bad
            yield line

    def __iter__(self) -> Iterator[list[str]]:
        return self

    def __next__(self) -> list[str]:
        """Raises csv.Error for a row that cannot be read; the next begins at the line after its
        first.
        """
        begin = self._lines.offset, self._lines.number
        self.number, self._why = self._lines.number + 1, ""
        try:
            row = next(self._rows)
        except csv.Error as error:
            why = self._why or f"it is no row of CSV (is a quote not closed?): {error}"
        else:
            if not self._why:
                return row
            why = self._why
        self._lines.go_to(*begin)
        next(self._lines)
        self._begin()
        raise csv.Error(why)


def _require_usable(names: Sequence[str], read: Reading, where: str) -> None:
    """Raises UnreadableFile."""
    if not names:
        raise UnreadableFile(f"{where} names no columns; name them there, or by columns=")
    twice = [name for name, count in Counter(names).items() if name and count > 1]
    if twice:
        raise UnreadableFile(f"{where} names {twice[0][:60]!r} more than once; rename one")
    missing = [name for name in read.names() if name.partition(".")[0] not in names]
    if missing:
        told = ", ".join(map(repr, names))[:LONGEST_TOLD]
        raise UnreadableFile(
            f"{where} names the columns {told}; it has no {missing[0]!r}: "
            "correct it, or the delimiter"
        )


def _read(read: Reading, rows: _Rows, names: Sequence[str]) -> Iterator[Named | Unread | None]:
    while True:
        try:
            row = next(rows)
        except StopIteration:
            return
        except csv.Error as error:
            yield Unread(f"line {rows.number}", str(error))
            continue
        where = f"line {rows.number}"
        if len(row) not in (0, len(names)):
            yield Unread(where, f"it has {len(row)} columns instead of {len(names)}")
        elif row:
            yield named_or_unread(read, dict(zip(names, row, strict=True)), where)
