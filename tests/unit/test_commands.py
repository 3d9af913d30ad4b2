from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import uuid4

import pytest
from celery.exceptions import Retry, SoftTimeLimitExceeded
from django.core.management import CommandError

from scheduling.models import Job, Outcome, Run, State, Target
from scheduling.runs import Result, Started
from workers import commands, results
from workers.orders import Cut, Ended, Order
from workers.output import HeadTail

ORDER = Order(
    words=["report"],
    file="/bin/report",
    environ={},
    folder="/",
    soft=2.7,
    hard=3,
    grace=10,
    memory=5_000_000,
)
NOW = datetime(2026, 1, 5, 12, 0, tzinfo=UTC)


@pytest.mark.parametrize(
    ("args", "kwargs", "expected"),
    [
        ([], {}, ["c"]),
        (["a", 1], {}, ["c", "a", "1"]),
        ([], {"dry_run": True, "quiet": False, "since": None}, ["c", "--dry-run"]),
        (["x"], {"count": 3}, ["c", "--count=3", "x"]),
        ([], {"tag": ["a", "b"]}, ["c", "--tag=a", "--tag=b"]),
        (["-rf", "x"], {"v": 2}, ["c", "--v=2", "--", "-rf", "x"]),
        (["; rm -rf /", "$(id)"], {}, ["c", "; rm -rf /", "$(id)"]),
        ([], {"name": "--flag"}, ["c", "--name=--flag"]),
        ([], {"name": "two words\nand a line"}, ["c", "--name=two words\nand a line"]),
    ],
)
def test_a_call_becomes_a_command_line(
    args: list[Any], kwargs: Mapping[str, Any], expected: list[str]
) -> None:
    assert commands.argv("c", args, kwargs) == expected


def started() -> Started:
    job = Job(name="report", kind="command", command="report", internal=False)
    target = Target(job=job, key="north")
    run = Run(id=uuid4(), job=job, target=target, scheduled_at=NOW, attempt=2, token=7)
    return Started(run=run, job=job, target=target, token=7, args=[], kwargs={})


def test_an_external_command_sees_the_allowed_part_of_the_environment() -> None:
    seen = commands.environment(
        {"PATH": "/bin", "DATABASE_URL": "db", "LC_ALL": "C", "AWS_SECRET_KEY": "x"}
    )
    assert seen["PATH"] == "/bin"
    assert seen["DATABASE_URL"] == "db"
    assert seen["LC_ALL"] == "C"
    assert "AWS_SECRET_KEY" not in seen


def test_an_external_command_is_told_of_its_run() -> None:
    mine = started()
    seen = commands.order_of(mine, [], {}).environ
    assert {name: seen[name] for name in commands.facts(mine)} == {
        "RUN_ID": str(mine.run.id),
        "SCHEDULED_AT": "2026-01-05T12:00:00+00:00",
        "ATTEMPT": "2",
        "FENCING_TOKEN": "7",
        "JOB": "report",
        "KEY": "north",
    }


def test_a_setting_lets_further_variables_through(settings: Any) -> None:
    settings.JOBS_COMMAND_ENVIRONMENT = ("AWS_*",)
    assert commands.environment({"AWS_REGION": "eu"})["AWS_REGION"] == "eu"


def test_limits_and_user_of_an_order(settings: Any) -> None:
    settings.JOBS_RUN_AS = "jobs"
    settings.JOBS_MEMORY_LIMIT = 10**9
    mine = started()
    order = commands.order_of(mine, ["x"], {"day": "mon"})
    assert (order.soft, order.hard, order.grace) == (108, 120, 10)
    assert (order.memory, order.user) == (10**9, "jobs")
    assert order.call == ["report", "--day=mon", "x"]
    assert order.words[-3:] == order.call
    mine.job.memory_limit = 10**6
    mine.job.hard_limit = timedelta(hours=1)
    order = commands.order_of(mine, [], {})
    assert (order.memory, order.hard) == (10**6, 3600)


