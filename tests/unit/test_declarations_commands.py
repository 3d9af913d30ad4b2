"""Management commands with an inner class ScheduledJob."""

from __future__ import annotations

import sys
from datetime import UTC, datetime, time, timedelta
from pathlib import Path
from textwrap import dedent

import pytest
from django.core.management import BaseCommand
from django.test import override_settings

from scheduling import ClockChange, Overlap
from scheduling.declarations.commands import declaration_of, read_commands
from scheduling.errors import InvalidDeclaration
from scheduling.registry import Declaration


def declare(**attributes: object) -> Declaration:
    scheduled_job = type("ScheduledJob", (), attributes)
    command = type("Command", (BaseCommand,), {"help": "Work", "ScheduledJob": scheduled_job})
    return declaration_of("work", command)


def test_an_interval_counts_from_the_end_of_a_run():
    assert str(declare(scheduled_interval=timedelta(minutes=30)).schedule) == "every 30m after end"


def test_times_are_those_of_the_projects_zone():
    with override_settings(TIME_ZONE="Europe/Paris"):
        declared = declare(scheduled_times=[time(23, 37), time(13)])
    assert str(declared.schedule) == "times 13:00 23:37 tz Europe/Paris"


def test_without_a_schedule_a_job_is_run_by_hand_only():
    assert str(declare().schedule) == "manual"


def test_a_schedule_may_be_text():
    assert str(declare(schedule="cron 0 3 * * *").schedule) == "cron 0 3 * * *"


def test_a_command_runs_as_its_own_process_unless_it_says_internal():
    assert not declare().internal
    assert declare(internal=True).internal


@pytest.mark.parametrize(
    ("timeout", "limit"),
    [
        (2, timedelta(minutes=2)),
        (0.05, timedelta(seconds=3)),
        (timedelta(seconds=4), timedelta(seconds=4)),
    ],
)
def test_a_bare_timeout_is_in_minutes(timeout: object, limit: timedelta):
    assert declare(timeout=timeout).hard_limit == limit


@pytest.mark.parametrize(
    "names",
    ["billing.send_mail", ["billing.send_mail"], ("send_mail",)],
    ids=["text", "list", "bare"],
)
def test_next_jobs_are_triggered_by_any_end(names: object):
    (rule,) = declare(trigger_next_jobs=names).follow_ups
    assert (rule.follower, rule.on) == ("send_mail", "any")


def test_should_run_is_called_as_declared():
    class ScheduledJob:
        @classmethod
        def should_run(cls) -> bool:
            return cls.__name__ == "ScheduledJob"

    command = type("Command", (BaseCommand,), {"help": "Work", "ScheduledJob": ScheduledJob})
    hook = declaration_of("work", command).should_run
    assert hook is not None
    assert hook() is True


def test_a_command_says_whether_it_is_ready_and_how_it_is():
    class ScheduledJob:
        @staticmethod
        def ready() -> bool:
            return False

        @classmethod
        def status(cls) -> str:
            return cls.__name__

    command = type("Command", (BaseCommand,), {"help": "Work", "ScheduledJob": ScheduledJob})
    declared = declaration_of("work", command)
    assert declared.ready is not None
    assert declared.status is not None
    assert (declared.ready(), declared.status()) == (False, "ScheduledJob")


