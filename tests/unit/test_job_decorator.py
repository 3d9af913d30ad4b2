"""`@job`: what it reads, and what it refuses by name before a worker could trip over it."""

from __future__ import annotations

import functools
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, time, timedelta, timezone
from pathlib import Path
from typing import Any

import pytest
from celery import Task, current_app
from celery import schedules as celery
from django.test import override_settings

from scheduling import ClockChange, Cron, Every, Times, declarations, job
from scheduling.errors import InvalidDeclaration
from scheduling.registry import FollowUpRule, Registry

MINUTE = timedelta(minutes=1)
LATER = datetime(2027, 1, 1, tzinfo=UTC)


@pytest.fixture(autouse=True)
def declared(monkeypatch: pytest.MonkeyPatch) -> Iterator[Registry]:
    """An empty registry; the tasks of what is declared in a test go away again."""
    registry = Registry()
    monkeypatch.setattr("scheduling.registry.registry", registry)
    yield registry
    for declaration in registry:
        current_app.tasks.pop(declaration.task, None)


def declare(*args: Any, **kwargs: Any) -> Callable[..., Any]:
    """Declare a job `work(day=...)`."""

    @job(*args, **kwargs)
    def work(day: str = "") -> None:
        """Work

        all day long.
        """

    return work


def hook() -> bool:
    return True


def refusal(call: Callable[[], object]) -> str:
    with pytest.raises(InvalidDeclaration) as refused:
        call()
    return str(refused.value)


@pytest.mark.parametrize(
    ("schedule", "text"),
    [
        (None, "manual"),
        ("always", "always"),
        ("every 5m", "every 5m"),
        ("0 3 * * *", "cron 0 3 * * *"),
        (timedelta(minutes=5), "every 5m"),
        (Cron("0 3 * * *", tz="Europe/Berlin"), "cron 0 3 * * * tz Europe/Berlin"),
        (Every("2h") | Times("09:00"), "every 2h | times 09:00"),
    ],
)
def test_a_schedule_comes_in_three_forms(declared: Registry, schedule: Any, text: str) -> None:
    declare(schedule)
    assert str(declared["work"].schedule) == text


@pytest.mark.parametrize(
    "schedule",
    [
        "evry 5m",
        "",
        timedelta(0),
        timedelta(seconds=0.5),
        -MINUTE,
        300,
        ["every 5m"],
        time(3),
        b"every 5m",
        celery.crontab(minute=5),
    ],
    ids=repr,
)
def test_any_other_schedule_is_refused_with_the_jobs_name(schedule: Any) -> None:
    assert "'work'" in refusal(lambda: declare(schedule))


def test_one_name_stands_for_a_list_of_one(declared: Registry) -> None:
    declare(locks="ledger", recipients="books@example.org", after="close_books")
    found = declared["work"]
    assert (found.locks, found.recipients) == (("ledger",), ("books@example.org",))
    assert [rule.follower for rule in found.after] == ["close_books"]


