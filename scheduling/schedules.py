"""When: the one door to schedules. Pure values and functions over them."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import datetime

from scheduling.errors import InvalidSchedule
from scheduling.schedule_base import Schedule, Union, union
from scheduling.schedule_kinds import Cron, Every, Once, Times
from scheduling.schedule_text import parse
from scheduling.schedule_unanchored import Adaptive, Always, Manual

__all__ = [
    "Adaptive",
    "Always",
    "Cron",
    "Every",
    "Manual",
    "Once",
    "Schedule",
    "Times",
    "Union",
    "fires_between",
    "parse",
    "require_supported",
    "union",
]


def require_supported(schedule: Schedule) -> Schedule:
    """Give the schedule, unless it is of a kind that no beat of this version fires.

    Raises InvalidSchedule: a job must not look scheduled and never run.
    """
    if isinstance(schedule, Union) and not all(each.is_anchored for each in schedule.members):
        raise InvalidSchedule(
            f"Schedule {str(schedule)!r} joins a pause after a run's end with fixed times, which "
            "this version cannot fire; make two jobs of it",
            value=str(schedule),
        )
    return schedule


def fires_between(
    schedule: Schedule, after: datetime, until: datetime, *, name: str = ""
) -> Iterator[datetime]:
    """Yield the fire times of a schedule in (after, until]: see Schedule.between."""
    return schedule.between(after, until, name=name)
