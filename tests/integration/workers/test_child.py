"""External processes: real ones."""

from __future__ import annotations

import os
import sys
import textwrap
import time
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path

import pytest

from scheduling.limits import Limits
from tests.waiting import wait_for
from workers.child import Cut, Ended, run_child
from workers.output import HeadTail

FOREVER = timedelta(minutes=1)


class Runner:
    """Runs a piece of Python as an external process and keeps what it wrote."""

    def __init__(self, folder: Path) -> None:
        self.folder = folder
        self.output = HeadTail(1000, 500)

    def run(
        self,
        code: str,
        *,
        soft: float = 60,
        hard: float = 60,
        grace: float = 60,
        should_stop: Callable[[], bool] = lambda: False,
        must_die: Callable[[], bool] = lambda: False,
    ) -> Ended:
        return run_child(
            [sys.executable, "-u", "-c", textwrap.dedent(code)],
            environ={"PATH": os.environ["PATH"], "SEEN": "1"},
            folder=self.folder,
            limits=Limits(soft=timedelta(seconds=soft), hard=timedelta(seconds=hard)),
            grace=timedelta(seconds=grace),
            should_stop=should_stop,
            must_die=must_die,
            output=self.output,
        )

    def pids(self) -> list[int]:
        return [int(line) for line in (self.folder / "pids").read_text().split()]


@pytest.fixture
def child(tmp_path: Path) -> Runner:
    return Runner(tmp_path)


def is_alive(pid: int) -> bool:
    try:
        return Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] != "Z"
    except FileNotFoundError:
        return False


def test_output_exit_code_folder_and_environment(child: Runner) -> None:
    ended = child.run(
        """
        import os, sys
        print(os.getcwd(), sorted(set(os.environ) - {"LC_CTYPE"}), repr(sys.stdin.read()))
        print("to stderr", file=sys.stderr)
        sys.exit(2)
        """
    )
    assert ended == Ended(exit_code=2, cut=None)
    assert child.output.text() == f"{child.folder} ['PATH', 'SEEN'] ''\nto stderr\n"


def test_it_has_a_session_of_its_own(child: Runner) -> None:
    child.run("import os; print(os.getsid(0) == os.getpid() == os.getpgid(0))")
    assert child.output.text() == "True\n"


def test_at_the_soft_limit_it_is_told_to_end_and_its_output_is_kept(child: Runner) -> None:
    began = time.monotonic()
    ended = child.run("from time import sleep; print('begun'); sleep(60)", soft=0.7, hard=60)
    assert ended == Ended(exit_code=-15, cut=Cut.SOFT_LIMIT)
    assert time.monotonic() - began < 5
    assert child.output.text() == "begun\n"


def test_at_the_hard_limit_the_whole_group_is_killed(child: Runner) -> None:
    ended = child.run(
        """
        import os, signal
        from time import sleep
        signal.signal(signal.SIGTERM, signal.SIG_IGN)
        for _ in range(2):
            if os.fork():
                break
        with open("pids", "a") as file:
            file.write(f"{os.getpid()}\\n")
        sleep(60)
        """,
        soft=1,
        hard=1.5,
    )
    assert ended == Ended(exit_code=-9, cut=Cut.HARD_LIMIT)
    assert len(child.pids()) == 3
    wait_for(lambda: not any(map(is_alive, child.pids())), timeout=5)


def test_what_a_process_leaves_behind_in_its_group_is_killed(child: Runner) -> None:
    ended = child.run(
        """
        import os, signal
        from time import sleep
        if os.fork() == 0:
            signal.signal(signal.SIGTERM, signal.SIG_IGN)
            with open("pids", "w") as file:
                file.write(str(os.getpid()))
            sleep(60)
        while not os.path.exists("pids") or not open("pids").read():
            sleep(0.01)
        """
    )
    assert ended == Ended(exit_code=0, cut=None)
    wait_for(lambda: not is_alive(child.pids()[0]), timeout=5)


