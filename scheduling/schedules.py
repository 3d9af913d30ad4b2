"""When: the one door to schedules. Pure values and functions over them."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import datetime

from scheduling.schedule_base import Schedule, Union, union
from scheduling.schedule_kinds import Adaptive, Always, Cron, Every, Manual, Once, Times
from scheduling.schedule_text import parse

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
    "union",
]


def fires_between(
    schedule: Schedule, after: datetime, until: datetime, *, name: str = ""
) -> Iterator[datetime]:
    """Yield the fire times of a schedule in (after, until]: see Schedule.between."""
    return schedule.between(after, until, name=name)
