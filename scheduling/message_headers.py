"""The headers that make a Celery message stand for a run, or for several."""

from __future__ import annotations

# [run id, attempt]
RUN_HEADER = "jobs_run"
# [[run id, attempt], ...] of all of them, beside the header that names the first
BATCH_HEADER = "jobs_batch"
