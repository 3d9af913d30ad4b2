"""What the environment says, and what holds where it says nothing."""

from __future__ import annotations

import os
import stat
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import environ
import pytest
import redis
from kombu import Connection

from config import broker, env
from config.problem import Problem
from tests.waiting import wait_for


@pytest.fixture(autouse=True)
def var(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Path]:
    for name in ("DATABASE_URL", "REDIS_URL", "CELERY_BROKER_URL", "DJANGO_SECRET_KEY"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("JOBS_VAR", str(tmp_path / "var"))
    monkeypatch.setenv("TMPDIR", str(tmp_path))
    monkeypatch.setattr("tempfile.tempdir", None)
    yield tmp_path / "var"
    monkeypatch.undo()


def test_everything_defaults_to_the_embedded_installation(var: Path) -> None:
    assert env.database_url() == f"sqlite:///{var}/beatkeeper.sqlite3"
    assert env.redis_url() == f"unix://{var}/broker.sock?db=0"
    assert env.celery_broker_url() == f"redis+socket://{var}/broker.sock?virtual_host=0"
    assert stat.S_IMODE(var.stat().st_mode) == 0o700


def test_a_folder_may_have_any_name(var: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    folder = var.parent / "a b+c#d%41é"
    monkeypatch.setenv("JOBS_VAR", str(folder))
    database = environ.Env.db_url_config(env.database_url())
    assert database["NAME"] == f"{folder}/beatkeeper.sqlite3"
    client = redis.Redis.from_url(env.redis_url())
    assert client.connection_pool.connection_kwargs["path"] == f"{folder}/broker.sock"
    assert f"{folder}/broker.sock" in repr(Connection(env.celery_broker_url()))


@pytest.mark.parametrize(
    ("named", "celery"),
    [
        ("redis://:pw@host:6379/2", "redis://:pw@host:6379/2"),
        ("rediss://host/0", "rediss://host/0"),
        ("unix:///run/r.sock", "redis+socket:///run/r.sock?virtual_host=0"),
        ("unix:///run/r.sock?db=3", "redis+socket:///run/r.sock?virtual_host=3"),
        ("unix://u:pw@/run/r.sock?db=3", "redis+socket://u:pw@/run/r.sock?virtual_host=3"),
    ],
)
def test_the_broker_is_the_redis_unless_another_is_named(
    named: str, celery: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("REDIS_URL", named)
    assert env.celery_broker_url() == celery
    monkeypatch.setenv("CELERY_BROKER_URL", "amqp://rabbit//")
    assert env.celery_broker_url() == "amqp://rabbit//"


def test_a_path_too_long_for_a_socket_leads_to_a_private_temporary_folder(
    var: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("JOBS_VAR", str(var / ("long" * 30)))
    monkeypatch.setenv("TMPDIR", "/tmp")
    path = env.broker_socket()
    try:
        assert path.parent.parent == Path("/tmp")
        assert len(os.fsencode(path)) <= env.LONGEST_SOCKET_PATH
        assert stat.S_IMODE(path.parent.stat().st_mode) == 0o700
        assert env.broker_socket() == path
        path.parent.chmod(0o755)
        with pytest.raises(Problem, match="not a private folder"):
            env.broker_socket()
    finally:
        path.parent.rmdir()


def test_processes_that_start_at_once_agree_on_the_secret_key(var: Path) -> None:
    command = [sys.executable, "-c", "from config import env; print(env.secret_key())"]
    rivals = [
        subprocess.Popen(command, stdout=subprocess.PIPE, text=True, cwd=env.BASE_DIR)
        for _ in range(6)
    ]
    keys = {rival.communicate()[0].strip() for rival in rivals}
    assert keys == {env.secret_key()}
    assert len(env.secret_key()) > 50
    assert [path.name for path in var.iterdir()] == ["secret_key"]
    assert stat.S_IMODE((var / "secret_key").stat().st_mode) == 0o600


@pytest.mark.parametrize(
    ("url", "host", "expected"),
    [
        ("http://127.0.0.1:8000/x", "localhost", "http://localhost:8000/x"),
        ("http://localhost:8000/x", "127.0.0.1", "http://127.0.0.1:8000/x"),
        ("http://127.0.0.1:8000/x", "::1", "http://[::1]:8000/x"),
        ("http://127.0.0.1:8000/x", "evil.example", "http://127.0.0.1:8000/x"),
        ("https://jobs.example.com/x", "localhost", "https://jobs.example.com/x"),
    ],
)
def test_links_between_admin_and_flower_keep_the_loopback_name(
    url: str, host: str, expected: str
) -> None:
    assert env.beside(url, host) == expected


def test_the_bundled_broker_is_a_program() -> None:
    assert os.access(broker.binary_path(), os.X_OK)


def test_a_broker_left_behind_is_stopped_and_its_socket_removed(var: Path) -> None:
    path = env.broker_socket()
    left = subprocess.Popen(broker.command(path, var), stdout=subprocess.DEVNULL)
    try:
        wait_for(lambda: broker.ping(path))
        broker.clear(path)
        assert left.wait(timeout=10) == 0
        assert not path.exists()
    finally:
        left.kill()
        left.wait()


def test_a_socket_without_a_server_is_removed(var: Path) -> None:
    path = env.broker_socket()
    path.touch()
    broker.clear(path)
    assert not path.exists()
