"""Which runs share a message: many short ones of one job cost one delivery.

A worker accepts all of them at once and executes them one after another; each is a run of its own
in everything else.
"""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any

from scheduling.conf import conf
from scheduling.models import Job, Run
from scheduling.models.job import DeclaredIn, Kind
from scheduling.services import is_service

# Celery tasks of other people: a worker without Beatkeeper may consume their messages.
THEIR_OWN_ARGUMENTS = (DeclaredIn.PERIODIC_TASK, DeclaredIn.SETTINGS)


def is_batched(job: Job) -> bool:
    """Whether runs of the job may share messages: functions of ours that hold nothing."""
    return (
        job.batch > 1
        and job.kind == Kind.TASK
        and job.declared_in not in THEIR_OWN_ARGUMENTS
        and not (job.locks or job.polite or conf.SERIAL or is_service(job))
    )


def bundles(runs: Iterable[Run]) -> list[list[Run]]:
    """Put runs together that may share a message, jobs loaded, in the order of each first one."""
    found: list[list[Run]] = []
    growing: dict[Any, list[Run]] = {}
    for run in runs:
        if not _is_shared(run):
            found.append([run])
            continue
        assert run.job is not None
        # All that decides where a message goes.
        alike = (run.job_id, run.queue, run.strategy, run.priority)
        bundle = growing.get(alike)
        if bundle is None or len(bundle) >= run.job.batch:
            bundle = growing[alike] = []
            found.append(bundle)
        bundle.append(run)
    return found


def _is_shared(run: Run) -> bool:
    """What has been lost may have killed its process, and is not to take others with it."""
    return run.job is not None and is_batched(run.job) and not run.losses
