"""Management commands as external runs: `python manage.py NAME`, and called in a warm process.

The same is expected of both.
"""

from __future__ import annotations

import json
import os
import socket
import sys
import tempfile
import textwrap
from collections.abc import Callable
from pathlib import Path
from typing import Any

import pytest

from tests.integration.workers.externals import ROOT, Runner, Wishes, make_order, parent_of
from tests.waiting import wait_for
from workers import child, warm
from workers.orders import Channel, Cut, Ended
from workers.output import HeadTail

Manage = Callable[..., Ended]
SECRET = "correct-horse-battery-staple"


@pytest.fixture
def manage(runner: Runner) -> Manage:
    """Give a function that runs a management command."""

    def manage(*call: str, wishes: Wishes | None = None, **changes: Any) -> Ended:
        words = [sys.executable, str(ROOT / "manage.py"), *call]
        environ = {**os.environ, "PYTHONUNBUFFERED": "1"}
        order = make_order(words, **{"call": list(call), "environ": environ} | changes)
        return child.run_child(order, wishes or Wishes(), runner.output)

    return manage


@pytest.fixture
def execute(manage: Manage) -> Manage:
    """Give a function that runs a piece of Python as a management command."""

    def execute(code: str, *words: str, **changes: Any) -> Ended:
        return manage("execute", textwrap.dedent(code), *words, **changes)

    return execute


@pytest.mark.parametrize(
    ("code", "exit_code", "said"),
    [
        ("command.stdout.write('fine')", 0, "fine\n"),
        ("sys.exit(0)", 0, ""),
        ("sys.exit(5)", 5, ""),
        ("sys.exit('no disk')", 1, "no disk\n"),
        (
            "from django.core.management import CommandError; raise CommandError('not today')",
            1,
            "CommandError: not today\n",
        ),
        (
            "from django.core.management import CommandError as E; raise E('x', returncode=3)",
            3,
            "CommandError: x\n",
        ),
        ("import os; os._exit(7)", 7, ""),
        ("import os, signal; os.kill(os.getpid(), signal.SIGTERM)", -15, ""),
    ],
)
def test_how_it_ends(execute: Manage, runner: Runner, code: str, exit_code: int, said: str) -> None:
    assert execute(code) == Ended(exit_code=exit_code, cut=None)
    assert runner.text() == said


def test_an_error_leaves_its_traceback(execute: Manage, runner: Runner) -> None:
    assert execute("raise ValueError('boom')") == Ended(exit_code=1, cut=None)
    assert runner.text().startswith("Traceback (most recent call last):\n")
    assert runner.text().endswith("ValueError: boom\n")


def test_wrong_options_are_refused_by_the_parser(manage: Manage, runner: Runner) -> None:
    assert manage("execute", "pass", "--nonesuch").exit_code == 2
    assert "manage.py execute: error: unrecognized arguments: --nonesuch" in runner.text()


def test_an_unknown_command_is_named(manage: Manage, runner: Runner) -> None:
    assert manage("nonesuch").exit_code == 1
    assert runner.text().startswith("Unknown command: 'nonesuch'")


def test_its_words_arrive_as_they_are(execute: Manage, runner: Runner) -> None:
    words = ["; id", "$(id)", "two words", "-x", "line\nbreak", "caf\u00e9"]
    execute("import json; print(json.dumps(words))", *(f"--word={word}" for word in words))
    assert json.loads(runner.text()) == words


def test_whatever_way_it_writes_is_kept_in_order(execute: Manage, runner: Runner) -> None:
    execute(
        """
        import logging, os, subprocess
        print("printed", end=" ")
        command.stdout.write("by the command", ending=" ")
        command.stderr.write("its errors", ending=" ")
        os.write(1, b"raw ")
        subprocess.run(["echo", "-n", "a child"])
        sys.__stdout__.write(" caf\u00e9")
        """
    )
    assert runner.text() == "printed by the command its errors raw a child caf\u00e9"


def test_what_it_had_printed_when_it_was_killed_is_kept(execute: Manage, runner: Runner) -> None:
    ended = execute(
        "import signal; print('begun', end=''); signal.pause()",
        wishes=Wishes(die=lambda: runner.output.total > 0),
    )
    assert (ended.cut, runner.text()) == (Cut.TERMINATED, "begun")


