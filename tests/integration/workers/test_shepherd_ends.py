"""However an external run ends, nothing of it is left. Real processes, killed on purpose."""

from __future__ import annotations

import os
import signal
import socket
import sys
import time
from collections.abc import Callable
from contextlib import suppress
from dataclasses import asdict
from pathlib import Path
from typing import Any

import pytest

from tests.integration.workers.externals import (
    FAMILY,
    Runner,
    Wishes,
    is_alive,
    make_order,
    parent_of,
    state_of,
)
from tests.waiting import wait_for
from workers import process_tree, shepherd, warm
from workers.orders import Channel, Cut, Ended, boot_time

BIG = 'import signal; x = b"x" * 150_000_000; signal.pause()'

Case = Callable[[Runner], dict[str, Any]]
# case -> how the family ends, what is ordered, and how it is told
ENDS: dict[str, tuple[str, Case, Ended]] = {
    "by itself": ("exit 0", lambda r: {}, Ended(exit_code=0, cut=None)),
    "with an exit code": ("exit 3", lambda r: {}, Ended(exit_code=3, cut=None)),
    "by a signal": ("kill -KILL $$", lambda r: {}, Ended(exit_code=-9, cut=None)),
    "soft limit": ("wait", lambda r: {"soft": 0.7}, Ended(exit_code=-15, cut=Cut.SOFT_LIMIT)),
    "hard limit": (
        "trap '' TERM; wait; wait; wait",
        lambda r: {"soft": 0.7, "hard": 1},
        Ended(exit_code=-9, cut=Cut.HARD_LIMIT),
    ),
    "stop": (
        "wait",
        lambda r: {"wishes": Wishes(stop=r.has_family)},
        Ended(exit_code=-15, cut=Cut.STOPPED),
    ),
    "stop, deaf": (
        "trap '' TERM; wait; wait; wait",
        lambda r: {"wishes": Wishes(stop=r.has_family), "grace": 0.3},
        Ended(exit_code=-9, cut=Cut.STOPPED),
    ),
    "kill": (
        "wait",
        lambda r: {"wishes": Wishes(die=r.has_family)},
        Ended(exit_code=-9, cut=Cut.TERMINATED),
    ),
    "lease": (
        "wait",
        lambda r: {"wishes": lease_of(1)},
        Ended(exit_code=-9, cut=Cut.LEASE),
    ),
    "memory": (
        f"{sys.executable} -c '{BIG}' & wait",
        lambda r: {"memory": 100_000_000},
        Ended(exit_code=-9, cut=Cut.MEMORY),
    ),
}


def lease_of(seconds: float) -> Wishes:
    until = boot_time() + seconds
    return Wishes(lease=lambda: until)


@pytest.mark.parametrize("case", ENDS)
def test_nothing_is_left_of_a_family(runner: Runner, case: str) -> None:
    last, order_of, expected = ENDS[case]
    assert runner.sh(f"{FAMILY}\n{last}", **order_of(runner)) == expected
    # Not a moment later: it is told only when everything has ended.
    assert runner.has_family()
    assert runner.alive() == []


def test_one_that_heeds_the_wish_to_stop_ends_by_itself(runner: Runner) -> None:
    ended = runner.python(
        """
        import signal, sys
        signal.signal(signal.SIGTERM, lambda *_: sys.exit(print("told")))
        print("ready")
        signal.pause()
        """,
        wishes=Wishes(stop=lambda: runner.output.total > 0),
    )
    assert ended == Ended(exit_code=0, cut=Cut.STOPPED)
    assert runner.text() == "ready\ntold\n"


@pytest.mark.parametrize(("has_group", "sent"), [(True, ["killpg"]), (False, ["killpg", "kill"])])
def test_a_job_is_signalled_once(
    monkeypatch: pytest.MonkeyPatch, has_group: bool, sent: list[str]
) -> None:
    """A second TERM would kill an interpreter that is about to exit for the first."""
    calls: list[str] = []

    def killpg(job: int, number: int) -> None:
        calls.append("killpg")
        if not has_group:
            raise ProcessLookupError

    monkeypatch.setattr(os, "killpg", killpg)
    monkeypatch.setattr(os, "kill", lambda job, number: calls.append("kill"))
    shepherd.signal_group(7, signal.SIGTERM)
    assert calls == sent


