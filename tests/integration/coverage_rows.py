"""Coverage, as tests read and write it."""

from __future__ import annotations

from datetime import timedelta

from django.db import transaction

from scheduling.coverage import coverage
from scheduling.models import Target
from scheduling.runs import coverage as counting
from tests.factories import NOW

DAY = timedelta(days=1)


def figures(job: str | None = None, source: str | None = None) -> dict[str, tuple[int, ...]]:
    """Job -> known, active, never checked, stale."""
    return {
        each.job: (each.known, each.active, each.never_checked, each.stale)
        for each in coverage(job, source, now=NOW + 30 * DAY)
    }


def change(target: Target, **columns: object) -> None:
    """Write columns as whoever folds in results does."""
    with transaction.atomic():
        locked = Target.objects.select_for_update(no_key=True).get(pk=target.pk)
        before = counting.facts_of(locked)
        for name, value in columns.items():
            setattr(locked, name, value)
        locked.save(update_fields=list(columns))
        counting.note(locked.job_id, locked.source_id, before, counting.facts_of(locked))


def sum_up_all() -> None:
    while counting.sum_up(limit=7):
        pass
