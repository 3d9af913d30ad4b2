"""Which time limits of jobs inside a worker Celery's pools enforce, and whose are in vain."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import timedelta

from celery.concurrency import ALIASES  # type: ignore[attr-defined]  # celery-types lacks it

from scheduling.models import Job
from scheduling.services import queue_of
from scheduling.spans import span_in_words

# What these do not enforce. Of a pool that is none of Celery's we know nothing.
UNENFORCED = {
    "threads": ("soft", "hard"),
    "solo": ("soft", "hard"),
    "eventlet": ("soft", "hard"),
    # It raises an error in the job at the hard limit, whenever that waits for something.
    "gevent": ("soft",),
}


def pool_name(pool: object) -> str:
    """Give the name as users type it; Celery also takes and gives classes and their paths."""
    if isinstance(pool, type):
        pool = f"{pool.__module__}:{pool.__qualname__}"
    for name, path in ALIASES.items():
        if pool in (name, path, str(path).replace(":", ".")):
            return "prefork" if name == "processes" else name
    return str(pool)


def unenforced(pool: str, *, soft: timedelta | None, hard: timedelta | None) -> str:
    """Name those limits of a job's own that this pool does not enforce; "" if there are none."""
    limits = {"soft": soft, "hard": hard}
    return " and ".join(
        f"its {name} limit of {span_in_words(limit)}"
        for name in UNENFORCED.get(pool, ())
        if (limit := limits[name]) is not None
    )


def jobs_with_vain_limits(pool: str, queues: Iterable[str], default_queue: str) -> list[str]:
    """Name the jobs on these queues that run inside the worker with limits of no effect there."""
    if pool not in UNENFORCED:
        return []
    consumed = set(queues)
    limited = Job.objects.active().exclude(soft_limit=None, hard_limit=None)
    return [
        job.name
        for job in limited
        if not job.is_external
        and (queue_of(job) or default_queue) in consumed
        and unenforced(pool, soft=job.soft_limit, hard=job.hard_limit)
    ]
