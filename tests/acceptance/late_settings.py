"""The settings of the acceptance tests, with lateness that a test can wait for."""

from __future__ import annotations

from datetime import timedelta

from tests.acceptance.settings import *  # noqa: F403

# Long enough for a busy machine to start a run in time, and to miss a beat that is gone.
JOBS_LATE_AFTER = timedelta(seconds=12)
JOBS_LATE_EVERY = timedelta(seconds=1)
