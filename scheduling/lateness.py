"""Whether the schedule itself is late: evaluated by beats and workers, whoever is alive.

A target is late when a fire time has passed by more than its patience and nothing has started
since: nobody has claimed it, no worker has begun its run, or it was given up (`runs.late_fires`).
Many look; a constraint sees to it that one alert comes of it.
"""

from __future__ import annotations

import logging
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta

from celery import current_app
from django.db.models import DateTimeField, Exists, F, OuterRef, Q, QuerySet, Value
from django.db.models.functions import Coalesce

from scheduling.conf import conf
from scheduling.errors import InvalidSchedule
from scheduling.explanations import stamp, surroundings_of
from scheduling.models import (
    Cause,
    Installation,
    Job,
    Notification,
    Process,
    Reason,
    Run,
    State,
    Target,
)
from scheduling.models.system import Event, ProcessKind
from scheduling.runs.late_fires import (
    MOST_OF_A_JOB,
    NEVER,
    alert,
    is_told,
    patience,
    told_lately,
    why_unstarted,
)

logger = logging.getLogger(__name__)

SCHEDULER = "scheduling.beat:Scheduler"
BEAT_SEEN_WITHIN = timedelta(seconds=10)  # it says every 3 s that it is alive
# Rows of each kind that one evaluation looks at, the oldest first.
LONGEST_LOOK = 10_000


class Watch:
    """Evaluates every JOBS_LATE_EVERY; first that long after it began, when others had a chance."""

    def __init__(self) -> None:
        self._looked_at: datetime | None = None

    def look(self, now: datetime) -> None:
        if self._looked_at is None:
            self._looked_at = now
        elif now - self._looked_at >= conf.LATE_EVERY:
            self._looked_at = now
            evaluate(now)


@dataclass(frozen=True, slots=True, kw_only=True)
class Late:
    """A target that is late since a fire time; `run` is what no worker has begun, if claimed."""

    target: Target
    since: datetime
    run: Run | None = None


def evaluate(now: datetime) -> int:
    """Insert an alert for each target that is late and was not told about; give how many.

    1. Withdraw alerts that wait for their moment, of targets that have started or are paused.
    2. Fires that nobody has claimed.
    3. Claimed fires that no worker has begun.
    """
    if conf.SHADOW or current_app.conf.beat_scheduler != SCHEDULER:
        return 0  # somebody else fires
    everything = Installation.objects.filter(pk=1).first()
    all_paused = everything is not None and everything.is_paused(now)
    _withdraw(now, all_paused=all_paused)
    if all_paused:
        return 0
    told = told_lately(now)
    crowded = [name for name, alerts in told.items() if alerts >= MOST_OF_A_JOB]
    found: dict[int, Late] = {}
    for late in (*_unclaimed(now, crowded), *_unstarted(now, crowded)):
        name = late.target.job.name
        if late.target.pk not in found and told[name] < MOST_OF_A_JOB:
            told[name] += 1
            found[late.target.pk] = late
    if found:
        rows = _alerts(list(found.values()), now)
        Notification.objects.bulk_create(rows, ignore_conflicts=True)
        logger.warning("%s targets are late, like %s: %s", len(rows), rows[0].name, rows[0].detail)
    return len(found)


def note_missed(skips: Sequence[Run], *, now: datetime) -> None:
    """Take note of fires that a claim has just skipped as late, having found them too old.

    As with those that were given up, the alert is for the moment when the first of them is late.
    """
    late = [run for run in skips if run.reason == Reason.LATE]
    if not late:
        return
    since = Coalesce(F("target__last_started_at"), Value(NEVER, output_field=DateTimeField()))
    alerts = Notification.objects.filter(target__in=[run.target_id for run in late])
    known = set(alerts.filter(late_since__gt=since).values_list("target", flat=True))
    told = told_lately(now)
    rows: list[Notification] = []
    for run in late:
        target, job, first = run.target, run.job, run.scheduled_at
        if target is None or job is None or run.target_id in known:
            continue
        has_started = first <= (target.last_started_at or NEVER)
        if not has_started and told[job.name] < MOST_OF_A_JOB:
            told[job.name] += 1
            detail = (
                f"No fire since {stamp(first)} has started: they were claimed too late, and its "
                "catch-up is none; `manage.py jobs health` says whether beats keep up."
            )
            due = max(first + patience(target, job, first), now)
            rows.append(alert(target, job, since=first, detail=detail, due=due, now=now))
    Notification.objects.bulk_create(rows, ignore_conflicts=True)


def count_late(now: datetime) -> int:
    """Count the targets that were told as late, may run, and have not started since."""
    told = Notification.objects.filter(
        _not_started("target__", "late_since"),
        _free("target__", now),
        # Not those that wait for the moment when they are late.
        Q(deliver_at=None) | Q(deliver_at__lte=now) | Q(attempts__gt=0),
        target__isnull=False,
        late_since__isnull=False,
    )
    return told.values("target").distinct().count()


