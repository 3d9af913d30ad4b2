"""The runs of one message: accepted at once, executed one after another, recorded a few at a time.

Each is a run of its own, with its arguments, its errors, its end; one that is asked to stop is
stopped, and the others go on. They share the time limits of the message, which are those of one
run: what has not begun when a tenth of that is over is given back. So each has at least nine tenths
of its limit, and none has more. What may not simply start is executed alone, after the others.
"""

from __future__ import annotations

import logging
import threading
import time
from collections import deque
from collections.abc import Callable, Iterable, Sequence
from datetime import timedelta
from typing import Any

from celery import Task
from celery.exceptions import Ignore

from scheduling import clock, runs
from scheduling.conf import conf
from scheduling.models import Job, State
from scheduling.outbox import task_of
from scheduling.runs import Result, Started
from workers import attempt, failures, hooks, lease, notifications, pools, stopping
from workers.open_run import OpenRun
from workers.ticket import Ticket

logger = logging.getLogger(__name__)

Body = Callable[..., Any]
Accepted = tuple[Started, OpenRun]

# The part of the limit in which the last one must have begun.
TO_BEGIN = 0.1
# For how long an end may go unrecorded while the next ones are executed.
RECORD_EVERY = timedelta(seconds=0.5)


def execute(task: Task[Any, Any], tickets: Sequence[Ticket], body: Body) -> None:
    """Execute all the runs that a message names, as far as they may begin."""
    hard = (task.request.timelimit or (None,))[0] or conf.INTERNAL_HARD_LIMIT.total_seconds()
    until = time.monotonic() + TO_BEGIN * hard
    worker = lease.worker_name(task.request.hostname or "direct")
    accepted: list[Accepted] | None = []
    if not stopping.has_begun():
        accepted = attempt.until_answered(
            lambda: accept(tickets, worker=worker, task=task.name),
            f"start of {len(tickets)} runs",
            # Nothing has begun. Dropped, its message is missed, and somebody may get another.
            patience=conf.lease,
        )
    if accepted is None:
        raise Ignore
    if accepted:
        Batch(task, accepted, body, until=until).execute(worker)
    begun = {started.run.pk for started, _ in accepted}
    left = deque(ticket for ticket in tickets if ticket.run_id not in begun)
    was_any = bool(accepted)
    while left and not is_over(until):
        error = execute_alone(task, left.popleft(), body)
        if isinstance(error, Ignore):
            continue
        if error is not None:
            # Its end is recorded. The message goes on.
            logger.error("A run of a message for several has failed", exc_info=error)
            failures.let_go(error)
        was_any = True
    for ticket in left:
        stopping.hand_back(ticket)
    if not was_any:
        raise Ignore


def execute_alone(task: Task[Any, Any], ticket: Ticket, body: Body) -> Exception | None:
    """Give what it raised."""
    try:
        attempt.execute(task, ticket, body)
    except Exception as error:
        return error
    return None


def is_over(until: float) -> bool:
    """Whether no further run of the message is to begin."""
    return stopping.has_begun() or time.monotonic() > until


def accept(tickets: Iterable[Ticket], *, worker: str, task: str) -> list[Accepted]:
    """Have those accepted that may simply start."""
    # Made first: their leases are counted from here.
    open_runs = {
        ticket.run_id: OpenRun(ticket.run_id, ticket.attempt, (), has_begun=False)
        for ticket in tickets
    }
    accepted = runs.start_batch(
        {run_id: open_run.attempt for run_id, open_run in open_runs.items()},
        worker=worker,
        # Sampled: a process that was idle while its machine slept would find every run too early.
        now=clock.sample(),
        may_begin=lambda job: may_begin(job, task),
    )
    for started in accepted:
        open_runs[started.run.pk].token = started.token
    return [(started, open_runs[started.run.pk]) for started in accepted]


def may_begin(job: Job, task: str) -> bool:
    """Whether runs of the job may begin here without a further look at each."""
    is_asked = job.ready_since is None and hooks.has(job.name, "ready")
    return task == task_of(job) and not (job.polite or is_asked or pools.refusal(job))


