"""After an older database was restored: what is known as fired is skipped, not fired again.

What is known comes from a checkpoint (`scheduling.snapshots`). Everything here may break off at
any point and be done again, also by several beats at once: whatever is done already is left alone.
"""

from __future__ import annotations

from collections import Counter, defaultdict
from collections.abc import Collection, Container, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from sys import maxsize

from django.db.models import Q

from scheduling.db import short_transaction
from scheduling.errors import InvalidSchedule
from scheduling.models import Job, Parked, Reason, Run, Seat, Target
from scheduling.models.target import TargetQuerySet
from scheduling.policies import CatchUp, plan_fires
from scheduling.runs import ends, make
from scheduling.runs.cursors import (
    CURSOR_FIELDS,
    Ending,
    earliest,
    first_fire,
    job_of,
    lock_target,
    park,
    schedule_of,
    set_cursor,
    within_life,
)
from scheduling.runs.settle import Claim, ClaimedFire, write

BATCH = 200
TOKEN_BATCH = 1000
FIELDS = (*CURSOR_FIELDS, "last_skipped_at")


@dataclass(frozen=True, slots=True, kw_only=True)
class Known:
    """What a checkpoint knows of a job."""

    mark: datetime
    cursors: Mapping[str, datetime]
    runs_left: int | None

    def until(self, key: str) -> datetime:
        """All fires of a target up to then, that moment included, were claimed."""
        cursor = self.cursors.get(key)
        return self.mark if cursor is None else cursor - timedelta.resolution


@dataclass(frozen=True, slots=True, kw_only=True)
class Refusal:
    """The fires of one target, from its cursor on, that are not fired again."""

    target: int
    cursor: datetime
    first: datetime
    last: datetime
    fires: int
    next: datetime | None


def refuse_fired(job: Job, known: Known, *, why: str, now: datetime, dry_run: bool = False) -> int:
    """Move the job's cursors past what is known as fired; give how many fires that are.

    Each target gets one skipped row for them. Paused targets stay paused; retired ones and those
    whose schedule cannot be read are left alone. With `dry_run` nothing is written.
    """
    if known.runs_left is not None and not dry_run:
        Job.objects.filter(pk=job.pk, runs_left__gt=known.runs_left).update(
            runs_left=known.runs_left
        )
    refused = 0
    is_behind = True
    # Once more, as a solar job learns its next event only when it has fired.
    while is_behind:
        is_behind = False
        job = Job.objects.select_related("circuit", "calendar").get(pk=job.pk)
        for refusals in _refusals(job, known, now=now):
            if dry_run:
                refused += sum(refusal.fires for refusal in refusals)
                continue
            refused += _write(job, refusals, why=why, now=now)
            is_behind = True
    return refused


def _refusals(job: Job, known: Known, *, now: datetime) -> Iterator[list[Refusal]]:
    """Plan batch by batch, without locks: who writes looks whether the cursor is still there."""
    last = 0
    behind = _behind(job, known.mark).order_by("pk")
    while targets := list(behind.filter(pk__gt=last)[:BATCH]):
        last = targets[-1].pk
        planned = [_plan(target, job, known.until(target.key), now=now) for target in targets]
        if refusals := [refusal for refusal in planned if refusal is not None]:
            yield refusals


def _behind(job: Job, mark: datetime) -> TargetQuerySet:
    due = Q(next_fire_at__lte=mark)
    parked = Q(
        next_fire_at__isnull=True,
        parked__in=(Parked.PAUSED, Parked.CIRCUIT, Parked.ERROR),
        parked_cursor__lte=mark,
    )
    return Target.objects.filter(due | parked, job=job, retired_at__isnull=True)


def _plan(target: Target, job: Job, until: datetime, *, now: datetime) -> Refusal | None:
    target.job = job
    cursor = _position(target)
    if cursor is None or cursor > until:
        return None
    try:
        schedule = schedule_of(target, job)
    except InvalidSchedule:
        return None
    if not schedule.is_anchored:
        # A pause counted from a run's end is counted anew; if it is parked, whoever ends that does.
        if target.parked:
            return None
        following = first_fire(
            schedule,
            job,
            after=max(now, until),
            name=target.name,
            not_before=earliest(target, job),
        )
        return Refusal(
            target=target.pk, cursor=cursor, first=cursor, last=cursor, fires=1, next=following
        )
    if job.ends_at is not None and job.ends_at < until:
        schedule = Ending(schedule, job.ends_at)
    plan = plan_fires(
        schedule,
        cursor=cursor,
        now=until,
        catch_up=CatchUp.NONE,
        window=timedelta(0),
        # Nothing is due: the last fire that is known has fired, too.
        grace=-timedelta.resolution,
        max_fires=maxsize,
        name=target.name,
    )
    skip = plan.skips[0] if plan.skips else None
    return Refusal(
        target=target.pk,
        cursor=cursor,
        first=skip.first if skip else cursor,
        last=skip.last if skip else cursor,
        fires=skip.fires if skip else 0,
        next=within_life(job, plan.cursor),
    )


