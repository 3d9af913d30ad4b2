"""As `settings`, with circuits that are looked at every second and a job that belongs to one."""

from __future__ import annotations

from datetime import timedelta

from tests.acceptance.settings import *  # noqa: F403

CELERY_IMPORTS = ("tests.testapp.circuit",)

JOBS_CIRCUIT_EVERY = timedelta(seconds=1)
JOBS_CIRCUIT_DELAY = timedelta(seconds=1)
JOBS_CIRCUIT_DELAY_MAX = timedelta(seconds=4)
