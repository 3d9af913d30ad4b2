"""An archiver that is killed again and again: each run is in one file, or still in the table."""

from __future__ import annotations

import gzip
import json
from collections.abc import Callable
from datetime import timedelta

import pytest

from scheduling.models import ArchiveFile, Run, Seat
from tests.acceptance.rig import Process, Rig, add_job, now
from tests.factories import make_target
from tests.waiting import wait_for

pytestmark = pytest.mark.acceptance

NUMBER = 3000


def test_an_archiver_that_is_killed_loses_nothing_and_writes_nothing_twice(rig: Rig) -> None:
    kill_archivers(rig)


def test_so_it_does_on_sqlite(embedded_rig: Rig) -> None:
    kill_archivers(embedded_rig)


def kill_archivers(rig: Rig) -> None:
    archive = rig.folder / "archive"
    archive.mkdir()
    made = make_old_runs()
    # While it writes, and while it deletes.
    kill_when(rig, "first", lambda: any(archive.glob(".*.part")))
    assert Run.objects.count() == NUMBER
    kill_when(rig, "second", lambda: 0 < Run.objects.count() < NUMBER)
    there = {str(pk) for pk in Run.objects.values_list("pk", flat=True)}
    assert made == there | ids_in(rig)
    assert archiver("last", rig).popen.wait(timeout=100) == 0
    assert ids_in(rig) == made
    assert not Run.objects.exists()
    assert not list(archive.glob(".*"))
    assert not ArchiveFile.objects.filter(deleted_at=None).exists()


def make_old_runs() -> set[str]:
    target = make_target(add_job("old"))
    began = now() - timedelta(days=200)
    rows = Run.objects.bulk_create(
        Run(
            job=target.job,
            target=target,
            name="old",
            cause="manual",
            state="succeeded",
            scheduled_at=began + timedelta(seconds=n),
            created_at=began + timedelta(seconds=n),
            ended_at=began + timedelta(seconds=n),
            output=f"{n}\n" * 2000,
            output_bytes=8000,
        )
        for n in range(NUMBER)
    )
    return {str(row.pk) for row in rows}


def kill_when(rig: Rig, name: str, seen: Callable[[], bool]) -> None:
    process = archiver(name, rig)
    wait_for(seen, timeout=60, interval=0.002, message=f"the {name} archiver is at work")
    process.kill()


def archiver(name: str, rig: Rig) -> Process:
    """Start one as soon as the lock of the one before is free."""
    wait_for(lambda: not has_lock(), timeout=30, message="the lock is free")
    settings = "tests.acceptance.archive_settings"
    return rig.start(name, "manage", "jobs", "archive", DJANGO_SETTINGS_MODULE=settings)


def has_lock() -> bool:
    held = Seat.objects.filter(key="beatkeeper archive", lease_until__gt=now())
    return held.exclude(holder="").exists()


def ids_in(rig: Rig) -> set[str]:
    """Read what is recorded as written. Raises AssertionError if a run is there twice."""
    found: list[str] = []
    for name in ArchiveFile.objects.exclude(written_at=None).values_list("name", flat=True):
        with gzip.open(rig.folder / "archive" / name, "rt", encoding="utf-8") as file:
            found += [json.loads(line)["id"] for line in file]
    assert len(found) == len(set(found))
    return set(found)
