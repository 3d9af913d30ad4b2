"""Says of targets that are there already what the columns of 0004 would say, had they been there.

By the rules of a single result (scheduling.cadence) as far as the older columns remember: what was
found before the newest result, and since when, they do not say.
"""

from __future__ import annotations

from typing import Any

from django.db import migrations, transaction
from django.db.models import Case, Count, F, Q, When
from django.db.models.functions import Coalesce

# One transaction for each so many, as beats and workers go on meanwhile.
BATCH = 1000

FAILED = Q(last_state="failed")
MISSING = Q(last_state="succeeded", last_outcome="missing")
FOUND = Q(last_state="succeeded") & ~Q(last_outcome="missing")


def fill_in(apps: Any, schema_editor: Any) -> None:
    Target = apps.get_model("scheduling", "Target")
    alias = schema_editor.connection.alias
    targets = Target.objects.using(alias).order_by("pk")
    after = 0
    while True:
        with transaction.atomic(using=alias):
            unseen = targets.filter(pk__gt=after, observed_at=None).exclude(last_state="")
            # Locked in one order, like everybody does.
            rows = unseen.select_for_update(no_key=True).values_list("pk", flat=True)
            ids = list(rows[:BATCH])
            if not ids:
                return
            batch = targets.filter(pk__in=ids).order_by()
            _fill_in(batch)
            _note(apps, batch)
            after = ids[-1]


def _fill_in(batch: Any) -> None:
    batch.update(
        # Ends by somebody's will are ends, too, but no results: of a success the time is known.
        observed_at=Case(
            When(FAILED, then=Coalesce("last_ended_at", "failing_since")),
            default=F("last_succeeded_at"),
        ),
        # Of a success before failures nobody knows any more whether it was `missing`.
        found_at=Case(When(FOUND | FAILED, then=F("last_succeeded_at"))),
        ok_since=Case(When(FOUND, then=F("last_succeeded_at"))),
        misses=Case(When(FAILED, then=F("failures_in_a_row")), When(MISSING, then=1), default=0),
        # None after failures that a resume has forgiven.
        streak=Case(When(FAILED, then=F("failures_in_a_row")), default=1),
    )


def _note(apps: Any, batch: Any) -> None:
    """Note what that changes of the counts of coverage; if none are there, a beat counts all."""
    if not apps.get_model("scheduling", "CoverageCount").objects.using(batch.db).exists():
        return
    Change = apps.get_model("scheduling", "CoverageChange")
    active = batch.exclude(key="").filter(retired_at=None, paused_at=None)
    found, missed = Count("found_at"), Count("pk", filter=Q(misses__gt=0))
    for job_id, source_id, *counts in active.values_list("job_id", "source_id").annotate(
        found=found, missed=missed
    ):
        deltas = {"never_checked": -counts[0], "missed": counts[1]}
        Change.objects.using(batch.db).bulk_create(
            Change(job_id=job_id, source=source_id or 0, measure=measure, delta=delta)
            for measure, delta in deltas.items()
            if delta
        )


class Migration(migrations.Migration):
    # Otherwise a million rows would stay locked until the last one is filled in.
    atomic = False

    dependencies = [
        ("scheduling", "0004_resources"),
    ]

    operations = [
        migrations.RunPython(fill_in, migrations.RunPython.noop, elidable=True),
    ]