def test_it_ends_as_an_interpreter_does(execute: Manage, runner: Runner) -> None:
    execute(
        """
        import atexit, threading
        from time import sleep
        atexit.register(print, "at exit")
        threading.Thread(target=lambda: (sleep(0.3), print("thread"))).start()
        print("handled")
        """
    )
    assert runner.text() == "handled\nthread\nat exit\n"


def test_it_sees_its_own_environment_and_what_the_project_sets(
    execute: Manage, runner: Runner
) -> None:
    runner.output = HeadTail(100_000, 50_000)
    names = ("PATH", "DJANGO_SETTINGS_MODULE", "JOBS_TEST_FOLDER", "JOBS_TEST_DB")
    environ = {name: os.environ[name] for name in names if name in os.environ} | {"RUN_ID": "7"}
    execute(
        """
        import json, os, subprocess
        child = subprocess.run(["env", "-0"], stdout=subprocess.PIPE).stdout.decode()
        print(json.dumps([dict(os.environ), child.split("\\0")[:-1]]))
        """,
        environ=environ,
    )
    ours, childs = json.loads(runner.text())
    assert dict(line.split("=", 1) for line in childs) == ours
    # Django sets TZ by TIME_ZONE, the project two more; an interpreter may set LC_CTYPE.
    set_besides = {"TZ", "FLOWER_CONF", "JOBS_VAR", "LC_CTYPE"}
    assert {name: value for name, value in ours.items() if name not in set_besides} == environ
    assert ours.keys() >= {"TZ", "JOBS_VAR"}


def test_it_is_alone_in_its_process(execute: Manage, runner: Runner) -> None:
    execute(
        """
        import os, threading
        from django.db import connection
        print(os.getsid(0) == os.getpid() == os.getpgid(0), threading.active_count())
        print(sorted(os.listdir("/proc/self/fd"))[:3], os.readlink("/proc/self/fd/0"))
        print(len([fd for fd in os.listdir("/proc/self/fd") if os.path.exists(f"/dev/fd/{fd}")]))
        print(connection.connection)
        """
    )
    assert runner.text() == "True 1\n['0', '1', '2'] /dev/null\n3\nNone\n"


def test_signals_are_as_an_interpreter_has_them(execute: Manage, runner: Runner) -> None:
    execute("print(*open('/proc/self/status').read().partition('SigBlk')[2].split()[1:6:2])")
    # It blocks none, ignores SIGPIPE and SIGXFSZ, and catches SIGINT.
    assert runner.text().split() == ["0" * 16, "0000000001001000", "0000000000000002"]


def test_two_of_them_draw_different_random_numbers(execute: Manage, runner: Runner) -> None:
    for _ in range(2):
        execute("import random, uuid; print(random.random(), uuid.uuid4())")
    assert len(set(runner.text().split())) == 4


# --- warm processes only --------------------------------------------------------------------------


@pytest.fixture
def door(monkeypatch: pytest.MonkeyPatch) -> Any:
    """Give a function that opens a door with these variables besides."""
    doors: list[warm.Door] = []

    def door(**environ: str) -> warm.Door:
        doors.append(warm.Door(lambda: {**os.environ, **environ}, ROOT))
        monkeypatch.setattr(warm, "_door", doors[-1])
        return doors[-1]

    yield door
    for each in doors:
        each.close()


def test_in_proc_a_run_shows_what_it_is_and_nobody_shows_secrets(door: Any, tmp_path: Path) -> None:
    opened = door(EMAIL_URL=f"consolemail://{SECRET}@mail")
    runner = Runner(tmp_path)
    seen: dict[str, bytes] = {}

    def look() -> bool:
        if runner.output.total and not seen:
            job = int(runner.text())
            family = {"job": job, "shepherd": parent_of(job), "warm": opened.process.pid}
            for name, pid in family.items():
                for file in ("environ", "cmdline"):
                    seen[f"{name} {file}"] = Path(f"/proc/{pid}/{file}").read_bytes()
        return bool(seen)

    shown = {"RUN_ID": "7", "ATTEMPT": "2", "JOBS_INSTALLATION": "mark"}
    code = (
        "import os, signal; assert 'correct' in os.environ['EMAIL_URL'];"
        "print(os.getpid(), flush=True); signal.pause()"
    )
    order = make_order(
        [sys.executable, "-c", "raise SystemExit(9)"],
        call=["execute", code],
        environ={**os.environ, "EMAIL_URL": f"consolemail://{SECRET}@mail", **shown},
    )
    ended = child.run_child(order, Wishes(die=look), runner.output)
    assert ended.cut is Cut.TERMINATED, runner.text()
    block = seen["job environ"].rstrip(b"\0").decode()
    assert dict(line.split("=") for line in block.split("\0")) == shown
    assert {name for name, text in seen.items() if SECRET.encode() in text} == set()


