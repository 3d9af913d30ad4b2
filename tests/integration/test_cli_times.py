"""next, between, plan: the language of schedules on the command line, without a database."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from scheduling.schedule_text import parse
from tests.integration.cli import Told, jobs

ROOT = Path(__file__).resolve().parents[2]


def document(*words: str) -> Any:
    told = jobs(*words, "--json")
    assert told.code == 0, told
    return told.document()


def test_next_lists_the_fires_strictly_after_a_time() -> None:
    answer = document("next", "every 5m", "--after", "2026-01-05T12:00:00Z", "--count", "2")
    assert answer == {
        "schedule": "every 5m",
        "timezone": "UTC",
        "fires": ["2026-01-05T12:05:00+00:00", "2026-01-05T12:10:00+00:00"],
    }


def test_next_reads_a_text_without_a_zone_in_the_zone_given() -> None:
    words = ("next", "cron 0 3 * * *", "--tz", "Europe/Berlin", "--count", "1")
    answer = document(*words, "--after", "2026-07-01T12:00:00+02:00")
    assert answer == {
        "schedule": "cron 0 3 * * * tz Europe/Berlin",
        "timezone": "Europe/Berlin",
        "fires": ["2026-07-02T01:00:00+00:00"],
    }


def test_the_zone_of_the_text_is_stronger_and_the_other_shows() -> None:
    words = ("next", "cron 0 3 * * * tz Asia/Tokyo", "--tz", "Europe/Berlin", "--count", "1")
    after = ("--after", "2026-07-01T12:00:00Z")
    answer = document(*words, *after)
    assert answer["timezone"] == "Asia/Tokyo"
    assert answer["fires"] == ["2026-07-01T18:00:00+00:00"]
    assert "Wed 2026-07-01 20:00:00 CEST" in jobs(*words, *after).stdout


def test_next_of_a_schedule_that_has_ended_is_empty() -> None:
    answer = document("next", "once 2020-01-01T00:00:00+00:00")
    assert answer["fires"] == []


def test_the_schedule_in_the_answer_can_be_read_again() -> None:
    answer = document("next", "@daily | every 90s", "--count", "1")
    assert str(parse(answer["schedule"])) == answer["schedule"]


def test_between_has_an_open_lower_and_a_closed_upper_bound() -> None:
    bounds = ("--after", "2026-01-05T12:00:00Z", "--until", "2026-01-05T12:10:00Z")
    answer = document("between", "every 5m", *bounds)
    assert answer["fires"] == ["2026-01-05T12:05:00+00:00", "2026-01-05T12:10:00+00:00"]


def test_a_window_that_ends_where_or_before_it_begins_names_no_fire() -> None:
    for until in ("2026-01-05T12:00:00Z", "2026-01-04T12:00:00Z"):
        bounds = ("--after", "2026-01-05T12:00:00Z", "--until", until)
        assert document("between", "every 5m", *bounds)["fires"] == []
        planned = document("plan", "every 5m", *bounds)
        assert (planned["start"], planned["skip"]) == ([], [])
        assert planned["cursor"] == "2026-01-05T12:05:00+00:00"


def test_plan_says_what_an_outage_would_have_come_to() -> None:
    bounds = ("--after", "2026-01-05T12:00:00Z", "--until", "2026-01-05T14:30:30Z")
    answer = document("plan", "every 1h phase 30m", *bounds)
    assert answer == {
        "start": ["2026-01-05T14:30:00+00:00"],
        "skip": [
            {
                "from": "2026-01-05T12:30:00+00:00",
                "until": "2026-01-05T13:30:00+00:00",
                "fires": 2,
                "reason": "window",
            }
        ],
        "cursor": "2026-01-05T15:30:00+00:00",
    }


@pytest.mark.parametrize(
    ("catch_up", "started", "reasons"),
    [("none", 0, {"late"}), ("latest", 1, {"coalesced"}), ("all", 6, set())],
)
def test_plan_follows_the_catch_up_policy(catch_up: str, started: int, reasons: set[str]) -> None:
    bounds = ("--after", "2026-01-05T12:00:00Z", "--until", "2026-01-05T12:34:00Z")
    answer = document("plan", "every 5m", *bounds, "--catch-up", catch_up, "--window", "1d")
    assert len(answer["start"]) == started
    assert {stretch["reason"] for stretch in answer["skip"]} == reasons


def test_plan_counts_stretches_longer_than_a_claim() -> None:
    bounds = ("--after", "2026-01-01T00:00:00Z", "--until", "2026-02-01T00:00:30Z")
    answer = document("plan", "cron * * * * *", *bounds, "--catch-up", "none")
    assert sum(stretch["fires"] for stretch in answer["skip"]) == 31 * 24 * 60


@pytest.mark.parametrize(
    ("words", "named"),
    [
        (("next", "every sometimes"), "sometimes"),
        (("next", "every 5m", "--after", "2026-01-05T12:00:00"), "'2026-01-05T12:00:00'"),
        (("next", "every 5m", "--after", "yesterday"), "'yesterday'"),
        (("next", "every 5m", "--count", "0"), "'0'"),
        (("next", "every 5m", "--count", "10001"), "'10001'"),
        (("next", "every 5m", "--count", "1_0"), "'1_0'"),
        (("next", "every 5m", "--tz", "Mars/Base"), "'Mars/Base'"),
        (("next", "every 5m", "--coun", "1"), "--coun"),
        (("next",), "TEXT"),
        (("between", "every 5m", "--after", "2026-01-05T12:00:00Z"), "--until"),
        (
            (
                *("between", "every 1s", "--after", "1990-01-05T12:00:00Z"),
                *("--until", "2026-01-04T12:00:00Z"),
            ),
            "1000000",
        ),
        (
            (
                *("plan", "every 5m", "--after", "2026-01-05T12:00:00Z"),
                *("--until", "2026-01-06T12:00:00Z", "--window", "5"),
            ),
            "'5'",
        ),
        (("nonsense",), "nonsense"),
    ],
    ids=lambda value: " ".join(value) if isinstance(value, tuple) else "",
)
def test_bad_input_is_named_in_one_document_with_exit_code_2(
    words: tuple[str, ...], named: str
) -> None:
    told = jobs(*words, "--json")
    assert told.code == 2
    assert list(told.document()) == ["error"]
    assert named in told.document()["error"]
    plain = jobs(*words)
    assert (plain.code, plain.stdout) == (2, "")
    assert named in plain.stderr


@pytest.mark.parametrize("words", [("next", "H * * * *", "--name", "\udcff"), ("show", "\udcff")])
def test_bytes_that_are_no_text_are_refused(words: tuple[str, ...]) -> None:
    told = jobs(*words, "--json")
    assert told.code == 2
    assert "'\\udcff' is not text" in told.document()["error"]


@pytest.mark.parametrize(
    "words",
    [
        ("next", "cron 0 3 * * *"),
        ("between", "every 1h", "--after", "2026-01-05T12:00Z", "--until", "2026-01-05T14:00Z"),
        ("plan", "every 1h", "--after", "2026-01-05T12:00Z", "--until", "2026-01-05T14:00Z"),
    ],
    ids=lambda words: words[0],
)
def test_schedules_are_explained_although_the_database_is_out_of_reach(
    words: tuple[str, ...],
) -> None:
    environ = {**os.environ, "DATABASE_URL": "postgres://nobody@127.0.0.1:1/nothing"}
    environ["DJANGO_SETTINGS_MODULE"] = "config.settings"
    done = subprocess.run(
        [sys.executable, "manage.py", "jobs", *words, "--json"],
        cwd=ROOT,
        env=environ,
        capture_output=True,
        text=True,
        check=False,
    )
    assert done.returncode == 0, done.stderr
    assert json.loads(done.stdout)
    assert done.stdout.count("\n") == 1


def test_a_reader_that_has_gone_ends_the_command_quietly() -> None:
    read_end, write_end = os.pipe()
    os.close(read_end)
    done = subprocess.run(
        [sys.executable, "manage.py", "jobs", "next", "every 5m"],
        cwd=ROOT,
        stdout=write_end,
        stderr=subprocess.PIPE,
        check=False,
    )
    os.close(write_end)
    assert (done.returncode, done.stderr) == (141, b"")


def test_without_json_people_read_the_sentence_and_the_times() -> None:
    told: Told = jobs("next", "every 5m", "--after", "2026-01-05T12:00:00Z", "--count", "1")
    assert told.stdout.splitlines() == [
        "every 5m: every 5 minutes",
        "  Mon 2026-01-05 12:05:00 UTC",
    ]
