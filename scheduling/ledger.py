"""Reading the ledger: the shapes in which jobs and runs are told to programs.

The shapes are a stable surface. Times are ISO 8601 in UTC; what does not apply is None.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from enum import StrEnum
from typing import Any
from uuid import UUID

from django.db.models import Count, Max, Min, OuterRef, Q, Subquery

from scheduling.errors import InvalidSchedule
from scheduling.models import (
    Circuit,
    FollowUp,
    FollowUpOn,
    Installation,
    Job,
    Reason,
    Run,
    State,
    Target,
)
from scheduling.models.run import RunQuerySet
from scheduling.schedules import Manual, parse

ENDS = {
    FollowUpOn.SUCCESS: "{} succeeds",
    FollowUpOn.FAILURE: "{} fails",
    FollowUpOn.ANY: "{} ends",
}


class JobState(StrEnum):
    """Where a job stands, in the names that Axway's library gives to it."""

    INITIALIZING = "Initializing"  # has never run, or is not ready for its first run
    RUNNING = "Running"  # open, or waiting for its next fire between good runs
    RETRYING = "Retrying"  # open after a failed or lost attempt
    STOPPED = "Stopped"  # paused, or its circuit is or is open
    FAILED = "Failed"
    FINISHED = "Finished"  # nothing more to come


@dataclass(frozen=True, slots=True, kw_only=True)
class JobFacts:
    """What the state of a job is derived from, over all its targets that are not retired."""

    targets: int = 0
    own_schedules: int = 0
    """Targets with a schedule that is not the job's."""
    follows: tuple[str, ...] = ()
    """After what it runs, in words: 'after close_books succeeds'."""
    next_fire_at: datetime | None = None
    failing: bool = False
    has_started: bool = False
    queued: int = 0
    running: int = 0
    retrying: bool = False
    last_run: Run | None = None
    """The newest that is not a skip; without its output and error."""


NO_FACTS = JobFacts()


def facts_of(jobs: Iterable[Job]) -> dict[int, JobFacts]:
    """Collect the facts of many jobs in five queries, by the jobs' ids."""
    ids = [job.pk for job in jobs]
    targets = {
        row["job_id"]: row
        for row in Target.objects.filter(job_id__in=ids, retired_at=None)
        .order_by()
        .values("job_id")
        .annotate(
            number=Count("pk"),
            own=Count("pk", filter=~Q(schedule="")),
            next_fire_at=Min("next_fire_at"),
            failing=Count("failing_since"),
            started=Max("last_started_at"),
        )
    }
    is_retry = Q(attempt__gt=1) | Q(reason=Reason.RETRY)
    open_runs = {
        row["job_id"]: row
        for row in Run.objects.open()
        .filter(job_id__in=ids)
        .order_by()
        .values("job_id")
        .annotate(
            queued=Count("pk", filter=Q(state=State.QUEUED)),
            running=Count("pk", filter=Q(state=State.RUNNING)),
            retrying=Count("pk", filter=is_retry),
        )
    }
    follows = follows_of(ids)
    last_runs = last_runs_of(ids)
    return {
        pk: JobFacts(
            targets=targets[pk]["number"] if pk in targets else 0,
            own_schedules=targets[pk]["own"] if pk in targets else 0,
            follows=follows.get(pk, ()),
            next_fire_at=targets[pk]["next_fire_at"] if pk in targets else None,
            failing=bool(pk in targets and targets[pk]["failing"]),
            has_started=bool(pk in targets and targets[pk]["started"]),
            queued=open_runs[pk]["queued"] if pk in open_runs else 0,
            running=open_runs[pk]["running"] if pk in open_runs else 0,
            retrying=bool(pk in open_runs and open_runs[pk]["retrying"]),
            last_run=last_runs.get(pk),
        )
        for pk in ids
    }


def follows_of(ids: Iterable[int]) -> dict[int, tuple[str, ...]]:
    """Give for each job that follows others, by its id, after what it runs, in words."""
    rules = (
        FollowUp.objects.filter(follower_id__in=ids, job__retired_at=None)
        .order_by("job__name")
        .values_list("follower_id", "job__name", "on", "join")
    )
    alone: dict[int, list[str]] = defaultdict(list)
    joined: dict[int, list[str]] = defaultdict(list)
    for follower, name, on, join in rules:
        (joined if join else alone)[follower].append(ENDS[FollowUpOn(on)].format(name))
    return {
        pk: tuple(
            f"after {words}" for words in (*alone[pk], *filter(None, [" and ".join(joined[pk])]))
        )
        for pk in {*alone, *joined}
    }


def last_runs_of(ids: Sequence[int]) -> dict[int, Run]:
    """Give the newest run of each job that is not a skip; outputs can be large and stay away."""
    newest = (
        Run.objects.filter(job=OuterRef("pk"))
        .exclude(state=State.SKIPPED)
        .newest_first()
        .values("pk")[:1]
    )
    wanted: list[UUID] = [
        pk
        for pk in Job.objects.filter(pk__in=ids)
        .order_by()
        .annotate(last=Subquery(newest))
        .values_list("last", flat=True)
        if pk is not None
    ]
    # SQLite takes a limited number of values in one statement; in_bulk knows.
    found = Run.objects.defer("output", "error").in_bulk(wanted)
    return {run.job_id: run for run in found.values() if run.job_id is not None}


def everything_paused(now: datetime) -> bool:
    installation = Installation.objects.filter(pk=1).first()
    return installation is not None and installation.is_paused(now)


