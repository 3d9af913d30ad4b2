"""Small batches, an archive, and a lock that is soon free when its holder was killed."""

from __future__ import annotations

from datetime import timedelta

from config.settings import VAR_DIR
from tests.acceptance.settings import *  # noqa: F403

JOBS_ARCHIVE = str(VAR_DIR / "archive")
JOBS_KEEP_GOOD = 0
JOBS_PRUNE_BATCH = 20
JOBS_LEASE = timedelta(seconds=3)
JOBS_LEASE_RENEWAL = timedelta(seconds=1)
