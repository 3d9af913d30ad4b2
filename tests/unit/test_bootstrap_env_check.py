"""A value in the environment that cannot be meant ends every command with a sentence."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path

import environ
import pytest

from config import cli, env, env_check
from config.problem import Problem

# variable, value, what the sentence says
WRONG = [
    ("DATABASE_URL", "nonsense", "'nonsense', which is not a URL; write it as postgres://"),
    ("DATABASE_URL", "mysql://ada:pw@host/name", "mysql:// is not supported; write it as postgres"),
    ("DATABASE_URL", "postgres://ada:pw@host:many/name", "a port that is not a number"),
    ("REDIS_URL", "nonsense", "'nonsense', which is not a URL; write it as redis://"),
    ("REDIS_URL", "http://host", "http:// is not supported; write it as redis://"),
    ("REDIS_URL", "redis://:pw/0", "a port that is not a number"),
    ("REDIS_URL", "ada:pw@host", "'***@host', which is not a URL"),
    ("CELERY_BROKER_URL", "nonsense", "'nonsense', which is not a URL; write it as redis://"),
    ("CELERY_BROKER_URL", "amqp://ada:pw@host:0//", "a port that is not a number from 1"),
    ("EMAIL_URL", "nonsense", "'nonsense', which is not a URL; write it as smtp+tls://"),
    ("EMAIL_URL", "pop3://ada:pw@host", "pop3:// is not supported; write it as smtp+tls://"),
    ("WEB_PORT", "abc", "'abc', which is not a port; set it to one from 1 to 65535"),
    ("WEB_PORT", "70000", "'70000', which is not a port"),
    ("FLOWER_PORT", "-1", "'-1', which is not a port"),
    ("FLOWER_PORT", "8000", "WEB_PORT and FLOWER_PORT are both 8000; choose another"),
    ("DJANGO_LOG_LEVEL", "LOUD", "'LOUD', which is no level; set it to one of DEBUG, INFO"),
    ("DJANGO_DEBUG", "maybe", "'maybe', which is neither on nor off; set it to on or off"),
    ("DJANGO_HTTPS", "perhaps", "'perhaps', which is neither on nor off"),
    ("UPTIME_WATCH_SELF", "2", "'2', which is neither on nor off"),
]
RIGHT = [
    ("DATABASE_URL", "sqlite:////srv/jobs.sqlite3"),
    ("DATABASE_URL", "sqlite://:memory:"),
    ("DATABASE_URL", "postgres://ada:p#w/o?r:d@host:5432/name?sslmode=require"),
    ("DATABASE_URL", "postgresql://one:5432,two:5433/name"),
    ("DATABASE_URL", "postgres://[::1]:5432/name"),
    ("DATABASE_URL", "postgres:////run/postgresql/name"),
    ("REDIS_URL", "rediss://:pw@host"),
    ("REDIS_URL", "unix:///run/r.sock?db=3"),
    ("CELERY_BROKER_URL", "redis+socket:///run/r.sock?virtual_host=0"),
    ("CELERY_BROKER_URL", "sentinel://one:26379/0;sentinel://two:26379/0"),
    ("CELERY_BROKER_URL", "sqs://key:sec/ret@"),
    ("CELERY_BROKER_URL", "amqp://rabbit//"),
    ("EMAIL_URL", "smtp+tls://ada@example.org:pw@host:587"),
    ("WEB_PORT", "65535"),
    ("DJANGO_LOG_LEVEL", "debug"),
    ("DJANGO_DEBUG", "True"),
    ("DJANGO_DEBUG", "off"),
]
VARIABLES = sorted({name for name, *_ in WRONG})


@pytest.fixture(autouse=True)
def var(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    for name in VARIABLES:
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("JOBS_VAR", str(tmp_path / "var"))
    monkeypatch.setenv("DJANGO_SETTINGS_MODULE", "config.settings")
    monkeypatch.chdir(env.BASE_DIR)
    return tmp_path / "var"


@pytest.mark.parametrize(("name", "value", "sentence"), WRONG)
def test_a_wrong_value_is_named_with_what_to_write(
    name: str, value: str, sentence: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv(name, value)
    with pytest.raises(Problem) as caught:
        env_check.check()
    assert name in str(caught.value)
    assert sentence in str(caught.value)
    assert "pw" not in str(caught.value)


@pytest.mark.parametrize(("name", "value"), RIGHT)
def test_a_right_value_passes(name: str, value: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(name, value)
    env_check.check()


@pytest.mark.parametrize("name", VARIABLES)
def test_an_empty_value_is_none(name: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv(name, "")
    env_check.check()


def test_a_file_is_no_place_for_state(var: Path) -> None:
    var.touch()
    with pytest.raises(Problem, match=f"{var} is a file; name a folder in JOBS_VAR"):
        env_check.check()


def test_what_is_let_through_is_what_the_settings_can_read() -> None:
    read = environ.Env
    assert set(read.EMAIL_SCHEMES) == env_check.MAILERS
    assert {read.DB_SCHEMES[scheme] for scheme in env_check.DATABASES} == {
        "django.db.backends.sqlite3",
        "django.db.backends.postgresql",
    }
    assert set(read.BOOLEAN_TRUE_STRINGS) < env_check.SWITCH_WORDS


# --- the commands ---------------------------------------------------------------------------------


def start(*words: str, **environ: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, *words],
        env=os.environ | environ,
        capture_output=True,
        text=True,
        check=False,
    )


def test_run_says_it_before_anything_is_installed(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("WEB_PORT", "abc")
    assert cli.main(["run"]) == 1
    assert capsys.readouterr().err.startswith("config run: WEB_PORT is 'abc', which is not a port")


def test_an_option_wins_over_its_variable_and_is_checked_with_the_others(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("WEB_PORT", "abc")
    monkeypatch.setenv("FLOWER_PORT", "5555")
    assert cli.main(["run", "--web-port", "8001", "--flower-port", "8001"]) == 1
    assert "WEB_PORT and FLOWER_PORT are both 8001" in capsys.readouterr().err


@pytest.mark.parametrize("words", [["migrate"], ["jobs", "list"], ["help"]], ids=" ".join)
def test_manage_says_it_in_one_line(words: list[str]) -> None:
    done = start("manage.py", *words, DATABASE_URL="mysql://ada:pw@host/name")
    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr.startswith("manage.py: DATABASE_URL is 'mysql://...', and mysql:// is not")
    assert len(done.stderr.splitlines()) == 1


def test_manage_says_it_to_programs_in_a_document() -> None:
    done = start("manage.py", "jobs", "list", "--json", DJANGO_DEBUG="maybe")
    assert done.returncode == 2
    assert json.loads(done.stdout)["error"].startswith("DJANGO_DEBUG is 'maybe'")


@pytest.mark.parametrize("command", ["worker", "beat", "flower"])
def test_celery_says_it_in_one_line(command: str) -> None:
    done = start("-m", "celery", "-A", "config", command, REDIS_URL="nonsense")
    assert (done.returncode, done.stdout) == (1, "")
    assert done.stderr.startswith("celery: REDIS_URL is 'nonsense', which is not a URL")
    assert len(done.stderr.splitlines()) == 1
