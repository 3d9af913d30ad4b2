"""Why did it run, or why not: each fire time answered, also where there is no row.

`why` asks a bounded number of queries, whatever the stretch and the number of targets.
"""

from __future__ import annotations

from datetime import datetime

from scheduling.errors import InvalidSchedule, UnknownTarget
from scheduling.models import Job, Target
from scheduling.runs.cursors import schedule_of
from scheduling.why import coming
from scheduling.why.findings import Account, Finding, finding_as_dict
from scheduling.why.moment import at_moment
from scheduling.why.stretch import of_stretch

__all__ = ["Account", "Finding", "find_target", "finding_as_dict", "why"]


def why(
    job: Job,
    *,
    at: datetime | None = None,
    after: datetime | None = None,
    until: datetime | None = None,
    key: str | None = None,
    limit: int,
    now: datetime,
    with_output: bool = True,
    with_error: bool = True,
) -> Account:
    """Explain one fire time; or the fire times in (after, until] and what comes next.

    Without bounds: the newest. `key` None means every target; of several only what has a row is
    told. Raises UnknownTarget for a key that the job does not have.
    """
    target = find_target(job, key)
    if at is not None:
        found = at_moment(job, target, at, limit=limit, now=now)
        return Account(findings=found, is_asked_for=True)
    findings, is_all = of_stretch(
        job,
        target,
        after=after,
        until=until,
        limit=limit,
        now=now,
        with_output=with_output,
        with_error=with_error,
    )
    is_asked_for = after is not None or until is not None
    if target is None:
        targets = coming.targets_of(job)
        return Account(
            findings=findings,
            next=coming.of_job(job, targets, now),
            is_cut=not is_all,
            of_targets=targets.number,
            is_asked_for=is_asked_for,
        )
    return Account(
        findings=findings,
        next=coming.of_target(job, target, now),
        is_cut=not is_all,
        by_itself=_fires_by_itself(job, target, now),
        is_asked_for=is_asked_for,
    )


def find_target(job: Job, key: str | None) -> Target | None:
    """Give the target that the question is about; None if it is about several."""
    found = Target.objects.filter(job=job, **({} if key is None else {"key": key}))
    # By the key: by the default, the job's name, a million would be sorted for two.
    targets = list(found.select_related("resource").order_by("key")[:2])
    if key is not None and not targets:
        raise UnknownTarget(f"Job {job.name!r} has no target with the key {key!r}")
    for target in targets:
        target.job = job
    return targets[0] if len(targets) == 1 else None


def _fires_by_itself(job: Job, target: Target, now: datetime) -> bool:
    try:
        schedule = schedule_of(target, job)
    except InvalidSchedule:
        return True
    return schedule.is_anchored or schedule.after_end(now) is not None
