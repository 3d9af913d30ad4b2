from __future__ import annotations

import shutil
from collections.abc import Generator, Iterator
from contextlib import ExitStack
from itertools import count
from pathlib import Path

import pytest
from django.conf import settings
from pytest_django.plugin import DjangoDbBlocker

from tests.acceptance.rig import ARCHIVE, Rig, using_database
from tests.services import FOLDER, Postgres, Valkey

_number = count(1)


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport(
    item: pytest.Item,
) -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """Show the processes' last words when a test fails."""
    report = yield
    for value in getattr(item, "funcargs", {}).values():
        if report.failed and isinstance(value, Rig):
            report.sections += [(f"log of {name}", text) for name, text in value.logs()]
    return report


@pytest.fixture(scope="session")
def postgres_template(postgres: Postgres) -> Iterator[str]:
    """The name of a migrated database to copy."""
    name = "acceptance_template"
    postgres.drop(name)
    migrate(postgres.create(name))
    yield name
    postgres.drop(name)


@pytest.fixture(scope="session")
def sqlite_template() -> Path:
    path = FOLDER / "acceptance_template.sqlite3"
    migrate(f"sqlite:///{path}")
    return path


def migrate(database_url: str) -> None:
    """Make the tables; Beatkeeper's own job is paused, or it would fire once a day, into a test."""
    rig = Rig(new_folder(), database_url, Valkey(FOLDER))
    rig.manage("migrate", "--verbosity", "0")
    rig.manage("jobs", "pause", "--job", ARCHIVE, "--reason", "a test")


def new_folder() -> Path:
    # Short: the kernel allows a socket's path about 100 bytes, and pytest's tmp_path has more.
    folder = FOLDER / f"rig{next(_number)}"
    folder.mkdir()
    return folder


@pytest.fixture
def rig(
    postgres: Postgres,
    postgres_template: str,
    django_db_blocker: DjangoDbBlocker,
    monkeypatch: pytest.MonkeyPatch,
) -> Iterator[Rig]:
    """An installation on PostgreSQL and a Valkey of its own; no process runs yet."""
    folder = new_folder()
    url = postgres.create(f"acceptance_{folder.name}", template=postgres_template)
    yield from assemble(folder, url, django_db_blocker, monkeypatch)
    postgres.drop(f"acceptance_{folder.name}")


@pytest.fixture
def embedded_rig(
    sqlite_template: Path,
    django_db_blocker: DjangoDbBlocker,
    monkeypatch: pytest.MonkeyPatch,
) -> Iterator[Rig]:
    """An installation on SQLite and a Valkey of its own; no process runs yet."""
    folder = new_folder()
    shutil.copy(sqlite_template, folder / "jobs.sqlite3")
    url = f"sqlite:///{folder / 'jobs.sqlite3'}"
    yield from assemble(folder, url, django_db_blocker, monkeypatch)


@pytest.fixture(params=["rig", "embedded_rig"], ids=["postgres", "sqlite"])
def either_rig(request: pytest.FixtureRequest) -> Rig:
    """An installation on PostgreSQL, then one on SQLite."""
    rig: Rig = request.getfixturevalue(request.param)
    return rig


def assemble(
    folder: Path, url: str, blocker: DjangoDbBlocker, monkeypatch: pytest.MonkeyPatch
) -> Iterator[Rig]:
    from scheduling import redis

    valkey = Valkey(folder)
    valkey.start()
    # What the test itself does (trigger, edit) must ring this installation's doorbell.
    monkeypatch.setattr(settings, "REDIS_URL", valkey.url)
    redis.client.cache_clear()
    rig = Rig(folder, url, valkey)
    with ExitStack() as stack:
        stack.callback(redis.client.cache_clear)
        stack.callback(valkey.kill)
        stack.callback(rig.stop)
        stack.enter_context(blocker.unblock())
        stack.enter_context(using_database(url))
        yield rig
