"""Jobs for the tests; none fires by itself, tests give them schedules."""

from __future__ import annotations

import time
from contextlib import AbstractContextManager, suppress
from pathlib import Path
from typing import Any

from celery import Task, shared_task

from scheduling import current_run, job
from tests.testapp import oracle


def telling() -> AbstractContextManager[None]:
    run = current_run()
    return oracle.telling(
        run=str(run.id),
        job=run.job,
        scheduled_at=run.scheduled_at.isoformat(),
        attempt=run.attempt,
        token=run.token,
    )


@job()
def note() -> None:
    """Tell the oracle, nothing else."""
    with telling():
        pass


@job()
def hold(until: str) -> None:
    """Run until the file `until` exists, or somebody asks the run to stop."""
    with telling():
        while not Path(until).exists() and not current_run().should_stop():
            time.sleep(0.05)


@job()
def take_a_while(seconds: float) -> None:
    """Take a while."""
    with telling():
        time.sleep(seconds)


@job()
def fail_while(broken: str) -> None:
    """Fail as long as the file `broken` exists."""
    with telling():
        if Path(broken).exists():
            raise RuntimeError(f"{broken} exists")


@shared_task(bind=True)
def plain(self: Task[Any, Any], name: str = "") -> None:
    """Know nothing of Beatkeeper, as the tasks that other people's rows call."""
    with oracle.telling(run=str(self.request.id), job=name, scheduled_at="", attempt=1, token=0):
        pass


@shared_task
def deaf(seconds: float) -> None:
    """Catch whatever is raised, a soft limit as well, and go on."""
    with telling():
        until = time.monotonic() + seconds
        while time.monotonic() < until:
            with suppress(Exception):
                time.sleep(0.1)
