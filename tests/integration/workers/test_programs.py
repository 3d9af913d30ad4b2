"""Programs as jobs: only those that the settings allow, without the installation's secrets."""

from __future__ import annotations

import os
import sys
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from scheduling.errors import InvalidDeclaration
from scheduling.limits import limits_of
from scheduling.models import Reason, Run, State
from tests.factories import make_job, make_run, make_target
from tests.integration.workers.conftest import Deliver
from workers import programs

pytestmark = pytest.mark.django_db(transaction=True)

RUN_COMMAND = "workers.commands.run_command"


class Folder:
    """A folder of programs, all of them allowed."""

    def __init__(self, path: Path, settings: Any) -> None:
        self.path = path.resolve()
        self.settings = settings
        settings.JOBS_PROGRAMS = (f"{self.path}/*",)

    def add(self, name: str, script: str) -> str:
        file = self.path / name
        file.write_text(f"#!/bin/sh\n{script}\n")
        file.chmod(0o755)
        return str(file)


@pytest.fixture
def folder(tmp_path: Path, settings: Any) -> Folder:
    path = tmp_path / "allowed"
    path.mkdir()
    return Folder(path, settings)


def program(command: str, **fields: Any) -> Run:
    return make_run(make_target(make_job(kind="argv", command=command, **fields)))


def test_a_program_gets_its_words_as_they_are(deliver: Deliver, folder: Folder) -> None:
    command = folder.add("say", 'for word in "$@"; do echo "<$word>"; done; echo oops >&2; exit 3')
    words = ["two words", "-x", "--", "$(id)", ";", ""]
    after = deliver(program(command, args=words, kwargs={"day": "mon"}), name=RUN_COMMAND)
    assert (after.state, after.reason, after.exit_code) == (State.FAILED, Reason.EXIT_CODE, 3)
    assert after.output == "".join(f"<{word}>\n" for word in [*words, "--day=mon"]) + "oops\n"


def test_a_program_that_ends_with_0_succeeds(deliver: Deliver, folder: Folder) -> None:
    after = deliver(program(folder.add("true", "exit 0")), name=RUN_COMMAND)
    assert (after.state, after.exit_code, after.error) == (State.SUCCEEDED, 0, "")


def test_a_program_sees_its_run_and_none_of_the_secrets(
    deliver: Deliver, folder: Folder, monkeypatch: pytest.MonkeyPatch
) -> None:
    for name in (*programs.SECRETS, "DJANGO_SETTINGS_MODULE", "AWS_SECRET", "SEEN_A", "SEEN_B"):
        monkeypatch.setenv(name, "value")
    monkeypatch.setenv("TZ", "Europe/Berlin")
    folder.settings.JOBS_PROGRAM_ENVIRONMENT = ("SEEN_*", "*_URL", "DJANGO_SECRET_KEY")
    run = program(folder.add("env", "env"))
    after = deliver(run, name=RUN_COMMAND)
    seen = dict(line.split("=", 1) for line in after.output.splitlines())
    assert seen["RUN_ID"] == str(run.pk)
    assert seen["SCHEDULED_AT"] == run.scheduled_at.isoformat()
    assert (seen["ATTEMPT"], seen["FENCING_TOKEN"], seen["JOB"]) == ("1", "1", run.name)
    assert (seen["SEEN_A"], seen["SEEN_B"]) == ("value", "value")
    assert (seen["PATH"], seen["TZ"]) == (os.environ["PATH"], "Europe/Berlin")
    assert {*programs.SECRETS, "DJANGO_SETTINGS_MODULE", "AWS_SECRET"} & set(seen) == set()


@pytest.mark.parametrize("chosen", [True, False])
def test_a_program_runs_in_the_folder_of_the_settings_without_input(
    deliver: Deliver, folder: Folder, chosen: bool
) -> None:
    if chosen:
        folder.settings.JOBS_PROGRAM_DIRECTORY = str(folder.path)
    expected = folder.path if chosen else folder.settings.BASE_DIR
    after = deliver(program(folder.add("where", "pwd -P; cat")), name=RUN_COMMAND)
    assert (after.state, after.output) == (State.SUCCEEDED, f"{expected}\n")


def test_a_program_is_ended_at_its_limit_with_its_children(
    deliver: Deliver, folder: Folder
) -> None:
    command = folder.add("slow", "sleep 60 & echo $!; trap '' TERM; wait; wait")
    after = deliver(program(command, hard_limit=timedelta(seconds=1)), name=RUN_COMMAND)
    assert (after.state, after.reason) == (State.FAILED, Reason.HARD_LIMIT)
    child = Path(f"/proc/{after.output.strip()}/stat")
    assert not child.exists() or child.read_text().rpartition(")")[2].split()[0] == "Z"


def test_a_program_is_told_to_end_at_its_soft_limit(deliver: Deliver, folder: Folder) -> None:
    command = folder.add("polite", "trap 'echo bye; exit 0' TERM; sleep 60 & wait")
    run = program(command, soft_limit=timedelta(seconds=0.5), hard_limit=timedelta(seconds=30))
    after = deliver(run, name=RUN_COMMAND)
    assert (after.state, after.reason, after.output) == (
        State.FAILED,
        Reason.SOFT_LIMIT,
        "bye\n",
    )


