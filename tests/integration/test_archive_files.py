"""What is archived, and that nothing is deleted that is not surely in a file."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from scheduling.archive import deleting, files, passes
from scheduling.archive.deleting import Deleter
from scheduling.archive.rules import Page, Rule, aged
from scheduling.errors import ArchiveError
from scheduling.models import (
    ArchiveFile,
    Attempt,
    Notification,
    Reason,
    Run,
    State,
)
from scheduling.models.system import Event, Ping, PingSignal
from tests.factories import NOW
from tests.integration.old_runs import (
    DAY,
    FIRST,
    Killed,
    die,
    ended,
    files_in,
    ids_in,
    left,
    prune,
    rows_in,
    two_old_runs,
)

pytestmark = [pytest.mark.django_db, pytest.mark.usefixtures("archive")]


# --- what is written ------------------------------------------------------------------------------


def test_old_runs_are_in_a_file_and_no_longer_in_the_table(archive: Path) -> None:
    ids = two_old_runs()
    young = ended(ago=1 * DAY)
    told = prune()
    assert (told.archived, told.deleted, told.left) == (2, 2, 0)
    assert left() == {young}
    assert ids_in(archive) == ids
    row = ArchiveFile.objects.get()
    assert (row.name, row.runs, row.size) == (FIRST, 2, (archive / FIRST).stat().st_size)
    assert row.written_at is not None
    assert row.deleted_at is not None


def test_a_line_has_everything_that_the_table_had(archive: Path) -> None:
    output = "line\n\N{SNOWMAN} \x1b[31m" + "x" * 100_000
    run = ended(
        state=State.FAILED,
        reason=Reason.ERROR,
        started_at=NOW - 101 * DAY,
        kwargs={"a": [1, None, "b"]},
        metadata={"who": "ann"},
        output=output,
        error="Traceback",
        key="db.example.org",
        attempt=2,
    )
    Attempt.objects.create(
        run=run, number=1, ended_at=NOW, reason=Reason.RETRY, output="first", exit_code=3
    )
    Notification.objects.create(run=run, name="a", event=Event.FAILING, created_at=NOW)
    Ping.objects.create(run=run, signal=PingSignal.FAIL, created_at=NOW)
    run.refresh_from_db()
    prune()
    (row,) = rows_in(archive)
    columns = {field.attname for field in Run._meta.concrete_fields}
    assert set(row) == {"version", *columns, "earlier_attempts", "notifications", "pings"}
    assert row["version"] == 1
    assert row["id"] == str(run.pk)
    assert row["ended_at"] == "2025-09-27T12:00:00+00:00"
    for name in ("name", "key", "kwargs", "metadata", "output", "error", "attempt", "job_id"):
        assert row[name] == getattr(run, name), name
    (attempt,) = row["earlier_attempts"]
    assert (attempt["number"], attempt["output"], attempt["exit_code"]) == (1, "first", 3)
    assert row["notifications"][0]["event"] == "failing"
    assert row["pings"][0]["signal"] == "fail"


def test_times_keep_their_microseconds(archive: Path) -> None:
    ended(scheduled_at=NOW - 100 * DAY - timedelta(microseconds=1))
    prune()
    assert rows_in(archive)[0]["scheduled_at"] == "2025-09-27T11:59:59.999999+00:00"


def test_only_the_owner_may_read_a_file(archive: Path) -> None:
    two_old_runs()
    prune()
    assert (archive / FIRST).stat().st_mode & 0o777 == 0o600


def test_long_outputs_are_read_in_portions(archive: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("scheduling.archive.lines.ROOM", 1000)
    for _ in range(5):
        ended(output="x" * 600, output_bytes=600)
    prune()
    assert [len(row["output"]) for row in rows_in(archive)] == [600] * 5


def test_a_full_file_is_followed_by_another(archive: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(files, "MOST_RUNS", 2)
    monkeypatch.setattr(passes, "aged", aged_in_twos)
    made = [str(ended(ago=(200 - n) * DAY).pk) for n in range(5)]
    told = prune()
    assert [row.runs for row in told.files] == [2, 2, 1]
    assert ids_in(archive) == made
    assert left() == set()


def aged_in_twos(rule: Rule, *, token: str) -> Iterator[Page]:
    return aged(rule, token=token, size=2)


def test_nothing_old_makes_no_file(archive: Path) -> None:
    ended(ago=1 * DAY)
    prune()
    assert files_in(archive) == []
    assert not ArchiveFile.objects.exists()


def test_a_number_is_never_given_twice_even_if_the_database_is_older_than_the_folder(
    archive: Path,
) -> None:
    (archive / "runs-2024-01-01-000007.jsonl.gz").write_bytes(b"theirs")
    two_old_runs()
    told = prune()
    assert [row.name for row in told.files] == ["runs-2025-10-07-000008.jsonl.gz"]
    assert (archive / "runs-2024-01-01-000007.jsonl.gz").read_bytes() == b"theirs"


# --- dying at each step ---------------------------------------------------------------------------


def in_the_middle_of_writing(monkeypatch: pytest.MonkeyPatch) -> None:
    add = files.Writer.add

    def second_line(self: files.Writer, line: bytes) -> None:
        if self.runs == 1:
            raise Killed
        add(self, line)

    monkeypatch.setattr(files.Writer, "add", second_line)


def before_the_row(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(files.Writer, "__init__", die)


def before_the_disk_has_it(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "fsync", die)


def before_it_has_its_name(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(os, "link", die)


def after_it_has_its_name(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(files, "sync_folder", die)


def before_it_is_recorded(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(passes, "_record", die)


def before_the_mark_of_its_writer_is_gone(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(Path, "unlink", die)


def before_it_is_read_back(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(files, "verify", die)


def before_the_first_deletion(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(deleting, "_delete_unchanged", die)


def after_the_first_deletion(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(deleting, "FIRST", 1)
    monkeypatch.setattr(deleting, "LEAST", 1)
    monkeypatch.setattr(Deleter, "_delete", dying_after_one(Deleter._delete))


def dying_after_one(delete: Callable[..., Any]) -> Callable[..., Any]:
    calls: list[int] = []

    def once(*args: Any) -> Any:
        if calls:
            raise Killed
        calls.append(1)
        return delete(*args)

    return once


def before_it_is_marked_as_deleted(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(passes, "_done_with", die)


STEPS_BEFORE_IT_IS_WRITTEN = [
    before_the_row,
    in_the_middle_of_writing,
    before_the_disk_has_it,
    before_it_has_its_name,
    after_it_has_its_name,
    before_it_is_recorded,
]
STEPS_AFTERWARDS = [
    before_the_mark_of_its_writer_is_gone,
    before_it_is_read_back,
    before_the_first_deletion,
    after_the_first_deletion,
    before_it_is_marked_as_deleted,
]


@pytest.mark.parametrize("step", STEPS_BEFORE_IT_IS_WRITTEN)
def test_dying_before_a_file_is_written_deletes_nothing_and_leaves_nothing(
    step: Callable[[pytest.MonkeyPatch], None], archive: Path
) -> None:
    ids = two_old_runs()
    with pytest.MonkeyPatch.context() as patch:
        step(patch)
        with pytest.raises(Killed):
            prune()
    assert sorted(str(run.pk) for run in left()) == sorted(ids)
    prune()
    assert ids_in(archive) == ids
    assert len(files_in(archive)) == 1
    assert left() == set()
    (row,) = ArchiveFile.objects.exclude(written_at=None)
    assert row.deleted_at is not None


@pytest.mark.parametrize("step", STEPS_AFTERWARDS)
def test_dying_after_a_file_is_written_goes_on_with_deleting(
    step: Callable[[pytest.MonkeyPatch], None], archive: Path
) -> None:
    ids = two_old_runs()
    with pytest.MonkeyPatch.context() as patch:
        step(patch)
        with pytest.raises(Killed):
            prune()
    assert ids_in(archive) == ids
    told = prune()
    assert told.archived == 0
    assert ids_in(archive) == ids
    assert files_in(archive) == [FIRST]
    assert left() == set()
    assert ArchiveFile.objects.get().deleted_at is not None


def test_a_full_disk_is_told_and_deletes_nothing(
    archive: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    two_old_runs()

    def full(descriptor: int) -> None:
        raise OSError(28, "No space left on device")

    with monkeypatch.context() as patch:
        patch.setattr(os, "fsync", full)
        with pytest.raises(ArchiveError, match="No space left"):
            prune()
    assert Run.objects.count() == 2
    prune()
    assert left() == set()