@pytest.mark.parametrize(
    ("keywords", "words"),
    [
        ({"catchup": "all"}, ["'catchup'", "'catch_up'"]),
        ({"recipient": ["x"]}, ["'recipient'", "'recipients'"]),
        ({"timeout": 5}, ["'timeout'"]),
        ({"catch_up": "some"}, ["catch_up is 'some'", "none, latest, all"]),
        ({"overlap": "jump"}, ["overlap is 'jump'", "skip, wait, queue, cancel, terminate, allow"]),
        ({"catch_up_window": 5}, ["catch_up_window is 5"]),
        ({"start_within": -MINUTE}, ["start_within is"]),
        ({"hard_limit": 5}, ["hard_limit is 5"]),
        ({"hard_limit": timedelta(days=99_999)}, ["hard_limit is", "century"]),
        ({"soft_limit": 2 * MINUTE, "hard_limit": MINUTE}, ["0:02:00", "0:01:00"]),
        ({"retries": -1}, ["retries is -1"]),
        ({"retries": "3"}, ["retries is '3'"]),
        ({"retries": True}, ["retries is True"]),
        ({"retry_delay": 5}, ["retry_delay is 5"]),
        ({"retry_delay": None}, ["retry_delay is None"]),
        ({"idempotent": "no"}, ["idempotent is 'no'"]),
        ({"keyed": 1}, ["keyed is 1"]),
        ({"notify_on_success": "yes"}, ["notify_on_success is 'yes'"]),
        ({"locks": [1]}, ["locks is [1]"]),
        ({"locks": {"one", "two"}}, ["locks is {"]),
        ({"recipients": 5}, ["recipients is 5"]),
        ({"after": 5}, ["after is 5"]),
        ({"after_any": [""]}, ["after_any is ['']"]),
        ({"queue": 5}, ["queue is 5"]),
        ({"description": 5}, ["description is 5"]),
        ({"kwargs": {"day": object()}}, ["kwargs is"]),
        ({"kwargs": {"day": float("nan")}}, ["kwargs is"]),
        ({"kwargs": ["day"]}, ["kwargs is ['day']"]),
        ({"kwargs": {"night": 1}}, ["'night'", "kwargs"]),
        ({"scheduled_at": "night"}, ["'night'", "scheduled_at"]),
        ({"scheduled_at": 5}, ["scheduled_at is 5"]),
        ({"retry_on": "no error"}, ["retry_on has 'no error'", "exit codes from 1 to 255"]),
        ({"retry_on": [OSError, 0]}, ["retry_on has 0"]),
        ({"retry_on": [256]}, ["retry_on has 256"]),
        ({"retry_on": [True]}, ["retry_on has True"]),
        ({"retry_on": [int]}, ["retry_on has <class 'int'>"]),
        ({"memory_limit": "512"}, ["memory_limit is '512'", "'512M'"]),
        ({"memory_limit": "1.5G"}, ["memory_limit is '1.5G'"]),
        ({"memory_limit": "16383K"}, ["memory_limit is '16383K'", "at least 16M"]),
        ({"memory_limit": 2**63}, ["memory_limit is 9223372036854775808"]),
        ({"memory_limit": True}, ["memory_limit is True"]),
        ({"locks_until_next_fire": 1}, ["locks_until_next_fire is 1"]),
        ({"ready": True}, ["ready is True"]),
        ({"status": lambda self: True}, ["status", "without arguments"]),
        ({"after_all": [1]}, ["after_all is [1]"]),
        ({"should_run": True}, ["should_run is True"]),
        ({"should_run": lambda self: True}, ["should_run", "without arguments"]),
        ({"scheduled_at": "--as-of"}, ["scheduled_at is '--as-of'", "'as_of'"]),
        ({"args": "day"}, ["args is 'day'"]),
        ({"args": ["day", "night"]}, ["too many", "args"]),
        ({"args": [object()]}, ["args is ["]),
        ({"options": ["slow"]}, ["options is ['slow']"]),
        ({"options": {"colour": 1}}, ["'colour'", "queue, exchange"]),
        ({"calendar": ""}, ["calendar is ''"]),
        ({"calendar": 5}, ["calendar is 5"]),
        ({"circuit": "a\nb"}, ["circuit is 'a\\nb'"]),
        ({"clock_change": "twine"}, ["clock_change is 'twine'", "classic, skip, twice, running"]),
        ({"first_run": "later"}, ["first_run is 'later'", '"next"']),
        ({"first_run": LATER.replace(tzinfo=None)}, ["first_run is datetime.datetime(2027"]),
        ({"first_run": 5}, ["first_run is 5"]),
        ({"starts_at": LATER.replace(tzinfo=None)}, ["starts_at", "no time zone"]),
        ({"ends_at": "2027-01-01T00:00:00+00:00"}, ["ends_at is '2027", "aware datetime"]),
        ({"starts_at": LATER, "ends_at": LATER}, ["not after its start"]),
        ({"queue_limit": 0}, ["queue_limit is 0", "from 1"]),
        ({"pause_after": 40_000}, ["pause_after is 40000", "32767"]),
        ({"runs": 0}, ["runs is 0", "from 1"]),
        ({"runs": 2.0}, ["runs is 2.0"]),
        ({"ping_url": "ftp://example.org/x"}, ["ping_url", "https://"]),
        ({"ping_url": "https://"}, ["ping_url"]),
        ({"name": 5}, ["Job 5"]),
        ({"name": "x" * 201}, ["200"]),
        ({"name": "two\nlines"}, ["'two\\nlines'"]),
    ],
    ids=lambda value: ", ".join(value) if isinstance(value, dict) else "",
)
def test_a_wrong_keyword_is_named(
    declared: Registry, keywords: dict[str, Any], words: list[str]
) -> None:
    said = refusal(lambda: declare(**keywords))
    for word in words:
        assert word in said
    assert len(declared) == 0
    assert f"{__name__}.work" not in current_app.tasks


