"""sync, unscheduled: what the code declares."""

from __future__ import annotations

from argparse import ArgumentParser, Namespace
from collections import defaultdict

from django.core.management import get_commands

from scheduling import clock
from scheduling.declarations import collect
from scheduling.management.verbs.base import Answer, Say, Verb, nothing, operator
from scheduling.models import Job
from scheduling.models.job import Kind
from scheduling.sync import sync

OUTCOMES = ("created", "updated", "retired", "unchanged")


def sync_arguments(parser: ArgumentParser) -> None:
    parser.add_argument("--diff", action="store_true", help="show each field that changes")
    parser.add_argument("--dry-run", action="store_true", help="change nothing")


def sync_code(options: Namespace, say: Say) -> Answer:
    result = sync(now=clock.now(), dry_run=options.dry_run, by=operator())
    document: dict[str, object] = {outcome: getattr(result, outcome) for outcome in OUTCOMES}
    document["problems"] = result.problems
    if options.diff:
        document["diff"] = result.diff
    would = "would be " if options.dry_run else ""
    lines = []
    for outcome in OUTCOMES[:-1]:
        for name in getattr(result, outcome):
            lines.append(f"{name}: {would}{outcome}")
            lines += [f"  {line}" for line in result.diff.get(name, []) if options.diff]
    for name, changes in result.diff.items():
        if name.startswith("source "):
            lines += [f"{name}: {would}{change}" for change in changes]
    lines += [f"{len(result.unchanged)} unchanged"]
    lines += [f"problem: {problem}" for problem in result.problems]
    return Answer(data=document, text="\n".join(lines), ok=not result.problems)


def unscheduled(options: Namespace, say: Say) -> Answer:
    """List the commands that no job runs; Django's own are left out."""
    scheduled = {each.command for each in collect().declarations.values()}
    scheduled |= set(
        Job.objects.active().filter(kind=Kind.COMMAND).values_list("command", flat=True)
    )
    by_app: dict[str, list[str]] = defaultdict(list)
    for command, app in sorted(get_commands().items()):
        # Commands that were loaded already come as instances.
        name = app if isinstance(app, str) else type(app).__module__.partition(".management.")[0]
        if command not in scheduled and not name.startswith("django."):
            by_app[name].append(command)
    lines = [line for app in sorted(by_app) for line in (app, *(f"  {c}" for c in by_app[app]))]
    return Answer(
        data={app: by_app[app] for app in sorted(by_app)},
        text="\n".join(lines) or "Every command has a job.",
    )


VERBS = (
    Verb("sync", "bring what the code declares into the database", sync_arguments, sync_code),
    Verb("unscheduled", "management commands that no job runs, by app", nothing, unscheduled),
)