def _position(target: Target) -> datetime | None:
    return target.next_fire_at or target.parked_cursor


def _write(job: Job, refusals: Sequence[Refusal], *, why: str, now: datetime) -> int:
    """Insert the rows and move the cursors that are still where they were; give the fires."""
    planned = {refusal.target: refusal for refusal in refusals}
    claim = Claim()
    # Many targets of one job come to the same place: one UPDATE for each place.
    moved: dict[tuple[object, ...], list[int]] = defaultdict(list)
    with short_transaction():
        # In the order of ids, as everybody who locks several targets.
        ordered = Target.objects.filter(pk__in=planned, retired_at__isnull=True).order_by("pk")
        for target in ordered.select_for_update(no_key=True, of=("self",)):
            refusal = planned[target.pk]
            if _position(target) != refusal.cursor:
                continue
            parked = target.parked
            set_cursor(target, refusal.next)
            if parked:
                park(target, Parked(parked))
            if refusal.fires:
                target.last_skipped_at = now
                row = make.skipped(
                    target,
                    job,
                    first=refusal.first,
                    last=refusal.last,
                    fires=refusal.fires,
                    reason=Reason.COALESCED,
                    detail=why,
                    now=now,
                )
                claim.skips.append(row)
                claim.fires += _fires_of_row(job, refusal)
            moved[tuple(getattr(target, name) for name in FIELDS)].append(target.pk)
        for values, ids in moved.items():
            columns = dict(zip(FIELDS, values, strict=True))
            Target.objects.filter(pk__in=ids).update(**columns)
        # Afterwards, as a listener may give a job its next event, and with that another cursor.
        write(claim, [])
    return sum(row.fires for row in claim.skips)


def _fires_of_row(job: Job, refusal: Refusal) -> list[ClaimedFire]:
    """What the listeners are told, if the job follows a django-celery-beat row."""
    if job.periodic_task_id is None:
        return []
    return [
        ClaimedFire(
            periodic_task_id=job.periodic_task_id,
            scheduled_at=refusal.last,
            started=0,
            finished=job.runs_left == 0,
        )
    ]


def refuse_started(
    jobs: Collection[str],
    *,
    waiting: Container[str],
    until: datetime,
    before: datetime | None,
    why: str,
    now: datetime,
    dry_run: bool = False,
) -> Counter[str]:
    """Skip what is queued here and was no longer queued at `until`; give job -> fires.

    `waiting`: the ids of what was still queued then; of fire times from `before` on, nothing is
    known. Runs that are running here are left to their lease: their worker may be alive.
    """
    queued = Run.objects.queued().filter(
        created_at__lte=until, target__retired_at__isnull=True, job__retired_at__isnull=True
    )
    if before is not None:
        queued = queued.filter(scheduled_at__lt=before)
    refused: Counter[str] = Counter()
    known = queued.filter(job__name__in=jobs).defer("output", "error")
    for run in list(known.order_by("created_at", "pk")):
        if str(run.pk) in waiting or run.target_id is None:
            continue
        if dry_run:
            refused[run.name] += 1
            continue
        with short_transaction():
            target = lock_target(run.target_id)
            run.job = job_of(target)
            if ends.skip_queued(run, target, reason=Reason.COALESCED, detail=why, now=now):
                refused[run.name] += 1
    return refused


def raise_tokens(*, now: datetime) -> None:
    """Give later attempts greater fencing tokens than any of the lost rows had.

    Tokens begin at 0 and grow by one with each start, so the seconds since 1970 are above all that
    were given out, also after an earlier restore.
    """
    base = int(now.timestamp())
    for rows in (Target.objects.order_by("pk"), Seat.objects.order_by("pk")):
        behind = rows.filter(token__lt=base)
        while ids := list(behind.values_list("pk", flat=True)[:TOKEN_BATCH]):
            rows.filter(pk__in=ids, token__lt=base).order_by().update(token=base)