def test_a_flood_of_output_is_cut(deliver: Deliver, folder: Folder) -> None:
    folder.settings.JOBS_OUTPUT_LIMIT, folder.settings.JOBS_OUTPUT_HEAD = 1000, 500
    command = folder.add("flood", "yes | head -c 3000000")
    after = deliver(program(command), name=RUN_COMMAND)
    assert (after.state, after.output_bytes) == (State.SUCCEEDED, 3_000_000)
    assert "bytes left out" in after.output
    assert len(after.output) < 2000


def test_a_program_always_runs_as_a_process_with_the_limits_of_one() -> None:
    job = make_job(kind="argv", command="/bin/true")
    assert job.is_external
    assert limits_of(job).hard == timedelta(seconds=120)


def test_a_file_that_is_no_program_fails_and_says_so(deliver: Deliver, folder: Folder) -> None:
    command = folder.add("data", "")
    Path(command).write_bytes(b"\1\2\3")
    after = deliver(program(command), name=RUN_COMMAND)
    assert (after.state, after.reason) == (State.FAILED, Reason.EXIT_CODE)
    assert after.output == f"{command}: Exec format error\n"


# --- what is allowed ------------------------------------------------------------------------------


def test_a_program_that_is_not_allowed_fails_for_good_with_the_next_step(
    deliver: Deliver, folder: Folder, tmp_path: Path
) -> None:
    other = tmp_path / "other"
    other.write_text(f"#!/bin/sh\ntouch {tmp_path}/ran\n")
    other.chmod(0o755)
    after = deliver(program(str(other), retries=3), name=RUN_COMMAND)
    assert (after.state, after.reason) == (State.FAILED, Reason.PERMANENT)
    assert after.error == (
        f"Program '{other}' is not allowed: add '{other.resolve()}' to JOBS_PROGRAMS in the "
        "settings, and restart the workers"
    )
    assert not (tmp_path / "ran").exists()


def test_nothing_is_allowed_by_default(settings: Any) -> None:
    with pytest.raises(InvalidDeclaration, match="JOBS_PROGRAMS"):
        programs.allowed_file("/bin/true")


@pytest.mark.parametrize("way", ["link", "folder", "up"])
def test_no_way_around_leads_out_of_an_allowed_folder(
    folder: Folder, tmp_path: Path, way: str
) -> None:
    outside = tmp_path / "outside"
    outside.mkdir()
    target = outside / "x"
    target.write_text("#!/bin/sh\n")
    target.chmod(0o755)
    if way == "link":
        (folder.path / "x").symlink_to(target)
        command = f"{folder.path}/x"
    elif way == "folder":
        (folder.path / "d").symlink_to(outside)
        command = f"{folder.path}/d/x"
    else:
        command = f"{folder.path}/../outside/x"
    with pytest.raises(InvalidDeclaration, match="is not allowed"):
        programs.allowed_file(command)


def test_links_to_an_allowed_program_are_followed(folder: Folder, tmp_path: Path) -> None:
    command = folder.add("x", "")
    (tmp_path / "link").symlink_to(command)
    folder.settings.JOBS_PROGRAMS = (str(tmp_path / "link"),)
    assert programs.allowed_file(str(tmp_path / "link")) == Path(command)
    assert programs.allowed_file(command) == Path(command)


def test_a_name_is_looked_up_as_a_shell_would(
    deliver: Deliver, folder: Folder, monkeypatch: pytest.MonkeyPatch
) -> None:
    folder.add("nightly-backup", 'echo "$0"')
    monkeypatch.setenv("PATH", f"{folder.path}:{os.environ['PATH']}")
    after = deliver(program("nightly-backup"), name=RUN_COMMAND)
    assert after.output == f"{folder.path}/nightly-backup\n"


@pytest.mark.parametrize(
    ("command", "said"),
    [
        ("no-such-program", "is not there"),
        ("/no/such/program", "is not there"),
        ("./x", "write its absolute path"),
        ("bin/x", "write its absolute path"),
        ("/etc", "is not there"),
        ("/etc/passwd", "cannot be executed; chmod"),
        ("/bin/tr\0ue", "is not there"),
        ("", "is not there"),
    ],
)
def test_what_is_no_program_is_refused_with_the_next_step(
    settings: Any, command: str, said: str
) -> None:
    settings.JOBS_PROGRAMS = ("/*",)
    with pytest.raises(InvalidDeclaration, match=said):
        programs.allowed_file(command)


def test_a_pattern_that_is_no_absolute_path_allows_nothing(settings: Any) -> None:
    settings.JOBS_PROGRAMS = ("*", "true", "bin/*")
    with pytest.raises(InvalidDeclaration, match="is not allowed"):
        programs.allowed_file("/bin/true")


@pytest.mark.skipif(sys.prefix == sys.base_prefix, reason="no virtual environment")
def test_a_python_of_a_virtual_environment_finds_its_packages(
    deliver: Deliver, settings: Any
) -> None:
    settings.JOBS_PROGRAMS = (sys.executable,)
    run = program(sys.executable, args=["-c", "import sys; print(sys.prefix)"])
    assert deliver(run, name=RUN_COMMAND).output == f"{sys.prefix}\n"
