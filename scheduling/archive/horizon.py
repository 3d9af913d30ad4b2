"""From when on the history is whole."""

from __future__ import annotations

import re
from datetime import UTC, datetime

from django.db.models import Max

from scheduling.models import ArchiveFile

NAME = re.compile(r"runs-(\d{4}-\d\d-\d\d)-(\d{6,})(?:\.jsonl\.gz)?")
SUFFIX = ".jsonl.gz"


def name_of(bound: datetime, number: int, *, has_file: bool) -> str:
    """Name what goes in one piece: the day before whose end all of it has ended, and a number."""
    name = f"runs-{bound.astimezone(UTC):%Y-%m-%d}-{number:06}"
    return name + SUFFIX if has_file else name


def archived_before() -> datetime | None:
    """Runs that ended before then may have left the table; None: none ever has.

    It is known before the first of them leaves.
    """
    written = ArchiveFile.objects.filter(written_at__isnull=False)
    newest: datetime | None = written.aggregate(newest=Max("before"))["newest"]
    return newest
