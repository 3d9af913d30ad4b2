"""The verbs of `manage.py jobs`, one file for each group of them."""

from __future__ import annotations

from scheduling.management.verbs import (
    acting,
    attempts,
    backfill,
    circuits,
    dead_letters,
    declared,
    export,
    holding,
    imports,
    jobs,
    locks,
    muting,
    past,
    shadow,
    snapshots,
    telling,
    times,
    wellbeing,
)

VERBS = (
    *jobs.VERBS,
    *times.VERBS,
    *past.VERBS,
    *acting.VERBS,
    *attempts.VERBS,
    *backfill.VERBS,
    *holding.VERBS,
    *muting.VERBS,
    *telling.VERBS,
    *locks.VERBS,
    *circuits.VERBS,
    *declared.VERBS,
    *export.VERBS,
    *imports.VERBS,
    *snapshots.VERBS,
    *shadow.VERBS,
    *wellbeing.VERBS,
    *dead_letters.VERBS,
)
