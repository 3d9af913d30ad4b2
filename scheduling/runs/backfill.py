"""Backfill: the fires of a chosen past range, run after all because somebody asks for it."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime
from itertools import islice
from uuid import UUID, uuid4

from scheduling import redis
from scheduling.archive.horizon import archived_before
from scheduling.db import short_transaction
from scheduling.errors import InvalidBackfill, JobRetired, UnknownTarget
from scheduling.models import Cause, Job, Reason, Run, State, Target
from scheduling.policies import Overlap, on_overlap
from scheduling.runs import log, make, operate
from scheduling.runs.cursors import job_of, lock_target, schedule_of
from scheduling.runs.line import Line
from scheduling.runs.settle import TARGET_FIELDS, open_runs_of

MOST_RUNS = 10_000
# Runs that made, or may still make, a fire good.
DONE_OR_OPEN = (State.SUCCEEDED, State.QUEUED, State.RUNNING)


@dataclass(frozen=True, slots=True, kw_only=True)
class Backfill:
    """What a backfill came to. `fires`: the fire times in the order in which they run."""

    id: UUID
    fires: list[datetime]
    created: int


@dataclass(frozen=True, slots=True)
class Owed:
    """A fire of a target that is to be run."""

    at: datetime
    target_id: int


def backfill(
    job: Job,
    *,
    after: datetime,
    until: datetime,
    key: str | None = None,
    newest_first: bool = False,
    max_open: int = 1,
    overlap: Overlap = Overlap.QUEUE,
    missing_only: bool = False,
    by: str,
    now: datetime,
) -> Backfill:
    """Queue a run for each fire time in (after, until], of one key or of all targets.

    1. The fires are those of the present schedule, as `backfill_fires` lists them.
    2. Towards the target's other open runs they follow `overlap` together, as one fire would:
       behind them, instead of them, side by side (`allow`), or not at all (a skipped row).
    3. Among each other at most `max_open` are ready at once; the next follows the end of one.

    Each run is told its own scheduled time. A paused job may be backfilled; the schedule does not
    move and `runs_left` does not shrink. Raises InvalidBackfill, UnknownTarget, JobRetired.
    """
    if max_open < 1:
        raise InvalidBackfill(f"At most {max_open} runs at once; give 1 or more")
    owed = _owed(
        job,
        after=after,
        until=until,
        key=key,
        missing_only=missing_only,
        newest_first=newest_first,
        now=now,
    )
    made = uuid4()
    with short_transaction():
        targets = {pk: lock_target(pk) for pk in sorted({fire.target_id for fire in owed})}
        open_runs = open_runs_of(targets)
        rows: list[Run] = []
        skips: list[Run] = []
        for target in targets.values():
            line = _meet_open_runs(target, job_of(target), open_runs[target.pk], overlap, owed, now)
            skips += line.skips
            target.save(update_fields=TARGET_FIELDS)
        refused = {skip.target_id for skip in skips}
        for fire in owed:
            target = targets[fire.target_id]
            if target.pk not in refused:
                run = make.queued(
                    target, target.job, scheduled_at=fire.at, cause=Cause.BACKFILL, now=now
                )
                run.exclusive = overlap is not Overlap.ALLOW
                rows.append(run)
        _chain(rows, lanes=max_open)
        for run in (*rows, *skips):
            run.backfill, run.requested_by = made, by[:150]
        Run.objects.bulk_create([*rows, *skips])
        for run in (*rows, *skips):
            log.changed(run, f"asked for by {by}")
        redis.ring_on_commit()
    return Backfill(id=made, fires=[fire.at for fire in owed], created=len(rows))


def backfill_fires(
    job: Job,
    *,
    after: datetime,
    until: datetime,
    key: str | None = None,
    newest_first: bool = False,
    missing_only: bool = False,
    now: datetime,
) -> list[datetime]:
    """The fire times that a backfill would run, in its order; one entry for each target.

    `missing_only` leaves out those that a run has made good or may still make good. Holiday
    calendars and clock changes count, the job's start and end do not. Raises as `backfill` does.
    """
    owed = _owed(
        job,
        after=after,
        until=until,
        key=key,
        missing_only=missing_only,
        newest_first=newest_first,
        now=now,
    )
    return [fire.at for fire in owed]


def cancel_backfill(backfill_id: UUID, *, by: str, now: datetime, at_once: bool = False) -> int:
    """Skip what is queued of a backfill and ask what runs of it to stop; give how many.

    Who waits for another one goes first, so that none is started by the end of another meanwhile.
    """
    left = Run.objects.open().filter(backfill=backfill_id)
    before = dict(left.values_list("pk", "waiting_on"))
    waiters: dict[UUID, list[UUID]] = defaultdict(list)
    for run_id, waits_for in before.items():
        if waits_for is not None:
            waiters[waits_for].append(run_id)
    ids = [run_id for run_id, waits_for in before.items() if waits_for not in before]
    for run_id in ids:  # grows: whoever waits for a run stands behind it
        ids += waiters[run_id]
    for run_id in reversed(ids):
        operate.cancel(run_id, by=by, now=now, at_once=at_once)
    return len(ids)


def _owed(
    job: Job,
    *,
    after: datetime,
    until: datetime,
    key: str | None,
    newest_first: bool,
    missing_only: bool,
    now: datetime,
) -> list[Owed]:
    if after >= until:
        raise InvalidBackfill(f"From {after} to {until} is no range; exchange the two")
    if until > now:
        raise InvalidBackfill(f"{until} lies ahead; fires to come need no backfill")
    if job.retired_at is not None:
        raise JobRetired(f"Job {job.name!r} is retired; declare it again to run it")
    targets = Target.objects.filter(
        job=job, retired_at=None, **({} if key is None else {"key": key})
    )
    if key is not None and not targets.exists():
        raise UnknownTarget(f"Job {job.name!r} has no target with the key {key!r}", key=key)
    found: list[Owed] = []
    for target in targets.select_related("job__calendar").order_by("key")[: MOST_RUNS + 1]:
        schedule = schedule_of(target, target.job)
        if not schedule.is_anchored:
            raise InvalidBackfill(
                f"The schedule {str(schedule)!r} names no fire times; trigger the job instead"
            )
        fires = schedule.between(after, until, name=target.name)
        found += [Owed(at, target.pk) for at in islice(fires, MOST_RUNS + 1 - len(found))]
        if len(found) > MOST_RUNS:
            raise InvalidBackfill(
                f"More than {MOST_RUNS} runs lie between {after} and {until}; narrow the range"
            )
    if missing_only:
        made_good = _made_good(found, after, until)
        # Of what has left the table nobody knows here whether it was run.
        horizon = archived_before() or after
        found = [fire for fire in found if fire not in made_good and fire.at >= horizon]
    # Stable: of one fire time, the keys in their order.
    return sorted(found, key=lambda fire: fire.at, reverse=newest_first)


def _made_good(owed: Sequence[Owed], after: datetime, until: datetime) -> set[Owed]:
    rows = Run.objects.filter(
        target_id__in={fire.target_id for fire in owed},
        scheduled_at__gt=after,
        scheduled_at__lte=until,
        cause__in=(Cause.SCHEDULE, Cause.CATCH_UP, Cause.BACKFILL),
        state__in=DONE_OR_OPEN,
    )
    return {Owed(at, pk) for at, pk in rows.values_list("scheduled_at", "target_id") if pk}


def _meet_open_runs(
    target: Target,
    job: Job,
    open_runs: list[Run],
    overlap: Overlap,
    owed: Iterable[Owed],
    now: datetime,
) -> Line:
    """Let the policy decide about the target's other open runs; the line has what it skips."""
    line = Line(target, job, open_runs, policy=overlap)
    fires = sorted(fire.at for fire in owed if fire.target_id == target.pk)
    waiting = sum(run.state == State.QUEUED for run in open_runs)
    decision = on_overlap(
        overlap, open_runs=len(open_runs), waiting=waiting, queue_limit=waiting + 1
    )
    if decision == "replace":
        line.replace(fires[-1], at_once=overlap is Overlap.TERMINATE, now=now)
    elif decision == "skip":
        target.skipped_for_overlap += len(fires)
        line.skips.append(
            make.skipped(
                target,
                job,
                first=fires[0],
                last=fires[-1],
                fires=len(fires),
                reason=Reason.OVERLAP,
                cause=Cause.BACKFILL,
                now=now,
                detail=f"run {open_runs[-1].pk} was open",
            )
        )
    return line


def _chain(rows: Sequence[Run], *, lanes: int) -> None:
    """Let each run wait for the one that is `lanes` places before it."""
    for before, run in zip(rows, rows[lanes:], strict=False):
        run.waiting_on, run.publish_at = before, None
