"""Runs that come to a worker before their job is ready for its first one."""

from __future__ import annotations

from datetime import datetime, timedelta

from scheduling.models import Run
from scheduling.policies import retry_delay
from scheduling.runs import circuits
from scheduling.runs.attempts import postpone

FIRST_WAIT = timedelta(seconds=1)
LONGEST_WAIT = timedelta(minutes=10)


def wait_until_ready(run: Run, *, detail: str, asked: bool, now: datetime) -> bool:
    """Postpone a queued run, whose job is loaded: at first by a second, then twice as long each
    time, at most ten minutes. False: it is no longer queued.

    `detail` is what its `ready` said; not `asked`: it is what another run heard a moment ago.
    """
    assert run.job is not None
    if asked:
        circuits.note_unready(run.job, detail, now=now)
    until = now + retry_delay(max(run.publications, 1), base=FIRST_WAIT, cap=LONGEST_WAIT)
    return postpone(run.pk, run.attempt, until=until, detail=f"not ready: {detail}", now=now)
