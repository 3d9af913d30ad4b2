"""Where a target stands: parsing its schedule, its first and next fire, parking."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from functools import lru_cache

from scheduling.calendars import DaysOff, without
from scheduling.errors import InvalidSchedule
from scheduling.models import Job, Parked, ScheduleStretch, Target
from scheduling.schedules import Schedule, parse
from scheduling.services import is_service
from scheduling.zones import read_clock_change

CURSOR_FIELDS = ("next_fire_at", "parked", "parked_cursor", "schedule_version")


def schedule_of(target: Target, job: Job) -> Schedule:
    """The schedule of a target by the rules of its job, clock changes and days off, and as it has
    adapted to the target's results.

    Raises InvalidSchedule if what is stored cannot be read.
    """
    schedule = by_rules(target.schedule or job.schedule, job)
    return schedule.adapted_to(target.interval, level=target.level)


def by_rules(text: str, job: Job) -> Schedule:
    """Raises InvalidSchedule, also if the job's calendar leaves nothing over."""
    calendar = job.calendar
    if calendar is None:
        return compiled(text, job.clock_change)
    return compiled(text, job.clock_change, calendar.days, calendar.timezone)


@lru_cache(maxsize=4096)
def compiled(text: str, clock_change: str, days: str = "", timezone: str = "UTC") -> Schedule:
    """Raises InvalidSchedule."""
    schedule = parse(text).under(read_clock_change(clock_change))
    return without(schedule, DaysOff.parse(days, timezone=timezone))


def lock_target(target_id: int) -> Target:
    """Lock a target: whoever moves its runs or its cursor holds this, so that they take turns.

    Not FOR UPDATE: that would also stop the insertion of rows that refer to the target.
    """
    return (
        Target.objects.select_for_update(no_key=True, of=("self",))
        .select_related("resource")
        .get(pk=target_id)
    )


def job_of(target: Target) -> Job:
    """Read the job of a locked target anew, with what its rules need, and put it there."""
    target.job = Job.objects.select_related("circuit", "calendar").get(pk=target.job_id)
    return target.job


def lock_counted_jobs(targets: Sequence[Target]) -> None:
    """Lock the jobs of locked targets that count their runs, in one order: a claim spends them."""
    counted = Job.objects.filter(
        pk__in={target.job_id for target in targets}, runs_left__isnull=False
    )
    list(counted.order_by("pk").select_for_update(no_key=True).values_list("pk"))


@dataclass(frozen=True, slots=True)
class Ending(Schedule):
    """A schedule whose last fire is not after `ends_at`."""

    inner: Schedule
    ends_at: datetime

    @property
    def is_anchored(self) -> bool:
        return self.inner.is_anchored

    def next(self, after: datetime, *, name: str = "") -> datetime | None:
        fire = self.inner.next(after, name=name)
        return None if fire is None or fire > self.ends_at else fire

    def between(self, after: datetime, until: datetime, *, name: str = "") -> Iterator[datetime]:
        return self.inner.between(after, min(until, self.ends_at), name=name)

    def period(self, at: datetime, *, name: str = "") -> timedelta | None:
        return self.inner.period(at, name=name)

    def after_end(self, ended: datetime) -> datetime | None:
        return self.inner.after_end(ended)


def within_life(job: Job, moment: datetime | None) -> datetime | None:
    """Give `moment`, unless the job's end or its number of runs forbids a fire then."""
    if moment is None or job.runs_left == 0:
        return None
    if job.ends_at is not None and moment > job.ends_at:
        return None
    return moment


def first_fire(
    schedule: Schedule,
    job: Job,
    *,
    after: datetime,
    name: str,
    not_before: datetime | None = None,
) -> datetime | None:
    """The first fire strictly after `after`, not before the job's start.

    `not_before`: what the newest result has asked for (`earliest`); it moves no fixed time.
    """
    since = after
    if job.starts_at is not None and job.starts_at > after:
        # a fire exactly at the start counts
        since = job.starts_at - job.starts_at.resolution
    fire = schedule.next(since, name=name)
    if fire is None and not job.is_picked:
        fire = schedule.after_end(max(after, job.starts_at or after))
        if fire is not None and not_before is not None:
            fire = max(fire, not_before)
    return within_life(job, fire)


def earliest(target: Target, job: Job) -> datetime | None:
    """Until when the newest result of a target has asked to be left alone; no service can."""
    return None if is_service(job, target) else target.not_before


def set_cursor(target: Target, fire: datetime | None) -> None:
    """Set the cursor on the instance; the caller saves it."""
    target.next_fire_at = fire
    target.parked = ""
    target.parked_cursor = None


def park(target: Target, why: Parked) -> None:
    """Take the cursor away on the instance, remembering where it stood; the caller saves it."""
    if target.next_fire_at is not None:
        target.parked_cursor = target.next_fire_at
    target.next_fire_at = None
    target.parked = why


def begin(target: Target, job: Job, *, after: datetime, since: datetime) -> None:
    """Set the first cursor after `after` on the instance and begin a stretch of its schedule."""
    stretch = first_stretch(target, job, after=after, since=since)
    if stretch is not None:
        stretch.save(force_insert=True)


def first_stretch(
    target: Target, job: Job, *, after: datetime, since: datetime
) -> ScheduleStretch | None:
    """Set the first cursor after `after` on the instance; give the stretch to insert, if any."""
    target.job = job
    target.schedule_version = job.schedule_version
    try:
        schedule = schedule_of(target, job)
    except InvalidSchedule:
        park(target, Parked.ERROR)
        target.parked_cursor = after
        return None
    set_cursor(
        target,
        first_fire(schedule, job, after=after, name=target.name, not_before=earliest(target, job)),
    )
    if not schedule.is_anchored:
        return None
    return ScheduleStretch(
        target=target,
        schedule=str(schedule),
        clock_change=job.clock_change,
        days_off="" if job.calendar is None else str(job.calendar.days_off),
        since=target.next_fire_at or since,
    )
