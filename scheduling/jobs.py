"""The jobs of Beatkeeper's own."""

from __future__ import annotations

from typing import Any

from scheduling import current_run, job
from scheduling.errors import NotInARun

ARCHIVE = "beatkeeper_archive"


@job("every 1d spread", name=ARCHIVE, idempotent=True)
def take_out_old_runs() -> dict[str, Any]:
    """Archive and delete runs that are older than JOBS_RETENTION."""
    from scheduling.archive import daily

    def should_stop() -> bool:
        try:
            return current_run().should_stop()
        except NotInARun:  # called as an ordinary Celery task
            return False

    return daily.run(ARCHIVE, should_stop=should_stop)
