"""What a checkpoint says, and where it is kept in a file."""

from __future__ import annotations

import json
import stat
from datetime import timedelta
from pathlib import Path

import pytest

from scheduling.errors import (
    CheckpointAway,
    CheckpointError,
    ForeignCheckpoint,
    UnreadableCheckpoint,
)
from scheduling.snapshots import Checkpoint, FileStore, RedisStore, Waiting, store_at
from scheduling.snapshots.checkpoint import from_json
from tests.factories import NOW

HERE = "8c7d2a51-5a8d-4f0e-9d56-0a3d9a0f7a11"
MINUTE = timedelta(minutes=1)


def checkpoint(**fields: object) -> Checkpoint:
    values: dict[str, object] = {
        "installation": HERE,
        "sequence": 7,
        "taken_at": NOW,
        "jobs": {"close_books": NOW, "größe": NOW},
        "cursors": {"größe": {"": NOW - MINUTE, "a/b": NOW}},
        "runs_left": {"close_books": 3},
        "waiting": [Waiting("close_books", "", NOW - MINUTE, "a run")],
    }
    return Checkpoint(**values | fields)  # type: ignore[arg-type]


# --- the document ---------------------------------------------------------------------------------


def test_a_checkpoint_reads_back_as_it_was_written() -> None:
    assert from_json(checkpoint().to_json()) == checkpoint()


def test_the_document_names_its_version_and_times_in_utc() -> None:
    document = json.loads(checkpoint().to_json())
    assert document["version"] == 1
    assert document["taken_at"] == "2026-01-05T12:00:00+00:00"
    assert document["waiting"] == [["close_books", "", "2026-01-05T11:59:00+00:00", "a run"]]


@pytest.mark.parametrize(
    ("text", "said"),
    [
        ("", "JSONDecodeError"),
        ("[]", "TypeError"),
        ("{}", "says nothing about 'version'"),
        ('{"version": 2}', "version 2, and this one reads version 1"),
        ('{"version": 1, "sequence": 1}', "says nothing about 'installation'"),
        (checkpoint().to_json()[:-30], "JSONDecodeError"),
        (checkpoint().to_json().replace(":7,", ':"7",'), "'7' is no int"),
        (checkpoint().to_json().replace(":7,", ":true,"), "True is no int"),
        (checkpoint().to_json().replace("+00:00", ""), "has no time zone"),
        (checkpoint().to_json().replace("2026-", "year-"), "ValueError"),
        (checkpoint().to_json().replace('{"close_books":3}', "[]"), "AttributeError"),
        ("[" * 100_000, "RecursionError"),
    ],
    ids=lambda value: value[:20],
)
def test_a_document_that_is_not_one_is_refused_with_what_is_wrong(text: str, said: str) -> None:
    with pytest.raises(UnreadableCheckpoint, match=said):
        from_json(text)


# --- in a file ------------------------------------------------------------------------------------


@pytest.fixture
def store(tmp_path: Path) -> FileStore:
    return FileStore(tmp_path / "checkpoint.json", HERE)


def test_a_file_that_is_not_there_holds_no_checkpoint(store: FileStore) -> None:
    assert store.read() is None


def test_a_written_checkpoint_is_for_its_owner_only_and_leaves_nothing_beside_it(
    store: FileStore, tmp_path: Path
) -> None:
    store.write(checkpoint(sequence=1))
    store.write(checkpoint())
    assert store.read() == checkpoint()
    (file,) = tmp_path.iterdir()
    assert stat.S_IMODE(file.stat().st_mode) == 0o600


def test_the_file_of_another_installation_is_refused_with_the_next_step(
    store: FileStore, tmp_path: Path
) -> None:
    store.write(checkpoint(installation="somebody else's"))
    with pytest.raises(ForeignCheckpoint, match=r"somebody else's.*JOBS_SNAPSHOT"):
        store.read()


@pytest.mark.parametrize("content", [b"no document", b"\xff\xfe"])
def test_what_cannot_be_read_is_set_aside_and_kept(
    store: FileStore, tmp_path: Path, content: bytes
) -> None:
    path = tmp_path / "checkpoint.json"
    path.write_bytes(content)
    with pytest.raises(UnreadableCheckpoint, match=r"checkpoint\.json"):
        store.read()
    aside = Path(store.set_aside(NOW))
    assert aside.name == "checkpoint.json.20260105T120000.unreadable"
    assert aside.read_bytes() == content
    assert store.read() is None
    # Another beat has found it unreadable, too.
    assert Path(store.set_aside(NOW)) == aside


def test_a_disk_that_is_away_is_told_as_such(tmp_path: Path) -> None:
    gone = FileStore(tmp_path / "gone" / "checkpoint.json", HERE)
    assert gone.read() is None
    with pytest.raises(CheckpointAway, match="out of reach"):
        gone.write(checkpoint())
    folder = FileStore(tmp_path, HERE)
    with pytest.raises(CheckpointAway, match="out of reach"):
        folder.read()
    with pytest.raises(CheckpointAway, match="out of reach"):
        folder.write(checkpoint())
    assert list(tmp_path.parent.glob(f".{tmp_path.name}*")) == []
    (tmp_path / "file").touch()
    with pytest.raises(CheckpointAway, match="out of reach"):
        FileStore(tmp_path / "file" / "checkpoint.json", HERE).set_aside(NOW)


# --- which place ----------------------------------------------------------------------------------


def test_the_setting_names_redis_or_a_file(tmp_path: Path) -> None:
    assert isinstance(store_at("redis", installation=HERE), RedisStore)
    file = store_at(str(tmp_path / "x"), installation=HERE)
    assert (type(file), str(file)) == (FileStore, str(tmp_path / "x"))
    assert HERE in str(store_at("redis", installation=HERE))


@pytest.mark.parametrize("place", ["", "checkpoint.json", "Redis"])
def test_another_place_is_refused_with_what_to_write(place: str) -> None:
    with pytest.raises(CheckpointError, match=f"JOBS_SNAPSHOT is '{place}'.*'redis'"):
        store_at(place, installation=HERE)
