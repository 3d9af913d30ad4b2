"""Why did it run, or why not: each fire time answered, also where there is no row."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

from django.db.models import Q

from scheduling.conf import conf
from scheduling.errors import InvalidSchedule, UnknownTarget
from scheduling.explanations import ago, explanation, stamp
from scheduling.ledger import history, iso, run_as_dict
from scheduling.models import Installation, Job, Parked, Process, Reason, Run, State, Target
from scheduling.models.base import Pausable
from scheduling.models.system import ProcessKind
from scheduling.runs.cursors import schedule_of
from scheduling.schedules import Schedule

EXPECTED_SKIPS = (Reason.COALESCED, Reason.DECLINED)


@dataclass(frozen=True, slots=True, kw_only=True)
class Finding:
    """One answer: about a row of the ledger or, without one, about a time (None: right now)."""

    explanation: str
    is_problem: bool
    run: Run | None = None
    about: datetime | None = None


def finding_as_dict(finding: Finding, job: Job, key: str) -> dict[str, Any]:
    """Give the shape of the history with the explanation; without a row, its fields are None."""
    if finding.run is not None:
        row = run_as_dict(finding.run)
    else:
        row = dict.fromkeys(run_as_dict(Run()))
        row |= {"id": None, "job": job.name, "key": key, "scheduled_at": iso(finding.about)}
    return {**row, "explanation": finding.explanation}


def why(
    job: Job, *, at: datetime | None = None, key: str | None = None, limit: int, now: datetime
) -> list[Finding]:
    """Explain a fire time or, without `at`, the present and the newest rows, newest first.

    `key` None means every target. Raises UnknownTarget for a key that the job does not have.
    """
    target = find_target(job, key)
    if at is not None:
        rows = rows_at(job, at, key)[:limit]
        if rows:
            return [of_run(run, now) for run in rows]
        return [without_row(job, target, at, now)]
    rows = history(job, key=key, limit=limit)
    obstacle = obstacle_now(job, target, now)
    present = [Finding(explanation=obstacle, is_problem=True)] if obstacle else []
    if not rows and not present:
        present = [Finding(explanation=never_ran(job, target), is_problem=False)]
    return [*present, *(of_run(run, now) for run in rows)]


def find_target(job: Job, key: str | None) -> Target | None:
    """Give the target that the question is about; None if it is about several."""
    targets = list(Target.objects.filter(job=job, **({} if key is None else {"key": key}))[:2])
    if key is not None and not targets:
        raise UnknownTarget(f"Job {job.name!r} has no target with the key {key!r}")
    for target in targets:
        target.job = job
    return targets[0] if len(targets) == 1 else None


def rows_at(job: Job, at: datetime, key: str | None) -> list[Run]:
    """Give the rows that account for a fire time: of that time, or stretches of skips around it."""
    covers = Q(scheduled_at=at) | Q(scheduled_at__lte=at, scheduled_until__gte=at)
    rows = Run.objects.filter(covers, job=job)
    return list((rows if key is None else rows.filter(key=key)).newest_first())


def of_run(run: Run, now: datetime) -> Finding:
    skipped = run.state == State.SKIPPED and run.reason not in EXPECTED_SKIPS
    return Finding(
        run=run,
        explanation=explanation(run, now),
        is_problem=skipped or run.state == State.FAILED,
    )


def obstacle_now(job: Job, target: Target | None, now: datetime) -> str:
    """Say what keeps the job from firing at this moment; "" if nothing does."""
    if job.retired_at is not None:
        return f"The job was retired at {stamp(job.retired_at)}: it is no longer declared."
    if target is not None and target.retired_at is not None:
        return f"The target was retired at {stamp(target.retired_at)}."
    for name, scope in (
        ("Everything", Installation.objects.filter(pk=1).first()),
        (f"The job {job.name!r}", job),
        ("The target", target),
    ):
        if scope is not None and scope.is_paused(now):
            return paused(name, scope)
    if job.schedule_error:
        return f"Its schedule {job.schedule!r} cannot be read: {job.schedule_error}"
    due = Target.objects.filter(job=job, next_fire_at__lt=now - conf.GRACE).order_by("next_fire_at")
    late = due.first() if target is None else due.filter(pk=target.pk).first()
    if late is not None:
        return f"The fire of {stamp(late.next_fire_at)} is due and not claimed yet: {beats(now)}."
    return ""


def paused(name: str, scope: Pausable) -> str:
    by = f" by {scope.paused_by}" if scope.paused_by else ""
    until = f" until {stamp(scope.paused_until)}" if scope.paused_until else ""
    reason = f": {scope.pause_reason}" if scope.pause_reason else ""
    return f"{name} has been paused{by} since {stamp(scope.paused_at)}{until}{reason}."


def beats(now: datetime) -> str:
    seen = (
        Process.objects.filter(kind=ProcessKind.BEAT)
        .order_by("-seen_at")
        .values_list("seen_at", flat=True)
        .first()
    )
    if seen is None:
        return "no beat is running; start one with `celery -A config beat`"
    return f"the last sign of a beat was {ago(seen, now)}"


def never_ran(job: Job, target: Target | None) -> str:
    if target is not None and target.next_fire_at is not None:
        return f"It has not run yet: its next fire is at {stamp(target.next_fire_at)}."
    return f"It has no history; its schedule is {job.schedule!r}."


def without_row(job: Job, target: Target | None, at: datetime, now: datetime) -> Finding:
    """Say why the ledger has no row for a time; it is a problem if there ought to be one."""

    def find(sentence: str, *, is_problem: bool = False) -> Finding:
        return Finding(explanation=sentence, is_problem=is_problem, about=at)

    if target is None:
        return find(f"No target of {job.name!r} has a row for {stamp(at)}; name one to learn more.")
    try:
        schedule = schedule_of(target, job)
    except InvalidSchedule as error:
        return find(f"The schedule cannot be read: {error}", is_problem=True)
    if not schedule.is_anchored:
        return find(f"The schedule {str(schedule)!r} names no fire times of its own.")
    if not names(schedule, at, target):
        following = schedule.next(at, name=target.name)
        nearest = f"; the next one is {stamp(following)}" if following else ""
        return find(f"The schedule {str(schedule)!r} names no fire at {stamp(at)}{nearest}.")
    if at > now:
        obstacle = obstacle_now(job, target, now)
        return find(f"That fire is still to come. {obstacle}".rstrip(), is_problem=bool(obstacle))
    if at <= target.created_at:
        return find(f"The target is known since {stamp(target.created_at)}, which is later.")
    return find(missing(target, at, now), is_problem=True)


def missing(target: Target, at: datetime, now: datetime) -> str:
    if target.parked == Parked.PAUSED and target.parked_cursor and at >= target.parked_cursor:
        return obstacle_now(target.job, target, now) or "It was paused; resuming decides about it."
    if target.next_fire_at is not None and target.next_fire_at <= at:
        return f"That fire is due and not claimed yet: {beats(now)}."
    return (
        f"The ledger has no row for it: the job had another schedule then, or the row is older "
        f"than what is kept. It was created at {stamp(target.created_at)}."
    )


def names(schedule: Schedule, at: datetime, target: Target) -> bool:
    return schedule.next(at - timedelta(microseconds=1), name=target.name) == at