def held_jobs(jobs: Iterable[Job], now: datetime) -> tuple[set[int], set[int]]:
    """The ids of those that fire for none of their targets, for either of two reasons.

    They are paused, or all that they belong to; or their circuit is open.
    """
    all_paused = everything_paused(now)
    known = Circuit.objects.exclude(paused_at=None, opened_at=None)
    circuits = {circuit.name: circuit for circuit in known}
    paused, opened = set(), set()
    for job in jobs:
        circuit = circuits.get(job.circuit_id or "")
        if all_paused or job.is_paused(now) or (circuit is not None and circuit.is_paused(now)):
            paused.add(job.pk)
        if circuit is not None and circuit.is_open and not job.left_out:
            opened.add(job.pk)
    return paused, opened


def job_state(job: Job, now: datetime) -> JobState:
    facts = facts_of([job])[job.pk]
    return derive_state(job, facts, paused=any(held_jobs([job], now)))


def derive_state(job: Job, facts: JobFacts, *, paused: bool) -> JobState:
    """Decide which name fits; what runs at this moment comes first, a pause or an open circuit
    second.
    """
    if facts.running:
        return JobState.RETRYING if facts.retrying else JobState.RUNNING
    if job.retired_at is not None:
        return JobState.FINISHED
    if paused:
        return JobState.STOPPED
    if facts.queued and not _is_unready(job):
        return JobState.RETRYING if facts.retrying else JobState.RUNNING
    if facts.failing or job.schedule_error:
        return JobState.FAILED
    if not facts.has_started:
        return JobState.INITIALIZING
    more_to_come = facts.next_fire_at is not None or facts.follows
    return JobState.RUNNING if more_to_come else JobState.FINISHED


def _is_unready(job: Job) -> bool:
    return job.asked_at is not None and job.ready_since is None and job.unready_detail != ""


def jobs_as_dicts(jobs: Sequence[Job], now: datetime) -> list[dict[str, Any]]:
    """Describe many jobs in as many queries as one, in the order given."""
    facts = facts_of(jobs)
    paused, opened = held_jobs(jobs, now)
    return [
        _describe(job, facts[job.pk], paused=job.pk in paused, stopped=job.pk in paused | opened)
        for job in jobs
    ]


def _describe(job: Job, facts: JobFacts, *, paused: bool, stopped: bool) -> dict[str, Any]:
    last = facts.last_run
    return {
        "name": job.name,
        "schedule": job.schedule,
        "sentence": sentence_of(job, facts),
        "declared_in": job.declared_in,
        "state": derive_state(job, facts, paused=stopped).value,
        "paused": paused,
        "next_fire_at": iso(facts.next_fire_at),
        "last_run": None if last is None else run_as_dict(last, with_output=False),
        "targets": facts.targets,
    }


def sentence_of(job: Job, facts: JobFacts = NO_FACTS) -> str:
    """Tell when it runs: by its schedule, by those of its targets, after other jobs."""
    try:
        words = in_words(
            job.schedule, own=own_schedules(facts), follows=facts.follows, picked=job.is_picked
        )
    except InvalidSchedule as error:
        return f"cannot be read: {error}"
    return f"does not fire: {job.schedule_error}" if job.schedule_error else words


def in_words(text: str, *, own: str = "", follows: Sequence[str] = (), picked: bool = False) -> str:
    """Tell a schedule and what else starts runs. Raises InvalidSchedule."""
    schedule = parse(text)
    by_slots = "picked when slots are free" if picked else ""
    others = [words for words in (by_slots, own, " or ".join(follows)) if words]
    if others and isinstance(schedule, Manual):
        return "; ".join(others)
    return "; ".join([schedule.sentence(), *others])


def own_schedules(facts: JobFacts) -> str:
    number, own = facts.targets, facts.own_schedules
    if not own:
        return ""
    if own < number:
        return f"{own} of {number} targets with their own schedule"
    if number == 1:
        return "1 target, with its own schedule"
    return f"{number} targets, each with its own schedule"


def run_as_dict(run: Run, *, with_output: bool = True) -> dict[str, Any]:
    """Describe one row; `job` is the task's name if it is the history of a task that is no job."""
    row: dict[str, Any] = {
        "id": str(run.pk),
        "job": run.name,
        "key": run.key,
        "scheduled_at": iso(run.scheduled_at),
        "cause": run.cause,
        "fires": run.fires,
        "state": run.state,
        "reason": run.reason or None,
        "attempt": run.attempt,
        "published_at": iso(run.published_at),
        "started_at": iso(run.started_at),
        "ended_at": iso(run.ended_at),
        "outcome": run.outcome or None,
    }
    return {**row, "output": run.output} if with_output else row


def history(
    job: Job | str, *, key: str | None = None, limit: int, with_output: bool = True
) -> list[Run]:
    """Give the newest rows of a job, newest first; of a foreign task if it is a name.

    `key` narrows it to one target, "" being the one without a key. Without `with_output`, what
    they wrote is left in the database until it is asked for.
    """
    rows = Run.objects.filter(job=job) if isinstance(job, Job) else foreign_runs(job)
    if key is not None:
        rows = rows.filter(key=key)
    if not with_output:
        rows = rows.defer("output")
    return list(rows.newest_first()[:limit])


def foreign_runs(name: str) -> RunQuerySet:
    return Run.objects.filter(job=None, name=name)


def iso(time: datetime | None) -> str | None:
    return None if time is None else time.astimezone(UTC).isoformat()
