"""Moving targets of one job from what they fired by to what they fire by now, many at once.

The number of statements does not grow with that of the targets, but for what their queued runs and
services are told. Whoever calls holds the locks of the targets, then of jobs that count their runs.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from typing import Literal

from django.db.models import Max

from scheduling.errors import InvalidSchedule
from scheduling.models import Cause, Installation, Job, Parked, Reason, Run, Target
from scheduling.models.job import ScheduleStretch
from scheduling.runs import bulk, circuits, coverage, ends, pool, seats, services
from scheduling.runs.cursors import CURSOR_FIELDS, first_stretch, park, schedule_of, set_cursor
from scheduling.runs.scopes import pause_of, scopes_of, told
from scheduling.runs.settle import Claim, decide_up_to, open_runs_of, write
from scheduling.services import is_service

PLACE_FIELDS = (*CURSOR_FIELDS, *pool.POOL_FIELDS, "interval")
FirstRun = datetime | Literal["now", "next"]


def first_run_of(job: Job) -> FirstRun:
    """Read the job's column; what cannot be read (it was written by hand) is the next fire."""
    if job.first_run == "now":
        return "now"
    try:
        return datetime.fromisoformat(job.first_run).astimezone(UTC)
    except ValueError:
        return "next"


def move(
    targets: Sequence[Target],
    before: Job,
    job: Job,
    *,
    at: datetime,
    now: datetime,
    after: datetime | None = None,
    until: datetime | None = None,
) -> None:
    """Let locked targets of a job, which was as `before` up to `at`, go on as it is since.

    1. What they owe up to then is settled by the job's policies.
    2. Their cursors are set anew, strictly after `after` (default: `at`); a retired job's are taken
       away, and its queued runs are skipped.
    The columns are written. Both jobs have their circuit and calendar loaded. `until`: the job was
    edited once more then, which is the next move.
    """
    open_runs = open_runs_of(target.pk for target in targets)
    settled = settle(targets, before, open_runs, at=at)
    job.runs_left = before.runs_left
    if job.retired_at is not None:
        put_away(targets, job, open_runs, now=now, until=until)
    else:
        former = [target for target in targets if is_service(before, target)]
        for target in targets:
            if job.schedule != before.schedule and not target.schedule:
                target.interval = None
        begins = {target.pk: after or settled[target.pk] for target in targets}
        restart(targets, job, begins, open_runs, at=at, now=now)
        for target in former:
            if not is_service(job, target):
                services.stop_former(target, now=now)
    seats.keep_distance(targets, now=now)


# --- what was -------------------------------------------------------------------------------------


def settle(
    targets: Sequence[Target], job: Job, open_runs: dict[int, list[Run]], *, at: datetime
) -> dict[int, datetime]:
    """Decide about what the job owes its targets up to `at`, then end their stretches; give the
    ends by target. `open_runs` gets those that come of it.

    An end is `at`, or the newest fire that a beat has taken meanwhile, whose time is ahead of ours
    or who had the lock before us.
    """
    everything = Installation.objects.filter(pk=1).first() or Installation(pk=1)
    claim, owing = Claim(), []
    for target in targets:
        target.job = job
        is_parked = target.parked in (Parked.PAUSED, Parked.CIRCUIT)
        owed_from = target.parked_cursor if is_parked else target.next_fire_at
        if owed_from is None or owed_from > at or not _is_anchored(target, job):
            continue
        held, reason = _why_held(target, job, everything)
        set_cursor(target, owed_from)
        mine = open_runs[target.pk]
        decide_up_to(target, job, mine, claim, now=at, held=held, reason=reason)
        if held is not None:
            park(target, Parked.PAUSED if reason == Reason.PAUSED else Parked.CIRCUIT)
        owing.append(target)
    if owing:
        write(claim, owing)
        for run in claim.runs:
            open_runs[run.target_id or 0].append(run)
    return _end_stretches([target.pk for target in targets], at)