def test_where_django_cannot_be_warm_runs_start_fresh(door: Any, tmp_path: Path) -> None:
    opened = door(DJANGO_SETTINGS_MODULE="tests.integration.workers.threaded_settings")
    runner = Runner(tmp_path)
    for _ in range(2):
        assert runner.sh("echo ran").exit_code == 0
    assert runner.text() == "ran\nran\n"
    assert opened.process.wait(5) == warm.CANNOT


def test_a_setting_keeps_runs_from_warm_starts(door: Any, tmp_path: Path, settings: Any) -> None:
    settings.JOBS_WARM_START = False
    opened = door()
    assert Runner(tmp_path).sh("exit 4").exit_code == 4
    assert opened.process is None


@pytest.mark.skipif(os.geteuid() != 0, reason="only root may become somebody else")
def test_another_user_gets_no_shepherd(warm_door: warm.Door, tmp_path: Path) -> None:
    # The folder alone keeps others out; without that, the warm process itself does.
    warm_door.path.parent.chmod(0o711)
    warm_door.path.chmod(0o777)
    reader, writer = os.pipe()
    if (stranger := os.fork()) == 0:
        try:
            os.setgid(65534)
            os.setuid(65534)
            with socket.socket(socket.AF_UNIX) as end:
                end.connect(str(warm_door.path))
                os.write(writer, b"let in" if Channel(end).wait_for() else b"turned away")
        finally:
            os._exit(0)
    os.close(writer)
    os.waitpid(stranger, 0)
    with open(reader, encoding="utf-8") as answer:
        assert answer.read() == "turned away"
    warm_door.path.parent.chmod(0o700)


def test_the_door_of_a_killed_worker_is_taken_away_by_the_next(door: Any) -> None:
    """Nobody had knocked, so that there was no warm process to do it."""
    if (worker := os.fork()) == 0:
        warm.Door(dict, ROOT)
        os._exit(0)
    os.waitpid(worker, 0)
    folders = f"{warm.own_prefix()}{worker}-*"
    assert len(list(Path(tempfile.gettempdir()).glob(folders))) == 1
    opened = door()
    assert list(Path(tempfile.gettempdir()).glob(folders)) == []
    assert opened.path.exists()


def folders_of_doors() -> list[Path]:
    return [] if warm._door is None else [warm._door.path.parent]


def test_a_door_opens_with_the_worker_and_closes_with_it(settings: Any) -> None:
    settings.JOBS_WARM_START = False
    warm.open_door(dict, ROOT)
    assert not folders_of_doors()
    settings.JOBS_WARM_START = True
    warm.open_door(dict, ROOT)
    (folder,) = folders_of_doors()
    assert folder.stat().st_mode & 0o777 == 0o700
    warm.close_door()
    assert not folder.exists()
    assert warm.shepherd() is None


def test_a_warm_process_ends_with_its_worker(tmp_path: Path) -> None:
    if (worker := os.fork()) == 0:
        try:
            door = warm.Door(lambda: dict(os.environ), ROOT)
            warm._door = door
            Runner(tmp_path).run(["/bin/true"])
            assert door.process is not None
            (tmp_path / "warm").write_text(f"{door.process.pid} {door.path}")
            Runner(tmp_path).sh("echo $$ > pids; sleep 1000")
        finally:
            os._exit(0)
    runner = Runner(tmp_path)
    wait_for(runner.pids)
    pid, path = (tmp_path / "warm").read_text().split()
    os.kill(worker, 9)
    os.waitpid(worker, 0)
    wait_for(lambda: not runner.alive())
    wait_for(lambda: not Path(f"/proc/{pid}/cmdline").exists())
    assert not Path(path).parent.exists()
