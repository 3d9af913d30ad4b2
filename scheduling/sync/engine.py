"""The sync: create, update and retire jobs so that they say what the code says."""

from __future__ import annotations

import hashlib
import json
import logging
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

from django.db import DatabaseError, transaction

from scheduling import declarations, runs
from scheduling.declarations import Collected, periodic
from scheduling.declarations.columns import (
    LOCKING,
    as_json,
    columns_of,
    difference,
    write,
)
from scheduling.declarations.problem import Problem
from scheduling.errors import InvalidDeclaration, SchedulingError
from scheduling.models import Calendar, Circuit, Installation, Job, Target
from scheduling.models.job import DeclaredIn
from scheduling.registry import Declaration
from scheduling.runs.cursors import by_rules
from scheduling.sync import rules
from scheduling.sync.sources import facts_of_sources, sync_sources

logger = logging.getLogger(__name__)

CODE = (DeclaredIn.COMMAND, DeclaredIn.FUNCTION, DeclaredIn.SETTINGS)
# What may differ only while the targets are locked.
MOVING = (LOCKING - {"runs_left"}) | {"declared_runs"}


@dataclass(slots=True, kw_only=True)
class SyncResult:
    """Names of jobs by what became of them, sorted; `diff`: name -> lines `field: old -> new`."""

    created: list[str] = field(default_factory=list)
    updated: list[str] = field(default_factory=list)
    retired: list[str] = field(default_factory=list)
    unchanged: list[str] = field(default_factory=list)
    problems: list[str] = field(default_factory=list)
    diff: dict[str, list[str]] = field(default_factory=dict)


def sync(*, now: datetime, dry_run: bool = False, by: str = "sync") -> SyncResult:
    """Make the database say what the code and the rows say; a dry run only gives the result.

    1. Jobs of the code are created, updated (fields that an operator has set stay) or put back.
    2. Jobs that the code no longer declares are retired; their history stays.
    3. Jobs follow django-celery-beat's rows.
    4. Follow-up rules are made as declared, and then sources.
    What is wrong with one declaration is told in `problems` and stops no other. `by` goes into
    the log.
    """
    collected = declarations.collect()
    with transaction.atomic():
        # One at a time: two deploys, or a beat and a deploy.
        installation = runs.installation()
        Installation.objects.select_for_update(no_key=True).get(pk=installation.pk)
        result = _sync(collected, now=now)
        Installation.objects.filter(pk=installation.pk).update(
            declarations_hash=fingerprint(collected)
        )
        if dry_run:
            transaction.set_rollback(True)
        else:
            _log(result, by=by)
    return result


def sync_at_beat_start(*, now: datetime) -> SyncResult | None:
    """Sync if this code is the code that was migrated last; None if it is not.

    An old beat that starts again in the middle of a deploy would undo the deploy.
    """
    migrated = Installation.objects.values_list("declarations_hash", flat=True).first()
    if migrated != declarations_hash():
        logger.warning(
            "This beat's declarations are not the ones migrated last: it does not sync; "
            "run `manage.py migrate` or `manage.py jobs sync`"
        )
        return None
    result = sync(now=now, by="beat")
    for problem in result.problems:
        logger.error("%s", problem)
    return result


def declarations_hash() -> str:
    """The fingerprint of what this code declares: the same in every process that has the code."""
    return fingerprint(declarations.collect())


def fingerprint(collected: Collected) -> str:
    facts = [
        [
            declaration.name,
            declaration.declared_in,
            declaration.keyed,
            declaration.runs,
            {name: as_json(value) for name, value in columns_of(declaration).items()},
            sorted((rule.follower, rule.on, rule.join) for rule in declaration.follow_ups),
            sorted((rule.follower, rule.on, rule.join) for rule in declaration.after),
        ]
        for declaration in collected.declarations.values()
    ]
    facts += facts_of_sources()
    return hashlib.sha256(json.dumps(facts, sort_keys=True).encode()).hexdigest()


def _sync(collected: Collected, *, now: datetime) -> SyncResult:
    result = SyncResult(problems=[str(problem) for problem in collected.problems])
    for declaration in collected.declarations.values():
        try:
            with transaction.atomic():
                _sync_one(declaration, result, now=now)
        except (SchedulingError, DatabaseError) as error:
            logger.debug("Job %s is not synced", declaration.name, exc_info=True)
            result.problems.append(f"Job {declaration.name!r} is not synced: {error}")
    _retire_vanished(collected, result, now=now)
    changes = periodic.sync_rows(None, now=now)
    for outcome in ("created", "updated", "retired", "unchanged", "problems"):
        getattr(result, outcome).extend(getattr(changes, outcome))
    for name, lines in changes.diffs.items():
        result.diff.setdefault(name, []).extend(lines)
    result.problems += rules.sync_rules(collected.declarations.values())
    diff, wrong = sync_sources(collected.declarations, collected.problems, now=now)
    result.diff |= diff
    result.problems += wrong
    _tidy(result)
    return result


