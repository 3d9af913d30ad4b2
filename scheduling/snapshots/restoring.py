"""Comparing the database with its newest checkpoint, and making good for an older backup."""

from __future__ import annotations

import logging
from collections import Counter
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime

from scheduling import runs
from scheduling.models import Installation, Job, Run
from scheduling.snapshots.checkpoint import MOST_WAITING, Checkpoint, Waiting
from scheduling.snapshots.stores import Store

logger = logging.getLogger(__name__)

CHUNK = 500


@dataclass(frozen=True, slots=True, kw_only=True)
class Restored:
    """What a comparison came to."""

    checkpoint: Checkpoint | None
    is_older: bool = False
    """The database is older than the checkpoint."""
    jobs: Mapping[str, int] = field(default_factory=dict)
    """name -> fires that are not fired again."""
    waiting: Sequence[Waiting] = ()
    """Runs that were queued at the checkpoint and that the database does not know: nobody runs
    them."""

    @property
    def refused(self) -> int:
        return sum(self.jobs.values())


def compare(store: Store, *, now: datetime, dry_run: bool = False) -> Restored:
    """Compare, and if the database is older, refuse to fire again what the checkpoint knows.

    1. Runs that are queued here and were not any more at the checkpoint are skipped.
    2. For each target, what was claimed since the backup becomes one skipped row.
    3. Fencing tokens go on above those that were given out since.
    4. Only then does the database count the checkpoint, so whoever dies halfway begins anew.
    Raises what the store's `read` does.
    """
    checkpoint = store.read()
    # After the store: what is stored there has been counted before.
    counted = runs.installation().checkpoints
    if checkpoint is None or checkpoint.sequence <= counted:
        return Restored(checkpoint=checkpoint)
    if not dry_run:
        logger.warning(
            "This database is older than the checkpoint of %s UTC: it knows %s checkpoints of %s. "
            "What has fired since is not fired again",
            f"{checkpoint.taken_at:%Y-%m-%d %H:%M:%S}",
            counted,
            checkpoint.sequence,
        )
    restored = Restored(
        checkpoint=checkpoint,
        is_older=True,
        jobs=_refuse(checkpoint, now=now, dry_run=dry_run),
        waiting=_unknown(checkpoint.waiting),
    )
    if not dry_run:
        runs.raise_tokens(now=now)
        Installation.objects.filter(pk=1, checkpoints__lt=checkpoint.sequence).update(
            checkpoints=checkpoint.sequence
        )
        _tell(restored)
    return restored


def _refuse(checkpoint: Checkpoint, *, now: datetime, dry_run: bool) -> Mapping[str, int]:
    why = (
        "fired before the database was restored from an older backup; known from the checkpoint "
        f"of {checkpoint.taken_at:%Y-%m-%d %H:%M:%S} UTC"
    )
    waiting = checkpoint.waiting
    refused: Counter[str] = runs.refuse_started(
        checkpoint.jobs,
        waiting={row.run for row in waiting},
        until=checkpoint.taken_at,
        before=waiting[-1].scheduled_at if len(waiting) >= MOST_WAITING else None,
        why=why,
        now=now,
        dry_run=dry_run,
    )
    for job in Job.objects.active().filter(name__in=checkpoint.jobs).order_by("name"):
        known = runs.Known(
            mark=checkpoint.jobs[job.name],
            cursors=checkpoint.cursors.get(job.name, {}),
            runs_left=checkpoint.runs_left.get(job.name),
        )
        refused[job.name] += runs.refuse_fired(job, known, why=why, now=now, dry_run=dry_run)
    return {name: fires for name, fires in sorted(refused.items()) if fires}


def _unknown(waiting: Sequence[Waiting]) -> list[Waiting]:
    here: set[str] = set()
    for begin in range(0, len(waiting), CHUNK):
        ids = [row.run for row in waiting[begin : begin + CHUNK]]
        here |= {str(pk) for pk in Run.objects.filter(pk__in=ids).values_list("pk", flat=True)}
    return [row for row in waiting if row.run not in here]


def _tell(restored: Restored) -> None:
    for name, fires in restored.jobs.items():
        logger.warning("Job %s: %s fires are not fired again", name, fires)
    logger.warning(
        "Not fired again: %s fires of %s jobs. Queued at the checkpoint and lost with the newer "
        "database: %s runs%s",
        restored.refused,
        len(restored.jobs),
        len(restored.waiting),
        "".join(
            f"; {row.job} of {row.scheduled_at:%Y-%m-%d %H:%M:%S} UTC"
            for row in restored.waiting[:10]
        ),
    )
