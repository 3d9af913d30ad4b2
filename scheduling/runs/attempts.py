"""Attempts: the guard that lets exactly one begin, and what a worker may say while it runs."""

from __future__ import annotations

from collections.abc import Callable, Collection
from dataclasses import dataclass
from datetime import datetime
from typing import Any
from uuid import UUID

from scheduling import redis
from scheduling.conf import conf
from scheduling.context import CurrentRun
from scheduling.db import short_transaction, update_free
from scheduling.errors import InvalidSchedule
from scheduling.models import Installation, Job, Parked, Reason, Run, Seat, State, Target
from scheduling.runs import circuits, ends, log, pings, seats, tickets
from scheduling.runs.cursors import CURSOR_FIELDS, lock_target, park, schedule_of
from scheduling.runs.make import is_by_hand
from scheduling.runs.parents import parent_of, parents_of
from scheduling.runs.scopes import pause_of, told


@dataclass(frozen=True, slots=True, kw_only=True)
class Started:
    """An accepted attempt and what it needs: the only source of its arguments."""

    run: Run
    job: Job
    target: Target
    token: int
    args: list[Any]
    kwargs: dict[str, Any]

    def current(self, stop_flag: Callable[[], bool]) -> CurrentRun:
        resource = self.target.resource
        return CurrentRun(
            id=self.run.pk,
            job=self.job.name,
            key=self.target.key,
            resource=resource.key if resource is not None else "",
            scheduled_at=self.run.scheduled_at,
            attempt=self.run.attempt,
            token=self.token,
            parent=parent_of(self.run),
            stop_flag=stop_flag,
            find_parents=lambda: parents_of(self.run),
        )


def start(run_id: UUID, attempt: int, *, worker: str, now: datetime) -> Started | None:
    """Move a run from queued to running, or give None: the message is to be dropped.

    None means that somebody else was first, that the message is an old one, or that the run may
    not start now; then it has been skipped, or waits in the database and is published again.
    """
    # A look without locks disposes of second deliveries cheaply.
    target_id = (
        Run.objects.filter(pk=run_id, attempt=attempt, state=State.QUEUED)
        .values_list("target_id", flat=True)
        .first()
    )
    if target_id is None:
        return None
    with short_transaction():
        target = lock_target(target_id)
        run = (
            Run.objects.select_related("job__circuit", "job__calendar")
            .filter(pk=run_id, attempt=attempt, state=State.QUEUED)
            .first()
        )
        if run is None or run.job is None or run.waiting_on_id is not None:
            return None
        if run.ready_at is not None and run.ready_at > now:
            return None
        job = run.job
        target.job = job
        refused = refusal(run, job, target, now)
        if refused is not None:
            reason, detail = refused
            ends.skip_queued(run, target, reason=reason, detail=detail, now=now)
            return None
        taken = _take_turn(run, job, target, now=now)
        if taken is None:
            return None
        token = 1 + max([target.token, *(seat.token for seat in taken)])
        if not _accept(run, token=token, worker=worker, now=now):
            return None
        seats.take(taken, run, token=token, now=now)
        tickets.leave(run)
        target.token, target.last_started_at = token, now
        _await_end(target, job)
        target.save(update_fields=("token", "last_started_at", *CURSOR_FIELDS))
        run.target = target
        pings.of_start(run, job, now=now)
        log.changed(run, "started")
    return started(run, job, target, token=token)


def started(run: Run, job: Job, target: Target, *, token: int) -> Started:
    """What an attempt that has been accepted needs."""
    return Started(
        run=run,
        job=job,
        target=target,
        token=token,
        args=list(job.args),
        kwargs=_arguments(run, job, target),
    )


def _take_turn(run: Run, job: Job, target: Target, *, now: datetime) -> list[Seat] | None:
    """Give the run's seats, locked and free; None if it waits now, for a run or for a seat."""
    before = _running_before(run)
    if before is not None:
        _wait(run, now=now, waiting_on=before)
        return None
    keys = seats.seat_keys(job, target)
    busy = tickets.name_for_the_first_time(keys, target)
    if busy is not None:
        _wait(run, now=now, waiting_for=busy, keys=keys)
        return None
    rows = seats.lock_seats(keys, own=seats.own_key(target) if run.exclusive else "")
    wanted = sorted({seat.key for seat in rows})
    busy = tickets.busy_key(wanted, now=now, run=run, since=run.waiting_since)
    if busy is None:
        return seats.choose(rows, now=now)
    _wait(run, now=now, waiting_for=busy, keys=wanted)
    return None


def _accept(run: Run, *, token: int, worker: str, now: datetime) -> bool:
    """queued -> running, in the database and on the instance; False: somebody else was first."""
    columns = {**columns_of_start(worker=worker, now=now), "token": token}
    queued = Run.objects.filter(pk=run.pk, attempt=run.attempt, state=State.QUEUED)
    if queued.update(**columns) != 1:
        return False
    for name, value in columns.items():
        setattr(run, name, value)
    return True


def columns_of_start(*, worker: str, now: datetime) -> dict[str, Any]:
    return {
        "state": State.RUNNING,
        "reason": "",
        "started_at": now,
        "worker": worker,
        "lease_until": now + conf.lease,
        "waiting_for": "",
        "detail": "",  # why it was postponed
        # Of the attempt before, which has a row of its own by now.
        **{"output": "", "output_bytes": 0, "error": "", "exit_code": None},
    }


def _await_end(target: Target, job: Job) -> None:
    """Take the cursor away from a pause between runs: it begins anew when this run, also one by
    hand, has ended.
    """
    if target.next_fire_at is None:
        return
    try:
        is_anchored = schedule_of(target, job).is_anchored
    except InvalidSchedule:
        return  # the claim puts it aside with an error
    if not is_anchored:
        park(target, Parked.OPEN)