def test_a_daemon_that_holds_the_output_open_holds_up_nobody(child: Runner) -> None:
    began = time.monotonic()
    ended = child.run(
        """
        import os
        from time import sleep
        if os.fork() == 0:
            os.setsid()
            with open("pids", "w") as file:
                file.write(str(os.getpid()))
            sleep(30)
        while not os.path.exists("pids") or not open("pids").read():
            sleep(0.01)
        """
    )
    os.kill(child.pids()[0], 9)
    assert ended.exit_code == 0
    assert time.monotonic() - began < 10


def test_asked_to_stop_it_gets_term_then_grace_then_kill(child: Runner) -> None:
    began = time.monotonic()
    ended = child.run(
        """
        import signal
        from time import sleep
        signal.signal(signal.SIGTERM, lambda *_: print("told"))
        print("ready")
        while True:
            sleep(0.1)
        """,
        should_stop=lambda: child.output.total >= len("ready\n"),
        grace=0.5,
    )
    assert ended == Ended(exit_code=-9, cut=Cut.STOPPED)
    assert child.output.text() == "ready\ntold\n"
    assert time.monotonic() - began < 10


def test_one_that_is_to_die_is_killed_without_grace(child: Runner) -> None:
    ended = child.run(
        """
        import signal
        from time import sleep
        signal.signal(signal.SIGTERM, lambda *_: print("told"))
        print("ready")
        while True:
            sleep(0.1)
        """,
        must_die=lambda: child.output.total >= len("ready\n"),
    )
    assert ended == Ended(exit_code=-9, cut=Cut.TERMINATED)
    assert child.output.text() == "ready\n"


def test_one_that_heeds_the_wish_to_stop_ends_by_itself(child: Runner) -> None:
    ended = child.run(
        """
        import signal, sys
        from time import sleep
        signal.signal(signal.SIGTERM, lambda *_: sys.exit(0))
        print("ready")
        sleep(60)
        """,
        should_stop=lambda: child.output.total >= len("ready\n"),
    )
    assert ended == Ended(exit_code=0, cut=Cut.STOPPED)


def test_a_flood_is_read_within_bounds(child: Runner) -> None:
    ended = child.run(
        """
        import sys
        sys.stdout.write("HEAD")
        for _ in range(300):
            sys.stdout.write("x" * 100_000)
        sys.stdout.write("TAIL")
        """
    )
    assert ended.exit_code == 0
    assert child.output.total == 30_000_008
    text = child.output.text()
    assert text.startswith("HEADxxx")
    assert text.endswith("xxxTAIL")
    assert "29,999,008 bytes left out" in text


def test_one_that_closes_its_output_is_still_waited_for(child: Runner) -> None:
    ended = child.run(
        """
        import os, sys
        from time import sleep
        os.close(1)
        os.close(2)
        sleep(0.5)
        os._exit(4)
        """
    )
    assert ended == Ended(exit_code=4, cut=None)


def test_a_program_that_is_missing_is_a_failure_with_a_message(tmp_path: Path) -> None:
    output = HeadTail(1000, 500)
    ended = run_child(
        ["/nonexistent/program"],
        environ={},
        folder=tmp_path,
        limits=Limits(soft=FOREVER, hard=FOREVER),
        grace=FOREVER,
        should_stop=lambda: False,
        must_die=lambda: False,
        output=output,
    )
    assert ended.exit_code == 1
    assert "/nonexistent/program" in output.text()


@pytest.mark.skipif(sys.platform != "linux", reason="only Linux ends a process with its parent")
def test_it_dies_with_its_worker(tmp_path: Path) -> None:
    """The worker is a process of its own here, and is killed while its child sleeps."""
    if (worker := os.fork()) == 0:
        try:
            Runner(tmp_path).run(
                """
                import os
                from time import sleep
                with open("pids", "w") as file:
                    file.write(str(os.getpid()))
                sleep(60)
                """
            )
        finally:
            os._exit(0)
    pids = tmp_path / "pids"
    wait_for(lambda: pids.exists() and pids.read_text())
    os.kill(worker, 9)
    os.waitpid(worker, 0)
    wait_for(lambda: not is_alive(int(pids.read_text())), timeout=5)
