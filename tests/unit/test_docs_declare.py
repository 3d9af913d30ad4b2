"""The examples of docs/declare-a-job.md declare what they say."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from celery import current_app

from scheduling.declarations.commands import declaration_of
from scheduling.registry import Registry
from tests.unit.test_docs import examples_of, load


@pytest.fixture
def declared(monkeypatch: pytest.MonkeyPatch) -> Iterator[Registry]:
    registry = Registry()
    monkeypatch.setattr("scheduling.registry.registry", registry)
    yield registry
    for declaration in registry:
        current_app.tasks.pop(declaration.task, None)


def example(word: str) -> str:
    return next(code for code in examples_of("docs/declare-a-job.md") if word in code)


def test_a_task_is_declared_under_two_names(declared: Registry) -> None:
    load(example("send_statement"))
    assert {each.name: (each.args, str(each.schedule)) for each in declared} == {
        "weekly statements": (("weekly",), "cron 0 6 * * 1"),
        "monthly statements": (("monthly",), "cron 0 6 1 * *"),
    }


def test_a_command_is_told_its_fire_time() -> None:
    declaration = declaration_of("take_stock", load(example("as_of"))["Command"])
    assert declaration.scheduled_at_argument == "as_of"


def test_first_and_last_runs(declared: Registry) -> None:
    load(example("watch_the_quarter"))
    quarter, reminder = declared["watch_the_quarter"], declared["remind_ten_times"]
    assert quarter.first_run == "now"
    assert quarter.starts_at is not None
    assert quarter.ends_at is not None
    assert (reminder.runs, reminder.calendar) == (10, "frankfurt")


def test_a_circuit_and_its_limits(declared: Registry) -> None:
    load(example("collect_payments"))
    found = declared["collect_payments"]
    assert (found.circuit, found.queue_limit, found.pause_after) == ("payments", 12, 3)


def test_which_failures_are_retried(declared: Registry) -> None:
    load(example("fetch_orders"))
    found = declared["fetch_orders"]
    assert (found.retries, found.rerun_if_lost) == (3, True)
    assert found.retry_on == ("ConnectionError", "requests.exceptions.Timeout")
    command = declaration_of("render", load(example("memory_limit"))["Command"])
    assert (command.memory_limit, command.retry_on) == (2 * 2**30, (75,))


def test_hooks(declared: Registry) -> None:
    load(example("import_files"))
    found = declared["import_files"]
    assert found.ready is not None
    assert found.ready() is False
    assert found.should_run is not None
    assert found.circuit == "imports"


def test_a_job_after_all_of_several(declared: Registry) -> None:
    load(example("report_the_day"))
    after = {each.name: [(rule.follower, rule.join) for rule in each.after] for each in declared}
    assert after == {
        "open_day": [],
        "import_prices": [("open_day", False)],
        "import_stock": [("open_day", False)],
        "report_the_day": [("import_prices", True), ("import_stock", True)],
    }


def test_an_export_can_be_pasted(declared: Registry) -> None:
    load(example("overridden by ann"))
    assert str(declared["fetch_rates"].schedule) == "every 5m"
