"""The jobs of Beatkeeper's own."""

from __future__ import annotations

from typing import TYPE_CHECKING

from scheduling import archive, current_run, job
from scheduling.errors import NotInARun

if TYPE_CHECKING:
    from scheduling.runs import Result


@job("every 1d spread", name=archive.JOB, idempotent=True)
def take_out_old_runs() -> Result:
    """Archive and delete runs that are older than JOBS_RETENTION."""
    from scheduling.archive import daily

    def should_stop() -> bool:
        try:
            return current_run().should_stop()
        except NotInARun:  # called as an ordinary Celery task
            return False

    return daily.run(should_stop=should_stop)