def _alerts(found: list[Late], now: datetime) -> list[Notification]:
    around = surroundings_of([late.run for late in found if late.run is not None], now)
    unclaimed = _why_unclaimed(now)
    rows = []
    for late in found:
        why = unclaimed if late.run is None else why_unstarted(late.run, now, around)
        detail = f"Its fire of {stamp(late.since)} has not started: {why}."
        job = late.target.job
        rows.append(alert(late.target, job, since=late.since, detail=detail, due=now, now=now))
    return rows


def _why_unclaimed(now: datetime) -> str:
    known = Process.objects.filter(kind=ProcessKind.BEAT).order_by("-seen_at")
    beats = list(known.values_list("name", "seen_at"))
    if beats and beats[0][1] >= now - BEAT_SEEN_WITHIN:
        return f"it is not claimed, although {beats[0][0]} is alive; read the log of that beat"
    last = f"; {beats[0][0]} was alive until {stamp(beats[0][1])}" if beats else ""
    return f"no beat is alive to claim it{last}; start one with `celery -A config beat`"


def _withdraw(now: datetime, *, all_paused: bool) -> None:
    waiting = Notification.objects.filter(event=Event.LATE, deliver_at__gt=now, attempts=0)
    kept = waiting.filter(_not_started("target__", "late_since"), _free("target__", now))
    moot = waiting if all_paused else waiting.exclude(pk__in=kept.values("pk"))
    # A peek first: on SQLite a deletion takes the write lock.
    if ids := list(moot.values_list("pk", flat=True)):
        Notification.objects.filter(pk__in=ids, attempts=0).delete()


def _unclaimed(now: datetime, crowded: list[str]) -> Iterator[Late]:
    overdue = (
        Target.objects.due(now - conf.LATE_AFTER)
        # What catches up starts all the time, though its cursor is far behind.
        .filter(_free("", now), _not_started("", "next_fire_at"))
        .exclude(job__name__in=crowded)
        .exclude(is_told("pk", "last_started_at"))
    )
    targets = list(overdue[:LONGEST_LOOK])
    _give_jobs(targets)
    for target in targets:
        fire = target.next_fire_at
        if fire is not None and _is_over(target, fire, waits_since=fire, now=now):
            yield Late(target=target, since=fire)


def _unstarted(now: datetime, crowded: list[str]) -> Iterator[Late]:
    queued = (
        Run.objects.queued()
        # Ready so long: who waited for the run before it has been ready since that ended.
        .filter(started_at=None, ready_at__lte=now - conf.LATE_AFTER)
        # Others are late only by what they keep from firing.
        .filter(Q(cause=Cause.SCHEDULE) | Exists(_skipped_for_it()))
        .filter(_free("target__", now), _not_started("target__", "scheduled_at"), waiting_on=None)
        .exclude(name__in=crowded)
        .exclude(is_told("target", "target__last_started_at"))
        .select_related("target")
        .defer("output", "error")
        .order_by("scheduled_at")
    )
    runs = list(queued[:LONGEST_LOOK])
    _give_jobs([run.target for run in runs if run.target is not None])
    for run in runs:
        target, ready_at = run.target, run.ready_at
        if target is None or ready_at is None:
            continue
        if _is_over(target, run.scheduled_at, waits_since=ready_at, now=now):
            yield Late(target=target, since=run.scheduled_at, run=run)


def _skipped_for_it() -> QuerySet[Run]:
    """Fires that were skipped because the run in question was open."""
    return Run.objects.filter(
        target=OuterRef("target"),
        state=State.SKIPPED,
        reason=Reason.OVERLAP,
        scheduled_at__gte=OuterRef("ready_at"),
    )


def _free(path: str, now: datetime) -> Q:
    """The target at `path` is not retired, its circuit is not open, and nothing narrower than
    everything pauses it.
    """
    condition = Q(**{f"{path}retired_at": None, f"{path}job__retired_at": None})
    condition &= Q(**{f"{path}job__circuit__opened_at": None}) | Q(**{f"{path}job__left_out": True})
    for scope in ("", "job__", "job__circuit__", "resource__"):
        condition &= Q(**{f"{path}{scope}paused_at": None}) | Q(
            **{f"{path}{scope}paused_until__lte": now}
        )
    return condition


def _not_started(path: str, since: str) -> Q:
    """The target at `path` has not started, for whatever cause, since the moment in `since`."""
    started = f"{path}last_started_at"
    return Q(**{started: None}) | Q(**{f"{started}__lt": F(since)})


def _give_jobs(targets: list[Target]) -> None:
    known = Job.objects.select_related("calendar")
    jobs = known.in_bulk({target.job_id for target in targets})
    for target in targets:
        target.job = jobs[target.job_id]


def _is_over(target: Target, fire: datetime, *, waits_since: datetime, now: datetime) -> bool:
    try:
        return now - waits_since > patience(target, target.job, fire)
    except InvalidSchedule:
        return False  # the claim puts it aside and tells
