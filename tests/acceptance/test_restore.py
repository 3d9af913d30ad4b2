"""An older database is put back: what has fired does not fire again, and everything goes on."""

from __future__ import annotations

import shutil
import sqlite3
from collections import Counter
from collections.abc import Callable
from contextlib import closing
from datetime import datetime, timedelta

import pytest
from django.db import connection

from scheduling import models, runs
from scheduling.models import Job, Run
from scheduling.snapshots import Checkpoint, FileStore, RedisStore, Store
from tests.acceptance.rig import Rig, add_job, every_second, now
from tests.services import Postgres
from tests.waiting import wait_for

pytestmark = pytest.mark.acceptance

SECOND = timedelta(seconds=1)


def start(rig: Rig) -> None:
    """Start two beats and a worker, and wait until they have said hello to the database."""
    began = now()
    rig.worker()
    rig.beat("beat1")
    rig.beat("beat2")
    wait_for(
        lambda: models.Process.objects.filter(started_at__gt=began).count() == 3,
        timeout=30,
        message="all have said hello",
    )


def crash(rig: Rig) -> None:
    for process in rig.processes:
        process.kill()
    connection.close()


def checkpoint_after(store: Store, moment: datetime) -> Checkpoint:
    """Wait until a checkpoint is stored that was taken after `moment`, and give it."""

    def read() -> Checkpoint | None:
        found = store.read()
        return found if found is not None and found.taken_at > moment else None

    found = wait_for(read, timeout=20, message="a checkpoint is stored")
    assert found is not None
    return found


def check_restore(
    rig: Rig, store: Store, *, back_up: Callable[[], None], put_back: Callable[[], None]
) -> None:
    start(rig)
    begin = now()
    daily_at = (begin + 8 * SECOND).replace(microsecond=0)
    jobs = {
        "fast": add_job("fast", schedule="every 1s", overlap="queue", catch_up="all"),
        "slow": add_job("slow", schedule="every 2s"),
        "daily": add_job(
            "daily",
            schedule=f"cron {daily_at:%-S %-M %-H} * * * *",
            ends_at=daily_at + timedelta(hours=1),
        ),
        "rest": add_job("rest", schedule="every 1s after end"),
    }
    targets = {name: runs.adopt(job, now=begin) for name, job in jobs.items()}
    rig.wait_until(begin + 3 * SECOND)
    back_up()
    wait_for(lambda: rig.lines("end", "daily"), timeout=20, message="the daily job has run")
    known = checkpoint_after(store, daily_at + SECOND)

    crash(rig)
    # Another may have been stored meanwhile.
    known = checkpoint_after(store, known.taken_at - SECOND)
    put_back()
    assert not Run.objects.filter(job=jobs["daily"]).exists(), "the backup is older"
    start(rig)

    # All go on firing, and then come to an end.
    back = now()
    wait_for(
        lambda: all(
            datetime.fromisoformat(rig.lines("end", name)[-1].scheduled_at) > back
            for name in ("fast", "slow", "rest")
        ),
        # What ran at the backup holds its job until its lease lapses: 30 s on SQLite.
        timeout=90,
        message="new fires go on",
    )
    # Not from now on: what fires while it is written may be on either side of it.
    until = now() + 2 * SECOND
    Job.objects.update(ends_at=until)
    rig.wait_for_ends(timeout=60)

    # They said so.
    told = [process for process in rig.processes if "beat" in process.name]
    assert any(process.says("This database is older than the checkpoint") for process in told)
    assert any(process.says(r"Job fast: \d+ fires are not fired again") for process in told)
    skipped = Run.objects.get(job=jobs["daily"])
    assert (skipped.scheduled_at, skipped.reason) == (daily_at, "coalesced")
    assert "known from the checkpoint of" in skipped.detail
    # Nothing that the checkpoint knows has run twice.
    starts = Counter((line.job, line.scheduled_at) for line in rig.lines("start"))
    double = [
        (name, at)
        for (name, at), count in starts.items()
        if count > 1 and datetime.fromisoformat(at) <= known.taken_at
    ]
    assert double == []
    assert starts["daily", daily_at.isoformat()] == 1
    # Every fire is accounted for, by the database as it is now.
    seconds = every_second(begin, until)
    rig.check_fires(targets["fast"], seconds)
    rig.check_fires(targets["slow"], [at for at in seconds if at.second % 2 == 0])
    rig.check_fires(targets["daily"], [daily_at])
    assert not rig.firing().exists()


def test_after_an_older_postgresql_is_restored_nothing_known_fires_again(
    rig: Rig, postgres: Postgres
) -> None:
    name = f"acceptance_{rig.folder.name}"
    rig.environ |= {"JOBS_SNAPSHOT": "redis", "JOBS_TEST_SNAPSHOT_EVERY": "1"}

    def back_up() -> None:
        """Copy it, which PostgreSQL does while nobody is connected: an outage on top."""
        connection.close()
        postgres.execute(f'ALTER DATABASE "{name}" ALLOW_CONNECTIONS false')
        postgres.execute(
            f"SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = '{name}'"
        )
        postgres.create(f"{name}_backup", template=name)
        postgres.execute(f'ALTER DATABASE "{name}" ALLOW_CONNECTIONS true')

    def put_back() -> None:
        postgres.drop(name)
        postgres.execute(f'ALTER DATABASE "{name}_backup" RENAME TO "{name}"')

    store = RedisStore(str(runs.installation().key))
    check_restore(rig, store, back_up=back_up, put_back=put_back)


def test_after_an_older_sqlite_is_restored_nothing_known_fires_again(embedded_rig: Rig) -> None:
    rig = embedded_rig
    database, backup = rig.folder / "jobs.sqlite3", rig.folder / "backup.sqlite3"
    file = rig.folder / "checkpoint.json"
    rig.environ |= {"JOBS_SNAPSHOT": str(file), "JOBS_TEST_SNAPSHOT_EVERY": "1"}

    def back_up() -> None:
        with closing(sqlite3.connect(database)) as ours, closing(sqlite3.connect(backup)) as copy:
            ours.backup(copy)

    def put_back() -> None:
        for path in rig.folder.glob("jobs.sqlite3*"):
            path.unlink()
        shutil.copy(backup, database)

    store = FileStore(file, str(runs.installation().key))
    check_restore(rig, store, back_up=back_up, put_back=put_back)
