"""The supervisor with real processes: restarts, the order of stopping, and being killed itself."""

from __future__ import annotations

import os
import re
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path
from typing import Protocol

import psutil
import pytest

from config.supervisor import read_procfile
from tests.waiting import wait_for

ROOT = Path(__file__).resolve().parents[2]

SUPERVISOR = """
import os, sys
from pathlib import Path
from typing import Protocol
from config.supervisor import Log, Supervisor, read_procfile
supervisor = Supervisor(environ=os.environ, log=Log())
for service in read_procfile(Path(sys.argv[1])):
    supervisor.start(service)
supervisor.serve()
supervisor.stop()
"""

# A service with a child in its group; `busy`: at TERM it works on until its pipe is written to.
SERVICE = """
import os, signal, subprocess, sys
manner = sys.argv[1]
def finish(number, frame):
    if manner == "busy":
        print("finishing", flush=True)
        open(sys.argv[2]).read()
        print("finished", flush=True)
    sys.exit(0)
signal.signal(signal.SIGTERM, signal.SIG_IGN if manner == "deaf" else finish)
child = subprocess.Popen(["sleep", "1000"])
print("pids", os.getpid(), child.pid, flush=True)
while True:
    signal.pause()
"""


class Start(Protocol):
    """Start a supervisor over services of these manners, by name."""

    def __call__(self, **manners: str) -> Running: ...


class Running:
    """A supervisor on a Procfile of fake services, and all it says."""

    def __init__(self, folder: Path, manners: dict[str, str]) -> None:
        self.output = folder / "output"
        self.pipe = folder / "pipe"
        os.mkfifo(self.pipe)
        service = folder / "service.py"
        service.write_text(SERVICE)
        procfile = folder / "Procfile"
        lines = (
            f"{name}: {sys.executable} {service} {manner} {self.pipe}\n"
            for name, manner in manners.items()
        )
        procfile.write_text("".join(lines))
        with self.output.open("wb") as output:
            self.process = subprocess.Popen(
                [sys.executable, "-c", SUPERVISOR, str(procfile)],
                stdout=output,
                stderr=subprocess.STDOUT,
                cwd=ROOT,
            )
        wait_for(lambda: len(self.found(r"pids")) == len(manners), message=self.text)

    def text(self) -> str:
        return self.output.read_text()

    def found(self, pattern: str) -> list[str]:
        return re.findall(pattern, self.text())

    def wait_until_it_says(self, pattern: str) -> None:
        wait_for(lambda: self.found(pattern), message=lambda: f"{pattern} in {self.text()}")

    def service_pids(self) -> set[int]:
        return {int(pid) for line in self.found(r"pids (\d+ \d+)") for pid in line.split()}

    def pid_of(self, name: str) -> int:
        return int(self.found(rf"{name} +\| pids (\d+)")[-1])

    def wait_until_nothing_is_left(self) -> None:
        wait_for(lambda: not any(map(is_alive, self.service_pids())), message=self.text)


def is_alive(pid: int) -> bool:
    try:
        return bool(psutil.Process(pid).status() != psutil.STATUS_ZOMBIE)
    except psutil.NoSuchProcess:
        return False


@pytest.fixture
def start(tmp_path: Path) -> Iterator[Start]:
    started: list[Running] = []

    def run(**manners: str) -> Running:
        started.append(Running(tmp_path, manners))
        return started[-1]

    yield run
    for running in started:
        running.process.kill()
        running.process.wait()
        for pid in filter(is_alive, running.service_pids()):
            os.kill(pid, signal.SIGKILL)


def test_a_procfile_is_read_in_its_order_without_comments(tmp_path: Path) -> None:
    procfile = tmp_path / "Procfile"
    procfile.write_text("# web: no\nweb: gunicorn app -b 127.0.0.1:8000\n\nbeat: celery beat\n")
    assert [(service.name, service.command[-1]) for service in read_procfile(procfile)] == [
        ("web", "exec gunicorn app -b 127.0.0.1:8000"),
        ("beat", "exec celery beat"),
    ]


@pytest.mark.parametrize("number", [signal.SIGINT, signal.SIGTERM, signal.SIGHUP])
def test_services_stop_one_after_the_other_the_broker_last(
    start: Start, number: signal.Signals
) -> None:
    running = start(
        **dict.fromkeys(("broker", "flower", "worker", "services", "web", "beat"), "well")
    )
    running.process.send_signal(number)
    assert running.process.wait(timeout=10) == 0
    said = running.found(r"(?:Stopping \w+|\w+ has stopped)")
    order = ("beat", "web", "services", "worker", "flower", "broker")
    assert said == [text for name in order for text in (f"Stopping {name}", f"{name} has stopped")]
    running.wait_until_nothing_is_left()


def test_a_worker_finishes_what_it_runs_while_the_broker_is_there(start: Start) -> None:
    running = start(broker="well", worker="busy")
    running.process.send_signal(signal.SIGINT)
    running.wait_until_it_says("finishing")
    assert not running.found("Stopping broker")
    assert is_alive(running.pid_of("broker"))
    running.pipe.write_text("done")
    assert running.process.wait(timeout=10) == 0
    assert running.found(r"finished|Stopping broker") == ["finished", "Stopping broker"]


def test_a_second_signal_waits_for_nobody(start: Start) -> None:
    running = start(broker="well", worker="busy", flower="deaf")
    running.process.send_signal(signal.SIGINT)
    running.wait_until_it_says("finishing")
    running.process.send_signal(signal.SIGINT)
    assert running.process.wait(timeout=5) == 0
    running.wait_until_nothing_is_left()
    assert not running.found("finished")


def test_a_service_that_dies_is_started_again_and_its_children_are_not_left(start: Start) -> None:
    running = start(web="well")
    before = running.service_pids()
    os.kill(running.pid_of("web"), signal.SIGKILL)
    running.wait_until_it_says(r"web was killed by SIGKILL; starting it again in 1 s")
    wait_for(lambda: len(running.found("pids")) == 2, message=running.text)
    assert not any(map(is_alive, before))


def test_a_service_that_is_being_awaited_again_is_not_started_at_the_stop(start: Start) -> None:
    running = start(web="well", beat="well")
    os.kill(running.pid_of("web"), signal.SIGKILL)
    running.wait_until_it_says("starting it again")
    running.process.send_signal(signal.SIGINT)
    assert running.process.wait(timeout=10) == 0
    running.wait_until_nothing_is_left()


def test_a_killed_supervisor_leaves_nothing_behind(start: Start) -> None:
    running = start(broker="well", worker="deaf", web="well")
    running.process.kill()
    running.process.wait()
    running.wait_until_nothing_is_left()
