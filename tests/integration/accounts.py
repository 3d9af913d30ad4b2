"""The law of fire times: each is a run, or part of a skip, of exactly one stretch."""

from __future__ import annotations

import itertools
from datetime import timedelta

from scheduling.models import Run, ScheduleStretch, Target
from scheduling.schedules import parse


def accounted_for(target: Target) -> None:
    """Check the law: the fires of each stretch are its runs and skips; no two stretches overlap."""
    target.refresh_from_db()
    stretches = list(ScheduleStretch.objects.filter(target=target).order_by("since", "pk"))
    for stretch in stretches:
        until = stretch.until or target.next_fire_at or target.parked_cursor
        assert until is not None
        named = parse(stretch.schedule).between(
            stretch.since - timedelta.resolution,
            until - timedelta.resolution,
            name=target.name,
        )
        rows = Run.objects.filter(
            target=target,
            cause__in=("schedule", "catch_up"),
            scheduled_at__gte=stretch.since,
            scheduled_at__lt=until,
        )
        assert sum(rows.values_list("fires", flat=True)) == len(list(named)), stretch
    for before, after in itertools.pairwise(stretches):
        assert before.until is not None
        assert before.until <= after.since
