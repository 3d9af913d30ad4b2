"""The files of the archive: whole under their names or not there, and read back before anybody
deletes what they have.
"""

from __future__ import annotations

import gzip
import os
import re
import zlib
from collections.abc import Iterator
from contextlib import suppress
from dataclasses import dataclass
from hashlib import sha256
from pathlib import Path
from typing import BinaryIO

from scheduling.archive.horizon import NAME, SUFFIX
from scheduling.archive.lines import Entry, entry_of
from scheduling.conf import conf
from scheduling.errors import ArchiveDamaged, ArchiveError
from scheduling.models import ArchiveFile
from scheduling.snapshots.stores import sync_folder

# One file is what is written, checked and deleted in one piece.
MOST_RUNS = 50_000
MOST_BYTES = 256 * 1024 * 1024  # before compression
LEVEL = 6
CHUNK = 1024 * 1024


def folder() -> Path:
    """Give the folder of the archive. Raises ArchiveError.

    It is not made here: where it is missing, a disk may not be mounted.
    """
    if not conf.ARCHIVE:
        raise ArchiveError("There is no archive: JOBS_ARCHIVE is ''; write the path of a folder")
    if not os.path.isabs(conf.ARCHIVE):
        raise ArchiveError(f"JOBS_ARCHIVE is {conf.ARCHIVE!r}; write an absolute path")
    path = Path(conf.ARCHIVE)
    if not path.is_dir():
        raise ArchiveError(f"JOBS_ARCHIVE is {conf.ARCHIVE!r}, which is no folder; make it")
    return path


def path_of(name: str) -> Path:
    return folder() / name


def part_of(row: ArchiveFile) -> Path:
    """Where a file is written until it is whole, and what shows until it is recorded whose it is.

    Another database in the same folder may give the same number, but not at the same microsecond.
    """
    return path_of(f".{row.name}.{row.began_at.timestamp():.6f}.part")


def next_number() -> int:
    """A number above all that were given, also by a database that was replaced by an older one."""
    names = [
        *ArchiveFile.objects.values_list("name", flat=True),
        *(os.listdir(folder()) if conf.ARCHIVE else ()),
    ]
    numbers = (match[2] for name in names if (match := re.search(NAME, name)))
    return max(map(int, numbers), default=0) + 1


@dataclass(frozen=True, slots=True, kw_only=True)
class Sealed:
    runs: int
    size: int
    sha256: str


class _Hashing:
    """Passes on what is written, and reckons its sum."""

    def __init__(self, file: BinaryIO) -> None:
        self._file = file
        self.sum = sha256()
        self.size = 0

    def write(self, data: bytes) -> int:
        self.sum.update(data)
        self.size += len(data)
        return self._file.write(data)

    def flush(self) -> None:
        self._file.flush()


class Writer:
    """Writes one file, under another name until it is whole. For the owner's eyes only."""

    def __init__(self, row: ArchiveFile) -> None:
        self._part, self._path = part_of(row), path_of(row.name)
        flags = os.O_WRONLY | os.O_CREAT | os.O_EXCL
        self._file = os.fdopen(os.open(self._part, flags, mode=0o600), "wb")
        self._hashing = _Hashing(self._file)
        self._gzip = gzip.GzipFile("", "wb", LEVEL, self._hashing, mtime=0)
        self.runs = self._bytes = 0

    def add(self, line: bytes) -> None:
        self._gzip.write(line)
        self.runs += 1
        self._bytes += len(line)

    @property
    def is_full(self) -> bool:
        return self.runs >= MOST_RUNS or self._bytes >= MOST_BYTES

    def seal(self) -> Sealed:
        """Put the file under its name, for good: also after the machine has lost its power."""
        self._gzip.close()
        self._file.flush()
        os.fsync(self._file.fileno())
        self._file.close()
        # Unlike a rename, this fails if there is such a file: it is another database's.
        os.link(self._part, self._path)
        sync_folder(self._path.parent)
        found = self._hashing
        return Sealed(runs=self.runs, size=found.size, sha256=found.sum.hexdigest())

    def close(self) -> None:
        """Let go of the file; if it was not sealed, what is there is removed by the next pass."""
        with suppress(OSError):
            self._gzip.close()
        self._file.close()


def discard(row: ArchiveFile) -> None:
    """Remove what was written of a file that is not recorded, and nothing that others wrote."""
    part, path = part_of(row), path_of(row.name)
    with suppress(FileNotFoundError):
        if path.samefile(part):
            path.unlink()
    part.unlink(missing_ok=True)


def verify(row: ArchiveFile) -> list[Entry]:
    """Read a file from its beginning to its end and give the runs in it.

    Raises ArchiveDamaged, and ArchiveError if the folder itself cannot be used.
    """
    path = path_of(row.name)
    try:
        with open(path, "rb") as file:
            found = sha256()
            while data := file.read(CHUNK):
                found.update(data)
            if file.tell() != row.size or found.hexdigest() != row.sha256:
                raise ArchiveError("it is not what was written")
            file.seek(0)
            entries = list(_entries(file))
        if len({entry.id for entry in entries}) != row.runs or len(entries) != row.runs:
            raise ArchiveError(f"it has {len(entries)} runs, and {row.runs} were written")
    except (ArchiveError, OSError, EOFError, zlib.error) as error:
        raise ArchiveDamaged(
            f"The file {row.name!r} of the archive cannot be relied on: {error}. Put it back from "
            f"a copy; or `manage.py jobs archive --forget {row.name}`, and what is left of its "
            "runs in the table is archived anew"
        ) from error
    return entries


def _entries(file: BinaryIO) -> Iterator[Entry]:
    with gzip.open(file, "rb") as lines:
        for line in lines:
            yield entry_of(line)


def verify_all() -> Iterator[tuple[str, str]]:
    """Yield each file that is recorded or found in the folder, and what is wrong with it, or ""."""
    known = ArchiveFile.objects.filter(written_at__isnull=False, name__endswith=SUFFIX)
    recorded = set(known.values_list("name", flat=True))
    for row in known.order_by("name"):
        try:
            verify(row)
            yield row.name, ""
        except ArchiveDamaged as error:
            yield row.name, str(error)
    for name in sorted(set(os.listdir(folder())) - recorded):
        if NAME.fullmatch(name):
            yield (
                name,
                f"The file {name!r} is not recorded as written: it is of a newer database than "
                "this one, or of a process that died",
            )


def find(name: str) -> ArchiveFile:
    """Give the record of a file by its name or path. Raises ArchiveError."""
    row = ArchiveFile.objects.filter(name=Path(name).name, written_at__isnull=False).first()
    if row is None or not row.name.endswith(SUFFIX):
        raise ArchiveError(f"No file of the archive is recorded as {name!r}")
    return row


def forget(name: str) -> ArchiveFile:
    """Rely no longer on a file: what is left of its runs in the table is archived anew."""
    row = find(name)
    row.delete()
    return row
