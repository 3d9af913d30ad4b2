"""The report: one HTML file that says how every endpoint stands."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Iterable, Sequence
from datetime import datetime
from pathlib import Path

from django.template.loader import render_to_string

from examples.uptime.models import Endpoint


def standing() -> list[Endpoint]:
    """Give the active endpoints, those that fail first."""
    active = Endpoint.objects.filter(is_active=True)
    return sorted(active, key=lambda each: (each.is_up is not False, each.name))


def failing(endpoints: Iterable[Endpoint]) -> int:
    return sum(endpoint.is_up is False for endpoint in endpoints)


def render(endpoints: Sequence[Endpoint], *, now: datetime) -> str:
    context = {"endpoints": endpoints, "failing": failing(endpoints), "now": now}
    return render_to_string("uptime/report.html", context)


def write(path: Path, text: str) -> None:
    """Replace the file as a whole: a reader sees the old text or the new one, never half of it."""
    path.parent.mkdir(parents=True, exist_ok=True)
    descriptor, draft = tempfile.mkstemp(dir=path.parent, prefix=f".{path.name}.")
    try:
        with open(descriptor, "w", encoding="utf-8") as file:
            file.write(text)
            file.flush()
            os.fsync(descriptor)
        os.chmod(draft, 0o644)
        os.replace(draft, path)
    except BaseException:
        os.unlink(draft)
        raise
