"""An app `shop` of management commands, written as files, deployed and run as in a project."""

from __future__ import annotations

import importlib
import os
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import datetime
from pathlib import Path
from textwrap import dedent, indent

import pytest
from django.conf import settings
from django.core.management import get_commands
from django.test import override_settings

from scheduling import clock, declarations, runs, sync
from scheduling.models import Job, Run, Target
from scheduling.registry import registry
from tests.factories import NOW
from tests.integration.workers.conftest import send
from workers import commands

SOURCE = """
import os, time as clock
from datetime import time, timedelta
from django.core.management import BaseCommand, CommandError
{above}
class Command(BaseCommand):
    help = {help!r}

    class ScheduledJob:
{attributes}

    def add_arguments(self, parser):
        parser.add_argument("--size", type=int, default=7)

    def handle(self, *args, **options):
{body}
"""
# As `manage.py` is for a project: external commands run in a process that knows this app.
MANAGE = """
import sys
from django.conf import settings
settings.configure(INSTALLED_APPS=["shop"])
from django.core.management import execute_from_command_line
execute_from_command_line(["manage.py", *sys.argv[1:]])
"""


def command(
    attributes: str = "pass", body: str = "pass", *, help: str | None = "Work", above: str = ""
) -> str:
    def inside(text: str) -> str:
        return indent(dedent(text).strip(), " " * 8)

    return SOURCE.format(above=above, help=help, attributes=inside(attributes), body=inside(body))


Deploy = Callable[..., sync.SyncResult]


@contextmanager
def deploying(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Iterator[Deploy]:
    """Give a function that makes its commands those of the app `shop`, and syncs."""
    folder = tmp_path / "shop" / "management" / "commands"
    folder.mkdir(parents=True)
    for package in (folder, folder.parent, folder.parent.parent):
        (package / "__init__.py").touch()
    (tmp_path / "manage.py").write_text(MANAGE)
    monkeypatch.syspath_prepend(str(tmp_path))
    monkeypatch.setenv("PYTHONPATH", os.pathsep.join([str(tmp_path), *filter(None, sys.path)]))
    monkeypatch.setattr(commands, "manage", lambda: [sys.executable, str(tmp_path / "manage.py")])
    monkeypatch.setattr(registry, "_by_name", {})

    def forget() -> None:
        for name in list(sys.modules):
            if name.partition(".")[0] == "shop":
                del sys.modules[name]
        importlib.invalidate_caches()
        get_commands.cache_clear()  # type: ignore[attr-defined]  # a gap in the stubs

    def deploy(*, now: datetime = NOW, **sources: str) -> sync.SyncResult:
        for path in folder.glob("[a-z]*.py"):
            path.unlink()
        for name, source in sources.items():
            (folder / f"{name}.py").write_text(source)
        forget()
        # A worker that starts with this code learns its hooks.
        for declaration in declarations.collect().declarations.values():
            registry._by_name[declaration.name] = declaration
        return sync.sync(now=now)

    Job.objects.all().delete()
    # The only app with jobs, so that what is claimed is its own.
    others = [app for app in settings.INSTALLED_APPS if not app.startswith(("examples", "tests"))]
    with override_settings(INSTALLED_APPS=[*others, "shop"]):
        yield deploy
    forget()


def job(name: str = "work") -> Job:
    return Job.objects.get(name=name)


def target(name: str = "work") -> Target:
    return Target.objects.get(job__name=name)


def execute(run: Run) -> Run:
    """Deliver a run's message as to a worker; give the run as it is then."""
    send("workers.commands.run_command", task_id=str(run.pk), jobs_run=[str(run.pk), run.attempt])
    return Run.objects.get(pk=run.pk)


def run_now(name: str = "work") -> Run:
    return execute(runs.trigger(job(name), by="a test", now=clock.now()))
