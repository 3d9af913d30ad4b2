"""New targets in bulk, each with its first cursor or its place in the pool."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from functools import lru_cache
from typing import Any

from django.db import IntegrityError

from scheduling import redis
from scheduling.db import short_transaction
from scheduling.declared_values import LONGEST_KEY
from scheduling.errors import InvalidRequest, InvalidSchedule, JobRetired
from scheduling.models import Job, Resource, Run, ScheduleStretch, Target
from scheduling.runs import bulk, coverage, make, pool
from scheduling.runs.cursors import CURSOR_FIELDS, first_stretch
from scheduling.runs.listed import is_picked
from scheduling.runs.moving import first_run_of
from scheduling.runs.stored_json import as_text
from scheduling.schedules import Manual, Schedule, parse, require_supported
from scheduling.services import ALWAYS

BATCH = 1000
# Somebody else may make the same at this moment: then theirs is there.
TRIES = 3
BY_HAND = str(Manual())
# In which columns new targets of a job differ
DIFFERING = (
    *("key", "resource_id", "source_id", "schedule", "kwargs", "hint_at"),
    *("paused_at", "paused_by", "pause_reason"),
    *CURSOR_FIELDS,
    *pool.POOL_FIELDS,
)


@dataclass(frozen=True, slots=True, kw_only=True)
class NewTarget:
    """A job applied to a key, again and again.

    `schedule`: its own; "": the job's. `kwargs` come on top of the job's. `resource`: the key of
    what its runs must not touch together; "": nothing.
    """

    job: str
    key: str
    kwargs: Mapping[str, Any] = field(default_factory=dict)
    schedule: Schedule | str = ""
    resource: str = ""

    def __post_init__(self) -> None:
        """Raises InvalidRequest, InvalidSchedule."""
        for key in (self.key, self.resource):
            if len(key) > LONGEST_KEY or "\x00" in key:
                raise InvalidRequest(
                    f"The key {key[:40]!r} of a target of {self.job!r} is no key; give at most "
                    f"{LONGEST_KEY} characters"
                )
        as_text(self.kwargs)
        if self.own_schedule == ALWAYS:
            raise InvalidSchedule(
                "No target alone can run always; give its job the schedule 'always'",
                value=self.own_schedule,
            )

    @property
    def own_schedule(self) -> str:
        return _normal(str(self.schedule)) if self.schedule else ""


@lru_cache(maxsize=1024)
def _normal(text: str) -> str:
    return str(require_supported(parse(text)))


def add_targets(
    wanted: Sequence[NewTarget], jobs: Mapping[str, Job], *, now: datetime
) -> list[Target]:
    """Make targets; give one for each that is wanted, in that order.

    What a job has already is left untouched, and given; what is wanted twice is made once. `jobs`
    has all that are named. Raises InvalidRequest, JobRetired, before anything is made.
    """
    for each in wanted:
        _require_sense(each, jobs[each.job])
    found: dict[tuple[int, str], Target] = {}
    for begin in range(0, len(wanted), BATCH):
        batch = {
            (jobs[each.job].pk, each.key): each for each in reversed(wanted[begin : begin + BATCH])
        }
        found |= _add_batch(batch, now=now)
    return [found[jobs[each.job].pk, each.key] for each in wanted]


def _require_sense(wanted: NewTarget, job: Job) -> None:
    if job.retired_at is not None:
        raise JobRetired(f"Job {job.name!r} is retired; declare it again to run it")
    if not wanted.own_schedule and job.schedule == BY_HAND and job.feed is None:
        raise InvalidRequest(
            f"The target {wanted.key!r} of {job.name!r} would never come up: its job has the "
            "schedule manual and no feed; give the target a schedule (manual, if that is meant)"
        )


def _add_batch(
    wanted: Mapping[tuple[int, str], NewTarget], *, now: datetime
) -> dict[tuple[int, str], Target]:
    for left in reversed(range(TRIES)):
        try:
            with short_transaction():
                return _add(wanted, now=now)
        except IntegrityError:
            if not left:
                raise
    raise AssertionError


def _add(
    wanted: Mapping[tuple[int, str], NewTarget], *, now: datetime
) -> dict[tuple[int, str], Target]:
    job_ids = {job_id for job_id, _ in wanted}
    # Read anew: an edit may have come in between.
    jobs = Job.objects.select_related("calendar").in_bulk(job_ids)
    there = Target.objects.filter(job__in=job_ids, key__in=[key for _, key in wanted])
    found = {(target.job_id, target.key): target for target in there.select_related("job")}
    missing = {place: each for place, each in sorted(wanted.items()) if place not in found}
    resources = _resources(each.resource for each in missing.values() if each.resource)
    for job_id in sorted({job_id for job_id, _ in missing}):
        new = [
            Target(
                job=jobs[job_id],
                key=each.key,
                kwargs=dict(each.kwargs),
                schedule=each.own_schedule,
                resource=resources.get(each.resource),
            )
            for (of_job, _), each in missing.items()
            if of_job == job_id
        ]
        insert(jobs[job_id], new, now=now)
        found |= {(job_id, target.key): target for target in new}
    return {place: found[place] for place in wanted}


def _resources(keys: Iterable[str]) -> dict[str, Resource]:
    wanted = sorted(set(keys))
    Resource.objects.bulk_create([Resource(key=key) for key in wanted], ignore_conflicts=True)
    return {row.key: row for row in Resource.objects.filter(key__in=wanted)}


def insert(job: Job, targets: Sequence[Target], *, now: datetime) -> None:
    """Insert new targets of a job, in the caller's transaction: as `add_target` does, in bulk.

    Raises IntegrityError for one that there is.
    """
    if not targets:
        return
    first = first_run_of(job)
    wait_until = first if not isinstance(first, str) and first > now else None
    stretches = _begin(targets, job, after=wait_until or now, now=now)
    bulk.insert(targets, DIFFERING, same={"created_at": now}, returning=("key",))
    _note_new(targets)
    for stretch in stretches:
        # The target has its id only now.
        stretch.target_id = stretch.target.pk
    ScheduleStretch.objects.bulk_create(stretches)
    if first == "now" or wait_until is not None:
        _run_first(targets, job, at=wait_until or now, now=now)
    pool.wake_feeders_of(targets)
    redis.ring_on_commit()


def _begin(
    targets: Iterable[Target], job: Job, *, after: datetime, now: datetime
) -> list[ScheduleStretch]:
    """Set on the instances their first cursor after `after`, or their place in the pool; give the
    stretches of schedules that begin.
    """
    stretches = []
    for target in targets:
        if stretch := first_stretch(target, job, after=after, since=now):
            stretches.append(stretch)
        pool.place(target, job, now=now)
    return stretches


def _note_new(targets: Iterable[Target]) -> None:
    coverage.note_many(
        coverage.Change(
            job_id=target.job_id,
            source_id=target.source_id,
            before=None,
            after=coverage.facts_of(target),
        )
        for target in targets
    )


def _run_first(targets: Iterable[Target], job: Job, *, at: datetime, now: datetime) -> None:
    """Queue first runs; of what strategies pick, each pick is a run, also the first."""
    Run.objects.bulk_create(
        make.first(target, job, at=at, now=now) for target in targets if not is_picked(target, job)
    )
