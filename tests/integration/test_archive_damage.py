"""Only what is surely in a file is deleted; and two that are at it, or too little time."""

from __future__ import annotations

from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from scheduling.archive import files, passes
from scheduling.archive.deleting import Deleter
from scheduling.archive.rules import rule_of
from scheduling.errors import ArchiveDamaged, ArchiveError
from scheduling.models import ArchiveFile, Run, State
from tests.factories import NOW
from tests.integration.old_runs import (
    DAY,
    FIRST,
    SECOND,
    Killed,
    die,
    ended,
    files_in,
    ids_in,
    left,
    prune,
    two_old_runs,
)

pytestmark = pytest.mark.django_db


@pytest.fixture(autouse=True)
def archive(tmp_path: Path, settings: Any) -> Path:
    settings.JOBS_ARCHIVE = str(tmp_path)
    settings.JOBS_KEEP_GOOD = settings.JOBS_KEEP_FAILED = settings.JOBS_KEEP_PER_TARGET = 0
    return tmp_path


# --- only what is written -------------------------------------------------------------------------


def damaged(archive: Path, how: Callable[[bytes], bytes]) -> None:
    """Write a file, die before its runs are deleted, and damage it."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(files, "verify", die)
        with pytest.raises(Killed):
            prune()
    path = archive / FIRST
    path.write_bytes(how(path.read_bytes()))


@pytest.mark.parametrize(
    "how",
    [
        pytest.param(lambda data: data[:-1], id="cut short"),
        pytest.param(lambda data: b"", id="empty"),
        pytest.param(lambda data: data[:20] + b"\x00" + data[21:], id="one byte"),
    ],
)
def test_a_damaged_file_deletes_nothing(how: Callable[[bytes], bytes], archive: Path) -> None:
    two_old_runs()
    damaged(archive, how)
    with pytest.raises(ArchiveDamaged, match="it is not what was written"):
        prune()
    assert Run.objects.count() == 2


def test_a_missing_file_deletes_nothing(archive: Path) -> None:
    two_old_runs()
    damaged(archive, lambda data: data)
    (archive / FIRST).unlink()
    with pytest.raises(ArchiveDamaged, match="--forget"):
        prune()
    assert Run.objects.count() == 2


def test_what_is_left_of_a_file_that_is_given_up_is_archived_anew(archive: Path) -> None:
    ids = two_old_runs()
    damaged(archive, lambda data: b"")
    files.forget(FIRST)
    (archive / FIRST).unlink()
    prune()
    assert ids_in(archive) == ids
    assert left() == set()


def test_a_run_that_came_up_in_the_meantime_is_not_deleted(archive: Path) -> None:
    two_old_runs()
    damaged(archive, lambda data: data)
    late = ended()
    passes._resume(passes.Report(), Deleter(go_on=lambda: True))
    assert left() == {late}


@pytest.mark.parametrize(
    "change",
    [
        pytest.param({"state": State.FAILED}, id="state"),
        pytest.param({"state": State.QUEUED, "ended_at": None}, id="open again"),
        pytest.param({"attempt": 2}, id="attempt"),
        pytest.param({"ended_at": NOW - 99 * DAY}, id="end"),
    ],
)
def test_a_run_that_is_no_longer_as_it_was_written_stays(
    change: dict[str, Any], archive: Path
) -> None:
    """Celery may put the run of a task that is no job back, after its end was told."""
    two_old_runs()
    damaged(archive, lambda data: data)
    changed = Run.objects.order_by("created_at").first()
    assert changed is not None
    Run.objects.filter(pk=changed.pk).update(**change)
    report = passes.Report()
    passes._resume(report, Deleter(go_on=lambda: True))
    assert (report.deleted, report.changed) == (1, 1)
    assert left() == {changed}


# --- two at once ----------------------------------------------------------------------------------


def test_who_comes_second_gives_way(archive: Path) -> None:
    two_old_runs()
    told = []

    def second(*args: Any) -> None:
        with pytest.raises(ArchiveError, match="Somebody else"):
            prune()
        told.append("gave way")

    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(files, "sync_folder", second)
        prune()
    assert told == ["gave way"]
    assert left() == set()


def test_who_was_taken_for_dead_gives_its_file_up(
    archive: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It froze while it wrote; its lease ended, and another has done all of it meanwhile."""
    ids = two_old_runs()
    record = passes._record

    def frozen(row: ArchiveFile, sealed: files.Sealed) -> ArchiveFile:
        monkeypatch.setattr(passes, "_record", record)
        monkeypatch.setattr(passes, "LOCK", "another, as that one's lease is over")
        prune()
        return record(row, sealed)

    monkeypatch.setattr(passes, "_record", frozen)
    with pytest.raises(ArchiveError, match="given up"):
        prune()
    assert ids_in(archive) == ids
    assert left() == set()
    assert files_in(archive) == [SECOND]


# --- breaking off ---------------------------------------------------------------------------------


def test_a_pass_that_has_no_more_time_is_gone_on_with_by_the_next(archive: Path) -> None:
    ids = two_old_runs()
    told = passes.prune(rule_of(now=NOW), go_on=lambda: not ArchiveFile.objects.exists())
    assert ids_in(archive) == ids
    assert (told.archived, told.deleted, told.left) == (2, 0, 2)
    assert prune(token=told.token).deleted == 2
    assert ids_in(archive) == ids


def test_runs_are_deleted_for_good_where_there_is_no_archive(settings: Any, archive: Path) -> None:
    settings.JOBS_ARCHIVE = ""
    two_old_runs()
    told = prune()
    assert (told.archived, told.deleted) == (0, 2)
    assert files_in(archive) == []
    assert left() == set()