@pytest.mark.parametrize(
    ("exit_code", "cut", "state", "reason", "said"),
    [
        (0, None, "succeeded", None, ""),
        (2, None, "failed", "exit_code", "exit code 2"),
        (-9, None, "failed", "killed", "SIGKILL"),
        (-63, None, "failed", "killed", "signal 63"),
        (-15, Cut.SOFT_LIMIT, "failed", "soft_limit", "hard limit: 3 s"),
        (0, Cut.SOFT_LIMIT, "failed", "soft_limit", "soft limit of 2.7 s"),
        (-9, Cut.HARD_LIMIT, "failed", "hard_limit", "hard limit of 3 s"),
        (0, Cut.STOPPED, "failed", "cancelled", "Stopped"),
        (-9, Cut.TERMINATED, "failed", "terminated", "Killed"),
        (-9, Cut.MEMORY, "failed", "memory", "memory limit of 5,000,000 bytes"),
        (-9, Cut.LEASE, "failed", "lost", "did not renew its lease"),
        (-9, Cut.LOST, "failed", "lost", "with its shepherd"),
    ],
)
def test_how_a_process_ended_says_how_the_run_ended(
    exit_code: int, cut: Cut | None, state: str, reason: str | None, said: str
) -> None:
    output = HeadTail(100, 10)
    output.write(b"x")
    result = commands.result_of(Ended(exit_code=exit_code, cut=cut), ORDER, output)
    assert (result.state, result.reason, result.exit_code) == (state, reason, exit_code)
    assert said in result.error
    assert (result.output, result.output_bytes) == ("x", 1)


@pytest.mark.parametrize(
    ("exit_code", "cut", "reason"), [(0, None, "killed"), (-9, Cut.HARD_LIMIT, "hard_limit")]
)
def test_processes_that_cannot_be_killed_are_told(
    exit_code: int, cut: Cut | None, reason: str
) -> None:
    ended = Ended(exit_code=exit_code, cut=cut, left=2)
    result = commands.result_of(ended, ORDER, HeadTail(100, 10))
    assert (result.state, result.reason) == ("failed", reason)
    assert "2 of its processes could not be killed" in result.error


@pytest.mark.parametrize(
    ("error", "state", "reason", "exit_code"),
    [
        (SystemExit(), "succeeded", None, None),
        (SystemExit(0), "succeeded", None, None),
        (SystemExit(3), "failed", "exit_code", 3),
        (SystemExit("no disk"), "failed", "exit_code", 1),
        (CommandError("no", returncode=4), "failed", "error", 4),
        (SoftTimeLimitExceeded(), "failed", "soft_limit", None),
        (ValueError("boom"), "failed", "error", None),
    ],
)
def test_what_a_body_raised_says_how_the_run_ended(
    error: BaseException, state: str, reason: str | None, exit_code: int | None
) -> None:
    result = results.from_error(error)
    assert (result.state, result.reason, result.exit_code) == (state, reason, exit_code)


def test_a_body_may_return_an_outcome_a_result_or_anything() -> None:
    whole = Result(state=State.FAILED)
    assert results.from_return(Outcome.UNCHANGED).outcome == Outcome.UNCHANGED
    assert results.from_return(whole) is whole
    assert results.from_return({"rows": 3}).outcome is None


def test_a_traceback_is_kept_from_its_end_and_without_values() -> None:
    secret = "s3cret"
    try:
        raise ValueError("x" * 30_000 + "\0end")
    except ValueError as error:
        text = results.traceback_of(error)
    assert len(text) == results.ERROR_LIMIT
    assert text.endswith("\ufffdend\n")
    assert secret not in text


@pytest.mark.parametrize(
    ("when", "wait"),
    [
        (30, 30),
        (1.5, 1.5),
        (-5, 0),
        (NOW + timedelta(minutes=1), 60),
        ((NOW + timedelta(minutes=1)).replace(tzinfo=None), 60),
        (NOW - timedelta(minutes=1), 0),
        (None, 0),
        (float("nan"), 0),
        (1e12, 3650 * 86_400),
    ],
)
def test_celerys_wish_for_a_retry_becomes_a_span(when: Any, wait: float) -> None:
    assert results.wait_of(Retry(when=when), now=NOW) == timedelta(seconds=wait)


def test_a_retry_is_recorded_with_the_error_behind_it() -> None:
    wish = Retry(exc=KeyError("lost"), when=NOW + timedelta(seconds=5))
    result = results.from_retry(wish, now=NOW)
    assert "KeyError: 'lost'" in result.error
    assert result.retry_after == timedelta(seconds=5)
