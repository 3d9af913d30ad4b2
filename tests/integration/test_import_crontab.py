"""`jobs import crontab`: lines become jobs, or are named; none is lost."""

from __future__ import annotations

import getpass
import io
import os
import sys
from collections.abc import Callable
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from scheduling import clock
from scheduling.management.crontab_work import arguments_of
from scheduling.models import Job, Target
from tests.factories import make_job
from tests.integration.cli import Told, jobs
from tests.integration.crontab_file import File, Report

pytestmark = pytest.mark.django_db


@pytest.fixture(autouse=True)
def begin(settings: Any, monkeypatch: pytest.MonkeyPatch, db: None) -> None:
    Job.objects.all().delete()
    settings.TIME_ZONE = "Europe/Berlin"
    settings.JOBS_PROGRAMS = ("/bin/*", "/usr/bin/*")
    commands = {"report": Report(), "clearsessions": "django.contrib.sessions"}
    monkeypatch.setattr("scheduling.management.crontab_work.get_commands", lambda: commands)


@pytest.fixture
def crontab(tmp_path: Path) -> File:
    return File(tmp_path / "crontab")


# --- what a line becomes --------------------------------------------------------------------------


def test_a_management_command_becomes_an_external_command(crontab: File) -> None:
    job = crontab.job("15 3 * * 1-5 /srv/venv/bin/python /srv/app/manage.py report --day mon eu us")
    assert (job.name, job.kind, job.command, job.internal) == ("report", "command", "report", False)
    assert (job.args, job.kwargs) == (["eu", "us"], {"day": "mon"})
    assert (job.declared_in, job.schedule) == ("admin", "cron 15 3 * * 1-5 tz Europe/Berlin")
    assert (job.catch_up, job.overlap, job.hard_limit) == ("none", "skip", timedelta(hours=12))
    target = Target.objects.get(job=job)
    assert target.next_fire_at is not None
    assert target.next_fire_at > clock.now()


@pytest.mark.parametrize(
    "call",
    [
        "python manage.py",
        "python3.11 -u manage.py",
        "cd /srv/app && /srv/venv/bin/python manage.py",
        "/srv/app/manage.py",
        "python -m django",
        "/srv/venv/bin/django-admin",
        "nice -n 5 timeout 60 python manage.py",
    ],
)
def test_all_ways_to_call_a_management_command_are_known(crontab: File, call: str) -> None:
    job = crontab.job(f"@daily {call} report --count 3")
    assert (job.kind, job.command, job.kwargs) == ("command", "report", {"count": "3"})


def test_another_program_becomes_a_program(crontab: File) -> None:
    job = crontab.job("*/5 * * * * /bin/echo 'two words' -n 100\\%")
    assert (job.name, job.kind, job.command) == ("echo", "argv", "/bin/echo")
    assert job.args == ["two words", "-n", "100%"]
    assert job.is_external


def test_a_script_gives_its_name_and_not_its_interpreter(crontab: File) -> None:
    assert crontab.job("@daily /bin/sh /srv/scripts/back_up.sh --all").name == "back_up"


def test_a_file_lock_becomes_a_lock_and_a_timeout_a_limit(crontab: File) -> None:
    job = crontab.job("@hourly flock -n /run/x.lock timeout 90 /bin/echo")
    assert (job.locks, job.overlap) == (["/run/x.lock"], "skip")
    assert job.hard_limit == timedelta(seconds=90)


def test_a_file_lock_that_waits_becomes_overlap_wait(crontab: File) -> None:
    job = crontab.job("@hourly flock /run/x.lock /bin/echo")
    assert (job.locks, job.overlap) == (["/run/x.lock"], "wait")


def test_recipients_come_from_mailto(crontab: File) -> None:
    answer = crontab.bring(
        "@daily /bin/echo 1",
        "MAILTO=ops@example.org",
        "@daily /bin/echo 2",
        'MAILTO=""',
        "@daily /bin/echo 3",
    )
    assert len(answer["created"]) == 3
    found = {job.args[0]: job.recipients for job in Job.objects.all()}
    assert found == {"1": [], "2": ["ops@example.org"], "3": []}


