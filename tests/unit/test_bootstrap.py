"""`python3 -m config` before its own environment exists, and what it says when it cannot go on."""

from __future__ import annotations

import ast
import fcntl
import runpy
import shutil
import socket
import subprocess
import sys
from pathlib import Path

import pytest

from config import bootstrap, cli, env, run, verify
from config.problem import Problem

CONFIG = Path(bootstrap.__file__).parent
NO_SUCH_PLACE = "/dev/null/nowhere"


def test_an_old_python_can_read_the_file_that_refuses_it() -> None:
    source = (CONFIG / "__main__.py").read_text(encoding="ascii")
    kinds = {type(node) for node in ast.walk(ast.parse(source))}
    # All that a 2.7 might stumble over here, before it can say anything.
    assert kinds & {ast.JoinedStr, ast.AnnAssign, ast.NamedExpr, ast.Nonlocal} == set()
    assert "__future__" not in source
    assert (CONFIG / "__init__.py").read_text(encoding="ascii") == ""


@pytest.mark.parametrize("old", ["python2.7", "python3.6", "python3.8", "python3.10"])
def test_a_real_old_python_is_told_what_is_needed(old: str) -> None:
    if shutil.which(old) is None or subprocess.run([old, "-V"], capture_output=True).returncode:
        pytest.skip(f"no {old} here")
    done = subprocess.run(
        [old, "-B", "-m", "config", "run"], cwd=CONFIG.parent, capture_output=True, text=True
    )
    assert done.returncode == 1
    assert done.stderr.startswith("Beatkeeper needs Python 3.11 or newer, and ")
    assert len(done.stderr.splitlines()) == 1


def test_an_old_python_is_told_what_is_needed(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(sys, "version_info", (3, 10, 14, "final", 0))
    with pytest.raises(SystemExit, match=r"needs Python 3\.11 or newer, and .* is 3\.10\."):
        runpy.run_module("config", run_name="__main__")


def test_the_bootstrap_needs_the_standard_library_only() -> None:
    modules = (
        "bootstrap, broker, cli, env, env_check, problem, process, run, supervisor, undertaker, "
        "verify"
    )
    # -S: no site-packages.
    subprocess.run(
        [sys.executable, "-S", "-c", f"from config import {modules}"], cwd=CONFIG.parent, check=True
    )


def test_a_folder_that_cannot_be_written_is_named(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("JOBS_VAR", NO_SUCH_PLACE)
    monkeypatch.chdir(CONFIG.parent)
    assert cli.main(["run"]) == 1
    said = capsys.readouterr().err
    assert said.startswith(f"config run: {NO_SUCH_PLACE} cannot be written: Not a directory.")
    assert "Traceback" not in said


@pytest.mark.parametrize(
    ("output", "meaning"),
    [
        ("NewConnectionError: Temporary failure in name resolution", "check the network"),
        ("error: command 'gcc' failed: No such file or directory", "there is no C compiler"),
        ("OSError: [Errno 28] No space left on device", "disk is full"),
        ("ERROR: No matching distribution found for celery==5.7.0", "constraints"),
        ("something else", "last lines"),
    ],
    ids=["network", "compiler", "disk", "version", "unknown"],
)
def test_a_failed_installation_is_explained(output: str, meaning: str) -> None:
    assert meaning in bootstrap.hint(output)


def test_a_failed_installation_shows_the_end_of_its_output() -> None:
    talk = "for number in range(100): print('line', number)\nraise SystemExit(1)"
    with pytest.raises(Problem, match=r"The installation failed\.(.|\n)*line 99") as caught:
        bootstrap.check([sys.executable, "-c", talk], "The installation")
    assert "line 10\n" not in str(caught.value)


def test_an_installation_that_broke_off_counts_for_nothing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    stamp = tmp_path / "stamp.json"
    monkeypatch.setattr(bootstrap, "STAMP", stamp)
    assert bootstrap.read_stamp() == bootstrap.Stamp()
    stamp.write_text('{"inp')
    assert bootstrap.read_stamp() == bootstrap.Stamp()


def test_a_checkout_that_cannot_be_written_is_named(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(env, "BASE_DIR", tmp_path)
    # Not by its mode: root may write everywhere.
    monkeypatch.setattr("os.access", lambda path, mode: path != tmp_path)
    with pytest.raises(
        Problem, match=rf"{tmp_path} cannot be written, so nothing can be installed"
    ):
        bootstrap.install(set())


def test_a_changed_lock_means_a_new_installation(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    lock = tmp_path / "constraints.txt"
    monkeypatch.setattr(bootstrap, "INPUTS", (lock,))
    lock.write_text("celery==5.7.0")
    before = bootstrap.fingerprint()
    lock.write_text("celery==5.7.1")
    assert bootstrap.fingerprint() != before


def test_a_second_copy_is_refused_with_the_first_ones_process(tmp_path: Path) -> None:
    lock = tmp_path / "run.lock"
    with lock.open("w") as first:
        first.write("4711")
        first.flush()
        fcntl.flock(first, fcntl.LOCK_EX)
        with (
            pytest.raises(Problem, match=r"runs already \(process 4711\).*JOBS_VAR"),
            run.only_copy(lock),
        ):
            pytest.fail("two copies at once")
    with run.only_copy(lock):
        pass


def test_a_taken_port_is_named_with_the_option_that_changes_it() -> None:
    with socket.socket() as other:
        other.bind(("127.0.0.1", 0))
        other.listen()
        port = other.getsockname()[1]
        with pytest.raises(Problem, match=rf"Port {port} .* is taken .*--web-port {port + 1}"):
            run.check_port(port, "--web-port")
    run.check_port(port, "--web-port")


def test_a_port_out_of_range_is_refused(capsys: pytest.CaptureFixture[str]) -> None:
    with pytest.raises(SystemExit):
        cli.main(["run", "--web-port", "70000"])
    assert "70000 is not a port" in capsys.readouterr().err


def test_arguments_behind_test_go_to_pytest_alone(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(bootstrap, "enter_venv", lambda **facts: None)
    seen: list[list[str]] = []

    def verify_nothing(arguments: list[str]) -> int:
        seen.append(arguments)
        return 0

    monkeypatch.setattr(verify, "verify", verify_nothing)
    assert cli.main(["test", "-x", "tests/unit", "-k", "cron"]) == 0
    assert cli.main(["test"]) == 0
    assert seen == [["-x", "tests/unit", "-k", "cron"], []]


def test_every_step_of_the_tests_is_run_though_one_fails(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    steps: dict[str, tuple[list[str], dict[str, str]]] = {
        name: ([sys.executable, "-c", f"raise SystemExit({code})"], {})
        for name, code in (("lint", 0), ("types", 3), ("tests", 0))
    }
    monkeypatch.setattr(verify, "all_steps", lambda environ: steps)
    monkeypatch.setattr(verify, "find_browser", lambda: "/usr/bin/chromium")
    assert verify.verify([]) == 1
    said = capsys.readouterr()
    assert "tests passed" in said.out
    assert said.err.strip() == "Failed: types."


def test_a_browser_that_must_be_there_is_asked_for(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(verify, "find_browser", lambda: None)
    monkeypatch.setattr(verify, "install_browser", lambda: None)
    monkeypatch.setenv("JOBS_TEST_REQUIRE_BROWSER", "1")
    with pytest.raises(Problem, match="no browser is on PATH"):
        verify.test_environ(CONFIG)
    monkeypatch.delenv("JOBS_TEST_REQUIRE_BROWSER")
    monkeypatch.delenv("CHROMIUM", raising=False)
    assert "CHROMIUM" not in verify.test_environ(CONFIG)
