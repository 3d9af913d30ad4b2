"""Jobs and overrides as code: what is pasted declares the same job again."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import replace
from datetime import datetime, timedelta
from typing import Any

import pytest
from celery import current_app
from django.core.management import BaseCommand
from django_celery_beat.models import CrontabSchedule, SolarSchedule

from scheduling import job, runs, sync
from scheduling.declarations.as_code import as_module, jobs_as_code
from scheduling.declarations.columns import columns_of
from scheduling.declarations.commands import declaration_of
from scheduling.models import Calendar, Circuit, FollowUp, Job
from scheduling.registry import Declaration, FollowUpRule, Registry, registry
from scheduling.schedules import Manual, parse
from tests.factories import NOW, make_job
from tests.integration.cli import jobs
from tests.integration.declared_code import declared_code
from tests.integration.declared_fields import APART, HOOKS, VALUES
from tests.integration.periodic_rows import make_row

pytestmark = pytest.mark.django_db

HOUR = timedelta(hours=1)
code = pytest.fixture(declared_code)


@pytest.fixture(autouse=True)
def no_jobs(db: None) -> None:
    """Begin without the jobs that the code declares, which the migration has synced."""
    Job.objects.all().delete()


@pytest.fixture
def pasted(monkeypatch: pytest.MonkeyPatch) -> Iterator[Registry]:
    """A fresh registry for what is pasted; its tasks go away again."""
    fresh = Registry()
    monkeypatch.setattr("scheduling.registry.registry", fresh)
    yield fresh
    for name in [name for name in current_app.tasks if name.startswith("barn.")]:
        current_app.tasks.pop(name)


def make_others() -> None:
    """Those that `work` follows; the two that it waits for come of one run."""
    feed = (FollowUpRule(follower="feed"),)
    leaders = {"feed": (), "milk": (), "shear": (), "wash": feed, "weigh": feed}
    for name, after in leaders.items():
        registry._by_name[name] = Declaration(
            name=name,
            kind="task",
            declared_in="function",
            task=f"farm.{name}",
            schedule=Manual(),
            after=after,
        )


def text_of(name: str, *words: str) -> str:
    return str(jobs("export", "--json", "--job", name, *words).document()["jobs"][0]["text"])


def run_text(text: str) -> dict[str, Any]:
    """Execute a pasted text as the module `barn.jobs`."""
    names: dict[str, Any] = {
        "__name__": "barn.jobs",
        "job": job,
        "datetime": datetime,
        "timedelta": timedelta,
    }
    exec(compile(text, "pasted", "exec", dont_inherit=True), names)
    return names


def same(one: Declaration, other: Declaration) -> None:
    assert columns_of(one) == columns_of(other)
    assert (one.keyed, one.runs, one.follow_ups) == (other.keyed, other.runs, other.follow_ups)
    assert one.after == other.after


def function(**fields: Any) -> Declaration:
    return Declaration(
        name="work",
        kind="task",
        declared_in="function",
        task="barn.jobs.work",
        **{"schedule": Manual(), **fields},
    )


def command(**fields: Any) -> Declaration:
    values = {"schedule": Manual(), "internal": False, "description": "Work", **fields}
    return Declaration(name="work", kind="command", declared_in="command", command="work", **values)


def deploy(declaration: Declaration) -> None:
    make_others()
    registry._by_name[declaration.name] = declaration
    result = sync.sync(now=NOW)
    assert [each for each in result.problems if "calendar" not in each] == []


def test_the_table_has_every_field() -> None:
    assert set(VALUES) | APART == set(Declaration.__dataclass_fields__)


@pytest.mark.parametrize("field", [*sorted(set(VALUES) - {"internal"}), ""])
def test_a_pasted_function_is_the_same_declaration(code, pasted: Registry, field: str) -> None:
    declared = function(**{field: VALUES[field]} if field else {})
    deploy(declared)
    run_text(text_of("work", "--secrets"))
    same(pasted["work"], declared)


@pytest.mark.parametrize("field", [*sorted(set(VALUES) - {"keyed", "batch"}), ""])
def test_a_pasted_command_is_the_same_declaration(
    code, monkeypatch: pytest.MonkeyPatch, field: str
) -> None:
    declared = command(**{field: VALUES[field]} if field else {})
    monkeypatch.setattr("scheduling.declarations.read_commands", lambda: ([declared], []))
    deploy(declared)
    inner = run_text(text_of("work", "--secrets"))["ScheduledJob"]
    made = type("Command", (BaseCommand,), {"help": "Work", "ScheduledJob": inner})
    same(declaration_of("work", made), declared)


def test_all_fields_at_once_go_round(code, pasted: Registry) -> None:
    declared = function(**{k: v for k, v in VALUES.items() if k != "internal"})
    deploy(declared)
    run_text(text_of("work", "--secrets"))
    same(pasted["work"], declared)


def test_only_what_differs_from_the_defaults_is_said(code) -> None:
    deploy(function(schedule=parse("every 5m"), retries=2, description="Work"))
    assert text_of("work") == (
        '# barn.jobs.work\n@job("every 5m", retries=2)\ndef work(*args, **kwargs):\n    """Work"""'
    )


def test_an_override_is_the_value_and_says_who_when_and_what_the_code_says(
    code, pasted: Registry
) -> None:
    deploy(function(schedule=parse("every 1h"), retries=2))
    found = Job.objects.get(name="work")
    sync.set_override(found, "schedule", "every 10m", by="ann\n@evil()", now=NOW)
    sync.set_override(found, "start_within", HOUR, by="bob", now=NOW)
    sync.set_override(found, "retries", 0, by="bob", now=NOW)
    text = text_of("work")
    assert (
        "    # overridden by ann\\n@evil() at 2026-01-05T12:00:00+00:00; the code says "
        '"every 1h"\n    "every 10m",\n'
    ) in text
    assert "the code says None\n    start_within=timedelta(hours=1),\n" in text
    assert "the code says 2\n    retries=0,\n" in text
    run_text(text)
    same(pasted["work"], function(schedule=parse("every 10m"), start_within=HOUR))


def test_only_overrides_when_asked(code) -> None:
    deploy(function(schedule=parse("every 1h"), retries=2))
    found = Job.objects.get(name="work")
    make_job("by hand", schedule="every 5m")
    assert jobs("export", "--overrides").stdout == "# No overrides.\n"
    sync.set_override(found, "pause_after", 3, by="ann", now=NOW)
    (only,) = jobs("export", "--overrides", "--json").document()["jobs"]
    assert (only["name"], only["keywords"]) == ("work", {"pause_after": 3})
    assert only["overrides"] == {
        "pause_after": {"code": None, "by": "ann", "at": "2026-01-05T12:00:00+00:00"}
    }


def test_a_number_that_is_counted_down_is_pasted_as_it_was_declared(code) -> None:
    deploy(function(schedule=parse("every 1h"), runs=3))
    runs.claim(now=NOW + HOUR, limit=10)
    text = text_of("work")
    assert "runs=3" in text
    assert "# runs left: 2" in text
    assert "overridden" not in text


def test_a_ping_address_is_a_secret(code) -> None:
    deploy(function(ping_url=VALUES["ping_url"]))
    sync.set_override(
        Job.objects.get(name="work"), "ping_url", "https://b.example.org/token", by="a", now=NOW
    )
    told = (
        jobs("export", "--json").stdout
        + jobs("export").stdout
        + jobs("export", "--overrides").stdout
    )
    assert "secret" not in told.replace("--secrets", "")
    assert "token" not in told
    assert "# ping_url is set; --secrets shows it" in text_of("work")
    assert 'ping_url="https://b.example.org/token"' in text_of("work", "--secrets")


def test_a_job_of_the_admin_on_a_task_is_that_task_declared(code, pasted: Registry) -> None:
    Calendar.objects.create(name="holidays")
    Circuit.objects.create(name="payments")
    made = make_job(
        "nightly",
        schedule="every 5m",
        overlap="wait",
        args=[],
        options={"queue": "slow"},
        calendar_id="holidays",
        circuit_id="payments",
    )
    runs.adopt(made, now=NOW)
    whole = jobs("export", "--job", "nightly").stdout
    assert "import tests.testapp.jobs\n" in whole
    assert "retire it there" in whole
    run_text(whole)
    declared = pasted["nightly"]
    assert declared.task == "tests.testapp.jobs.note"
    wanted = columns_of(declared)
    assert {name: getattr(made, name) for name in wanted} == {
        **wanted,
        "description": made.description,
    }
    # And so it goes on in the code.
    runs.retire(made, now=NOW)
    registry._by_name["nightly"] = declared
    assert sync.sync(now=NOW).problems == []
    assert Job.objects.get(name="nightly").pk == made.pk


def test_a_periodic_task_is_its_task_declared(code, pasted: Registry) -> None:
    make_row(
        "mail",
        crontab=CrontabSchedule.objects.create(minute="0", hour="3", timezone="Europe/Berlin"),
        task="tests.testapp.jobs.plain",
        args='["a"]',
        kwargs="{}",
        queue="slow",
        expire_seconds=90,
    )
    followed = Job.objects.get(name="mail")
    text = jobs("export", "--job", "mail").stdout
    assert "delete that before this is deployed" in text
    run_text(text)
    said, stored = columns_of(pasted["mail"]), followed
    assert {name: getattr(stored, name) for name in said} == {
        **said,
        "description": stored.description,
    }


def test_a_task_that_no_module_has_is_looked_up_by_its_name(code) -> None:
    runs.adopt(make_job("mail", task="mail.send", schedule="every 5m"), now=NOW)
    told = jobs("export", "--job", "mail").stdout
    assert 'job("every 5m", name="mail")(current_app.tasks["mail.send"])' in told
    assert "from celery import current_app" in told


def test_an_override_that_the_form_cannot_say_is_told(code) -> None:
    deploy(function())
    sync.set_override(Job.objects.get(name="work"), "internal", False, by="ann", now=NOW)
    assert "# internal is overridden too" in text_of("work", "--overrides")


def test_a_command_of_another_name_says_that_its_history_ends(code) -> None:
    runs.adopt(make_job("tidy up", kind="command", command="scribble", internal=False), now=NOW)
    text = text_of("tidy up")
    assert "# manage.py scribble" in text
    assert "its name is 'tidy up'" in text


def test_what_code_cannot_say_is_a_comment(code) -> None:
    make_row(
        "sunrise",
        solar=SolarSchedule.objects.create(event="sunrise", latitude=1, longitude=1),
    )
    broken = make_job("broken", schedule="every now", schedule_error="no\nsuch span")
    for name in ("sunrise", broken.name):
        lines = text_of(name).splitlines()
        assert lines
        assert all(line.startswith("# ") for line in lines)


def test_hooks_and_what_only_the_admin_says_are_told(code) -> None:
    deploy(function(**{hook: lambda: True for hook in HOOKS}))
    Job.objects.filter(name="work").update(lock_resource=False)
    (told,) = jobs("export", "--job", "work", "--json").document()["jobs"]
    assert told["notes"] == [
        "should_run stays as it is in the code",
        "ready stays as it is in the code",
        "status stays as it is in the code",
        "lock_resource is off, which only the admin can say",
    ]
    for note in told["notes"]:
        assert f"# {note}\n" in told["text"]


def test_the_document_has_the_text_and_each_job(code) -> None:
    deploy(function(schedule=parse("every 5m"), hard_limit=HOUR))
    document = jobs("export", "--job", "work", "--json").document()
    assert document["text"].endswith(document["jobs"][0].pop("text"))
    assert document["jobs"] == [
        {
            "name": "work",
            "declared_in": "function",
            "kind": "task",
            "calls": "barn.jobs.work",
            "keywords": {"schedule": "every 5m", "hard_limit": "1h"},
            "overrides": {},
            "notes": [],
        }
    ]


def test_an_unknown_job_is_bad_input() -> None:
    told = jobs("export", "--job", "nobody", "--json")
    assert told.code == 2
    assert "nobody" in told.document()["error"]


def test_the_export_of_everything_is_python(code) -> None:
    deploy(function(**{k: v for k, v in VALUES.items() if k != "internal"}))
    whole = as_module(jobs_as_code(Job.objects.active()))
    compile(whole, "pasted", "exec", dont_inherit=True)
    assert "from datetime import datetime, timedelta\n" in whole


def test_an_export_asks_few_questions(code, django_assert_max_num_queries) -> None:
    for number in range(10):
        registry._by_name[f"job {number}"] = replace(
            function(), name=f"job {number}", task=f"barn.jobs.work{number}"
        )
    sync.sync(now=NOW)
    FollowUp.objects.create(
        job=Job.objects.get(name="job 1"), follower=Job.objects.get(name="job 2")
    )
    everything = list(Job.objects.active())
    with django_assert_max_num_queries(4):
        jobs_as_code(everything)
