"""The import of a crontab: its lines become jobs, and stay in step with it."""

from __future__ import annotations

import logging
from collections import Counter
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from typing import Any

from django.db import DatabaseError, transaction

from scheduling import runs
from scheduling.conf import conf
from scheduling.crontab_files import Crontab, Entry, Problem
from scheduling.declarations.columns import difference, write
from scheduling.errors import InvalidDeclaration, SchedulingError
from scheduling.management.crontab_work import Work, fingerprint, work_of
from scheduling.models import Installation, Job
from scheduling.models.job import DeclaredIn
from scheduling.policies import CatchUp, Overlap
from scheduling.spans import format_span
from workers import commands

logger = logging.getLogger(__name__)

# In Job.options: which line of which import a job is.
MARK = "crontab"
# cron knows no limit; below the time for which the broker believes a message to be in work.
NO_TIMEOUT = timedelta(hours=12)


@dataclass(slots=True, kw_only=True)
class Imported:
    """Names of jobs by what became of them, sorted; what was not taken over, and left out."""

    created: list[str] = field(default_factory=list)
    updated: list[str] = field(default_factory=list)
    retired: list[str] = field(default_factory=list)
    unchanged: list[str] = field(default_factory=list)
    problems: list[Problem] = field(default_factory=list)
    notes: list[str] = field(default_factory=list)
    diff: dict[str, list[str]] = field(default_factory=dict)


@dataclass(frozen=True, slots=True, kw_only=True)
class _Line:
    """`work` is None if the line cannot be taken over now: its job stays as it is."""

    mark: str
    entry: Entry | None
    work: Work | None


def import_crontab(
    found: Crontab, *, source: str, prefix: str, now: datetime, by: str, dry_run: bool = False
) -> Imported:
    """Make the jobs of one import say what the crontab says; a dry run only gives the result.

    1. Lines that an import from this `source` has met before update their jobs: the schedule, and
       where the line says so the lock, the limit, the recipients. The rest stays the operator's.
    2. Other lines become jobs, whose names begin with `prefix`.
    3. Jobs whose lines are gone are retired; their history stays.
    A line that is wrong stops no other, and its job stays as it is.
    """
    result = Imported(problems=list(found.problems), notes=list(found.notes))
    lines = _lines(found, source, result)
    with transaction.atomic():
        # One at a time, and not during a sync.
        installation = runs.installation()
        Installation.objects.select_for_update(no_key=True).get(pk=installation.pk)
        _apply(lines, result, source=source, prefix=prefix, now=now)
        if dry_run:
            transaction.set_rollback(True)
    _finish(result, by=by, dry_run=dry_run)
    return result


def _lines(found: Crontab, source: str, result: Imported) -> list[_Line]:
    """Read what the lines run. The team's code is asked, so not inside of the transaction."""
    lines: list[_Line] = []
    seen: Counter[str] = Counter()
    told: list[Entry | Problem] = [*found.entries, *found.problems]
    for line in sorted(told, key=lambda line: line.number):
        if line.call is None:
            continue
        call = fingerprint(line.call, 0)
        mark = f"{fingerprint(line.call, seen[call])} {source}"
        seen[call] += 1
        work: Work | None = None
        if isinstance(line, Entry):
            try:
                work = work_of(line.call)
                result.notes += [f"line {line.number}: {note}" for note in work.notes]
            except SchedulingError as error:
                result.problems.append(_problem(line, error))
        entry = line if isinstance(line, Entry) else None
        lines.append(_Line(mark=mark, entry=entry, work=work))
    return lines


def _problem(entry: Entry, error: Exception) -> Problem:
    return Problem(number=entry.number, text=entry.text, problem=str(error), call=entry.call)


