"""History of some age, and an archive to put it into."""

from __future__ import annotations

import gzip
import json
from datetime import datetime, timedelta
from pathlib import Path
from typing import Any

from scheduling.archive import passes
from scheduling.archive.passes import Report
from scheduling.archive.rules import rule_of
from scheduling.models import Run, State, Target
from tests.factories import NOW, make_run

DAY = timedelta(days=1)
HOUR = timedelta(hours=1)
MICROSECOND = timedelta.resolution
FIRST = "runs-2025-10-07-000001.jsonl.gz"  # 90 days before NOW
SECOND = "runs-2025-10-07-000002.jsonl.gz"


class Killed(BaseException):
    """The process dies here."""


def die(*args: Any, **kwargs: Any) -> Any:
    raise Killed


def ended(target: Target | None = None, *, ago: timedelta = 100 * DAY, **fields: Any) -> Run:
    """Make a run that ended so long before NOW."""
    at = NOW - ago
    fields.setdefault("state", State.SUCCEEDED)
    return make_run(target, **{"scheduled_at": at, "created_at": at, "ended_at": at, **fields})


def two_old_runs() -> list[str]:
    return [str(ended(ago=(102 - n) * DAY).pk) for n in range(2)]


def prune(now: datetime = NOW, token: str = "", **bounds: Any) -> Report:
    return passes.prune(rule_of(now=now, **bounds), token=token)


def left() -> set[Run]:
    return set(Run.objects.all())


def files_in(folder: Path) -> list[str]:
    return sorted(path.name for path in folder.iterdir())


def rows_in(folder: Path) -> list[dict[str, Any]]:
    """Read all that is archived, in the order of the files."""
    found = []
    for path in sorted(folder.glob("*.jsonl.gz")):
        with gzip.open(path, "rt", encoding="utf-8") as file:
            found += [json.loads(line) for line in file]
    return found


def ids_in(folder: Path) -> list[str]:
    return [row["id"] for row in rows_in(folder)]
