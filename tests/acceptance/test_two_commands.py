"""A newcomer's first minutes: a fresh copy, an empty HOME, `python3 -m config run`, and Ctrl-C."""

from __future__ import annotations

import os
import re
import shutil
import signal
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest

from tests.acceptance.web import Browser, free_ports
from tests.waiting import wait_for

pytestmark = [pytest.mark.acceptance, pytest.mark.timeout(300)]

ROOT = Path(__file__).resolve().parents[2]
NOT_IN_A_CLONE = (".git", ".venv", "var", "*.egg-info", "__pycache__", ".*_cache", ".hypothesis")
PASSWORD = "correct-horse-7"
SECOND_START = 5.0


class Copy:
    """A copy of the project that nobody has started yet, and an empty HOME."""

    def __init__(self, folder: Path) -> None:
        self.root = folder / "a copy"
        self.home = folder / "home"
        self.home.mkdir()
        shutil.copytree(ROOT, self.root, ignore=shutil.ignore_patterns(*NOT_IN_A_CLONE))
        self.web, self.flower = free_ports(2)

    def command(self, *arguments: str, **environ: str) -> subprocess.Popen[str]:
        # The Python below any virtual environment that runs this test.
        python = Path(sys.base_prefix) / "bin" / "python3"
        path = os.pathsep.join((str(python.parent), "/usr/local/bin", "/usr/bin", "/bin"))
        return subprocess.Popen(
            [str(python), "-m", "config", *arguments],
            cwd=self.root,
            env={"HOME": str(self.home), "PATH": path, **environ},
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=subprocess.STDOUT,
            text=True,
        )

    def run(self, **environ: str) -> subprocess.Popen[str]:
        ports = ("--web-port", str(self.web), "--flower-port", str(self.flower))
        return self.command("run", *ports, **environ)

    def processes(self) -> list[psutil.Process]:
        """Return what still runs out of this copy."""
        return [
            process
            for process in psutil.process_iter(["cwd", "status"])
            if process.info["cwd"] and Path(process.info["cwd"]).is_relative_to(self.root)
            if process.info["status"] != psutil.STATUS_ZOMBIE
        ]


class Running:
    def __init__(self, copy: Copy) -> None:
        self.copy = copy
        self.process = copy.run(JOBS_ADMIN_PASSWORD=PASSWORD)
        assert self.process.stdout is not None
        lines: list[str] = []
        for line in self.process.stdout:
            lines.append(line)
            if "Ctrl-C stops everything" in line:
                break
        self.said = "".join(lines)
        assert "Ready after" in self.said, self.said

    def seconds(self) -> float:
        found = re.search(r"Ready after ([\d.]+) s", self.said)
        assert found is not None
        return float(found[1])

    def stop(self) -> str:
        """Press Ctrl-C as a terminal does, and return what was said since."""
        self.process.send_signal(signal.SIGINT)
        said, _ = self.process.communicate(timeout=90)
        return said


@pytest.fixture(scope="module")
def copy(tmp_path_factory: pytest.TempPathFactory) -> Copy:
    return Copy(tmp_path_factory.mktemp("newcomer"))


@pytest.fixture
def running(copy: Copy) -> Iterator[Running]:
    running = Running(copy)
    yield running
    if running.process.poll() is None:
        running.process.kill()
        running.process.communicate()
    wait_for(lambda: not copy.processes(), timeout=15, message=lambda: copy.processes())


def test_it_starts_says_where_everything_is_and_stops_in_order(running: Running) -> None:
    copy = running.copy
    for text in (
        f"Admin   http://127.0.0.1:{copy.web}/admin/",
        f"Flower  http://127.0.0.1:{copy.flower}/",
        f"State   {copy.root}/var",
    ):
        assert text in running.said
    assert Browser().ask(f"http://127.0.0.1:{copy.web}/admin/login/") == (200, "")
    said = running.stop()
    assert running.process.returncode == 0
    assert re.findall(r"Stopping (\w+)", said) == [
        "beat",
        "web",
        "services",
        "worker",
        "flower",
        "broker",
    ]
    assert "Traceback" not in said
    assert copy.processes() == []


def test_a_second_start_takes_seconds(copy: Copy) -> None:
    Running(copy).stop()
    seconds: list[float] = []
    # The best of three, since the machine may be busy with other tests.
    while len(seconds) < 3 and min(seconds, default=SECOND_START) >= SECOND_START:
        again = Running(copy)
        again.stop()
        seconds.append(again.seconds())
        assert "Log in as" not in again.said
    assert min(seconds) < SECOND_START


def test_a_second_copy_and_a_taken_port_are_refused_in_a_sentence(
    running: Running, tmp_path: Path
) -> None:
    second = running.copy.run()
    said, _ = second.communicate(timeout=60)
    assert second.returncode == 1
    assert re.fullmatch(r"config run: Beatkeeper runs already \(process \d+\).*\n", said)

    elsewhere = running.copy.run(JOBS_VAR=str(tmp_path))
    said, _ = elsewhere.communicate(timeout=60)
    assert elsewhere.returncode == 1
    assert re.fullmatch(rf"config run: Port {running.copy.web} .* is taken .*--web-port.*\n", said)


def test_killed_it_leaves_nothing_behind(running: Running) -> None:
    running.process.kill()
    running.process.communicate()
    wait_for(lambda: not running.copy.processes(), timeout=15)


def test_flower_opens_only_to_those_logged_in_to_the_admin(running: Running) -> None:
    admin = f"http://127.0.0.1:{running.copy.web}/admin"
    flower = f"http://127.0.0.1:{running.copy.flower}"
    login = f"{admin}/login/?next=/flower/"
    pages = ("/", "/workers", "/tasks", "/broker", "/metrics", "/nothing")
    browser = Browser()

    def answers() -> set[tuple[int, str]]:
        return {browser.ask(flower + page) for page in pages}

    assert answers() == {(302, login)}
    assert browser.ask(f"{flower}/api/workers") == (401, "")
    assert browser.ask(f"{flower}/healthcheck") == (200, "")

    browser.ask(login)
    credentials = {"username": "admin", "password": PASSWORD, "next": "/flower/"}
    assert browser.post(login, **credentials) == (302, "/flower/")
    assert browser.ask(f"http://127.0.0.1:{running.copy.web}/flower/") == (302, flower)
    assert {status for status, _ in answers()} == {200, 404}
    assert browser.ask(f"{flower}/api/workers") == (200, "")
    # Without Flower's own token, as from another site's form.
    assert browser.ask(f"{flower}/api/worker/shutdown/x", {})[0] == 403

    assert browser.post(f"{admin}/logout/")[0] in (200, 302)
    assert answers() == {(302, login)}


@pytest.mark.soak
def test_the_second_command_sets_itself_up(copy: Copy) -> None:
    tests = copy.command("test", "tests/unit/test_compose.py", "-q")
    said, _ = tests.communicate(timeout=200)
    assert tests.returncode == 0, said
    assert "All passed: pytest." in said
