"""The line of a target's open runs, and what its overlap policy makes of one more fire."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from typing import Any

from scheduling.conf import conf
from scheduling.models import Cause, Job, Reason, Run, State, Target
from scheduling.policies import Overlap, on_overlap
from scheduling.runs import ends, log, make
from scheduling.schedules import Schedule
from scheduling.services import is_service

BY_OVERLAP = "a newer fire"


class Line:
    """Open runs of one target, whose lock the caller holds, in the order in which they run.

    Runs that join and fires that are skipped are collected, for the caller to insert; runs that
    are in the database already are ended here.
    """

    def __init__(
        self, target: Target, job: Job, open_runs: Sequence[Run], *, policy: Overlap | None = None
    ) -> None:
        self.joined: list[Run] = []
        self.skips: list[Run] = []
        self._target = target
        self._job = job
        # A backfill in the queue takes nobody's place: it runs when nothing else is to do.
        self._open = [run for run in open_runs if not is_queued_backfill(run)]
        # Counted as they come: a line of thousands must not be counted for each of its runs.
        self._waiting = sum(run.state == State.QUEUED for run in self._open)
        self._own = Overlap(job.overlap)
        self._asked_for = policy

    def meet(
        self,
        at: datetime,
        cause: Cause,
        *,
        now: datetime,
        schedule: Schedule | None = None,
        ready_at: datetime | None = None,
        **columns: Any,
    ) -> Run:
        """Let a fire join, wait, replace what is open, or be skipped, with the reason.

        What was missed queues up, whatever the job's policy for fires on time says, unless that is
        `allow` or somebody asked for a policy. `columns` are set on the row that comes of it.
        """
        policy = self._asked_for or self._own
        is_missed = cause != Cause.SCHEDULE and self._asked_for is None
        if is_missed and policy is not Overlap.ALLOW:
            policy = Overlap.QUEUE
        waiting = self._waiting
        limit = self._job.queue_limit or conf.QUEUE_LIMIT
        decision = on_overlap(
            policy,
            open_runs=len(self._open),
            waiting=waiting,
            queue_limit=waiting + 1 if is_missed else limit,
        )
        if decision == "skip":
            self._target.skipped_for_overlap += 1
            last = self._open[-1]
            detail = f"run {last.pk} of {last.scheduled_at:%Y-%m-%d %H:%M:%S} UTC was open"
            return self._skip(at, Reason.OVERLAP, detail, now, cause=cause, **columns)
        if decision == "cap":
            self._target.skipped_for_cap += 1
            detail = f"{waiting} runs were waiting already"
            return self._skip(at, Reason.CAPPED, detail, now, cause=cause, **columns)
        before = self._open[-1] if self._open else None
        if decision == "replace":
            before = self.replace(at, at_once=policy is Overlap.TERMINATE, now=now)
        run = make.queued(
            self._target,
            self._job,
            scheduled_at=at,
            cause=cause,
            now=now,
            schedule=schedule,
            ready_at=ready_at,
            waiting_on=None if decision == "start" else before,
            **columns,
        )
        run.exclusive = policy is not Overlap.ALLOW or is_service(self._job, self._target)
        self.joined.append(run)
        self._open.append(run)
        self._waiting += 1
        return run

    def replace(self, at: datetime, *, at_once: bool, now: datetime) -> Run | None:
        """End what is open in favour of the fire of `at`; give the run whose end it waits for.

        Running ones are asked to stop or are killed, scheduled ones that wait are skipped. What
        was missed or asked for keeps its place, behind the fire if that has something to stop.
        """
        detail = f"the fire of {at:%Y-%m-%d %H:%M:%S} UTC took its place"
        before: Run | None = None
        for run in list(self._open):
            if run.state == State.RUNNING:
                stopped = request_stop(run, by=BY_OVERLAP, at_once=at_once, now=now)
                self._target.ended_for_overlap += stopped
                before = run
            elif run.cause == Cause.SCHEDULE:
                self._open.remove(run)
                self._waiting -= 1
                self._give_way(run, detail, now)
        return before or (self._open[-1] if self._open else None)

    def _give_way(self, run: Run, detail: str, now: datetime) -> None:
        if run in self.joined:
            self.joined.remove(run)
            self._target.skipped_for_overlap += 1
            self._skip(run.scheduled_at, Reason.OVERLAP, detail, now)
            return
        run.job = self._job
        if run.attempt > 1:
            # It has run, and failed: nobody would hear of that if it were skipped.
            ends.give_up_retry(run, self._target, detail=detail, now=now)
            return
        self._target.skipped_for_overlap += 1
        ends.skip_queued(run, self._target, reason=Reason.OVERLAP, now=now, detail=detail)

    def _skip(
        self, at: datetime, reason: Reason, detail: str, now: datetime, **columns: Any
    ) -> Run:
        row = make.skipped(
            self._target, self._job, first=at, reason=reason, now=now, detail=detail, **columns
        )
        self.skips.append(row)
        return row


def is_queued_backfill(run: Run) -> bool:
    return run.state == State.QUEUED and run.cause == Cause.BACKFILL


def request_stop(run: Run, *, by: str, at_once: bool, now: datetime) -> bool:
    """Ask the worker of a running run to stop it, or to kill it; False: that was asked before."""
    running = Run.objects.filter(pk=run.pk, attempt=run.attempt, state=State.RUNNING)
    wanted = (
        running.filter(stop_at_once=False) if at_once else running.filter(stop_requested_at=None)
    )
    if not wanted.update(stop_requested_at=now, stop_requested_by=by[:150], stop_at_once=at_once):
        return False
    log.changed_by(run, "to be killed" if at_once else "asked to stop", by)
    return True
