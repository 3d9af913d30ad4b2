"""`python -m config run`: everything on this machine, until Ctrl-C. Standard library only."""

from __future__ import annotations

import errno
import fcntl
import json
import os
import socket
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from config import broker, env
from config.problem import Problem
from config.supervisor import Log, Service, Supervisor, read_procfile

BROKER_TIMEOUT = 20.0
READY_TIMEOUT = 60.0


def run() -> int:
    """Run the whole installation and return 0 after an orderly stop.

    1. Refuse if another copy runs here or a port is taken.
    2. Start the embedded broker, unless REDIS_URL names another.
    3. Migrate, collect static files, make the first admin user.
    4. Start the Procfile's lines, say where everything is, and look after them until a signal.
    5. Stop beat, web, both workers (which finish what they run), Flower and the broker, in order.
    """
    started = time.monotonic()
    with only_copy(env.var_dir() / "run.lock"):
        check_port(env.web_port(), "--web-port")
        check_port(env.flower_port(), "--flower-port")
        supervisor = Supervisor(environ=child_environ(), log=Log())
        try:
            if env.is_broker_embedded():
                start_broker(supervisor)
            if supervisor.signals:
                return 0
            admin = prepare(supervisor)
            # Now already, and again below: this start is the only one that knows the password.
            introduce(supervisor, admin)
            for service in read_procfile(env.BASE_DIR / "Procfile"):
                supervisor.start(service)
            if supervisor.serve(until=answers, timeout=READY_TIMEOUT):
                supervisor.say(f"Ready after {time.monotonic() - started:.1f} s.")
            elif not supervisor.signals:
                supervisor.say(f"Not ready after {READY_TIMEOUT:.0f} s; the reason is above.")
            announce(supervisor, admin)
            supervisor.serve()
        finally:
            supervisor.stop()
    return 0


@contextmanager
def only_copy(path: Path) -> Iterator[None]:
    """Hold the lock of this installation; the kernel gives it back however this process ends."""
    with path.open("a+") as file:
        try:
            fcntl.flock(file, fcntl.LOCK_EX | fcntl.LOCK_NB)
        except BlockingIOError as error:
            file.seek(0)
            raise Problem(
                f"Beatkeeper runs already (process {file.read().strip()}) with its state in "
                f"{path.parent}. Stop that one, or give this one a folder of its own in JOBS_VAR."
            ) from error
        file.truncate(0)
        file.write(str(os.getpid()))
        file.flush()
        yield


def check_port(port: int, option: str) -> None:
    with socket.socket() as probe:
        # As the servers do: a port whose last connections are still closing is free.
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind(("127.0.0.1", port))
        except OSError as error:
            reason = (
                "is taken by another program" if error.errno == errno.EADDRINUSE else error.strerror
            )
            raise Problem(
                f"Port {port} on 127.0.0.1 {reason}. Choose another: "
                f"python3 -m config run {option} {port + 1}"
            ) from error


def child_environ() -> dict[str, str]:
    return os.environ | {
        "DJANGO_SETTINGS_MODULE": "config.settings",
        "PATH": f"{Path(sys.executable).parent}{os.pathsep}{os.environ.get('PATH', os.defpath)}",
        "PYTHONUNBUFFERED": "1",
    }


def start_broker(supervisor: Supervisor) -> None:
    path = env.broker_socket()
    broker.clear(path)
    supervisor.start(Service(name="broker", command=broker.command(path, env.var_dir())))
    ready = supervisor.serve(until=lambda: broker.ping(path), timeout=BROKER_TIMEOUT)
    if not ready and not supervisor.signals:
        raise Problem(f"The embedded broker does not answer on {path}; its last lines are above.")


def prepare(supervisor: Supervisor) -> dict[str, str] | None:
    """Run `config.prepare`; return the admin user it made, or None."""
    done = subprocess.run(
        [sys.executable, "-m", "config.prepare"],
        env=supervisor.environ,
        stdin=subprocess.DEVNULL,
        stdout=subprocess.PIPE,
        text=True,
        start_new_session=True,
        check=False,
    )
    if done.returncode:
        raise Problem(
            "The database and the static files could not be prepared; the reason is above."
        )
    user: dict[str, str] | None = json.loads(done.stdout)
    return user


def answers() -> bool:
    return all(is_open(port) for port in (env.web_port(), env.flower_port()))


def is_open(port: int) -> bool:
    with socket.socket() as client:
        client.settimeout(0.2)
        return client.connect_ex(("127.0.0.1", port)) == 0


def introduce(supervisor: Supervisor, admin: dict[str, str] | None) -> None:
    if admin is not None:
        supervisor.say(f"Log in as {admin['name']}, password {admin['password']}")


def announce(supervisor: Supervisor, admin: dict[str, str] | None) -> None:
    supervisor.say(f"Admin   {env.web_url()}/admin/")
    supervisor.say(f"Flower  {env.flower_url()}/ (with the admin's log-in)")
    supervisor.say(f"State   {env.var_dir()}")
    introduce(supervisor, admin)
    supervisor.say("Ctrl-C stops everything in order; running jobs finish first.")
