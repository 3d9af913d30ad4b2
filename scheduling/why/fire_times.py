"""Which fire times the schedules of a target have named, and which of them have no row."""

from __future__ import annotations

from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass
from datetime import date, datetime, timedelta
from itertools import islice
from zoneinfo import ZoneInfo

from scheduling.archive.horizon import archived_before
from scheduling.calendars import DaysOff, Except, without
from scheduling.errors import InvalidSchedule
from scheduling.models import Cause, Job, Run, ScheduleStretch, Target
from scheduling.runs.cursors import Ending, compiled, schedule_of
from scheduling.schedules import Schedule

FIRES_LOOKED_AT = 1000
MOST_ERAS = 100
TICK = timedelta.resolution

# Rows with these causes stand for a fire time of the schedule.
ANSWERS = (Cause.SCHEDULE, Cause.CATCH_UP, Cause.BACKFILL)


@dataclass(frozen=True, slots=True, kw_only=True)
class Era:
    """A stretch of time in which a target followed one schedule: [since, until)."""

    schedule: Schedule
    since: datetime
    until: datetime | None

    def __contains__(self, moment: datetime) -> bool:
        return self.since <= moment and (self.until is None or moment < self.until)


@dataclass(frozen=True, slots=True, kw_only=True)
class Absent:
    """Neighbouring fire times without a row; `first` and `last` are among them."""

    first: datetime
    last: datetime
    fires: int
    is_more: bool = False
    """There are more than were looked at; then `last` is where they end at the latest."""
    before: datetime | None = None
    """They lie before the target had its first schedule, which was then."""
    archived: datetime | None = None
    """Rows from before then have been archived or deleted, and theirs may be among them."""


def eras_of(target: Target, job: Job) -> list[Era]:
    """The schedules of a target, the newest first; those that cannot be read are left out.

    A target whose schedule was never recorded has followed the present one. Raises InvalidSchedule
    if that is the one that cannot be read.
    """
    stretches = ScheduleStretch.objects.filter(target=target).order_by("-since", "-pk")
    found = [era for each in stretches[:MOST_ERAS] if (era := _era(each, job)) is not None]
    if found:
        return found
    schedule = schedule_of(target, job)
    if not schedule.is_anchored:
        return []
    known = (target.created_at, target.next_fire_at, target.parked_cursor)
    return [Era(schedule=schedule, since=min(filter(None, known)), until=None)]


def _era(stretch: ScheduleStretch, job: Job) -> Era | None:
    try:
        schedule = without(
            compiled(stretch.schedule, stretch.clock_change), DaysOff.read(stretch.days_off)
        )
    except InvalidSchedule:
        return None
    if stretch.until is None and job.ends_at is not None:
        schedule = Ending(schedule, job.ends_at)
    return Era(schedule=schedule, since=stretch.since, until=stretch.until)


def claimed_up_to(target: Target) -> datetime | None:
    """From here on nobody has decided about fires; None: there is nothing to decide any more."""
    return target.next_fire_at or target.parked_cursor


def names(schedule: Schedule, at: datetime, name: str) -> bool:
    return schedule.next(at - TICK, name=name) == at


def day_off(schedule: Schedule, at: datetime, name: str) -> date | None:
    """The local day off, if it is only that which keeps the schedule from firing at a time."""
    inner = schedule.inner if isinstance(schedule, Ending) else schedule
    if not isinstance(inner, Except) or not names(inner.inner, at, name):
        return None
    if inner.days_off.first_open(at) == at:
        return None
    return at.astimezone(ZoneInfo(inner.days_off.timezone)).date()


def absent_fires(
    target: Target,
    job: Job,
    rows: Sequence[Run],
    *,
    after: datetime,
    until: datetime,
    eras: Sequence[Era],
) -> tuple[list[Absent], bool]:
    """The fire times in (after, until] that have no row among `rows`, newest first.

    Neighbours are one entry, unless some of them are decided and others not. Whether that is all:
    about FIRES_LOOKED_AT fire times are looked at.
    """
    room = FIRES_LOOKED_AT
    horizon = archived_before()
    found: list[Absent] = []
    for gap_after, gap_until in _cut(_gaps(rows, after, until), horizon):
        for window_after, window_until, schedule, before in _windows(
            target, job, eras, gap_after, gap_until
        ):
            archived = horizon if horizon is not None and window_until < horizon else None
            fires = list(
                islice(schedule.between(window_after, window_until, name=target.name), room + 1)
            )
            if len(fires) > room:
                last = window_until
                found.append(
                    Absent(
                        first=fires[0],
                        last=last,
                        fires=room,
                        is_more=True,
                        before=before,
                        archived=archived,
                    )
                )
                return [each for each in found if each.fires], False
            room -= len(fires)
            if fires:
                found.append(
                    Absent(
                        first=fires[0],
                        last=fires[-1],
                        fires=len(fires),
                        before=before,
                        archived=archived,
                    )
                )
    return found, True


def _gaps(
    rows: Sequence[Run], after: datetime, until: datetime
) -> Iterator[tuple[datetime, datetime]]:
    """The windows (after, until] between what rows account for, newest first."""
    stood_for = sorted(
        (
            (row.scheduled_at, row.scheduled_until or row.scheduled_at)
            for row in rows
            if row.cause in ANSWERS
        ),
        reverse=True,
    )
    end = until
    for first, last in stood_for:
        if last < end:
            yield max(last, after), end
        end = min(end, first - TICK)
    if after < end:
        yield after, end


def _cut(
    gaps: Iterable[tuple[datetime, datetime]], horizon: datetime | None
) -> Iterator[tuple[datetime, datetime]]:
    """Part what lies before the horizon from what does not, newest first."""
    for after, until in gaps:
        if horizon is not None and after < horizon - TICK < until:
            yield horizon - TICK, until
            yield after, horizon - TICK
        else:
            yield after, until


def _windows(
    target: Target, job: Job, eras: Sequence[Era], after: datetime, until: datetime
) -> Iterator[tuple[datetime, datetime, Schedule, datetime | None]]:
    """Cut a window where the schedule changed, and where claiming has come to; newest first."""
    decided = claimed_up_to(target)
    for era in eras:
        begin, end = max(after, era.since - TICK), until
        if era.until is not None:
            end = min(end, era.until - TICK)
        cuts = [begin, end]
        if decided is not None and begin < decided - TICK < end:
            cuts.insert(1, decided - TICK)
        for index in range(len(cuts) - 1, 0, -1):
            if cuts[index - 1] < cuts[index]:
                yield cuts[index - 1], cuts[index], era.schedule, None
    if eras and after < eras[-1].since - TICK:
        first = eras[-1]
        yield after, min(until, first.since - TICK), first.schedule, first.since
