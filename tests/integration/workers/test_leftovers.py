"""Processes that nobody owns any more: found by their environment, judged by the database."""

from __future__ import annotations

import os
import signal
import subprocess
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any
from uuid import UUID, uuid4

import pytest
from django.db import OperationalError

from scheduling.models import Run, State
from tests.factories import make_job, make_run, make_target
from tests.integration.workers.conftest import Deliver
from tests.integration.workers.externals import is_alive, parent_of
from tests.waiting import wait_for
from workers import leftovers

pytestmark = pytest.mark.django_db(transaction=True)

Leave = Callable[..., int]


@pytest.fixture
def leave() -> Iterator[Leave]:
    """Give a function that leaves a process behind, as if by an attempt of a run."""
    left: list[subprocess.Popen[bytes]] = []

    def leave(run_id: UUID, attempt: int = 1, *, mark: str | None = None) -> int:
        environ = {
            "RUN_ID": str(run_id),
            "ATTEMPT": str(attempt),
            leftovers.MARK: leftovers.mark() if mark is None else mark,
        }
        left.append(subprocess.Popen(["/bin/sleep", "1000"], env=environ))
        wait_for(lambda: Path(f"/proc/{left[-1].pid}/comm").read_text() == "sleep\n")
        return left[-1].pid

    yield leave
    for process in left:
        process.kill()
        process.wait()


@pytest.mark.parametrize(
    ("state", "attempt", "is_killed"),
    [
        (State.RUNNING, 2, False),
        (State.RUNNING, 1, True),  # another attempt runs
        (State.QUEUED, 1, True),
        (State.QUEUED, 2, False),  # the database may be an older one by now
        (State.FAILED, 3, False),
        (State.SUCCEEDED, 2, True),
        (State.FAILED, 2, True),
    ],
)
def test_what_is_over_is_killed(leave: Leave, state: State, attempt: int, is_killed: bool) -> None:
    run = make_run(make_target(make_job()), state=state, attempt=2)
    pid = leave(run.pk, attempt)
    assert leftovers.sweep() == int(is_killed)
    wait_for(lambda: is_alive(pid) is not is_killed)


def test_a_run_that_nobody_knows_is_left_alone(leave: Leave) -> None:
    pid = leave(uuid4())
    assert leftovers.sweep() == 0
    assert is_alive(pid)


def test_another_installations_run_is_left_alone(leave: Leave) -> None:
    """Its database may be a copy of ours."""
    run = make_run(make_target(make_job()), state=State.SUCCEEDED)
    pid = leave(run.pk, mark="another")
    assert leftovers.sweep() == 0
    assert is_alive(pid)


def test_nothing_is_killed_while_the_database_does_not_answer(
    leave: Leave, monkeypatch: pytest.MonkeyPatch
) -> None:
    run = make_run(make_target(make_job()), state=State.SUCCEEDED)
    pid = leave(run.pk)

    def fail(*args: Any, **kwargs: Any) -> Any:
        raise OperationalError

    with monkeypatch.context() as away:
        away.setattr(Run.objects, "filter", fail)
        with pytest.raises(OperationalError):
            leftovers.sweep()
    assert is_alive(pid)
    assert leftovers.sweep() == 1


def test_what_a_leftover_has_started_goes_with_it(tmp_path: Path) -> None:
    run = make_run(make_target(make_job()), state=State.SUCCEEDED)
    pids = tmp_path / "pids"
    parent = subprocess.Popen(
        ["/bin/sh", "-c", f"env -i /bin/sleep 1000 & echo $! > {pids}; wait"],
        env={"RUN_ID": str(run.pk), "ATTEMPT": "1", leftovers.MARK: leftovers.mark()},
    )
    wait_for(lambda: pids.exists() and pids.read_text().strip())
    child = int(pids.read_text())
    wait_for(lambda: Path(f"/proc/{child}/environ").read_bytes() == b"")
    leftovers.sweep()
    wait_for(lambda: not is_alive(child))
    parent.wait()


@pytest.mark.usefixtures("way")
@pytest.mark.parametrize("reruns", [False, True])
def test_a_run_whose_shepherd_is_killed_is_lost_and_nothing_is_left_of_it(
    deliver: Deliver, tmp_path: Path, settings: Any, monkeypatch: pytest.MonkeyPatch, reruns: bool
) -> None:
    settings.JOBS_PROGRAMS = (str(tmp_path / "*"),)
    program = tmp_path / "family"
    program.write_text(
        f"#!/bin/sh\nsetsid sleep 1000 & echo $! > {tmp_path}/daemon\n"
        f"echo $$ > {tmp_path}/pid\nsleep 1000\n"
    )
    program.chmod(0o755)
    run = make_run(make_target(make_job(kind="argv", command=str(program), rerun_if_lost=reruns)))

    def kill_shepherd(*_: Any) -> bool:
        pid = tmp_path / "pid"
        if pid.exists() and pid.read_text() and is_alive(int(pid.read_text())):
            os.kill(parent_of(int(pid.read_text())), signal.SIGKILL)
        return False

    monkeypatch.setattr("workers.open_run.OpenRun.should_stop", kill_shepherd)
    after = deliver(run, name="workers.commands.run_command")
    expected = (State.QUEUED, "lost", 2) if reruns else (State.FAILED, "lost", 1)
    assert (after.state, after.reason, after.attempt) == expected
    pids = [int((tmp_path / name).read_text()) for name in ("pid", "daemon")]
    wait_for(lambda: not any(map(is_alive, pids)), timeout=5)
