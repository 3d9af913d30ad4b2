"""Pings: signs of life for a monitor outside, inserted with what they tell of."""

from __future__ import annotations

from datetime import datetime

from scheduling.models import Job, Ping, PingSignal, Run, State

OF_END = {State.SUCCEEDED: PingSignal.SUCCESS, State.FAILED: PingSignal.FAIL}


def of_start(run: Run, job: Job, *, now: datetime) -> None:
    """Note the first start of a run; the further attempts find the row and leave it."""
    _insert(run, job, PingSignal.START, now)


def of_end(run: Run, job: Job, *, now: datetime) -> None:
    """Note that a run has succeeded or failed for good."""
    _insert(run, job, OF_END[State(run.state)], now)


def of_nothing(run: Run) -> None:
    """Forget what is not sent yet: the run has told nothing, such as one that was declined."""
    if run.started_at is not None:
        Ping.objects.filter(run=run, deliver_at__isnull=False, attempts=0).delete()


def _insert(run: Run, job: Job, signal: PingSignal, now: datetime) -> None:
    if job.ping_url:
        row = Ping(run=run, signal=signal, created_at=now, deliver_at=now)
        Ping.objects.bulk_create([row], ignore_conflicts=True)
