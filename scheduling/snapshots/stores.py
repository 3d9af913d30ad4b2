"""Where a checkpoint is kept: in a file, or in Redis."""

from __future__ import annotations

import os
import stat
import tempfile
from contextlib import suppress
from datetime import datetime, timedelta
from pathlib import Path
from typing import Protocol

from scheduling import redis
from scheduling.errors import CheckpointAway, CheckpointError, ForeignCheckpoint
from scheduling.errors import UnreadableCheckpoint as Unreadable
from scheduling.snapshots.checkpoint import Checkpoint, from_json

IN_REDIS = "redis"
KEPT_ASIDE = timedelta(days=30)


class Store(Protocol):
    def read(self) -> Checkpoint | None:
        """Give the stored checkpoint, if there is one.

        Raises CheckpointAway, UnreadableCheckpoint, ForeignCheckpoint.
        """

    def write(self, checkpoint: Checkpoint) -> None:
        """Put it in the place of the stored one, whole or not at all. Raises CheckpointAway."""

    def set_aside(self, now: datetime) -> str:
        """Move what cannot be read out of the way; say where it is. Raises CheckpointAway."""


def store_at(place: str, *, installation: str) -> Store:
    """Give the store that JOBS_SNAPSHOT names. Raises CheckpointError."""
    if place == IN_REDIS:
        return RedisStore(installation)
    if not place:
        raise CheckpointError(
            "Checkpoints are off: JOBS_SNAPSHOT is ''; set it to 'redis' or to the path of a file"
        )
    if not os.path.isabs(place):
        raise CheckpointError(
            f"JOBS_SNAPSHOT is {place!r}; write 'redis' or the absolute path of a file"
        )
    return FileStore(place, installation)


class FileStore:
    def __init__(self, path: str | Path, installation: str) -> None:
        self._path = Path(path)
        self._installation = installation

    def __str__(self) -> str:
        return str(self._path)

    def read(self) -> Checkpoint | None:
        try:
            self._require_file()
            text = self._path.read_text(encoding="utf-8")
        except FileNotFoundError:
            return None
        except OSError as error:
            raise away(self, error) from error
        except UnicodeDecodeError as error:
            raise Unreadable(f"The checkpoint in {self} cannot be read: {error}") from error
        return understood(text, self, self._installation)

    def _require_file(self) -> None:
        """Raises OSError; a device would be read for ever, or replaced."""
        if not stat.S_ISREG(self._path.stat().st_mode):
            raise OSError(f"{self} is no regular file; name another one")

    def write(self, checkpoint: Checkpoint) -> None:
        temporary = ""
        try:
            if self._path.exists():
                self._require_file()
            # With mode 0600, beside the file: a rename is atomic within one file system only.
            descriptor, temporary = tempfile.mkstemp(
                dir=self._path.parent, prefix=f".{self._path.name}."
            )
            with open(descriptor, "w", encoding="utf-8") as file:
                file.write(checkpoint.to_json())
                file.flush()
                os.fsync(file.fileno())
            os.replace(temporary, self._path)
            sync_folder(self._path.parent)
        except OSError as error:
            if temporary:
                with suppress(OSError):
                    os.unlink(temporary)
            raise away(self, error) from error

    def set_aside(self, now: datetime) -> str:
        aside = self._path.with_name(f"{self._path.name}.{now:%Y%m%dT%H%M%S}.unreadable")
        try:
            os.rename(self._path, aside)
        except FileNotFoundError:
            pass  # another beat was quicker
        except OSError as error:
            raise away(self, error) from error
        return str(aside)


class RedisStore:
    def __init__(self, installation: str) -> None:
        self._installation = installation
        self._key = f"jobs:checkpoint:{installation}"

    def __str__(self) -> str:
        return f"Redis, {self._key}"

    def read(self) -> Checkpoint | None:
        try:
            text = redis.client().get(self._key)
        except redis.RedisError as error:
            raise away(self, error) from error
        except UnicodeDecodeError as error:
            raise Unreadable(f"The checkpoint in {self} cannot be read: {error}") from error
        assert text is None or isinstance(text, str)
        return None if text is None else understood(text, self, self._installation)

    def write(self, checkpoint: Checkpoint) -> None:
        try:
            # Without an end to its life: it is wanted after an outage of any length.
            redis.client().set(self._key, checkpoint.to_json())
        except redis.RedisError as error:
            raise away(self, error) from error

    def set_aside(self, now: datetime) -> str:
        aside = f"{self._key}:unreadable:{now:%Y%m%dT%H%M%S}"
        try:
            with redis.client().pipeline(transaction=True) as pipe:
                pipe.copy(self._key, aside)
                pipe.expire(aside, KEPT_ASIDE)
                pipe.delete(self._key)
                pipe.execute()
        except redis.RedisError as error:
            raise away(self, error) from error
        return f"Redis, {aside}"


def understood(text: str, store: Store, installation: str) -> Checkpoint:
    try:
        checkpoint = from_json(text)
    except Unreadable as error:
        raise Unreadable(f"The checkpoint in {store} cannot be read: {error}") from error
    if checkpoint.installation != installation:
        raise ForeignCheckpoint(
            f"The checkpoint in {store} belongs to the installation {checkpoint.installation}, and "
            f"this one is {installation}; name another place in JOBS_SNAPSHOT, or move it away if "
            "this database is meant to begin anew"
        )
    return checkpoint


def away(store: Store, error: Exception) -> CheckpointAway:
    return CheckpointAway(f"The checkpoint in {store} is out of reach: {error}")


def sync_folder(folder: Path) -> None:
    """Make a rename in a folder last."""
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
