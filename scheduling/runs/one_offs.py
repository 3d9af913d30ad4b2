"""One-off runs: asked for in bulk, and made again."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import replace
from datetime import datetime, timedelta
from typing import Any
from uuid import UUID, uuid4

from django.db import transaction

from scheduling import redis
from scheduling.db import short_transaction
from scheduling.errors import JobRetired, UnknownJob, UnknownRun, UnknownTarget
from scheduling.models import Cause, Job, Run, State, Target
from scheduling.runs import bulk, log, make, pool
from scheduling.runs.new_run import NewRun
from scheduling.runs.stored_json import as_text, sorted_json, storable

BATCH = 1000

# Target, kwargs, priority, due time
Mark = tuple[int | None, str, int | None, datetime | None]
# (job, key) -> target
Goals = Mapping[tuple[str, str], Target]


def create(
    wanted: Sequence[NewRun], *, by: str, now: datetime, reserved: timedelta | None = None
) -> list[Run]:
    """Queue runs; give one for each that is wanted, in that order.

    Equal ones (job, key, kwargs, priority, due time) that are still queued are not made twice, nor
    inside of a call; those with an id are known by that alone. `reserved`: the caller has an
    executor for them, so that each is a run of its own and nobody else starts it so long. Runs of a
    job that is fed wait for a free slot. Raises UnknownJob, UnknownTarget, JobRetired, before
    anything is made.
    """
    # Without an id, what has an executor already is another run each time.
    wanted = [
        replace(each, id=uuid4()) if reserved is not None and each.id is None else each
        for each in wanted
    ]
    goals = _goals(wanted)
    found: list[Run] = []
    for begin in range(0, len(wanted), BATCH):
        batch = wanted[begin : begin + BATCH]
        found += _create(batch, goals, by=by, now=now, reserved=reserved)
    # Afterwards: a feeder that is at work holds its row, and wants our targets.
    fed = {goals[each.job, each.key].job_id for each in wanted}
    transaction.on_commit(lambda: pool.wake_feeders(fed))
    redis.ring_on_commit()
    return found


def _goals(wanted: Iterable[NewRun]) -> Goals:
    """Raises UnknownJob, UnknownTarget, JobRetired, each with names."""
    keys: dict[str, set[str]] = {}
    for each in wanted:
        keys.setdefault(each.job, set()).add(each.key)
    jobs = {job.name: job for job in Job.objects.filter(name__in=keys)}
    goals: dict[tuple[str, str], Target] = {}
    for name, of_job in keys.items():
        job = jobs.get(name)
        if job is None:
            raise UnknownJob(
                f"There is no job {name!r}; declare or register it first", names=[name]
            )
        _require_active(job)
        targets = _with_keys(Target.objects.filter(job=job), of_job)
        missing = sorted(of_job - targets.keys())
        if missing:
            shown = ", ".join(map(repr, missing[:3])) + (", ..." if missing[3:] else "")
            raise UnknownTarget(
                f"Job {name!r} has no target {shown}; create it, or name one of its keys",
                key=missing[0],
            )
        goals |= {(name, key): target for key, target in targets.items()}
    return goals


def _require_active(job: Job) -> None:
    """Raises JobRetired."""
    if job.retired_at is not None:
        raise JobRetired(f"Job {job.name!r} is retired; declare it again to run it")


def _with_keys(targets: Any, keys: Collection[str]) -> dict[str, Target]:
    found: dict[str, Target] = {}
    listed = sorted(keys)
    for begin in range(0, len(listed), BATCH):
        rows = targets.filter(key__in=listed[begin : begin + BATCH])
        found |= {target.key: target for target in rows.only("job", "key")}
    return found


def _create(
    wanted: Sequence[NewRun],
    goals: Goals,
    *,
    by: str,
    now: datetime,
    reserved: timedelta | None,
) -> list[Run]:
    with short_transaction():
        targets = lock_in_order({goals[each.job, each.key].pk for each in wanted})
        for target in targets.values():
            # Meanwhile, maybe: then nobody would let its runs out.
            _require_active(target.job)
        known = Run.objects.defer("output", "error")
        by_id = known.in_bulk([each.id for each in wanted if each.id is not None])
        alike = {} if reserved is not None else _still_queued(wanted, targets.values(), now)
        made: list[Run] = []
        answer: list[Run] = []
        for each in wanted:
            target = targets[goals[each.job, each.key].pk]
            mark = _mark(target.pk, each.kwargs, each.priority, each.due_at)
            run = alike.get(mark) if each.id is None else by_id.get(each.id)
            if run is None:
                run = _new(each, target, by=by, now=now, reserved=reserved)
                made.append(run)
                by_id[run.pk] = run
                alike.setdefault(mark, run)
            answer.append(run)
        Run.objects.bulk_create(made)
        if reserved is not None:
            _mark_in_flight({run.target_id for run in made}, targets, now=now)
        for run in made:
            log.changed(run, f"asked for by {by}")
    return answer


def lock_in_order(ids: Iterable[int]) -> dict[int, Target]:
    """id -> target, locked in the one order in which everybody locks many, with resource and job.

    The jobs are read after that, so that an edit is seen whole or not at all.
    """
    locked = (
        Target.objects.filter(pk__in=list(ids))
        .order_by("pk")
        .select_for_update(no_key=True, of=("self",))
        .select_related("resource")
    )
    targets = {target.pk: target for target in locked}
    jobs = Job.objects.select_related("circuit", "calendar").in_bulk(
        {target.job_id for target in targets.values()}
    )
    for target in targets.values():
        target.job = jobs[target.job_id]
    return targets


def _still_queued(
    wanted: Iterable[NewRun], targets: Iterable[Target], now: datetime
) -> dict[Mark, Run]:
    """What was asked for and has not begun: mark -> the oldest run that has it."""
    # The database compares: many thousands may be queued for one target.
    alike = {as_text(each.kwargs): each.kwargs for each in wanted}
    queued = Run.objects.queued().filter(
        target__in=list(targets),
        cause=Cause.MANUAL,
        attempt=1,
        kwargs__in=[sorted_json(kwargs) for kwargs in alike.values()],
    )
    found: dict[Mark, Run] = {}
    for run in queued.order_by("created_at", "pk").defer("output", "error"):
        mark = _mark(run.target_id, run.kwargs, run.priority, _due_of(run, now))
        found.setdefault(mark, run)
    return found


def _due_of(run: Run, now: datetime) -> datetime | None:
    """When a queued run was asked for; None: at once. That it has had to wait changes nothing."""
    if run.scheduled_at != run.created_at:
        return run.scheduled_at
    # By hand, after a while; what is postponed says why. Who was before us may have a clock that
    # is ahead of ours: what was ready when it was made is not delayed.
    ready_at = run.ready_at
    is_delayed = ready_at is not None and ready_at > max(now, run.created_at) and not run.detail
    return ready_at if is_delayed else None


def _mark(
    target_id: int | None, kwargs: Mapping[str, Any], priority: int | None, due: datetime | None
) -> Mark:
    return target_id, as_text(kwargs), priority, due


def _new(
    wanted: NewRun, target: Target, *, by: str, now: datetime, reserved: timedelta | None
) -> Run:
    due = wanted.due_at or now
    run = make.queued(
        target,
        target.job,
        scheduled_at=due,
        cause=Cause.MANUAL,
        now=now,
        ready_at=due,
        id=wanted.id or uuid4(),
        kwargs=sorted_json(wanted.kwargs),
        priority=wanted.priority,
        retry_limit=wanted.retries,
        metadata=storable(wanted.metadata),
        requested_by=by[:150],
    )
    if reserved is not None:
        run.publish_at = max(due, now) + reserved
    elif target.job.feed is not None:
        run.feed_at, run.publish_at = run.ready_at, None
    return run


def _mark_in_flight(
    ids: Collection[int | None], targets: Mapping[int, Target], *, now: datetime
) -> None:
    """Let strategies leave these targets alone: they have an open run now."""
    mine = [targets[pk] for pk in sorted(pk for pk in ids if pk is not None)]
    for target in mine:
        target.last_scheduled_at = max(target.last_scheduled_at or now, now)
        pool.place(target, target.job, now=now, is_busy=True)
    Target.objects.bulk_update(mine, ("last_scheduled_at", *pool.POOL_FIELDS))


def respawn(run_ids: Sequence[UUID], *, due_at: datetime, by: str, now: datetime) -> list[Run]:
    """Run again what has ended, as it was asked for then; what is still queued is due at `due_at`
    instead, what runs is left alone. Gives the run that is to come for each id, in that order.

    Raises UnknownRun, before anything is made.
    """
    known = Run.objects.select_related("job").defer("output", "error").in_bulk(run_ids)
    for run_id in run_ids:
        if run_id not in known or known[run_id].job is None:
            raise UnknownRun(f"There is no run {str(run_id)!r}", run=run_id)
    ended = [known[run_id] for run_id in run_ids if known[run_id].ended_at is not None]
    again = create(
        [_as_asked(run, due_at if due_at > now else None) for run in ended], by=by, now=now
    )
    queued = [run.pk for run in known.values() if run.state == State.QUEUED]
    for begin in range(0, len(queued), BATCH):
        _put_off(queued[begin : begin + BATCH], due_at, now=now)
    redis.ring_on_commit()
    now_there = Run.objects.defer("output", "error").in_bulk(run_ids) | dict(
        zip((run.pk for run in ended), again, strict=True)
    )
    return [now_there[run_id] for run_id in run_ids]


def _as_asked(run: Run, due_at: datetime | None) -> NewRun:
    return NewRun(
        job=run.name,
        key=run.key,
        kwargs=run.kwargs,
        priority=run.priority,
        due_at=due_at,
        retries=run.retry_limit,
        metadata=run.metadata,
    )


PUT_OFF_FIELDS = (
    *("ready_at", "scheduled_at", "start_by", "feed_at", "publish_at", "published_at"),
    "detail",
)


def _put_off(run_ids: Collection[UUID], due_at: datetime, *, now: datetime) -> None:
    """Let queued runs be ready at another time; who waits for a run or a lock goes on waiting."""
    with short_transaction():
        queued = Run.objects.queued().filter(pk__in=run_ids, target__isnull=False)
        lock_in_order(set(queued.values_list("target_id", flat=True)))
        runs = list(queued.order_by("pk").select_for_update(no_key=True).defer("output", "error"))
        for run in runs:
            if run.start_by is not None and run.ready_at is not None:
                run.start_by += due_at - run.ready_at
            # It is postponed no more: it is due then.
            run.ready_at, run.detail = due_at, ""
            if run.cause == Cause.MANUAL and run.scheduled_at >= run.created_at:
                # Not of a past day that was asked for.
                run.scheduled_at = due_at if due_at > now else run.created_at
            if run.feed_at is not None:
                run.feed_at = due_at
            elif run.publish_at is not None or run.published_at is not None:
                run.publish_at, run.published_at = due_at, None
        bulk.write(runs, PUT_OFF_FIELDS)
