"""Only what is surely in a file is deleted; and two that are at it, or too little time."""

from __future__ import annotations

import os
from collections.abc import Callable
from functools import partial
from pathlib import Path
from typing import Any
from uuid import UUID

import pytest

from scheduling.archive import files, passes
from scheduling.archive.deleting import Deleter
from scheduling.archive.rules import aged, rule_of
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

pytestmark = [pytest.mark.django_db, pytest.mark.usefixtures("archive")]


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


def test_without_an_archive_a_pass_behind_what_stays_is_gone_on_with_as_well(
    settings: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings.JOBS_ARCHIVE = ""
    settings.JOBS_KEEP_GOOD = 4
    monkeypatch.setattr(passes, "aged", partial(aged, size=2))
    first = ended(ago=200 * DAY)
    kept = [first, *(ended(first.target, ago=(200 - n) * DAY) for n in range(1, 4))]
    goes = ended(ago=150 * DAY, state=State.FAILED)
    tokens = [""]
    for _ in range(2):
        told = passes.prune(rule_of(now=NOW), token=tokens[-1], go_on=lambda: False)
        tokens.append(told.token)
    assert [token.partition("/")[2] for token in tokens[1:]] == [str(kept[1].pk), str(kept[3].pk)]
    told = prune(token=tokens[-1])
    assert (told.deleted, told.token) == (1, "")
    assert goes not in left()


@pytest.mark.parametrize("place", ["", "archive"])
def test_a_pass_that_ran_out_of_time_at_once_is_gone_on_with_at_the_same_place(
    place: str, settings: Any, archive: Path
) -> None:
    settings.JOBS_ARCHIVE = place and str(archive)
    two_old_runs()
    token = f"{(NOW - 200 * DAY).isoformat()}/{UUID(int=0)}"
    told = passes.prune(rule_of(now=NOW), token=token, go_on=lambda: False)
    assert (told.token, told.deleted) == (token, 0)
    assert prune(token=told.token).deleted == 2


def test_a_pass_without_time_does_not_look_for_what_is_beyond_a_number(
    settings: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    settings.JOBS_ARCHIVE = ""
    two_old_runs()
    monkeypatch.setattr(passes, "surplus", die)
    passes.prune(rule_of(now=NOW, keep=1), go_on=lambda: False)


def test_what_was_begun_with_an_archive_says_what_to_do_without_one(
    settings: Any, archive: Path
) -> None:
    two_old_runs()
    damaged(archive, lambda data: data)
    settings.JOBS_ARCHIVE = ""
    with pytest.raises(ArchiveError, match=f"{FIRST}.*JOBS_ARCHIVE.*--forget {FIRST}") as told:
        prune()
    assert not isinstance(told.value, ArchiveDamaged)
    assert Run.objects.count() == 2
    files.forget(FIRST)
    assert prune().deleted == 2


def test_a_folder_that_is_not_mounted_is_not_taken_for_damaged_files(
    settings: Any, archive: Path
) -> None:
    two_old_runs()
    damaged(archive, lambda data: data)
    settings.JOBS_ARCHIVE = "/nowhere/at/all"
    for look in (prune, lambda: files.verify(ArchiveFile.objects.get())):
        with pytest.raises(ArchiveError, match="which is no folder; make it") as told:
            look()
        assert not isinstance(told.value, ArchiveDamaged)


# --- a folder that another database uses ----------------------------------------------------------


def test_a_file_of_another_database_is_never_replaced(
    archive: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    ids = two_old_runs()
    sync = os.fsync

    def theirs_comes_first(descriptor: int) -> None:
        (archive / FIRST).write_bytes(b"theirs")
        sync(descriptor)

    with monkeypatch.context() as patch:
        patch.setattr(os, "fsync", theirs_comes_first)
        with pytest.raises(ArchiveError, match="one folder for each database"):
            prune()
    assert (archive / FIRST).read_bytes() == b"theirs"
    assert Run.objects.count() == 2
    prune()
    assert (archive / FIRST).read_bytes() == b"theirs"
    assert files_in(archive) == [FIRST, SECOND]
    (archive / FIRST).unlink()
    assert ids_in(archive) == ids


def test_what_another_database_is_writing_is_not_removed(archive: Path) -> None:
    """Both had the same idea of the next number; here, the process died at once."""
    two_old_runs()
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(files.Writer, "__init__", die)
        with pytest.raises(Killed):
            prune()
    row = ArchiveFile.objects.get()
    row.began_at -= DAY
    theirs = [archive / FIRST, files.part_of(row)]
    for path in theirs:
        path.write_bytes(b"theirs")
    prune()
    assert [path.read_bytes() for path in theirs] == [b"theirs", b"theirs"]
    assert left() == set()
