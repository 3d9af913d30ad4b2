"""Days and months to look at, above a list that is too long to be asked which ones it has.

Django's own date hierarchy reads the whole table for that (seconds, from half a million rows).
"""

from __future__ import annotations

import calendar
from dataclasses import dataclass
from datetime import date, datetime, timedelta

from django.contrib.admin.views.main import ChangeList
from django.utils import timezone

DAYS = 7
MONTHS = 6


@dataclass(frozen=True, slots=True, kw_only=True)
class Choice:
    text: str
    url: str
    is_chosen: bool


def choices(changelist: ChangeList, field: str, now: datetime) -> list[Choice]:
    """Any time, the last days, the months before: newest first; other filters stay."""
    names = [f"{field}__{part}" for part in ("year", "month", "day")]
    chosen = {name: changelist.params.get(name, "") for name in names}

    def choice(text: str, *values: int) -> Choice:
        asked = {name: str(value) for name, value in zip(names, values, strict=False)}
        return Choice(
            text=text,
            url=changelist.get_query_string(asked, remove=[*names, "p"]),
            is_chosen=all(chosen[name] == asked.get(name, "") for name in names),
        )

    today = timezone.localtime(now).date()
    days = [today - timedelta(days=n) for n in range(DAYS)]
    return [
        choice("Any time"),
        *(choice(_name(day, today), day.year, day.month, day.day) for day in days),
        *(choice(_month(month), *month) for month in _months(days[-1])),
    ]


def _name(day: date, today: date) -> str:
    return {0: "Today", 1: "Yesterday"}.get((today - day).days, f"{day:%a} {day.day} {day:%b}")


def _month(month: tuple[int, int]) -> str:
    return f"{calendar.month_name[month[1]]} {month[0]}"


def _months(until: date) -> list[tuple[int, int]]:
    last = until.year * 12 + until.month - 1
    return [(n // 12, n % 12 + 1) for n in range(last, last - MONTHS, -1)]
