"""Shadow mode: would-fire, by the schedules as they were, against did-fire, as workers saw it.

The stock scheduler fires; a beat of ours follows the rows and starts nothing (JOBS_SHADOW);
workers write down which messages of the stock scheduler they receive.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from itertools import islice

from django.db.models import Q

from scheduling.errors import InvalidSchedule
from scheduling.models import Cause, Job, Reason, Run, State, Target
from scheduling.models.job import DeclaredIn
from scheduling.models.run import RunQuerySet
from scheduling.runs.cursors import Ending
from scheduling.runs.scopes import scopes_of
from scheduling.schedules import Every, Schedule
from scheduling.shadow_report import Comparison, compare, interval_fires
from scheduling.why.fire_times import Era, eras_of

TICK = timedelta.resolution
TOLERANCE = timedelta(seconds=10)
STRETCH = timedelta(hours=1)
# A message may carry a sender's time that is ahead of the time at which it was received.
CLOCK_SKEW = timedelta(minutes=1)

Pause = tuple[datetime, datetime | None]


@dataclass(frozen=True, slots=True, kw_only=True)
class Report:
    """The comparison in (after, until], by name: jobs of periodic tasks, and names unknown."""

    after: datetime
    until: datetime
    jobs: tuple[Comparison, ...]

    @property
    def differences(self) -> int:
        return sum(each.differences for each in self.jobs)


def report(*, after: datetime, until: datetime, tolerance: timedelta, now: datetime) -> Report:
    """Compare would-fire and did-fire in (after, until].

    Fires so recent that the stock scheduler may be sending them now are not judged, so the stretch
    ends `tolerance` before now at the latest.
    """
    until = max(after, min(until, now - tolerance))
    fired = did_fires(after=after - 2 * tolerance, until=until + 2 * tolerance)
    jobs = {periodic_task_of(job): job for job in followers()}
    compared = [
        _compare(name, jobs.get(name), fired[name], after=after, until=until, tolerance=tolerance)
        for name in sorted({*jobs, *fired})
    ]
    # A retired job that nothing happened to is no news.
    known = [
        each
        for each in compared
        if each.would or each.did or (each.name in jobs and jobs[each.name].retired_at is None)
    ]
    return Report(after=after, until=until, jobs=tuple(known))


def begin_of_stretch(now: datetime) -> datetime:
    """The last hour or, if the first message of the stock scheduler came later, since then."""
    seen = stock_fires().filter(created_at__lte=now)
    begin = now - STRETCH
    if seen.filter(created_at__lt=begin).exists():
        return begin
    first = seen.order_by("created_at").first()
    return begin if first is None else max(begin, first.scheduled_at)


def stock_fires() -> RunQuerySet:
    return Run.objects.filter(cause=Cause.FOREIGN).exclude(key="")


def did_fires(*, after: datetime, until: datetime) -> dict[str, list[datetime]]:
    """Periodic task -> when the stock scheduler sent it in (after, until], ascending."""
    rows = stock_fires().filter(
        created_at__gt=after - CLOCK_SKEW, scheduled_at__gt=after, scheduled_at__lte=until
    )
    found: dict[str, list[datetime]] = defaultdict(list)
    for name, sent_at in rows.order_by("scheduled_at").values_list("key", "scheduled_at"):
        found[name].append(sent_at)
    return found


def followers() -> list[Job]:
    """The jobs that follow a periodic task or have followed one, those in use last."""
    rows = Q(periodic_task_id__isnull=False) | Q(declared_in=DeclaredIn.PERIODIC_TASK)
    jobs = Job.objects.filter(rows).select_related("circuit", "calendar")
    return sorted(jobs, key=lambda job: (job.retired_at is None, job.pk))


def periodic_task_of(job: Job) -> str:
    return str((job.options.get("headers") or {}).get("periodic_task_name") or job.name)


def _compare(
    name: str,
    job: Job | None,
    did: list[datetime],
    *,
    after: datetime,
    until: datetime,
    tolerance: timedelta,
) -> Comparison:
    would: list[datetime] = []
    target = None
    if job is not None:
        target = Target.objects.filter(job=job, key="").select_related("resource").first()
    if job is not None and target is not None:
        target.job = job
        parts = parts_of(target, job, after=after, until=until, reach=tolerance)
        intervals = [part.interval for part in parts if part.interval is not None]
        # Beyond half an interval, a fire would be as near to the next due moment.
        tolerance = min([tolerance, *(interval / 2 for interval in intervals)])
        for part in parts:
            would += part.fires(target, name, did, tolerance)
        would = without_pauses(sorted(set(would)), pauses(target, job, since=after - tolerance))
    return compare(name, would, did, after=after, until=until, tolerance=tolerance)


# --- would-fire -----------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True, kw_only=True)
class Part:
    """One schedule within the bounds: its fires from `first`, not after `until`."""

    schedule: Schedule
    first: datetime
    until: datetime
    interval: timedelta | None

    def fires(
        self, target: Target, name: str, did: Sequence[datetime], slack: timedelta
    ) -> Iterator[datetime]:
        if self.interval is None:
            return self.schedule.between(self.first - TICK, self.until, name=target.name)
        before = last_fire(name, before=self.first, after=self.first - self.interval - slack)
        since = [moment for moment in did if self.first <= moment <= self.until + slack]
        first = self.schedule.next(self.first - TICK, name=target.name) or self.first
        if before is not None:
            first = before + self.interval
            while first < self.first - slack:
                first += self.interval
        return interval_fires(self.interval, since, first=first, until=self.until, slack=slack)


def parts_of(
    target: Target, job: Job, *, after: datetime, until: datetime, reach: timedelta
) -> list[Part]:
    """What the target followed in (after, until], and `reach` beyond, oldest first.

    Stretches of one interval are one part: each edit of the row begins another, whose phase
    follows the last run. It begins with `after`: the fire before it tells what is due then.
    """
    try:
        eras = eras_of(target, job)[::-1]
    except InvalidSchedule:
        return []
    found: list[Part] = []
    for before, era in zip([None, *eras], eras, strict=False):
        part = _part(era, target, job, after=after - reach, until=until + reach)
        if part.interval is not None:
            part = replace(part, first=max(part.first, after + TICK))
        if part.interval is not None and before is not None and before.until is not None:
            # Its own phase is no matter: it counts from the last fire, also right after the edit.
            part = replace(part, first=max(after + TICK, min(era.since, before.until)))
        if part.until < part.first:
            continue
        if found and part.interval is not None and part.interval == found[-1].interval:
            part = replace(found.pop(), until=part.until)
        found.append(part)
    return found


def _part(era: Era, target: Target, job: Job, *, after: datetime, until: datetime) -> Part:
    schedule = era.schedule
    end = until if era.until is None else min(until, era.until - TICK)
    if isinstance(schedule, Ending):
        end = min(end, schedule.ends_at)
        schedule = schedule.inner
    if era.until is None and job.runs_left is not None:
        # In shadow mode nothing is taken off: it is what the row allowed from the beginning.
        fires = schedule.between(era.since - TICK, end, name=target.name)
        allowed = list(islice(fires, job.runs_left))
        if len(allowed) == job.runs_left:
            end = allowed[-1] if allowed else era.since - TICK
    interval = schedule.interval if isinstance(schedule, Every) else None
    return Part(schedule=schedule, first=max(after + TICK, era.since), until=end, interval=interval)


def last_fire(name: str, *, before: datetime, after: datetime) -> datetime | None:
    rows = stock_fires().filter(
        key=name, created_at__gt=after - CLOCK_SKEW, scheduled_at__gt=after, scheduled_at__lt=before
    )
    return rows.order_by("-scheduled_at").values_list("scheduled_at", flat=True).first()


# --- pauses ---------------------------------------------------------------------------------------


def pauses(target: Target, job: Job, *, since: datetime) -> list[Pause]:
    """When the target was not to fire: pauses that last, and those that have left their skips."""
    recent = Q(scheduled_at__gte=since) | Q(scheduled_until__gte=since)
    lasting = [
        (scope.paused_at, scope.paused_until)
        for _, scope in scopes_of(job, target)
        if scope.paused_at is not None
    ]
    past = Run.objects.filter(recent, target=target, state=State.SKIPPED, reason=Reason.PAUSED)
    skipped = past.values_list("scheduled_at", "scheduled_until")
    return lasting + [(first, last or first) for first, last in skipped]


def without_pauses(fires: list[datetime], pauses: Sequence[Pause]) -> list[datetime]:
    return [
        fire
        for fire in fires
        if not any(since <= fire and (until is None or fire <= until) for since, until in pauses)
    ]
