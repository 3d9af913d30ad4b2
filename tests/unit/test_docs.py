"""The documentation says what is there: examples run, and nothing is left out or made up."""

from __future__ import annotations

import io
import json
import os
import re
import shlex
import subprocess
import sys
from collections.abc import Iterator
from inspect import signature
from pathlib import Path
from types import ModuleType
from typing import Any, get_type_hints

import pytest
from celery import current_app
from django.core.management import CommandError, call_command

from scheduling import conf, health, job
from scheduling.checks import readable
from scheduling.declarations.commands import ATTRIBUTES, declaration_of
from scheduling.management.verbs import VERBS
from scheduling.models import Cause, Reason, State, Target
from scheduling.registry import Registry
from tests.factories import make_job
from tests.unit.test_imports import OPEN_TO_WORKERS
from workers.commands import ENVIRONMENT

ROOT = Path(__file__).resolve().parents[2]
README = ROOT / "README.md"
DOCS = ROOT / "docs"
PAGES = {
    str(path.relative_to(ROOT)): path.read_text(encoding="utf-8")
    for path in (
        *(ROOT / name for name in ("README.md", "CONTRIBUTING.md", "CHANGELOG.md")),
        *sorted(DOCS.rglob("*.md")),
    )
}
# These need neither a database nor the present time, so their answers can be shown.
ANSWERED = re.compile(r"python manage.py jobs (next|between|plan) ")


def page(name: str) -> str:
    return PAGES[f"docs/{name}.md"]


def blocks(language: str) -> Iterator[tuple[str, str]]:
    for name, text in PAGES.items():
        for number, block in enumerate(
            re.findall(rf"^```{language}\n(.*?)^```", text, re.M | re.S)
        ):
            yield f"{name} {number + 1}", block


def code_in(text: str) -> set[str]:
    """Return all that is written as `code` in a text, without its blocks."""
    return set(re.findall(r"`([^`\n]+)`", re.sub(r"```.*?```", "", text, flags=re.S)))


def first_column(text: str) -> list[list[str]]:
    """Return the cells of all table rows that begin with `code`."""
    rows = re.findall(r"^\| (`.*) \|$", text, re.M)
    return [[cell.strip() for cell in re.split(r"(?<!\\)\|", row)] for row in rows]


# --- examples -------------------------------------------------------------------------------------


@pytest.mark.parametrize(("name", "code"), [pytest.param(*b, id=b[0]) for b in blocks("python")])
def test_an_example_is_python(name: str, code: str) -> None:
    compile(code, name, "exec", dont_inherit=True)


def commands() -> Iterator[tuple[str, str]]:
    """Yield the commands of console blocks whose answers are shown, and these."""
    for _, block in blocks("console"):
        for example in re.split(r"^\$ ", block, flags=re.M)[1:]:
            command, _, answer = example.partition("\n")
            if ANSWERED.match(command):
                yield command, answer.rstrip("\n")


@pytest.mark.parametrize(("command", "answer"), [pytest.param(*c, id=c[0]) for c in commands()])
def test_a_command_answers_as_shown(command: str, answer: str) -> None:
    said = io.StringIO()
    try:
        call_command(*shlex.split(command)[2:], stdout=said)
    except CommandError as error:
        said.write(f"CommandError: {error}")
    assert said.getvalue().rstrip("\n") == answer


@pytest.fixture
def declared(monkeypatch: pytest.MonkeyPatch) -> Iterator[Registry]:
    """An empty registry for what an example declares; its tasks go away again."""
    registry = Registry()
    monkeypatch.setattr("scheduling.registry.registry", registry)
    yield registry
    for declaration in registry:
        current_app.tasks.pop(declaration.task, None)


def examples_of(page_name: str) -> list[str]:
    return [code for name, code in blocks("python") if name.startswith(page_name)]


def load(code: str) -> dict[str, Any]:
    module = ModuleType("an_example")
    exec(compile(code, "an example", "exec", dont_inherit=True), vars(module))
    return vars(module)


