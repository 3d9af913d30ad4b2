"""How far the passes of our own job have come, as the newest good one tells."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime

from django.db.models import Subquery

from scheduling.archive import JOB
from scheduling.models import Job, Run, State

# Passes in a row without an end, before it is said that there is too little time
PATIENCE = 3
ADVICE = (
    f"give {JOB} a longer hard limit (it works for half of its soft limit), or let it fire more "
    "often"
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Progress:
    """`token`: where the next pass goes on; "": at the oldest. `unfinished`: passes in a row,
    this one among them, that did not come through.
    """

    token: str = ""
    unfinished: int = 0

    @property
    def is_behind(self) -> bool:
        return self.unfinished >= PATIENCE


def progress() -> Progress:
    # Not by a join: PostgreSQL would read all runs, newest first, in search of one of this job.
    job = Subquery(Job.objects.filter(name=JOB).values("pk"))
    ended = Run.objects.filter(job=job, state=State.SUCCEEDED).newest_first()
    result = ended.values_list("result", flat=True).first()
    told = result if isinstance(result, dict) else {}
    token, unfinished = told.get("next"), told.get("unfinished")
    return Progress(
        token=token if isinstance(token, str) else "",
        unfinished=unfinished if isinstance(unfinished, int) else 0,
    )


def look(now: datetime) -> tuple[bool, str]:
    """For `jobs health`."""
    found = progress()
    if found.is_behind:
        return False, f"{found.unfinished} passes in a row did not come through; {ADVICE}"
    if found.unfinished:
        return True, "the newest pass did not come through; the next one goes on there"
    return True, "passes come through"
