"""What every tick mends, whoever died: lapsed leases, late runs, lost wake-ups, ended pauses."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timedelta

from django.db.models import Exists, OuterRef, Q

from scheduling.db import short_transaction
from scheduling.models import Circuit, Installation, Job, Parked, Reason, Resource, Run, Target
from scheduling.models.run import OPEN_STATES
from scheduling.runs import closing, ends, pausing, rearming, services, tickets, waking
from scheduling.runs.cursors import CURSOR_FIELDS, job_of, lock_target
from scheduling.runs.scopes import Scope

BATCH = 200


@dataclass(frozen=True, slots=True, kw_only=True)
class Recovered:
    lost: int = 0
    late: int = 0
    woken: int = 0
    armed: int = 0
    resumed: int = 0
    services: int = 0
    held: int = 0

    def __bool__(self) -> bool:
        return any(
            (
                *(self.lost, self.late, self.woken, self.armed, self.resumed),
                *(self.services, self.held),
            )
        )


def recover(*, now: datetime, reap: bool) -> Recovered:
    """Mend what was left behind, a batch of each kind; give how many.

    1. End the attempts whose lease has lapsed, if `reap` (not right after a database outage,
       when nobody could renew).
    2. Skip queued runs that can no longer start in time.
    3. Wake runs whose reason to wait is gone.
    4. Arm targets that wait for the end of a run which has ended.
    5. Resume what was paused until a moment that has passed, and who was parked for a pause
       that has ended meanwhile; the same for circuits that have closed.
    6. Ask services to stop that are held, and tell of those that run well again.
    7. Skip queued runs whose circuit is open.
    """
    return Recovered(
        lost=_lose_lapsed(now) if reap else 0,
        late=_skip_late(now),
        woken=_wake_forgotten(now),
        armed=_arm_forgotten(now),
        resumed=_resume_expired(now) + closing.rearm_forgotten(now),
        services=services.look_after(now),
        held=closing.skip_held(now),
    )


def _lose_lapsed(now: datetime) -> int:
    lapsed = Run.objects.lapsed(now)
    return sum(
        ends.lose(
            run_id,
            attempt,
            detail=f"Worker {worker} fell silent; its lease lapsed",
            now=now,
            if_lapsed=True,
        )
        for run_id, attempt, worker in lapsed.values_list("pk", "attempt", "worker")[:BATCH]
    )


def _skip_late(now: datetime) -> int:
    # Who waits for the run before it has time from when that ends, unless its job has named one.
    counts = Q(waiting_on=None) | Q(job__start_within__isnull=False)
    late = Run.objects.queued().filter(counts, start_by__lt=now).order_by("start_by")
    skipped = 0
    for run in late.select_related("job")[:BATCH]:
        if run.target_id is None or run.job is None or run.start_by is None:
            continue
        with short_transaction():
            target = lock_target(run.target_id)
            target.job = run.job
            waited_for = f"; it waited for {run.waiting_for}" if run.waiting_for else ""
            skipped += ends.skip_queued(
                run,
                target,
                reason=Reason.LATE,
                now=now,
                detail=f"it had to start by {run.start_by:%Y-%m-%d %H:%M:%S} UTC{waited_for}",
            )
    return skipped


def _wake_forgotten(now: datetime) -> int:
    waiting = (
        Run.objects.queued()
        .filter(waiting_on__isnull=False)
        .exclude(waiting_on__state__in=OPEN_STATES)
    )
    forgotten = waiting.select_related("job").defer("output", "error")[:BATCH]
    woken = sum(waking.wake(run, now=now) for run in forgotten)
    woken += tickets.stand_in_line_anew(now)
    return woken + tickets.wake(tickets.forgotten(now), now=now)


def _arm_forgotten(now: datetime) -> int:
    # The condition by NULL makes the partial index of open runs usable.
    still_open = Run.objects.open().filter(target=OuterRef("pk"))
    forgotten = Target.objects.parked_for(Parked.OPEN).exclude(Exists(still_open))
    armed = 0
    for pk in list(forgotten.values_list("pk", flat=True)[:BATCH]):
        with short_transaction():
            target = lock_target(pk)
            rearming.rearm_after_end(target, job_of(target), ended=now)
            target.save(update_fields=CURSOR_FIELDS)
            armed += target.parked == ""
    return armed


def _resume_expired(now: datetime) -> int:
    scopes: list[Scope] = [
        *Installation.objects.filter(paused_until__lte=now),
        *Circuit.objects.filter(paused_until__lte=now)[:BATCH],
        *Job.objects.filter(paused_until__lte=now)[:BATCH],
        *Resource.objects.filter(paused_until__lte=now)[:BATCH],
        *Target.objects.filter(paused_until__lte=now)[:BATCH],
    ]
    resumed = 0
    for scope in scopes:
        if scope.paused_at is None or scope.paused_until is None:
            resumed += pausing.look_again(scope, now=now)
        else:
            # What was named for the end of the pause, or since, is not missed but due.
            end = scope.paused_until - timedelta.resolution
            resumed += pausing.resume(scope, by="the end of the pause", now=end)
    return resumed