def _arguments(run: Run, job: Job, target: Target) -> dict[str, Any]:
    merged = {**job.kwargs, **target.kwargs, **run.kwargs}
    if job.scheduled_at_argument:
        merged[job.scheduled_at_argument] = run.scheduled_at.isoformat()
    return merged


def refusal(
    run: Run,
    job: Job,
    target: Target,
    now: datetime,
    *,
    everything: Installation | None = None,
) -> tuple[Reason, str] | None:
    """Whether the run may no longer start at all. People may run a paused job by hand.

    `everything` spares a query to who has it already.
    """
    if job.retired_at is not None or target.retired_at is not None:
        return Reason.RETIRED, ""
    if run.start_by is not None and now > run.start_by:
        return Reason.LATE, f"it had to start by {run.start_by:%Y-%m-%d %H:%M:%S} UTC"
    if is_by_hand(run):
        return None
    held = pause_of(job, target, now, everything=everything)
    if held is not None:
        return Reason.PAUSED, told(*held)
    circuit = circuits.held_by(job)
    return None if circuit is None else (Reason.CIRCUIT, circuits.told(circuit))


def _running_before(run: Run) -> Run | None:
    """The running run of the same target that this one has to wait for."""
    if not run.exclusive:
        return None
    return Run.objects.running().filter(target=run.target_id, exclusive=True).first()


def _wait(
    run: Run,
    *,
    now: datetime,
    waiting_on: Run | None = None,
    waiting_for: str = "",
    keys: Collection[str] = (),
) -> None:
    """Let a queued run wait in the database: it leaves the outbox until it is woken.

    For a run, or for all of the locks in `keys`, of which `waiting_for` was found taken.
    """
    since = run.waiting_since or (now if waiting_for else None)
    changed = Run.objects.filter(pk=run.pk, attempt=run.attempt, state=State.QUEUED).update(
        waiting_on=waiting_on,
        waiting_for=waiting_for,
        waiting_since=since,
        publish_at=None,
        published_at=None,
    )
    if not changed:
        return
    if since is not None and keys:
        tickets.queue(run, keys, since=since)
    log.changed(run, f"waits for {waiting_for or waiting_on}")


def wait_for_seat(run_id: UUID, attempt: int, *, key: str, now: datetime) -> bool:
    """Let a run wait because Redis says that `key` is held, by a run that runs.

    Nobody looks at the seat here, so that it may be free by now; `recover` then wakes the first in
    line. Nothing is published again merely because the holder takes its time.
    """
    with short_transaction():
        run = (
            Run.objects.select_related("job", "target__job", "target__resource")
            .filter(pk=run_id, attempt=attempt, state=State.QUEUED)
            .first()
        )
        if run is None or run.job is None or run.target is None:
            return False
        keys = {key, *seats.seat_keys(run.job, run.target)}
        _wait(run, now=now, waiting_for=key, keys=keys)
    return True


def postpone(run_id: UUID, attempt: int, *, until: datetime, detail: str, now: datetime) -> bool:
    """Let a queued run that may not start yet come again at `until`; it gives up its places in
    lines. False: it is no longer queued.
    """
    with short_transaction():
        run = Run.objects.filter(pk=run_id, attempt=attempt, state=State.QUEUED).first()
        if run is None:
            return False
        moved = Run.objects.filter(pk=run_id, attempt=attempt, state=State.QUEUED).update(
            ready_at=until,
            publish_at=until,
            published_at=None,
            waiting_for="",
            waiting_since=None,
            detail=detail[:500],
        )
        if not moved:
            return False
        tickets.wake(tickets.leave(run), now=now)
    return True


def hurry(run_id: UUID, attempt: int, *, now: datetime) -> bool:
    """Let a queued run that was postponed come at once. False: it is no longer queued, or was put
    off until a time that somebody has named.
    """
    mine = Run.objects.filter(pk=run_id, attempt=attempt, state=State.QUEUED)
    to_come = mine.filter(publish_at__gt=now)
    # Only `postpone` says why it has to wait.
    if to_come.exclude(detail="").update(publish_at=now, ready_at=now):
        redis.ring_on_commit()
        return True
    return mine.exclude(publish_at__gt=now).exists()


def show_output(
    run_id: UUID, attempt: int, *, token: int, text: str, total: int, now: datetime
) -> bool:
    """Store what a running run has written so far, `total` bytes; False: it runs no longer."""
    mine = Run.objects.filter(
        pk=run_id, attempt=attempt, token=token, state=State.RUNNING, lease_until__gte=now
    )
    return bool(update_free(mine, output=text, output_bytes=total))


def renew(
    *, worker: str, run_ids: Collection[UUID], now: datetime
) -> dict[tuple[UUID, int], datetime]:
    """Prolong the leases of what this worker process has in hand.

    Gives the attempts that are still its: (run, attempt) -> until when. What is left out of it
    has ended, or is somebody else's; a row that somebody holds just now is not prolonged. The ids
    matter: a run whose start was committed but never answered is in nobody's hand, and its lease
    must lapse.
    """
    mine = Run.objects.filter(pk__in=run_ids, worker=worker, state=State.RUNNING)
    update_free(mine, lease_until=now + conf.lease)
    still = mine.values_list("pk", "attempt", "lease_until")
    return {(run_id, attempt): until for run_id, attempt, until in still if until is not None}


def stop_requests(run_ids: Collection[UUID]) -> dict[UUID, bool]:
    """Which of these running runs are to stop: run -> whether at once."""
    asked = Run.objects.running().filter(pk__in=run_ids, stop_requested_at__isnull=False)
    return dict(asked.values_list("pk", "stop_at_once"))
