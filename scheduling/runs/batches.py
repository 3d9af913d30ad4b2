"""Many runs of one message at once: what `start` and `finish` do, for those that nothing is in the
way of, in as many statements as they take for one.

Whoever is left out is for these, each alone: it has locks, waits, or its target is being moved on.
"""

from __future__ import annotations

import json
from collections import defaultdict
from collections.abc import Callable, Collection, Iterable, Mapping
from datetime import datetime
from typing import Any
from uuid import UUID

from django.db import transaction
from django.db.models import F, OuterRef, Subquery

from scheduling import redis
from scheduling.db import short_transaction, skip_locked
from scheduling.errors import InvalidSchedule
from scheduling.models import Installation, Job, Run, Seat, State, Target, Ticket
from scheduling.runs import (
    arrows,
    attempts,
    bulk,
    coverage,
    ends,
    log,
    pings,
    pool,
    seats,
    together,
)
from scheduling.runs.attempts import Started
from scheduling.runs.cursors import schedule_of
from scheduling.runs.result import Result
from scheduling.runs.together import Together


def start_batch(
    wanted: Mapping[UUID, int],
    *,
    worker: str,
    now: datetime,
    may_begin: Callable[[Job], bool],
) -> list[Started]:
    """Move those of `wanted` (run -> attempt) from queued to running that may simply start.

    In the order of `wanted`, at most one of each target.
    """
    with short_transaction():
        queued = Run.objects.queued().filter(pk__in=wanted, waiting_on=None)
        targets = _lock_free(queued.values_list("target_id", flat=True))
        found = list(queued.filter(target__in=targets))
        known = Job.objects.select_related("circuit", "calendar")
        jobs = known.in_bulk({run.job_id for run in found})
        jobs = {pk: job for pk, job in jobs.items() if may_begin(job)}
        runs: dict[int, Run] = {}
        everything = Installation.objects.filter(pk=1).first() or Installation(pk=1)
        place = {run_id: number for number, run_id in enumerate(wanted)}
        for run in sorted(found, key=lambda run: place[run.pk]):
            job, target = jobs.get(run.job_id or 0), targets[run.target_id or 0]
            if job is None or run.attempt != wanted[run.pk]:
                continue
            run.job, run.target, target.job = job, target, job
            if _is_plain(run, job, target, everything, now):
                runs.setdefault(target.pk, run)
        busy = _busy(runs.values())
        accepted = [run for run in runs.values() if run.target_id not in busy]
        if not _accept(accepted, worker=worker, now=now):
            return []
        started = [_started(run, now) for run in accepted]
    return started


def _lock_free(target_ids: Iterable[int | None]) -> dict[int, Target]:
    """Lock those of the targets that nobody holds: whoever does is moving a run of it on."""
    free = Target.objects.filter(pk__in=list(target_ids)).select_related("resource").order_by("pk")
    locked = free.select_for_update(skip_locked=skip_locked(), no_key=True, of=("self",))
    return {target.pk: target for target in locked}


def _is_plain(run: Run, job: Job, target: Target, everything: Installation, now: datetime) -> bool:
    """Whether nothing of its own is in the way of a run, or has to be done besides."""
    if run.ready_at is not None and run.ready_at > now:
        return False
    if attempts.refusal(run, job, target, now, everything=everything) is not None:
        return False
    if seats.seat_keys(job, target):
        return False
    try:
        return target.next_fire_at is None or schedule_of(target, job).is_anchored
    except InvalidSchedule:
        return False


def _busy(runs: Collection[Run]) -> set[int | None]:
    """The targets, which are locked, that have a running run, a lock, or a place in a line."""
    own = {seats.own_key(run.target): run.target_id for run in runs if run.target is not None}
    running = Run.objects.running().filter(target__in=own.values(), exclusive=True)
    waiting = Ticket.objects.filter(run__in=[run.pk for run in runs])
    named = Seat.objects.filter(key__in=own).values_list("key", flat=True)
    return {
        *running.values_list("target_id", flat=True),
        *waiting.values_list("run__target_id", flat=True),
        *(own[key] for key in named),
    }


