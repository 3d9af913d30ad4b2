"""How long a run of a job may take. Pure, apart from the settings with the defaults."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import timedelta

from scheduling.archive import JOB as ARCHIVE
from scheduling.conf import conf
from scheduling.models import Job
from scheduling.services import is_service

SHORTEST_SOFT = timedelta(seconds=1)
# Not declared with it: workers whose pool enforces no limits would refuse it, and it ends by itself
ARCHIVE_HARD_LIMIT = timedelta(hours=4)


@dataclass(frozen=True, slots=True, kw_only=True)
class Limits:
    """`soft` is never above `hard`: asked to stop at the first, ended at the second.

    None: no limit, as for services that name none.
    """

    soft: timedelta | None
    hard: timedelta | None


def limits_of(job: Job) -> Limits:
    """Give the job's own limits, else the defaults: soft is a tenth below hard, at least 1 s.

    A job that only names a soft limit above the default hard limit gets a hard one to match. A
    service has the limits that it names, and no others.
    """
    hard = job.hard_limit
    if hard is None:
        if is_service(job):
            return Limits(soft=job.soft_limit, hard=None)
        hard = conf.EXTERNAL_HARD_LIMIT if job.is_external else conf.INTERNAL_HARD_LIMIT
        if job.name == ARCHIVE:
            hard = ARCHIVE_HARD_LIMIT
        if job.soft_limit is not None:
            hard = max(hard, job.soft_limit / 0.9)
    soft = job.soft_limit if job.soft_limit is not None else max(hard * 0.9, SHORTEST_SOFT)
    return Limits(soft=min(soft, hard), hard=hard)
