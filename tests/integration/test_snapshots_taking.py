"""Taking checkpoints, keeping them in Redis, and the verbs that take and compare."""

from __future__ import annotations

import os
import stat
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest
from django.db import connection

from scheduling import runs, snapshots
from scheduling.errors import DatabaseIsOlder, UnreadableCheckpoint
from scheduling.models import Installation, Job, Target
from scheduling.snapshots import FileStore, RedisStore
from tests.factories import NOW, make_job, make_run, make_target
from tests.integration.backups import Backup, beat
from tests.integration.cli import jobs

pytestmark = pytest.mark.django_db

MINUTE = timedelta(minutes=1)
HOUR = timedelta(hours=1)


@pytest.fixture(autouse=True)
def no_other_jobs() -> None:
    """Those that the code declares are made by migrating."""
    Job.objects.all().delete()


@pytest.fixture
def store(tmp_path: Path) -> FileStore:
    return FileStore(tmp_path / "checkpoint.json", str(runs.installation().key))


# --- taking ---------------------------------------------------------------------------------------


def test_a_checkpoint_says_how_far_each_job_has_come(store: FileStore) -> None:
    make_target(make_job("on time", runs_left=3), next_fire_at=NOW + MINUTE)
    make_target(make_job("late"), "a", next_fire_at=NOW)
    run = make_run(make_target(make_job("queued")))
    taken = snapshots.take(store, now=NOW)
    assert taken == store.read()
    assert taken is not None
    assert (taken.sequence, runs.installation().checkpoints) == (1, 1)
    assert taken.jobs == {"on time": NOW, "late": NOW, "queued": NOW}
    assert taken.cursors == {"late": {"a": NOW}}
    assert taken.runs_left == {"on time": 3}
    assert [row.run for row in taken.waiting] == [str(run.pk)]


@pytest.mark.django_db(transaction=True)
def test_a_checkpoint_is_of_one_moment(store: FileStore) -> None:
    make_target(next_fire_at=NOW)
    assert not connection.in_atomic_block
    taken = snapshots.take(store, now=NOW)
    assert taken is not None
    assert len(taken.cursors) == 1


def test_one_of_two_beats_takes_it(store: FileStore, monkeypatch: pytest.MonkeyPatch) -> None:
    from scheduling.snapshots import taking

    read = taking.read

    def rival_first(*args: Any, **kwargs: Any) -> Any:
        found = read(*args, **kwargs)
        monkeypatch.setattr(taking, "read", read)
        assert snapshots.take(store, now=NOW) is not None
        return found

    monkeypatch.setattr(taking, "read", rival_first)
    assert snapshots.take(store, now=NOW + MINUTE) is None
    stored = store.read()
    assert stored is not None
    assert (stored.sequence, stored.taken_at) == (1, NOW)


def test_what_an_older_database_has_forgotten_is_not_overwritten(store: FileStore) -> None:
    snapshots.take(store, now=NOW)
    snapshots.take(store, now=NOW)
    Installation.objects.update(checkpoints=1)
    with pytest.raises(DatabaseIsOlder, match=r"knows 1 checkpoints.*the 2th.*jobs restore"):
        snapshots.take(store, now=NOW + HOUR)
    stored = store.read()
    assert stored is not None
    assert stored.taken_at == NOW


def test_redis_keeps_checkpoints_of_several_installations_apart() -> None:
    ours, theirs = RedisStore(str(runs.installation().key)), RedisStore("theirs")
    taken = snapshots.take(ours, now=NOW)
    assert taken is not None
    assert (ours.read(), theirs.read()) == (taken, None)


def test_redis_keeps_what_cannot_be_read(valkey: Any) -> None:
    store = RedisStore("ours")
    with valkey.client() as client:
        client.set("jobs:checkpoint:ours", "{")
        with pytest.raises(UnreadableCheckpoint, match="jobs:checkpoint:ours"):
            store.read()
        aside = store.set_aside(NOW).removeprefix("Redis, ")
        assert store.read() is None
        assert client.get(aside) == "{"
        assert client.ttl(aside) > 0
    store.set_aside(NOW)  # another beat was quicker


# --- the verbs ------------------------------------------------------------------------------------


