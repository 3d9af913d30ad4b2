"""External processes: what they are given, and what is told of them. Real ones."""

from __future__ import annotations

import os
import pwd
import sys
import time
from contextlib import suppress
from pathlib import Path

import pytest

from tests.integration.workers.externals import Runner, Wishes, is_alive, make_order
from tests.waiting import wait_for
from workers import job_process, process_tree
from workers.orders import Ended

WORDS = [
    "two words",
    "-x",
    "--",
    "",
    "; rm -rf x",
    "&& id",
    "|| id",
    "| id",
    "$(id)",
    "`id`",
    "${HOME}",
    "$HOME",
    "*",
    "~",
    "line\nbreak",
    "carriage\rreturn",
    "tab\there",
    "\x1b[31mred",
    "'single'",
    '"double"',
    "back\\slash",
    "> file",
    "< file",
    "!!",
    "# no comment",
    "%s",
    "caf\u00e9 \U0001f980",
    "\udcff\udcfe",
    "\x01\x7f",
]


def test_output_exit_code_folder_and_environment(runner: Runner) -> None:
    ended = runner.python(
        """
        import os, sys
        print(os.getcwd(), sorted(set(os.environ) - {"LC_CTYPE"}), repr(sys.stdin.read()))
        print("to stderr", file=sys.stderr)
        sys.exit(2)
        """,
        environ={"PATH": os.environ["PATH"], "SEEN": "1"},
    )
    assert ended == Ended(exit_code=2, cut=None)
    assert runner.text() == f"{runner.folder} ['PATH', 'SEEN'] ''\nto stderr\n"


def test_words_and_environment_arrive_byte_for_byte(runner: Runner) -> None:
    code = """if True:
        import os, sys
        words = [os.fsencode(word) for word in sys.argv[1:]]
        words += [os.environb[b"V%d" % number] for number in range(len(words))]
        open("seen", "wb").write(b"\\0".join(words))
    """
    ended = runner.run(
        [sys.executable, "-c", code, *WORDS],
        environ={f"V{number}": word for number, word in enumerate(WORDS)},
    )
    assert ended.exit_code == 0, runner.text()
    assert (runner.folder / "seen").read_bytes() == b"\0".join(map(os.fsencode, WORDS * 2))
    assert sorted(path.name for path in runner.folder.iterdir()) == ["seen"]


def test_it_has_a_session_of_its_own(runner: Runner) -> None:
    runner.python("import os; print(os.getsid(0) == os.getpid() == os.getpgid(0))")
    assert runner.text() == "True\n"


def test_it_has_no_files_but_its_input_and_outputs(runner: Runner) -> None:
    runner.sh("ls /proc/$$/fd; readlink /proc/$$/fd/0")
    assert runner.text() == "0\n1\n2\n/dev/null\n"


def test_no_signal_is_ignored_or_blocked_in_it(runner: Runner) -> None:
    runner.run(["/bin/grep", "-E", "^Sig(Blk|Ign)", "/proc/self/status"])
    assert {line.split()[1] for line in runner.text().splitlines()} == {"0" * 16}


def test_others_cannot_write_to_its_files_whatever_the_worker_was_started_with(
    runner: Runner,
) -> None:
    before = os.umask(0)
    try:
        runner.sh("umask")
    finally:
        os.umask(before)
    assert runner.text() == "0022\n"


def test_one_that_closes_its_output_is_still_waited_for(runner: Runner) -> None:
    ended = runner.sh("exec >&- 2>&-; sleep 0.5; exit 4")
    assert ended == Ended(exit_code=4, cut=None)


def test_a_program_that_is_missing_is_a_failure_with_a_message(runner: Runner) -> None:
    ended = runner.run(["/nonexistent/program"])
    assert ended.exit_code == 1
    assert runner.text() == "/nonexistent/program: No such file or directory\n"


def test_a_folder_that_is_missing_is_a_failure_with_a_message(runner: Runner) -> None:
    ended = runner.sh("echo ran", folder="/nonexistent/folder")
    assert ended.exit_code == 1
    assert runner.text() == "Folder '/nonexistent/folder': No such file or directory\n"


def test_a_signal_that_ends_it_is_told(runner: Runner) -> None:
    assert runner.sh("kill -ABRT $$") == Ended(exit_code=-6, cut=None)


# --- as another user ------------------------------------------------------------------------------

is_root = pytest.mark.skipif(os.geteuid() != 0, reason="only root may become somebody else")


@is_root
def test_it_runs_as_the_user_that_is_asked_for(runner: Runner) -> None:
    entry = pwd.getpwnam("nobody")
    ended = runner.sh("id -un; id -G; echo $HOME $USER; touch / 2>&1", folder="/", user="nobody")
    user, groups, home, refused = runner.text().splitlines()
    assert (user, home) == ("nobody", f"{entry.pw_dir} nobody")
    assert "0" not in groups.split()
    assert "denied" in refused
    assert ended.exit_code == 1