def _sync_one(declaration: Declaration, result: SyncResult, *, now: datetime) -> None:
    wanted = columns_of(declaration) | {
        "declared_in": declaration.declared_in,
        "declared_runs": declaration.runs,
    }
    _make_what_it_names(declaration, result)
    known = Job.objects.filter(name=declaration.name).first()
    if known is not None and any(getattr(known, name) != wanted[name] for name in MOVING):
        # Targets before their job, as everybody locks them.
        runs.lock_for_edit(known)
    # An operator may be setting a field meanwhile: the JSON of overrides is read and written.
    job = Job.objects.select_for_update(no_key=True).filter(name=declaration.name).first()
    if job is None:
        job = Job.objects.create(name=declaration.name, runs_left=declaration.runs, **wanted)
        by_rules(job.schedule, job)  # which a calendar may leave without any fire
        _see_to_target(job, declaration, now=now)
        result.created.append(job.name)
        return
    _require_same_origin(job, declaration)
    if declaration.declared_in == "command":
        # Only a default, as its name says there: `default_notify_on_success`.
        del wanted["notify_on_success"]
    wanted |= _below_overrides(job, wanted)
    if override := job.override_of("runs_left"):
        # An operator's count, which may pass the code's number on its way down: it stays.
        wanted["overrides"]["runs_left"] = {**override, "code": declaration.runs}
    elif job.declared_runs != declaration.runs:
        wanted["runs_left"] = declaration.runs
    lines = difference(job, wanted)
    follows_row = job.periodic_task_id is not None
    if follows_row and not _overridden_by_row(job) and lines:
        # A copy that django-celery-beat's scheduler made; it would bring it along as well.
        write(job, wanted, now=now)
        periodic.copy_settings(declaration.name)
    else:
        write(job, wanted, now=now)
    if runs.revive(job, now=now):
        lines.append("retired: yes -> no")
    _see_to_target(job, declaration, now=now)
    (result.updated if lines else result.unchanged).append(job.name)
    if lines:
        result.diff[job.name] = lines


def _make_what_it_names(declaration: Declaration, result: SyncResult) -> None:
    """A circuit is nothing but its name; the days of a calendar are for a person to say."""
    if declaration.circuit is not None:
        Circuit.objects.get_or_create(name=declaration.circuit)
    if declaration.calendar is not None:
        calendar, created = Calendar.objects.get_or_create(name=declaration.calendar)
        if created:
            result.problems.append(
                f"Job {declaration.name!r} leaves out the days of the calendar {calendar.name!r}, "
                "which did not exist; it is made without any: fill it in the admin, until then "
                "the job fires on every day"
            )


def _see_to_target(job: Job, declaration: Declaration, *, now: datetime) -> None:
    """A plain job has one target; the targets of a keyed job are made by others, by key."""
    if not declaration.keyed:
        target = runs.adopt(job, now=now)
        if target.retired_at is not None:
            runs.revive_target(target, now=now)
        return
    for target in Target.objects.filter(job=job, key="", retired_at=None):
        runs.retire_target(target, now=now)


def _require_same_origin(job: Job, declaration: Declaration) -> None:
    """A job from elsewhere goes on in the code once it is retired there."""
    if job.declared_in in CODE or job.retired_at is not None:
        return
    if job.declared_in == DeclaredIn.PERIODIC_TASK and declaration.declared_in == "settings":
        return
    raise InvalidDeclaration(
        f"the name is taken by a job of {job.get_declared_in_display()}; rename one, or retire "
        "that one first"
    )


def _below_overrides(job: Job, wanted: Mapping[str, Any]) -> dict[str, Any]:
    """Give what overrides make of the code's values: they stay, and know the new value."""
    effective: dict[str, Any] = {}
    overrides: dict[str, Any] = {}
    for name, override in job.overrides.items():
        if name not in wanted:
            continue
        kept = getattr(job, name)
        if kept != wanted[name]:
            overrides[name] = {**override, "code": as_json(wanted[name])}
            effective[name] = kept
    return effective | {"overrides": overrides}


def _overridden_by_row(job: Job) -> bool:
    return any(override["by"] == periodic.BY for override in job.overrides.values())


def _retire_vanished(collected: Collected, result: SyncResult, *, now: datetime) -> None:
    for job in Job.objects.active().filter(declared_in__in=CODE):
        if job.name in collected.declarations or _may_be_declared(job, collected.problems):
            continue
        if job.periodic_task_id is not None:
            # The settings entry is gone, its row is not: sync_rows makes it the row's job.
            write(job, {"declared_in": DeclaredIn.PERIODIC_TASK.value, "overrides": {}}, now=now)
            continue
        with transaction.atomic():
            runs.retire(job, now=now)
        result.retired.append(job.name)


def _may_be_declared(job: Job, problems: Iterable[Problem]) -> bool:
    """Whether the job may be missing only because its declaration could not be read."""
    return any(
        problem.name == job.name or (not problem.name and problem.declared_in == job.declared_in)
        for problem in problems
    )


def _tidy(result: SyncResult) -> None:
    changed = {*result.created, *result.updated, *result.retired}
    result.created = sorted({*result.created})
    result.updated = sorted({*result.updated} - {*result.created})
    result.retired = sorted({*result.retired})
    result.unchanged = sorted({*result.unchanged} - changed)


def _log(result: SyncResult, *, by: str) -> None:
    for outcome in ("created", "updated", "retired"):
        for name in getattr(result, outcome):
            logger.info(
                "Job %s %s by %s",
                name,
                outcome,
                by,
                extra={"event": f"job.{outcome}", "job": name},
            )