def test_a_command_says_when_and_how_as_a_function_does():
    later = datetime(2027, 1, 1, tzinfo=UTC)
    declared = declare(
        schedule="every 5m",
        calendar="holidays",
        clock_change="running",
        first_run=later,
        starts_at=later,
        ends_at=later + timedelta(days=1),
        runs=3,
        overlap="cancel",
        queue_limit=4,
        pause_after=5,
        circuit="payments",
        scheduled_at="as_of",
        ping_url="https://hc.example.org/x",
        retry_on=[OSError, 75],
        memory_limit="1G",
        locks="ledger",
        locks_until_next_fire=True,
        after_all=["feed", "milk"],
    )
    assert (declared.calendar, declared.circuit) == ("holidays", "payments")
    assert (declared.clock_change, declared.overlap) == (ClockChange.RUNNING, Overlap.CANCEL)
    assert declared.first_run == "2027-01-01T00:00:00+00:00"
    assert (declared.starts_at, declared.ends_at) == (later, later + timedelta(days=1))
    assert (declared.runs, declared.queue_limit, declared.pause_after) == (3, 4, 5)
    assert declared.scheduled_at_argument == "as_of"
    assert declared.ping_url == "https://hc.example.org/x"
    assert (declared.retry_on, declared.memory_limit) == (("OSError", 75), 2**30)
    assert (declared.locks, declared.locks_until_next_fire) == (("ledger",), True)
    assert [(rule.follower, rule.on, rule.join) for rule in declared.after] == [
        ("feed", "success", True),
        ("milk", "success", True),
    ]


def test_attributes_may_be_inherited():
    class Nightly:
        scheduled_times = [time(3)]

    class ScheduledJob(Nightly):
        internal = True

    command = type("Command", (BaseCommand,), {"help": "Work", "ScheduledJob": ScheduledJob})
    declared = declaration_of("work", command)
    assert (str(declared.schedule), declared.internal) == ("times 03:00 tz UTC", True)


@pytest.mark.parametrize(
    ("attributes", "words"),
    [
        ({"scheduled_time": [time(3)]}, ["'scheduled_time'", "'scheduled_times'"]),
        ({"colour": "red"}, ["'colour'", "known are", "trigger_next_jobs"]),
        (
            {"scheduled_interval": timedelta(hours=1), "scheduled_times": [time(3)]},
            ["'scheduled_interval'", "'scheduled_times'"],
        ),
        (
            {"schedule": "every 5m", "scheduled_interval": timedelta(hours=1)},
            ["'schedule'", "'scheduled_interval'"],
        ),
        ({"timeout": 3, "hard_limit": timedelta(minutes=3)}, ["'timeout'", "'hard_limit'"]),
        ({"timeout": 0}, ["timeout is 0"]),
        ({"timeout": True}, ["timeout is True"]),
        ({"scheduled_interval": 5}, ["scheduled_interval is 5"]),
        ({"scheduled_times": time(3)}, ["scheduled_times is datetime.time(3, 0)"]),
        ({"scheduled_times": []}, ["Times without a time of day"]),
        ({"schedule": "evry 5m"}, ["'evry 5m' cannot be read"]),
        ({"overlap": "jump"}, ["'jump'"]),
        ({"internal": "yes"}, ["internal is 'yes'"]),
        ({"trigger_next_jobs": 7}, ["trigger_next_jobs is 7"]),
        ({"retries": -1}, ["retries is -1"]),
        ({"catch_up": "some"}, ["catch_up is 'some'", "none, latest, all"]),
        ({"timeout": float("nan")}, ["timeout is nan"]),
        ({"timeout": float("inf")}, ["timeout is inf"]),
        ({"timeout": 1e12}, ["timeout is 1000000000000.0"]),
        ({"timeout": 1, "soft_limit": timedelta(hours=1)}, ["soft limit", "hard limit"]),
        ({"queue": 5}, ["queue is 5"]),
        ({"description": 5}, ["description is 5"]),
        ({"scheduled_at": 5}, ["scheduled_at is 5"]),
        ({"scheduled_at": "--as-of"}, ["scheduled_at is '--as-of'", "'as_of'"]),
        ({"calender": "holidays"}, ["'calender'", "'calendar'"]),
        ({"clock_change": "twine"}, ["clock_change is 'twine'"]),
        ({"runs": 0}, ["runs is 0"]),
        ({"first_run": "soon"}, ["first_run is 'soon'"]),
        ({"locks": {"one", "two"}}, ["locks is"]),
        ({"trigger_next_jobs": ["shop.report", ""]}, ["trigger_next_jobs is"]),
        ({"should_run": lambda self: True}, ["should_run", "staticmethod or classmethod"]),
        ({"kwargs": {"day": object}}, ["kwargs"]),
        ({"should_run": True}, ["should_run is True"]),
        ({"ready": lambda self: True}, ["ready", "staticmethod or classmethod"]),
        ({"status": True}, ["status is True"]),
        ({"retry_on": "an error"}, ["retry_on has 'an error'"]),
        ({"memory_limit": "much"}, ["memory_limit is 'much'"]),
        ({"lock_until_next_fire": True}, ["'locks_until_next_fire'"]),
    ],
)
def test_a_wrong_declaration_is_named(attributes: dict[str, object], words: list[str]):
    with pytest.raises(InvalidDeclaration) as refused:
        declare(**attributes)
    for word in ["'work'", *words]:
        assert word in str(refused.value)


