"""Sources as the code declares them, beside those that the API has made."""

from __future__ import annotations

import logging
from collections.abc import Collection, Mapping
from datetime import datetime
from typing import Any

from scheduling import runs
from scheduling.declarations.problem import Problem
from scheduling.models import Job, Source
from scheduling.registry import Declaration
from scheduling.sources.declared import SourceDeclaration, sources

logger = logging.getLogger(__name__)


def sync_sources(
    declarations: Mapping[str, Declaration], problems: Collection[Problem], *, now: datetime
) -> tuple[dict[str, list[str]], list[str]]:
    """Make the declared sources; give what changes (source NAME -> lines), and what is wrong.

    Those that the code no longer declares are retired; what they have listed stays. Whether a
    source is on trial is the code's to say only when it is made.
    """
    diff: dict[str, list[str]] = {}
    wrong: list[str] = []
    for declaration in sources:
        if declaration.full_job not in declarations:
            continue  # of another test, or of a module that was taken out of use
        lines = _sync_one(declaration, wrong, now=now)
        wrong += _not_keyed(declaration, declarations)
        if lines:
            diff[f"source {declaration.name}"] = lines
    may_be_missing = any(problem.declared_in == "function" for problem in problems)
    declared = {each.name for each in sources if each.full_job in declarations}
    for source in Source.objects.filter(retired_at=None).exclude(name__in=declared):
        if runs.is_declared(source) and not may_be_missing:
            Source.objects.filter(pk=source.pk).update(retired_at=now)
            diff[f"source {source.name}"] = ["retired: no -> yes"]
    for name in diff:
        logger.info("%s: %s", name, "; ".join(diff[name]), extra={"event": "source.synced"})
    return diff, wrong


def facts_of_sources() -> list[Any]:
    """What tells one code's sources from another's."""
    return [[each.name, sorted(each.jobs), each.description, each.is_express] for each in sources]


def _sync_one(declaration: SourceDeclaration, wrong: list[str], *, now: datetime) -> list[str]:
    found = {job.name: job for job in Job.objects.active().filter(name__in=declaration.jobs)}
    for name in declaration.jobs:
        if name not in found:
            wrong.append(
                f"Source {declaration.name!r} gives its targets to {name!r}, which is no job; "
                "correct the name"
            )
    source, created = Source.objects.get_or_create(
        name=declaration.name, defaults={"is_trial": declaration.is_trial}
    )
    lines = ["created"] if created else []
    wanted = {
        "description": declaration.description,
        "is_express": declaration.is_express,
        "retired_at": None,
    }
    for name, value in wanted.items():
        if getattr(source, name) != value:
            if not created:
                lines.append(f"{name}: {getattr(source, name)} -> {value}")
            setattr(source, name, value)
    source.save(update_fields=tuple(wanted))
    runs.note_declared(source)
    before = set(source.jobs.values_list("name", flat=True))
    if before != set(found):
        source.jobs.set(found.values())
        lines.append(f"jobs: {', '.join(sorted(before))} -> {', '.join(sorted(found))}")
    return lines


def _not_keyed(
    declaration: SourceDeclaration, declarations: Mapping[str, Declaration]
) -> list[str]:
    plain = [
        name for name in declaration.jobs if name in declarations and not declarations[name].keyed
    ]
    return [
        f"Source {declaration.name!r} gives its targets to {name!r}, which has a plain one; "
        "declare that job with keyed=True"
        for name in plain
    ]
