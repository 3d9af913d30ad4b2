"""What a checkpoint says, and its JSON."""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, NamedTuple

from scheduling.errors import UnreadableCheckpoint

VERSION = 1
# More runs than this that wait are not listed one by one.
MOST_WAITING = 10_000


class Waiting(NamedTuple):
    """A run that was queued."""

    job: str
    key: str
    scheduled_at: datetime
    run: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Checkpoint:
    """How far everything had come at `taken_at`, by the clock of the database."""

    installation: str
    sequence: int
    """Counts the checkpoints of an installation: a database that has counted less is older."""
    taken_at: datetime
    jobs: Mapping[str, datetime]
    """name -> mark: every fire of every target up to then was claimed, except for those in
    `cursors`."""
    cursors: Mapping[str, Mapping[str, datetime]]
    """name -> key -> the next fire that was not claimed, at or before the mark."""
    runs_left: Mapping[str, int]
    waiting: Sequence[Waiting]
    """Ascending by `scheduled_at`, at most MOST_WAITING."""

    def to_json(self) -> str:
        document = {
            "version": VERSION,
            "installation": self.installation,
            "sequence": self.sequence,
            "taken_at": iso(self.taken_at),
            "jobs": {name: iso(mark) for name, mark in self.jobs.items()},
            "cursors": {
                name: {key: iso(cursor) for key, cursor in cursors.items()}
                for name, cursors in self.cursors.items()
            },
            "runs_left": dict(self.runs_left),
            "waiting": [[row.job, row.key, iso(row.scheduled_at), row.run] for row in self.waiting],
        }
        return json.dumps(document, ensure_ascii=False, separators=(",", ":"))


def from_json(text: str) -> Checkpoint:
    """Raises UnreadableCheckpoint, also for the document of another version."""
    try:
        document = json.loads(text)
        if document["version"] != VERSION:
            raise UnreadableCheckpoint(
                f"it has version {document['version']!r}, and this one reads version {VERSION}"
            )
        return Checkpoint(
            installation=of_type(str, document["installation"]),
            sequence=of_type(int, document["sequence"]),
            taken_at=moment(document["taken_at"]),
            jobs=moments(document["jobs"]),
            cursors={name: moments(found) for name, found in document["cursors"].items()},
            runs_left={name: of_type(int, count) for name, count in document["runs_left"].items()},
            waiting=[
                Waiting(of_type(str, job), of_type(str, key), moment(at), of_type(str, run))
                for job, key, at, run in document["waiting"]
            ],
        )
    except UnreadableCheckpoint:
        raise
    except KeyError as error:
        raise UnreadableCheckpoint(f"it says nothing about {error}") from error
    except (ValueError, TypeError, AttributeError, RecursionError) as error:
        raise UnreadableCheckpoint(f"{type(error).__name__}: {error}") from error


def moments(found: Mapping[str, Any]) -> dict[str, datetime]:
    return {name: moment(text) for name, text in found.items()}


def moment(text: Any) -> datetime:
    read = datetime.fromisoformat(text)
    if read.tzinfo is None:
        raise ValueError(f"time {text!r} has no time zone")
    return read.astimezone(UTC)


def of_type(kind: type, value: Any) -> Any:
    if type(value) is not kind:
        raise TypeError(f"{value!r} is no {kind.__name__}")
    return value


def iso(time: datetime) -> str:
    return time.astimezone(UTC).isoformat()