@pytest.mark.parametrize(
    ("keywords", "field", "value"),
    [
        ({"calendar": "holidays"}, "calendar", "holidays"),
        ({"circuit": "payments"}, "circuit", "payments"),
        ({"clock_change": "twice"}, "clock_change", ClockChange.TWICE),
        ({"clock_change": ClockChange.SKIP}, "clock_change", ClockChange.SKIP),
        ({"first_run": "now"}, "first_run", "now"),
        ({"first_run": LATER}, "first_run", "2027-01-01T00:00:00+00:00"),
        ({"first_run": "2027-01-01T01:00:00+01:00"}, "first_run", "2027-01-01T00:00:00+00:00"),
        (
            {"starts_at": LATER.astimezone(timezone(timedelta(hours=9)))},
            "starts_at",
            LATER,
        ),
        ({"ends_at": LATER}, "ends_at", LATER),
        ({"queue_limit": 3}, "queue_limit", 3),
        ({"pause_after": 5}, "pause_after", 5),
        ({"retry_on": None}, "retry_on", ()),
        ({"retry_on": OSError}, "retry_on", ("OSError",)),
        (
            {"retry_on": [InvalidDeclaration, "requests.Timeout", 75]},
            "retry_on",
            ("scheduling.errors.InvalidDeclaration", "requests.Timeout", 75),
        ),
        ({"memory_limit": None}, "memory_limit", None),
        ({"memory_limit": 2**24}, "memory_limit", 2**24),
        ({"memory_limit": "512M"}, "memory_limit", 2**29),
        ({"memory_limit": "2G"}, "memory_limit", 2**31),
        ({"locks_until_next_fire": True}, "locks_until_next_fire", True),
        ({"ready": hook, "status": print}, "ready", hook),
        ({"ready": hook, "status": print}, "status", print),
        (
            {"after": "a", "after_all": ["b", "c"]},
            "after",
            (
                FollowUpRule(follower="a"),
                FollowUpRule(follower="b", join=True),
                FollowUpRule(follower="c", join=True),
            ),
        ),
        ({"runs": 2}, "runs", 2),
        ({"overlap": "terminate"}, "overlap", "terminate"),
        ({"args": ("monday",)}, "args", ("monday",)),
        (
            {"options": {"priority": 3}, "queue": "slow"},
            "options",
            {"priority": 3, "queue": "slow"},
        ),
        ({"scheduled_at": "day"}, "scheduled_at_argument", "day"),
        ({"ping_url": "https://hc.example.org/x"}, "ping_url", "https://hc.example.org/x"),
    ],
    ids=lambda value: ", ".join(value) if isinstance(value, dict) else "",
)
def test_a_keyword_is_read(
    declared: Registry, keywords: dict[str, Any], field: str, value: object
) -> None:
    declare(**keywords)
    assert getattr(declared["work"], field) == value


