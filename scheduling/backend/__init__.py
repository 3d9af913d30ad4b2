"""The complete Python API: jobs, targets and runs, one by one and in bulk.

For services that make and follow work by the thousand, and for executors that are not Celery
workers. Each function says which one of Software Heritage's scheduler it stands for. Needs Django;
reads the clock itself; every call is whole or, in bulk, whole in batches of a thousand.
"""

from __future__ import annotations

from scheduling.backend.jobs import get_job, register_job, search_jobs, set_jobs
from scheduling.backend.metrics import get_coverage, update_coverage
from scheduling.backend.one_off_runs import (
    create_runs,
    get_runs,
    get_runs_of,
    respawn,
    search_runs,
    set_runs,
)
from scheduling.backend.pages import Page
from scheduling.backend.picking import select
from scheduling.backend.ready import LEASE, OUTSIDE, claim_ready, peek_ready
from scheduling.backend.reports import (
    ScheduledRun,
    end_run,
    end_runs,
    renew,
    schedule_run,
    schedule_runs,
    start_run,
    start_runs,
)
from scheduling.backend.targets import (
    create_targets,
    get_targets,
    search_targets,
    set_targets,
)
from scheduling.runs.adding import NewTarget
from scheduling.runs.new_run import NewRun
from scheduling.runs.run_end import Reported, RunEnd
from scheduling.runs.selecting import Pick

__all__ = [
    "LEASE",
    "OUTSIDE",
    "NewRun",
    "NewTarget",
    "Page",
    "Pick",
    "Reported",
    "RunEnd",
    "ScheduledRun",
    "claim_ready",
    "create_runs",
    "create_targets",
    "end_run",
    "end_runs",
    "get_coverage",
    "get_job",
    "get_runs",
    "get_runs_of",
    "get_targets",
    "peek_ready",
    "register_job",
    "renew",
    "respawn",
    "schedule_run",
    "schedule_runs",
    "search_jobs",
    "search_runs",
    "search_targets",
    "select",
    "set_jobs",
    "set_runs",
    "set_targets",
    "start_run",
    "start_runs",
    "update_coverage",
]
