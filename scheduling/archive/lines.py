"""One run as one line of JSON: all its columns as they are stored, and the rows that are its own.

Version 1: the columns of the run by their names, and `earlier_attempts`, `notifications` and
`pings` as lists of theirs. Times are ISO 8601 in UTC with microseconds. A column that is added
leaves the version as it is; one that changes its meaning does not.
"""

from __future__ import annotations

import json
from collections import defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any
from uuid import UUID

from django.db.models import Model

from scheduling.archive.rules import Candidate
from scheduling.conf import conf
from scheduling.errors import ArchiveError
from scheduling.models import Attempt, Notification, Run
from scheduling.models.system import Ping

VERSION = 1
OWN: dict[str, type[Attempt] | type[Notification] | type[Ping]] = {
    "earlier_attempts": Attempt,
    "notifications": Notification,
    "pings": Ping,
}
# Bytes of output that are in memory at once, roughly.
ROOM = 8 * 1024 * 1024
AT_ONCE = 200


@dataclass(frozen=True, slots=True)
class Entry:
    """What tells whether a run in the table is the one in the file: its end."""

    id: UUID
    state: str
    attempt: int
    ended_at: datetime


def lines_of(runs: Sequence[Candidate]) -> Iterator[bytes]:
    """Yield the lines of these runs, in their order; those that are gone are left out."""
    for some in _portions(runs):
        ids = [run.id for run in some]
        found = Run.objects.ended().filter(ended_at__isnull=False).in_bulk(ids)
        own = {name: _rows_of(model, ids) for name, model in OWN.items()}
        for pk in ids:
            if pk in found:
                row = {"version": VERSION, **_columns(found[pk])}
                row |= {name: rows.get(pk, []) for name, rows in own.items()}
                yield json.dumps(row, default=_plain).encode() + b"\n"


def entry_of(line: bytes) -> Entry:
    """Raises ArchiveError."""
    try:
        row = json.loads(line)
        if row["version"] != VERSION:
            raise ArchiveError(f"its version is {row['version']!r}, and {VERSION} is known here")
        return Entry(
            id=UUID(row["id"]),
            state=row["state"],
            attempt=row["attempt"],
            ended_at=datetime.fromisoformat(row["ended_at"]),
        )
    except (ValueError, KeyError, TypeError) as error:
        raise ArchiveError(f"it is no run: {type(error).__name__}: {error}") from error


def _portions(runs: Sequence[Candidate]) -> Iterator[list[Candidate]]:
    some: list[Candidate] = []
    size = 0
    for run in runs:
        some.append(run)
        size += min(run.output_bytes, conf.OUTPUT_LIMIT)
        if len(some) == AT_ONCE or size >= ROOM:
            yield some
            some, size = [], 0
    if some:
        yield some


def _rows_of(
    model: type[Attempt] | type[Notification] | type[Ping], ids: Sequence[UUID]
) -> dict[UUID, list[dict[str, Any]]]:
    rows: dict[UUID, list[dict[str, Any]]] = defaultdict(list)
    for each in model._base_manager.filter(run__in=ids).order_by("pk"):
        columns = _columns(each)
        rows[columns.pop("run_id")].append(columns)
    return rows


def _columns(row: Model) -> dict[str, Any]:
    return {field.attname: getattr(row, field.attname) for field in row._meta.concrete_fields}


def _plain(value: Any) -> str:
    if isinstance(value, datetime):
        return value.astimezone(UTC).isoformat()
    if isinstance(value, UUID):
        return str(value)
    raise TypeError(f"{value!r} has no place in a line of the archive")