class Batch:
    """Accepted runs in this process.

    A thread of the heartbeat, too, records what has ended, so that no end waits for a long body.
    """

    def __init__(
        self, task: Task[Any, Any], accepted: Sequence[Accepted], body: Body, *, until: float
    ) -> None:
        self._task = task
        self._body = body
        self._until = until
        self._open_runs = [open_run for _, open_run in accepted]
        self._ahead = deque(accepted)
        self._ended: list[tuple[Started, OpenRun, Result]] = []
        self._to_tell: list[Started] = []
        self._changing = threading.Lock()
        self._recording = threading.Lock()

    def execute(self, worker: str) -> None:
        for open_run in self._open_runs:
            open_run.before_death = self.settle
        with lease.heartbeat(worker).keep(*self._open_runs, record=self.record):
            try:
                self._execute_all()
                attempt.until_answered(self.record, f"ends of {len(self._open_runs)} runs")
            except BaseException:
                # The process ends. What cannot be written at once, lapsed leases tell.
                self.settle()
                raise
        for started in self._to_tell:
            notifications.deliver_of(started.run.pk)

    def _execute_all(self) -> None:
        record_at = time.monotonic() + RECORD_EVERY.total_seconds()
        while mine := self._next():
            started, open_run = mine
            result = self._execute_one(started, open_run)
            # From here on nobody ends this process because of what the database says of the run.
            open_run.is_over = True
            with self._changing:
                if result is not None:
                    self._ended.append((started, open_run, result))
            if time.monotonic() > record_at:
                attempt.until_answered(self.record, "ends of several runs")
                record_at = time.monotonic() + RECORD_EVERY.total_seconds()
            if is_over(self._until):
                attempt.until_answered(self.give_back, "giving back of several runs")

    def _next(self) -> Accepted | None:
        with self._changing:
            if not self._ahead:
                return None
            mine = self._ahead.popleft()
            mine[1].has_begun = True
            return mine

    def _execute_one(self, started: Started, open_run: OpenRun) -> Result | None:
        """Give how its body ended; None: it was declined, and that is recorded."""
        if open_run.should_stop():
            return attempt.as_told(Result(state=State.FAILED), open_run.told)
        run = started.run
        if not attempt.wants_to_run(started):
            open_run.is_over = True
            attempt.until_answered(lambda: attempt.decline(started), f"end of run {run.pk}")
            return None
        self._task.request.update(
            id=str(run.pk), args=started.args, kwargs=started.kwargs, retries=run.failures
        )
        result, answer = attempt.perform(started, open_run, self._body)
        if result.state == State.FAILED and isinstance(answer, BaseException):
            logger.error("Run %s of %s failed", run.pk, run.name, exc_info=answer)
            failures.let_go(answer)
        return result

    # --- also on the heartbeat's threads ----------------------------------------------------------

    def record(self) -> None:
        """Write down what has ended since the last time."""
        with self._recording:
            with self._changing:
                ended = {started.run.pk: (started, own, end) for started, own, end in self._ended}
            given = {
                run_id: (started.run.attempt, started.token, end)
                for run_id, (started, _, end) in ended.items()
                if end.state == State.SUCCEEDED
            }
            left = runs.finish_batch(given, now=clock.now()) if given else set()
            for run_id, (started, open_run, end) in ended.items():
                if run_id in left or end.state != State.SUCCEEDED:
                    attempt.record(started, open_run, end)
                    self._to_tell.append(started)
            with self._changing:
                del self._ended[: len(ended)]

    def give_back(self) -> None:
        """Put back into the queue what has not begun."""
        while mine := self._next():
            started, open_run = mine
            open_run.is_over = True
            runs.hand_back(
                started.run.pk, started.run.attempt, token=started.token, now=clock.now()
            )

    def settle(self) -> None:
        """Write what is to be known before this process ends, as far as the database answers."""
        try:
            self.record()
            self.give_back()
        except Exception:
            logger.exception("Not recorded, lapsed leases will tell: runs of one message")
