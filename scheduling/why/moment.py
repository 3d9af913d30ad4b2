"""The answer for one fire time, also where the ledger has no row for it."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime, timedelta

from django.db.models import Q

from scheduling.archive.horizon import archived_before
from scheduling.errors import InvalidSchedule
from scheduling.explanations import stamp, surroundings_of
from scheduling.models import Job, Run, Target
from scheduling.runs.cursors import schedule_of
from scheduling.schedules import Schedule
from scheduling.why.coming import obstacle
from scheduling.why.findings import Finding, of_run
from scheduling.why.fire_times import Absent, Era, day_off, eras_of, names
from scheduling.why.stretch import absent_finding

# By how much a beat's clock may have been ahead.
SKEW = timedelta(minutes=1)


def at_moment(
    job: Job, target: Target | None, at: datetime, *, limit: int, now: datetime
) -> list[Finding]:
    rows = rows_at(job, target, at, limit=limit)
    if rows and not (target is not None and _is_passed_over(job, target, at, rows)):
        around = surroundings_of(rows, now)
        return [of_run(run, now, around) for run in rows]
    return [without_row(job, target, at, now)]


def rows_at(job: Job, target: Target | None, at: datetime, *, limit: int) -> list[Run]:
    """Give the rows that account for a fire time: of that time, or stretches of skips around it."""
    covers = Q(scheduled_at=at) | Q(scheduled_at__lte=at, scheduled_until__gte=at)
    found = Run.objects.filter(covers, job=job)
    if target is not None:
        found = found.filter(target=target)
    else:
        # Rows come after their fires; the history of all targets is long, and indexed by creation.
        found = found.filter(created_at__gte=at - SKEW)
    rows = list(found.newest_first()[:limit])
    for row in rows:
        row.job = job
    return rows


def _is_passed_over(job: Job, target: Target, at: datetime, rows: Sequence[Run]) -> bool:
    """Whether the time only lies between the fires of skipped stretches."""
    if any(at in (row.scheduled_at, row.scheduled_until) for row in rows):
        return False
    try:
        eras = eras_of(target, job)
    except InvalidSchedule:
        return False
    era = next((era for era in eras if at in era), None)
    return era is not None and not names(era.schedule, at, target.name)


def without_row(job: Job, target: Target | None, at: datetime, now: datetime) -> Finding:
    """Say why the ledger has no row for a time; it is a problem if there ought to be one."""

    def find(sentence: str, *, is_problem: bool = False) -> Finding:
        return Finding(explanation=sentence, is_problem=is_problem, about=at)

    if target is None:
        return find(f"No target of {job.name!r} has a row for {stamp(at)}; name one to learn more.")
    try:
        present = schedule_of(target, job)
        eras = eras_of(target, job)
    except InvalidSchedule as error:
        return find(f"The schedule cannot be read: {error}", is_problem=True)
    era = next((era for era in eras if at in era), None)
    schedule = present if era is None or at > now else era.schedule
    if not present.is_anchored and era is None:
        return find(f"The schedule {str(schedule)!r} names no fire times of its own.")
    if not names(schedule, at, target.name):
        return find(_not_named(job, target, at, schedule, present))
    if at > now:
        told, is_problem = _to_come(job, target, at, now)
        return find(told, is_problem=is_problem)
    horizon = archived_before()
    archived = horizon if horizon is not None and at < horizon else None
    if era is None and (archived is None or at <= target.created_at):
        return find(_between_eras(target, at, eras))
    absent = Absent(first=at, last=at, fires=1, archived=archived)
    return absent_finding(job, target, absent, now)


def _not_named(
    job: Job, target: Target, at: datetime, schedule: Schedule, present: Schedule
) -> str:
    day = day_off(schedule, at, target.name)
    if day is not None:
        calendar = f" of the calendar {job.calendar.name!r}" if job.calendar is not None else ""
        return f"The fire of {stamp(at)} was left out: {day} is a day off{calendar}."
    following = schedule.next(at, name=target.name)
    nearest = f"; the next one is {stamp(following)}" if following else ""
    then = ""
    if str(schedule) != str(present) and names(present, at, target.name):
        then = f", which it followed then; {str(present)!r}, which it follows now, does"
    return f"The schedule {str(schedule)!r} names no fire at {stamp(at)}{then}{nearest}."


def _to_come(job: Job, target: Target, at: datetime, now: datetime) -> tuple[str, bool]:
    """The sentence about a fire in the future, and whether something stands in its way."""
    if job.ends_at is not None and at > job.ends_at:
        return f"That fire does not come: the job ends at {stamp(job.ends_at)}.", False
    if job.starts_at is not None and at < job.starts_at:
        return f"That fire does not come: the job starts at {stamp(job.starts_at)}.", False
    if job.runs_left == 0:
        return "That fire does not come: the job has had its number of runs.", False
    stands = obstacle(job, target, now)
    return f"That fire is still to come. {stands}".rstrip(), bool(stands)


def _between_eras(target: Target, at: datetime, eras: Sequence[Era]) -> str:
    """Nobody owed a fire at that time."""
    if at <= target.created_at:
        return f"The target is known since {stamp(target.created_at)}, which is later."
    following = [era.since for era in eras if era.since > at]
    ended = [era.until for era in eras if era.until is not None and era.until <= at]
    since = f" from {stamp(max(ended))}" if ended else ""
    until = f" until {stamp(min(following))}" if following else ""
    if not since:
        return f"The target had no schedule in force{until}, its first fire."
    return f"The target had no schedule in force{since}{until}: it was retired, or had not begun."