def test_without_limits_it_runs_until_it_is_stopped(runner: Runner) -> None:
    ended = runner.sh(
        "echo ready; exec sleep 1000",
        soft=None,
        hard=None,
        grace=0.5,
        wishes=Wishes(stop=lambda: runner.output.total > 0),
    )
    assert ended == Ended(exit_code=-15, cut=Cut.STOPPED)


def test_a_lease_that_is_renewed_lets_it_go_on(runner: Runner) -> None:
    ended = runner.sh("sleep 2; echo done", wishes=Wishes(lease=lambda: boot_time() + 1))
    assert ended == Ended(exit_code=0, cut=None)


def test_memory_is_counted_over_all_processes(runner: Runner) -> None:
    ended = runner.python(
        """
        import os, signal
        for _ in range(2):
            os.fork()
        x = b"x" * 60_000_000
        signal.pause()
        """,
        memory=200_000_000,
    )
    assert ended == Ended(exit_code=-9, cut=Cut.MEMORY)


def test_an_error_in_the_worker_ends_it_before_it_goes_on(runner: Runner) -> None:
    class LimitReached(Exception):
        pass

    def stop() -> bool:
        if runner.has_family():
            raise LimitReached
        return False

    with pytest.raises(LimitReached):
        runner.sh(f"{FAMILY}\nwait", wishes=Wishes(stop=stop))
    assert runner.alive() == []


def test_it_ends_with_its_worker(runner: Runner) -> None:
    worker = in_another_process(lambda: runner.sh(f"{FAMILY}\nwait"))
    wait_for(runner.has_family)
    os.kill(worker, signal.SIGKILL)
    os.waitpid(worker, 0)
    runner.expect_nobody()


def test_it_ends_with_its_worker_though_a_child_of_that_holds_the_socket(runner: Runner) -> None:
    """As a pool process may have that has forked in another thread."""
    ours: list[int] = []

    def stop() -> bool:
        if runner.has_family() and not ours:
            ours.append(os.fork())
            if ours[0] == 0:
                signal.pause()
                os._exit(0)
            (runner.folder / "holder").write_text(str(ours[0]))
        return False

    worker = in_another_process(lambda: runner.sh(f"{FAMILY}\nwait", wishes=Wishes(stop=stop)))
    holder = runner.folder / "holder"
    wait_for(lambda: holder.exists() and holder.read_text())
    os.kill(worker, signal.SIGKILL)
    os.waitpid(worker, 0)
    runner.expect_nobody()
    os.kill(int(holder.read_text()), signal.SIGKILL)


def test_a_frozen_worker_loses_it_at_the_end_of_the_lease(runner: Runner) -> None:
    told = runner.folder / "told"

    def run() -> None:
        ended = runner.sh(f"{FAMILY}\nwait", wishes=Wishes(lease=lambda: boot_time() + 1.5))
        told.write_text(str(ended.cut))

    worker = in_another_process(run)
    wait_for(runner.has_family)
    os.kill(worker, signal.SIGSTOP)
    runner.expect_nobody()
    os.kill(worker, signal.SIGCONT)
    wait_for(lambda: told.exists() and told.read_text())
    os.waitpid(worker, 0)
    assert told.read_text() == "lease"


def test_after_a_sleep_of_all_of_them_it_has_lost_its_lease_at_once(runner: Runner) -> None:
    wishes = lease_of(2)
    worker = in_another_process(lambda: runner.sh(f"{FAMILY}\nwait", wishes=wishes))
    wait_for(runner.has_family)
    everybody = [worker, parent_of(runner.pids()[0]), *runner.pids()]
    for pid in everybody:
        os.kill(pid, signal.SIGSTOP)
    wait_for(lambda: all(state_of(pid) == "T" for pid in everybody))
    lapsed = boot_time() + 2
    wait_for(lambda: boot_time() > lapsed)
    for pid in everybody:
        with suppress(ProcessLookupError):  # so quick is the shepherd
            os.kill(pid, signal.SIGCONT)
    began = time.monotonic()
    runner.expect_nobody(within=1)
    assert time.monotonic() - began < 1
    os.waitpid(worker, 0)


