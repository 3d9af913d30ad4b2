"""The verbs of `manage.py jobs`, one file for each group of them."""

from __future__ import annotations

from scheduling.management.verbs import (
    acting,
    backfill,
    declared,
    export,
    holding,
    imports,
    jobs,
    past,
    shadow,
    snapshots,
    times,
    wellbeing,
)

VERBS = (
    *jobs.VERBS,
    *times.VERBS,
    *past.VERBS,
    *acting.VERBS,
    *backfill.VERBS,
    *holding.VERBS,
    *declared.VERBS,
    *export.VERBS,
    *imports.VERBS,
    *snapshots.VERBS,
    *shadow.VERBS,
    *wellbeing.VERBS,
)