def test_the_zone_is_said_by_the_file_or_the_option_or_the_project(crontab: File) -> None:
    crontab.bring(
        "0 1 * * * /bin/echo",
        "CRON_TZ=Asia/Tokyo",
        "0 2 * * * /bin/echo",
        options=("--tz", "America/New_York"),
    )
    assert {job.schedule for job in Job.objects.all()} == {
        "cron 0 1 * * * tz America/New_York",
        "cron 0 2 * * * tz Asia/Tokyo",
    }


def test_a_system_crontab_is_taken_for_this_user_or_those_named(crontab: File) -> None:
    me = getpass.getuser()
    lines = (f"@daily {me} /bin/echo mine", "@daily www-data /bin/echo theirs")
    answer = crontab.bring(*lines, options=("--system",), code=1)
    assert answer["created"] == ["echo"]
    assert "--user www-data" in answer["problems"][0]["problem"]
    told = ("--system", "--user", me, "--user", "www-data")
    assert len(crontab.bring(*lines, options=told)["created"]) == 1


def test_a_user_without_a_name_is_asked_for_one(
    crontab: File, monkeypatch: pytest.MonkeyPatch
) -> None:
    def no_name() -> str:
        raise KeyError("getpwuid(): uid not found: 12345")

    monkeypatch.setattr("getpass.getuser", no_name)
    crontab.path.touch()
    assert "--user NAME" in refused(str(crontab.path), "--system")


# --- what it does not become ----------------------------------------------------------------------


@pytest.mark.parametrize(
    ("line", "said"),
    [
        ("@daily python manage.py rapport", "is it 'report'?"),
        ("@daily python manage.py qqq", "INSTALLED_APPS"),
        ("@daily python manage.py", "without a command"),
        ("@daily python manage.py report --nope", "unrecognized arguments: --nope"),
        ("@daily python manage.py report --count x", "invalid int value"),
        ("@daily python manage.py report -d mon", "short option"),
        ("@daily python manage.py report --with_underscore=1", "means something else"),
        ("@daily python manage.py report --help", "does not take these arguments"),
        ("@daily /bin/echo a | /bin/cat", "takes a shell"),
        ("@reboot /bin/echo", "service manager"),
        ("61 * * * * /bin/echo", "outside 0-59"),
        ("@daily no-such-program", "is not there"),
        ("@daily bin/x", "absolute path"),
        ("@daily cd /srv && /bin/echo", "JOBS_PROGRAM_DIRECTORY"),
        (f"@daily /bin/{'x' * 250}", "is not there"),
    ],
)
def test_a_line_that_cannot_be_taken_over_is_named_with_what_to_do(
    crontab: File, line: str, said: str
) -> None:
    assert said in crontab.problem(line)


def test_a_program_that_the_settings_do_not_allow_is_named_with_the_line_to_add(
    crontab: File, settings: Any
) -> None:
    settings.JOBS_PROGRAMS = ()
    said = crontab.problem("@daily /bin/echo")
    assert f"add {str(Path('/bin/echo').resolve())!r} to JOBS_PROGRAMS" in said


def test_a_path_that_is_too_long_to_be_kept_is_named(
    crontab: File, settings: Any, tmp_path: Path
) -> None:
    folder = tmp_path / ("x" * 120)
    folder.mkdir()
    (folder / ("y" * 120)).touch(mode=0o755)
    settings.JOBS_PROGRAMS = (f"{tmp_path.resolve()}/*",)
    assert "more than 200; shorten the path" in crontab.problem(f"@daily {folder}/{'y' * 120}")


def test_a_leading_cd_into_the_programs_folder_says_nothing_new(
    crontab: File, settings: Any
) -> None:
    settings.JOBS_PROGRAM_DIRECTORY = "/usr"
    assert crontab.job("@daily cd /usr && bin/env").command == "/usr/bin/env"