def test_no_message_repeats_a_ping_address(declared: Registry) -> None:
    assert "secret" not in refusal(lambda: declare(ping_url="mailto:secret@example.org"))
    declare(ping_url="https://hc.example.org/secret")
    assert "secret" not in repr(declared["work"])


def test_a_task_that_there_is_already_becomes_a_job_under_as_many_names_as_wanted(
    declared: Registry,
) -> None:
    work = declare()
    assert job("every 5m", name="at noon", kwargs={"day": "monday"})(work) is work
    assert job("every 6m", name="at night")(work) is work
    assert {each.name for each in declared} == {"work", "at noon", "at night"}
    assert {each.task for each in declared} == {f"{__name__}.work"}
    assert declared["at noon"].description == "Work"


def test_a_task_that_there_is_already_keeps_its_own_options() -> None:
    work = declare()
    assert "'rate_limit'" in refusal(lambda: job(name="again", rate_limit="1/m")(work))
    assert "'night'" in refusal(lambda: job(name="again", kwargs={"night": 1})(work))


def test_keywords_of_celery_and_of_the_tasks_own_class_go_to_celery() -> None:
    class Tagged(Task[Any, Any]):
        tag = ""

    work = declare(
        base=Tagged, tag="a", rate_limit="1/m", autoretry_for=(OSError,), retry_backoff=2
    )
    assert (work.tag, work.rate_limit) == ("a", "1/m")  # type: ignore[attr-defined]


async def awaited() -> None: ...


def generated() -> Iterator[int]:
    yield 1


class Ledger:
    def close(self) -> None: ...


@pytest.mark.parametrize(
    ("function", "words"),
    [
        (awaited, ["'awaited'", "coroutine"]),
        (generated, ["'generated'", "generator"]),
        (Ledger.close, ["'close'", "method of Ledger"]),
        (staticmethod(generated), ["staticmethod"]),
        (Ledger, ["Ledger"]),
        (lambda: None, ["lambda"]),
        (functools.partial(print), ["functools.partial"]),
        (5, ["5"]),
    ],
    ids=["coroutine", "generator", "method", "staticmethod", "class", "lambda", "partial", "int"],
)
def test_what_no_worker_can_run_is_refused(function: Any, words: list[str]) -> None:
    said = refusal(lambda: job(name="work")(function))
    for word in words:
        assert word in said


def test_forgotten_parentheses_are_named_and_do_not_lose_the_job() -> None:
    def work() -> None: ...

    assert "parentheses" in refusal(lambda: job(work))  # type: ignore[arg-type]


def test_the_same_name_twice_names_both() -> None:
    def rest() -> None: ...

    declare("every 5m")
    said = refusal(lambda: job("every 6m", name="work")(rest))
    assert f"{__name__}.work" in said
    assert f"{__name__}.rest" in said


def test_a_module_that_is_executed_again_after_an_error_declares_its_jobs_again(
    declared: Registry,
) -> None:
    # Its functions are new ones, and so are its hooks; the error is told, not a double name.
    for _ in range(2):
        declare("every 5m", should_run=lambda: True)
        current_app.tasks.pop(declared["work"].task)  # Celery would warn of it
    assert len(declared) == 1


def test_one_wrong_job_is_told_and_stops_no_other_module(
    declared: Registry, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    for app, source in {
        "wrongapp": "@job(retries='3')\ndef pay(): pass",
        "rightapp": "@job('every 5m')\ndef feed(): pass",
    }.items():
        (tmp_path / app).mkdir()
        (tmp_path / app / "__init__.py").touch()
        (tmp_path / app / "jobs.py").write_text(f"from scheduling import job\n{source}")
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.setattr("scheduling.declarations.registry", declared)
    with override_settings(INSTALLED_APPS=["wrongapp", "rightapp"]):
        for _ in range(2):  # as the checks and then the sync of one `migrate`
            collected = declarations.collect()
            (problem,) = collected.problems
            assert "wrongapp.jobs" in str(problem)
            assert "Job 'pay': retries is '3'" in str(problem)
            assert "feed" in collected.declarations