def test_what_is_no_class_is_named():
    command = type("Command", (BaseCommand,), {"help": "Work", "ScheduledJob": {"timeout": 3}})
    with pytest.raises(InvalidDeclaration, match="'work': ScheduledJob is"):
        declaration_of("work", command)


@pytest.mark.parametrize(
    ("help_", "words"),
    [("", "no help"), (None, "no help"), ("x" * 201, "201 characters; shorten it to 200")],
)
def test_a_command_says_in_a_line_what_it_does(help_: object, words: str):
    command = type("Command", (BaseCommand,), {"help": help_, "ScheduledJob": type("S", (), {})})
    with pytest.raises(InvalidDeclaration, match=words):
        declaration_of("work", command)


COMMAND = """
from django.core.management import BaseCommand

class Command(BaseCommand):
    help = "Work"

    class ScheduledJob:
        {attributes}
"""


@pytest.fixture
def make_app(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    """Write an app with commands: name -> source."""
    monkeypatch.syspath_prepend(str(tmp_path))
    names: list[str] = []

    def make(app: str, **sources: str) -> None:
        folder = tmp_path / app / "management" / "commands"
        folder.mkdir(parents=True)
        for package in (folder, folder.parent, folder.parent.parent):
            (package / "__init__.py").touch()
        for name, source in sources.items():
            (folder / f"{name}.py").write_text(dedent(source))
        names.append(app)

    yield make
    for name in list(sys.modules):
        if name.partition(".")[0] in names:
            del sys.modules[name]


def test_one_bad_command_does_not_hide_the_others(make_app):
    make_app(
        "farm",
        good=COMMAND.format(attributes="internal = True"),
        broken="import no_such_module",
        misspelt=COMMAND.format(attributes="intenral = True"),
        plain="from django.core.management import BaseCommand as Command",
    )
    with override_settings(INSTALLED_APPS=["farm"]):
        declarations, problems = read_commands()
    assert [declared.name for declared in declarations] == ["good"]
    assert [(problem.name, problem.declared_in) for problem in problems] == [
        ("broken", "command"),
        ("misspelt", "command"),
    ]
    assert "No module named 'no_such_module'" in str(problems[0])
    assert "did you mean 'internal'?" in str(problems[1])


def test_the_same_name_in_two_apps_names_both(make_app):
    make_app("farm", feed=COMMAND.format(attributes="pass"))
    make_app("zoo", feed=COMMAND.format(attributes="pass"))
    with override_settings(INSTALLED_APPS=["farm", "zoo"]):
        declarations, (problem,) = read_commands()
    assert declarations == []
    for word in ("'feed'", "'farm'", "'zoo'"):
        assert word in str(problem)


def test_a_command_that_extends_another_apps_is_the_same_job(make_app):
    make_app("zoo", feed=COMMAND.format(attributes="timeout = 3"))
    make_app(
        "farm",
        feed="""
        from zoo.management.commands.feed import Command as Original

        class Command(Original):
            help = "Work more"
        """,
    )
    with override_settings(INSTALLED_APPS=["farm", "zoo"]):
        (declared,), problems = read_commands()
    assert problems == []
    assert (declared.description, declared.hard_limit) == ("Work more", timedelta(minutes=3))


def test_djangos_own_commands_are_left_alone():
    with override_settings(INSTALLED_APPS=["django.contrib.contenttypes"]):
        assert read_commands() == ([], [])
