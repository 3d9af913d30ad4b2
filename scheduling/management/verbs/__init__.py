"""The verbs of `manage.py jobs`, one file for each group of them."""

from __future__ import annotations

from scheduling.management.verbs import acting, declared, holding, jobs, past, times, wellbeing

VERBS = (
    *jobs.VERBS,
    *times.VERBS,
    *past.VERBS,
    *acting.VERBS,
    *holding.VERBS,
    *declared.VERBS,
    *wellbeing.VERBS,
)