def test_snapshot_and_restore_from_a_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file = tmp_path / "here.json"
    job = make_job("tick", schedule="every 1m")
    make_target(job, next_fire_at=NOW)
    backup = Backup()
    Target.objects.update(next_fire_at=NOW + HOUR)
    lost = make_run(Target.objects.get())
    monkeypatch.setattr("scheduling.clock.now", lambda: NOW + HOUR - MINUTE)
    told = jobs("snapshot", "--to", str(file), "--json")
    assert told.code == 0, told
    assert told.document() == {
        "sequence": 1,
        "taken_at": "2026-01-05T12:59:00+00:00",
        "jobs": 1,
        "cursors": 0,
        "stored_in": str(file),
    }
    assert stat.S_IMODE(file.stat().st_mode) == 0o600
    assert "not older" in jobs("restore", "--from", str(file)).stdout
    backup.restore()
    tried = jobs("restore", "--from", str(file), "--dry-run", "--json").document()
    assert (tried["older"], tried["restored"], tried["refused"]) == (True, False, 60)
    told = jobs("restore", "--from", str(file), "--json")
    assert told.code == 0
    assert told.document() == {
        "older": True,
        "restored": True,
        "sequence": 1,
        "taken_at": "2026-01-05T12:59:00+00:00",
        "refused": 60,
        "jobs": {"tick": 60},
        "waiting": [{"job": "tick", "key": "", "scheduled_at": lost.scheduled_at.isoformat()}],
    }
    again = jobs("restore", "--from", str(file), "--json").document()
    assert (again["older"], again["restored"], again["refused"]) == (False, False, 0)


def test_restore_tells_people_what_was_lost(tmp_path: Path) -> None:
    file = str(tmp_path / "here.json")
    target = make_target(make_job("tick", schedule="every 1m"), next_fire_at=NOW)
    backup = Backup()
    make_run(target)
    assert jobs("snapshot", "--to", file).stdout.startswith("Checkpoint 1: 1 jobs")
    backup.restore()
    said = jobs("restore", "--from", file).stdout
    assert "older than checkpoint 1" in said
    assert "nobody runs these" in said


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("snapshot",), "JOBS_SNAPSHOT is ''"),
        (("restore",), "JOBS_SNAPSHOT is ''"),
        (("restore", "--from", "nowhere.json"), "There is no checkpoint in"),
        (("restore", "--from", ""), "the name of the file is empty"),
        (("snapshot", "--to", "gone/x.json"), "out of reach"),
    ],
)
def test_what_cannot_be_done_is_told_with_exit_code_2(
    words: tuple[str, ...], said: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.chdir(tmp_path)
    told = jobs(*words, "--json")
    assert told.code == 2
    assert said in told.document()["error"]


def test_the_verbs_never_move_a_file_that_is_not_theirs(tmp_path: Path) -> None:
    file = tmp_path / "notes.txt"
    file.write_text("shopping list")
    for words in (("restore", "--from"), ("snapshot", "--to")):
        told = jobs(*words, str(file), "--json")
        assert told.code == 2
        assert "cannot be read" in told.document()["error"]
    assert file.read_text() == "shopping list"


def test_a_snapshot_gives_up_when_others_are_always_quicker(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(snapshots, "take", lambda store, now: None)
    told = jobs("snapshot", "--to", str(tmp_path / "x"), "--json")
    assert (told.code, "try again" in told.document()["error"]) == (2, True)


def test_fencing_tokens_go_on_above_those_that_were_given_out(store: FileStore) -> None:
    target = runs.adopt(make_job("tick", schedule="every 1m", locks=["ledger"]), now=NOW)
    beat(NOW + MINUTE)
    backup = Backup()
    beat(NOW + 10 * MINUTE, since=NOW + 2 * MINUTE)
    target.refresh_from_db()
    given_out = target.token
    snapshots.take(store, now=NOW + 10 * MINUTE)

    backup.restore()
    snapshots.compare(store, now=NOW + 11 * MINUTE)
    beat(NOW + 12 * MINUTE, since=NOW + 12 * MINUTE)

    target.refresh_from_db()
    assert given_out >= 10
    assert target.token > given_out


def test_a_device_is_neither_read_nor_replaced(tmp_path: Path) -> None:
    pipe = tmp_path / "pipe"
    os.mkfifo(pipe)

    for words in (("snapshot", "--to", str(pipe)), ("restore", "--from", str(pipe))):
        told = jobs(*words, "--json")
        assert (told.code, "no regular file" in told.document()["error"]) == (2, True)

    assert stat.S_ISFIFO(pipe.stat().st_mode)