def test_a_manage_py_of_another_folder_is_noted(crontab: File) -> None:
    notes = crontab.bring("@daily cd /srv/app && python manage.py report")["notes"]
    assert notes[0].startswith("line 1: /srv/app/manage.py is taken for this project's, ")


def test_work_that_another_job_does_already_is_noted(crontab: File) -> None:
    make_job("report", kind="command", command="report", declared_in="command")
    answer = crontab.bring("@daily python manage.py report")
    (name,) = answer["created"]
    assert name.startswith("report-")
    assert answer["notes"][0] == (
        "line 1: job 'report' (management command) runs the same; pause one of them"
    )


@pytest.mark.parametrize(
    ("words", "args", "kwargs"),
    [
        ([], [], {}),
        (["--dry-run", "eu"], ["eu"], {"dry_run": True}),
        (["--tag", "a", "--tag=b", "--tag", "c"], [], {"tag": ["a", "b", "c"]}),
        (["--verbosity", "0", "--", "eu"], ["eu"], {"verbosity": "0"}),
        (["--", "--eu"], ["--eu"], {}),
        (["--day=--x"], [], {"day": "--x"}),
        (["--pair", "a", "b"], ["a", "b"], {"pair": True}),
    ],
)
def test_words_become_arguments_that_mean_the_same(
    words: list[str], args: list[str], kwargs: dict[str, Any]
) -> None:
    assert arguments_of("report", words) == (args, kwargs)


# --- the command line -----------------------------------------------------------------------------


def test_standard_input_is_a_file_too(monkeypatch: pytest.MonkeyPatch) -> None:
    for expected in ("created", "unchanged"):
        stdin = io.TextIOWrapper(io.BytesIO(b"@daily /bin/echo \xc3\xa4\n"))
        monkeypatch.setattr(sys, "stdin", stdin)
        told = jobs("import", "crontab", "-", "--json")
        assert (told.code, told.document()[expected]) == (0, ["echo"])
    assert Job.objects.get().args == ["ä"]


def missing(path: Path) -> None:
    """Leave no file there."""


def binary(path: Path) -> None:
    path.write_bytes(b"@daily /bin/echo \xff\n")


def huge(path: Path) -> None:
    path.write_bytes(b"#" * (1024 * 1024 + 1))


def folder(path: Path) -> None:
    path.mkdir()


@pytest.mark.parametrize(
    ("make", "said"),
    [
        (missing, "cannot be read: No such file"),
        (folder, "cannot be read: Is a directory"),
        (binary, "not text in UTF-8"),
        (huge, "is it a crontab?"),
    ],
)
def test_a_file_that_cannot_be_read_is_bad_input(
    tmp_path: Path, make: Callable[[Path], None], said: str
) -> None:
    make(tmp_path / "crontab")
    assert said in refused(str(tmp_path / "crontab"))


def refused(*words: str) -> str:
    told: Told = jobs("import", "crontab", *words, "--json")
    assert told.code == 2, told
    return str(told.document()["error"])


def test_options_that_contradict_each_other_are_bad_input() -> None:
    assert "--system" in refused(os.devnull, "--user", "root")
    assert "Mars" in refused(os.devnull, "--tz", "Mars/Olympus")
    assert "prefix" in refused(os.devnull, "--prefix", "x" * 61)


def test_the_answer_for_people_names_every_line(crontab: File) -> None:
    crontab.path.write_text("PATH=/bin\n@daily /bin/echo\n@daily a | b\n")
    told = jobs("import", "crontab", str(crontab.path))
    assert told.code == 1
    lines = told.stdout.splitlines()
    assert lines[:3] == [
        "echo: created",
        "0 unchanged",
        "note: line 1: PATH is not taken over: set it for the worker",
    ]
    assert lines[-2:] == [
        "problem in line 3: @daily a | b",
        "  '|' passes output on, which takes a shell; put the line into a script and schedule that",
    ]
