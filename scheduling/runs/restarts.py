"""How soon a service that has ended is started again."""

from __future__ import annotations

from datetime import timedelta

from scheduling.conf import conf
from scheduling.models import Job, Reason, Run, State, Target
from scheduling.policies import retry_delay
from scheduling.services import is_service


def count(run: Run, target: Target, job: Job) -> None:
    """Take note, on the instance, of a run that ended soon after its start, or of one that lasted.

    Who was asked to stop, or never started, says nothing about how well it runs.
    """
    if not is_service(job, target) or run.reason in (Reason.CANCELLED, Reason.TERMINATED):
        return
    if run.state == State.SKIPPED and run.reason != Reason.DECLINED:
        return
    lasted = (run.ended_at or run.created_at) - (run.started_at or run.created_at)
    target.short_runs = 0 if lasted >= conf.SERVICE_DELAY_MAX else target.short_runs + 1


def delay(target: Target) -> timedelta:
    """The wait before the next start; it doubles, and stays at JOBS_SERVICE_DELAY_MAX."""
    return retry_delay(
        max(target.short_runs, 1), base=conf.SERVICE_DELAY, cap=conf.SERVICE_DELAY_MAX
    )