def test_the_functions_of_the_docs_are_jobs(declared: Registry) -> None:
    load(next(code for code in examples_of("docs/declare-a-job.md") if "@job" in code))
    names = {each.name for each in declared}
    assert names == {"fetch_rates", "close_books", "mail_report"}
    assert {rule.follower for each in declared for rule in each.after} <= names


def test_the_command_of_the_docs_is_a_job() -> None:
    code = next(code for code in examples_of("docs/declare-a-job.md") if "ScheduledJob" in code)
    declaration = declaration_of("write_report", load(code)["Command"])
    assert str(declaration.schedule) == "times 06:00 18:30 tz UTC"
    assert declaration.hard_limit is not None
    assert declaration.hard_limit.total_seconds() == 30 * 60


@pytest.mark.django_db
def test_the_example_of_many_targets_adds_one() -> None:
    make_job("ping_host")
    load(next(code for code in examples_of("docs/declare-a-job.md") if "add_target" in code))
    target = Target.objects.get(job__name="ping_host")
    assert (target.key, target.schedule_text) == ("db.example.org", "every 5m")
    assert target.next_fire_at is not None


def test_the_example_of_the_readme_runs(tmp_path: Path) -> None:
    """As a team would: an app with that `jobs.py`, migrate, run; no broker is at hand."""
    (tmp_path / "shop").mkdir()
    (tmp_path / "shop" / "__init__.py").touch()
    (tmp_path / "shop" / "jobs.py").write_text(examples_of("README.md")[0], encoding="utf-8")
    (tmp_path / "shop_settings.py").write_text(
        "from config.settings import *\nINSTALLED_APPS = [*INSTALLED_APPS, 'shop']\n",
        encoding="utf-8",
    )
    environ = {
        name: value
        for name, value in os.environ.items()
        if name not in ("DATABASE_URL", "CELERY_BROKER_URL")
    } | {
        "DJANGO_SETTINGS_MODULE": "shop_settings",
        "JOBS_VAR": str(tmp_path),
        "PYTHONPATH": str(tmp_path),
        "REDIS_URL": "redis://127.0.0.1:1/0",
    }

    def manage(*words: str) -> str:
        command = [sys.executable, "manage.py", *words]
        done = subprocess.run(
            command, cwd=ROOT, env=environ, capture_output=True, text=True, check=False
        )
        assert done.returncode == 0, done.stdout + done.stderr
        return done.stdout

    manage("migrate", "--verbosity", "0")
    run = json.loads(manage("jobs", "run", "close_books", "--json"))
    assert (run["state"], run["outcome"], run["cause"]) == ("succeeded", "changed", "manual")
    (follower,) = json.loads(manage("jobs", "history", "mail_report", "--json"))
    assert (follower["state"], follower["cause"]) == ("queued", "follow_up")


# --- nothing left out, nothing made up ------------------------------------------------------------


def test_every_setting_is_listed_with_its_type_and_default() -> None:
    listed = {
        row[0].strip("`"): (row[1], eval(row[2].strip("`"), vars(conf)))
        for row in first_column(page("settings").partition("## In the environment")[0])
    }
    hints = {name: type_of(name) for name in conf.names()}
    assert listed == {
        f"{conf.PREFIX}{name}": (hint, vars(conf.Conf)[name]) for name, hint in hints.items()
    }


def type_of(name: str) -> str:
    hint = get_type_hints(conf.Conf)[name]
    return readable(hint) + (" or None" if vars(conf.Conf)[name] is None else "")


def test_every_variable_of_the_environment_is_listed() -> None:
    source = "".join(
        (ROOT / "config" / name).read_text(encoding="utf-8")
        for name in ("settings.py", "env.py", "prepare.py", "flowerconfig.py", "verify.py")
    )
    read = set(re.findall(r'(?:env\.\w+\(|environ\.get\(|email_url\()\s*"([A-Z_]+)"', source))
    assert read - code_in(section("settings", "In the environment")) - {"PATH"} == set()


def test_every_check_has_its_section() -> None:
    source = "".join(
        path.read_text(encoding="utf-8")
        for room in ("scheduling", "workers")
        for path in (ROOT / room).rglob("*.py")
    )
    ids = re.findall(r'\bid="(\w+\.[EW]\d+)"', source)
    assert sorted(set(ids)) == sorted(re.findall(r"^## (.+)$", page("checks"), re.M))