def _end_stretches(ids: Sequence[int], at: datetime) -> dict[int, datetime]:
    fires = Run.objects.filter(
        target__in=ids, cause__in=(Cause.SCHEDULE, Cause.CATCH_UP), scheduled_at__gt=at
    )
    taken = dict(fires.order_by().values_list("target").annotate(Max("scheduled_at")))
    # Another edit, whose time is ahead of ours, may have been first.
    before = ScheduleStretch.objects.filter(target__in=ids, until__gt=at)
    ended = dict(before.order_by().values_list("target").annotate(Max("until")))
    settled, by_end = {}, defaultdict(list)
    for pk in ids:
        end = max(at, taken.get(pk, at), ended.get(pk, at) - at.resolution)
        settled[pk] = end
        by_end[end].append(pk)
    for end, those in by_end.items():
        present = ScheduleStretch.objects.filter(target__in=those, until=None)
        present.update(until=end + end.resolution)
    return settled


def _why_held(target: Target, job: Job, everything: Installation) -> tuple[str | None, Reason]:
    """What keeps a target from firing, or kept it until a moment ago, in words; None: nothing."""
    scopes = scopes_of(job, target, everything=everything)
    pauses = [told(name, scope) for name, scope in scopes if scope.paused_at]
    if pauses:
        return pauses[0], Reason.PAUSED
    circuit = circuits.held_by(job)
    if circuit is not None:
        return circuits.told(circuit), Reason.CIRCUIT
    if target.parked == Parked.CIRCUIT:
        return "Its circuit was open", Reason.CIRCUIT
    return "It was paused" if target.parked == Parked.PAUSED else None, Reason.PAUSED


def _is_anchored(target: Target, job: Job) -> bool | None:
    """None: its schedule cannot be read."""
    try:
        return schedule_of(target, job).is_anchored
    except InvalidSchedule:
        return None


# --- what is --------------------------------------------------------------------------------------


def restart(
    targets: Sequence[Target],
    job: Job,
    begins: Mapping[int, datetime],
    open_runs: Mapping[int, Sequence[Run]],
    *,
    at: datetime,
    now: datetime,
) -> None:
    """Begin the schedules of locked targets in use anew, each strictly after its moment in
    `begins`; their places are written, and their stretches, which begin at `at`.
    """
    everything = Installation.objects.filter(pk=1).first() or Installation(pk=1)
    first = first_run_of(job)
    # What has not begun yet does not begin by an edit.
    awaited = first if isinstance(first, datetime) else at
    stretches = []
    for target in targets:
        parked, is_busy = target.parked, bool(open_runs[target.pk])
        counts_from_end = _is_anchored(target, job) is False
        begin = max(begins[target.pk], awaited)
        if counts_from_end and target.last_ended_at is not None:
            # Of a run, perhaps, that has ended since.
            begin = max(begin, target.last_ended_at)
        if (stretch := first_stretch(target, job, after=begin, since=at)) is not None:
            stretches.append(stretch)
        if parked == Parked.PAUSED or pause_of(job, target, now, everything=everything) is not None:
            park(target, Parked.PAUSED)
        elif counts_from_end and target.next_fire_at is not None and is_busy:
            park(target, Parked.OPEN)
        if job.is_picked:
            pool.place(target, job, now=now, is_busy=is_busy)
    ScheduleStretch.objects.bulk_create(stretches)
    bulk.write(targets, PLACE_FIELDS)
    pool.wake_feeders_of(targets)


def put_away(
    targets: Sequence[Target],
    job: Job,
    open_runs: Mapping[int, Sequence[Run]],
    *,
    now: datetime,
    until: datetime | None = None,
) -> None:
    """Let nothing come any more of locked targets that are retired, or whose job is. Their queued
    runs are skipped; those made since `until`, when they were back in use, are not.
    """
    for target in targets:
        target.job = job
        park(target, Parked.RETIRED)
        target.eligible_at = target.eligible_since = None
        target.schedule_version = job.schedule_version
    bulk.write(targets, PLACE_FIELDS)
    with coverage.gathering():
        for target in targets:
            if not open_runs[target.pk]:
                continue
            for run in Run.objects.queued().filter(target=target).select_related("job"):
                if until is None or run.created_at < until:
                    ends.skip_queued(run, target, reason=Reason.RETIRED, now=now)