@is_root
def test_what_runs_as_another_user_is_ended_all_the_same(runner: Runner) -> None:
    runner.folder.chmod(0o777)
    for folder in runner.folder.parents:
        if folder.owner() == "root" and folder != Path("/tmp"):
            folder.chmod(folder.stat().st_mode | 0o011)
    runner.sh(
        "sleep 1000 & echo $! > pids; setsid sleep 1000 & echo $! >> pids; exec sleep 1000",
        user="nobody",
        wishes=Wishes(die=lambda: len(runner.pids()) == 2),
    )
    assert len(runner.pids()) == 2
    assert not any(map(is_alive, runner.pids()))


def test_nothing_runs_if_the_user_is_unknown(runner: Runner) -> None:
    ended = runner.sh("touch ran", user="no-such-user")
    assert ended.exit_code == 1
    assert "JOBS_RUN_AS names the user 'no-such-user'" in runner.text()
    assert not (runner.folder / "ran").exists()


def test_nothing_runs_if_the_worker_may_not_become_the_user() -> None:
    """In a process that has given up being root, if it was."""
    reader, writer = os.pipe()
    if (process := os.fork()) == 0:
        try:
            if os.geteuid() == 0:
                os.setgroups([])
                os.setgid(65534)
                os.setuid(65534)
            job_process.start(make_order(["/bin/echo", "ran"], user="root"), writer, None, ours=[])
            os.wait()
        finally:
            os._exit(0)
    os.close(writer)
    with open(reader, encoding="utf-8") as answer:
        assert answer.read() == (
            "Cannot run as 'root': Operation not permitted; start the worker as root, or remove "
            "JOBS_RUN_AS from the settings\n"
        )
    os.waitpid(process, 0)


# --- much output ----------------------------------------------------------------------------------


def test_a_flood_is_read_within_bounds(runner: Runner) -> None:
    ended = runner.sh("printf HEAD; head -c 30000000 /dev/zero | tr '\\0' x; printf TAIL; exit 7")
    assert ended.exit_code == 7
    assert runner.output.total == 30_000_008
    text = runner.text()
    assert text.startswith("HEADxxx")
    assert text.endswith("xxxTAIL")
    assert "29,999,008 bytes left out" in text


@pytest.mark.parametrize(
    ("script", "size"),
    [
        ("head -c 1000000000 /dev/zero", 1_000_000_000),
        ("head -c 200000000 /dev/zero | tr '\\0' x", 200_000_000),
        ("yes '' | head -c 10000000", 10_000_000),
        ("head -c 50000000 /dev/zero & head -c 50000000 /dev/zero >&2; wait", 100_000_000),
    ],
    ids=["a gigabyte", "one line", "empty lines", "both outputs"],
)
def test_a_flood_needs_little_memory(tmp_path: Path, script: str, size: int) -> None:
    """Measured in a process of its own, whose peak begins anew."""
    reader, writer = os.pipe()
    if (worker := os.fork()) == 0:
        try:
            Path("/proc/self/clear_refs").write_text("5")
            before = peak()
            runner = Runner(tmp_path)
            began = time.monotonic()
            runner.sh(script)
            took = time.monotonic() - began
            os.write(writer, f"{runner.output.total} {peak() - before} {took}".encode())
        finally:
            os._exit(0)
    os.close(writer)
    with open(reader, encoding="utf-8") as answer:
        total, grown, seconds = answer.read().split()
    os.waitpid(worker, 0)
    assert int(total) == size
    assert int(grown) <= 32 * 1024
    assert float(seconds) < 20


def peak() -> int:
    """The most memory that this process has had, in KiB."""
    status = Path("/proc/self/status").read_text()
    return int(status.partition("VmHWM:")[2].split()[0])


# --- many runs ------------------------------------------------------------------------------------


def test_many_runs_leave_no_files_open_and_no_dead_children(
    runner: Runner, way: str, request: pytest.FixtureRequest
) -> None:
    runner.run(["/bin/true"])
    processes = [os.getpid()]
    if way == "warm":
        processes.append(request.getfixturevalue("warm_door").process.pid)
    before = [len(os.listdir(f"/proc/{pid}/fd")) for pid in processes]
    for _ in range(200):
        assert runner.run(["/bin/true"]).exit_code == 0
    assert [len(os.listdir(f"/proc/{pid}/fd")) for pid in processes] == before
    for pid in processes[1:]:
        wait_for(lambda: not process_tree.children(pid), timeout=5)  # noqa: B023
    with suppress(ChildProcessError):
        assert os.waitid(os.P_ALL, 0, os.WEXITED | os.WNOHANG | os.WNOWAIT) is None


def test_what_it_writes_last_is_read(runner: Runner) -> None:
    for _ in range(20):
        runner.sh("head -c 60000 /dev/zero; printf END")
        assert runner.text().endswith("END")