def test_every_verb_is_described_and_no_other() -> None:
    described = {
        cell.split()[0]
        for row in first_column(section("operate", "The command line"))
        for cell in row[0].strip("`").split("`, `")
    }
    verbs = {verb.name for verb in VERBS}
    assert described == verbs
    for name, text in PAGES.items():
        commands = "\n".join([*code_in(text), *shown(text)])
        used = set(re.findall(r"\bjobs ([a-z][a-z-]*)\b", commands))
        assert used - verbs == set(), name


def shown(text: str) -> list[str]:
    return re.findall(r"^\$ python (manage.py jobs .*)$", text, re.M)


def section(name: str, heading: str) -> str:
    return page(name).partition(f"## {heading}\n")[2].partition("\n## ")[0]


@pytest.mark.parametrize("values", [State, Reason, Cause])
def test_every_state_reason_and_cause_is_explained(values: type[State | Reason | Cause]) -> None:
    assert set(values.values) - code_in(page("concepts")) == set()


def test_every_argument_of_a_job_is_described() -> None:
    functions, _, others = page("declare-a-job").partition("## A management command")
    arguments = {*signature(job).parameters} - {"task_options"}
    assert arguments - code_in(functions) == set()
    assert ATTRIBUTES - code_in(others) == set()


def test_every_health_check_and_metric_is_described() -> None:
    assert {row[0].strip("`") for row in first_column(section("operate", "Health"))} == {
        *health.NAMES
    }
    views = (ROOT / "scheduling" / "views").glob("*.py")
    source = "".join(path.read_text(encoding="utf-8") for path in views)
    assert set(re.findall(r'"(jobs_\w+)"', source)) == {
        name for name in code_in(section("operate", "Metrics")) if re.fullmatch(r"jobs_\w+", name)
    }


def test_what_external_commands_see_is_listed() -> None:
    assert set(ENVIRONMENT) - code_in(section("security", "What jobs can see")) == set()


def test_every_promise_names_a_test_that_exists() -> None:
    named = {name for name in code_in(PAGES["README.md"]) if name.startswith("test_")}
    source = "".join(path.read_text("utf-8") for path in (ROOT / "tests").rglob("test_*.py"))
    assert named
    assert named - set(re.findall(r"^def (test_\w+)", source, re.M)) == set()


def test_what_is_open_to_workers_is_told_to_contributors() -> None:
    modules = {name.partition(".")[2] for name in OPEN_TO_WORKERS}
    there = {name for name in modules if list((ROOT / "scheduling").glob(f"{name}*"))} - {""}
    assert there - code_in(PAGES["CONTRIBUTING.md"]) == set()


# --- links ----------------------------------------------------------------------------------------


def links() -> Iterator[tuple[str, str]]:
    for name, text in PAGES.items():
        for link in re.findall(r"\]\(([^)\s]+)\)", re.sub(r"```.*?```", "", text, flags=re.S)):
            if not link.startswith("https://"):
                yield name, link


@pytest.mark.parametrize(("name", "link"), sorted(set(links())))
def test_a_link_leads_somewhere(name: str, link: str) -> None:
    path, _, anchor = link.partition("#")
    goal = (ROOT / name).parent / path if path else ROOT / name
    assert goal.exists()
    if anchor:
        assert anchor in anchors(goal.read_text(encoding="utf-8"))


def anchors(text: str) -> set[str]:
    """Return the anchors of all headings, as GitHub makes them."""
    headings = re.findall(r"^#+ (.+)$", re.sub(r"```.*?```", "", text, flags=re.S), re.M)
    return {re.sub(r"[^\w\- ]", "", heading.lower()).replace(" ", "-") for heading in headings}


def test_no_page_knows_the_machine_it_was_written_on() -> None:
    signs = [f"/{name}/" for name in ("work", "home", "root", "tmp")]
    assert [(name, sign) for name, text in PAGES.items() for sign in signs if sign in text] == []