def _apply(
    lines: list[_Line], result: Imported, *, source: str, prefix: str, now: datetime
) -> None:
    mine = {
        mark: job
        for job in Job.objects.filter(declared_in=DeclaredIn.ADMIN, options__has_key=MARK)
        if (mark := str(job.options[MARK])).partition(" ")[2] == source
    }
    for line in lines:
        if line.entry is None or line.work is None:
            continue
        try:
            with transaction.atomic():
                _apply_one(line, line.entry, line.work, mine, result, prefix=prefix, now=now)
        except (SchedulingError, DatabaseError) as error:
            logger.debug("Line %s is not imported", line.entry.number, exc_info=True)
            result.problems.append(_problem(line.entry, error))
    there = {line.mark for line in lines}
    for mark, job in mine.items():
        if mark not in there and job.retired_at is None:
            runs.retire(job, now=now)
            result.retired.append(job.name)


def _apply_one(
    line: _Line,
    entry: Entry,
    work: Work,
    mine: dict[str, Job],
    result: Imported,
    *,
    prefix: str,
    now: datetime,
) -> None:
    wanted = {**work.columns(), **_said(entry)}
    job = mine.get(line.mark)
    if job is not None:
        changes = difference(job, wanted)
        write(job, wanted, now=now)
        if runs.revive(job, now=now):
            changes.append("retired: yes -> no")
        (result.updated if changes else result.unchanged).append(job.name)
        if changes:
            result.diff[job.name] = changes
        return
    chosen: dict[str, Any] = {
        "catch_up": CatchUp.NONE.value,
        "overlap": Overlap.SKIP.value,
        "hard_limit": NO_TIMEOUT,
    }
    job = Job.objects.create(
        name=_free_name(prefix + work.base, line.mark),
        description="From a crontab",
        declared_in=DeclaredIn.ADMIN,
        options={MARK: line.mark},
        **{**chosen, **wanted},
    )
    runs.adopt(job, now=now)
    result.created.append(job.name)
    for other in _same_work(job):
        result.notes.append(
            f"line {entry.number}: job {other.name!r} ({other.get_declared_in_display()}) runs "
            "the same; pause one of them"
        )


def _said(entry: Entry) -> dict[str, Any]:
    """What the line itself says about its job."""
    said: dict[str, Any] = {"schedule": str(entry.schedule)}
    if entry.call.lock:
        said["locks"] = [entry.call.lock]
        overlap = Overlap.SKIP if entry.call.gives_way else Overlap.WAIT
        said["overlap"] = overlap.value
    if entry.call.limit is not None:
        said["hard_limit"] = entry.call.limit
    if entry.recipients is not None:
        said["recipients"] = list(entry.recipients)
    return said


def _free_name(name: str, mark: str) -> str:
    names = (name, f"{name}-{mark.partition(' ')[0][:6]}")
    taken = set(Job.objects.filter(name__in=names).values_list("name", flat=True))
    for each in names:
        if each not in taken:
            return each
    raise InvalidDeclaration(f"The names {names[0]!r} and {names[1]!r} are taken; say --prefix P")


def _same_work(job: Job) -> list[Job]:
    same = Job.objects.active().filter(kind=job.kind, command=job.command).exclude(pk=job.pk)
    return [
        other
        for other in same
        if (other.args, other.kwargs) == (job.args, job.kwargs)
        and not _same_source(other.options.get(MARK), job.options[MARK])
    ]


def _same_source(mark: object, other: str) -> bool:
    return str(mark or "").partition(" ")[2] == other.partition(" ")[2]


def _finish(result: Imported, *, by: str, dry_run: bool) -> None:
    for outcome in ("created", "updated", "retired", "unchanged"):
        names: list[str] = getattr(result, outcome)
        names.sort()
        if dry_run or outcome == "unchanged":
            continue
        for name in names:
            logger.info(
                "Job %s %s by %s from a crontab",
                name,
                outcome,
                by,
                extra={"event": f"job.{outcome}", "job": name},
            )
    result.problems.sort(key=lambda problem: problem.number)
    if result.created:
        where = conf.PROGRAM_DIRECTORY or commands.folder()
        result.notes += [
            "cron starts a job again while it runs; these skip a fire then (overlap skip)",
            f"cron has no limit; these are ended after {format_span(NO_TIMEOUT)}, if their line "
            "has no timeout",
            f"cron runs programs in the home directory; these run in {where}",
        ]