def _accept(runs: Collection[Run], *, worker: str, now: datetime) -> bool:
    """queued -> running; False, and nothing is done: somebody else was first with one of them."""
    columns = attempts.columns_of_start(worker=worker, now=now)
    own = Target.objects.filter(pk=OuterRef("target_id")).values("token")
    by_attempt: dict[int, list[UUID]] = defaultdict(list)
    for run in runs:
        by_attempt[run.attempt].append(run.pk)
    for attempt, ids in by_attempt.items():
        queued = Run.objects.filter(pk__in=ids, attempt=attempt, state=State.QUEUED)
        if queued.update(**columns, token=Subquery(own) + 1) != len(ids):
            transaction.set_rollback(True)
            return False
    for run in runs:
        assert run.target is not None
        run.target.token, run.target.last_started_at = run.target.token + 1, now
        for name, value in {**columns, "token": run.target.token}.items():
            setattr(run, name, value)
    targets = Target.objects.filter(pk__in=[run.target_id for run in runs])
    targets.update(token=F("token") + 1, last_started_at=now)
    return True


def _started(run: Run, now: datetime) -> Started:
    job, target = run.job, run.target
    assert job is not None
    assert target is not None
    pings.of_start(run, job, now=now)
    log.changed(run, "started")
    return attempts.started(run, job, target, token=target.token)


def finish_batch(given: Mapping[UUID, tuple[int, int, Result]], *, now: datetime) -> set[UUID]:
    """Record the ends of running runs: run -> attempt, token, how it succeeded.

    Gives those that are left, as those with a lock are: of these nothing is written.
    """
    with short_transaction():
        running = Run.objects.running().filter(pk__in=given)
        targets = _lock_free(running.values_list("target_id", flat=True))
        # The rows themselves, too: a worker renews leases, a person asks for a stop.
        held = running.filter(target__in=targets).select_for_update(
            skip_locked=skip_locked(), no_key=True, of=("self",)
        )
        found = [run for run in held if (run.attempt, run.token) == given[run.pk][:2]]
        taken = together.seated([run.pk for run in found])
        # In one order: a result may pause the plain job that it is of.
        found = sorted((run for run in found if run.pk not in taken), key=_place)
        known = Job.objects.select_related("circuit", "calendar")
        jobs = known.in_bulk({run.job_id for run in found})
        moved: dict[str, list[Run]] = defaultdict(list)
        columns: dict[str, dict[str, Any]] = {}
        for run in found:
            run.job, run.target = jobs[run.job_id or 0], targets[run.target_id or 0]
            run.target.job = run.job
            kept = ends.columns_of(run, given[run.pk][2])
            alike = json.dumps(kept, sort_keys=True)
            columns[alike] = kept
            moved[alike].append(run)
        for alike, runs in moved.items():
            _move(runs, columns[alike], now)
        ready, asked = 0, Together.of(found)
        with coverage.gathering():
            for run in found:
                ready += arrows.follow(run, given=given[run.pk][2], now=now, together=asked)
        for job in jobs.values():
            mine = [run.target for run in found if run.job_id == job.pk and run.target is not None]
            bulk.write(mine, arrows.fields_after_end(job))
            pool.wake_feeders_of(mine)
        for run in found:
            log.changed(run, str(run.state))
        if ready:
            redis.ring_on_commit()
    return set(given) - {run.pk for run in found}


def _place(run: Run) -> tuple[str, int]:
    return run.key, run.job_id or 0


def _move(runs: Collection[Run], columns: Mapping[str, Any], now: datetime) -> None:
    """running -> succeeded, of runs whose rows are locked."""
    running = Run.objects.filter(pk__in=[run.pk for run in runs], state=State.RUNNING)
    running.update(**arrows.columns_of_end(State.SUCCEEDED, reason="", now=now), **columns)
    for run in runs:
        run.state, run.reason, run.ended_at = State.SUCCEEDED, "", now
        for name, value in columns.items():
            setattr(run, name, value)