def test_a_frozen_shepherd_whose_worker_renews_goes_on(runner: Runner) -> None:
    (runner.folder / "begun").touch()
    frozen: list[float] = []

    def stop() -> bool:
        pids = runner.pids()
        if pids and not frozen:
            frozen.append(boot_time())
            os.kill(parent_of(pids[0]), signal.SIGSTOP)
        elif frozen and boot_time() > frozen[0] + 2:
            os.kill(parent_of(pids[0]), signal.SIGCONT)
            (runner.folder / "thawed").touch()
        return False

    ended = runner.sh(
        "echo $$ > pids; until [ -e thawed ]; do sleep 0.05; done; exit 5",
        wishes=Wishes(stop=stop, lease=lambda: boot_time() + 1),
    )
    assert ended == Ended(exit_code=5, cut=None)


def test_a_killed_shepherd_takes_the_job_along_and_is_told(runner: Runner, way: str) -> None:
    def stop() -> bool:
        if runner.has_family() and is_alive(runner.pids()[0]):
            os.kill(parent_of(runner.pids()[0]), signal.SIGKILL)
        return False

    ended = runner.sh(f"{FAMILY}\nwait", wishes=Wishes(stop=stop))
    assert ended.cut is Cut.LOST
    wait_for(lambda: not is_alive(runner.pids()[0]))
    if way == "warm":
        runner.expect_nobody()  # the warm process has ended the others
        return
    assert runner.alive()  # see test_leftovers
    for pid in runner.alive():
        os.kill(pid, signal.SIGKILL)


def test_what_cannot_be_killed_is_told(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Such as root's. Here, a shepherd that may not kill but the job's own group."""
    ours, theirs = socket.socketpair()
    if (shepherd_pid := os.fork()) == 0:
        try:
            monkeypatch.setattr(process_tree, "kill_all", lambda pids: None)
            monkeypatch.setattr(shepherd, "PATIENCE", 0.2)
            shepherd.serve(theirs)
        finally:
            os._exit(0)
    runner = Runner(tmp_path)
    with ours, theirs, (tmp_path / "output").open("wb") as output:
        channel = Channel(ours)
        channel.wait_for()
        channel.send_file(output.fileno())
        leaver = "setsid sh -c 'echo $$ > pids; exec sleep 1000'"
        script = f"{leaver} & until [ -s pids ]; do sleep 0.01; done; exit 3"
        order = make_order(["/bin/sh", "-c", script], folder=str(tmp_path))
        channel.send(asdict(order))
        assert channel.wait_for() == {"ended": {"exit_code": 3, "cut": None, "left": 1}}
    os.waitpid(shepherd_pid, 0)
    for pid in runner.alive():
        os.kill(pid, signal.SIGKILL)


def test_a_killed_warm_process_ends_no_run_and_the_next_run_starts_another(
    warm_door: warm.Door, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(warm, "_door", warm_door)
    runner = Runner(tmp_path)
    killed: list[int] = []

    def stop() -> bool:
        if runner.output.total and not killed:
            assert warm_door.process is not None
            killed.append(warm_door.process.pid)
            os.kill(killed[0], signal.SIGKILL)
            (tmp_path / "killed").touch()
        return False

    ended = runner.sh(
        "echo ready; until [ -e killed ]; do sleep 0.05; done; echo done; exit 5",
        wishes=Wishes(stop=stop),
    )
    assert (ended, runner.text()) == (Ended(exit_code=5, cut=None), "ready\ndone\n")
    wait_for(lambda: not is_alive(killed[0]))
    assert runner.run(["/bin/true"]).exit_code == 0
    assert runner.run(["/bin/true"]).exit_code == 0
    assert warm_door.process is not None
    assert warm_door.process.pid != killed[0]
    assert is_alive(warm_door.process.pid)


def in_another_process(act: Callable[[], object]) -> int:
    pid = os.fork()
    if pid == 0:
        try:
            act()
        finally:
            os._exit(0)
    return pid
