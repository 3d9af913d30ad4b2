"""What is asked once for many runs that end together, so that none has to ask for itself."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Self
from uuid import UUID

from scheduling.models import Parked, Run, Seat, Target, Ticket
from scheduling.runs import observing


@dataclass(frozen=True, slots=True, kw_only=True)
class Together:
    # Runs that somebody waits for, or that have a place in a line.
    watched: Collection[UUID | None]
    # Targets with a run that is still open.
    busy: Collection[int | None]
    # job -> its virtual clock
    clocks: Mapping[int, int]

    @classmethod
    def of(cls, ended: Sequence[Run]) -> Self:
        """Ask, once the rows say that these have ended; their targets are locked and loaded."""
        ids = [run.pk for run in ended]
        waiters = Run.objects.queued().filter(waiting_on__in=ids)
        lines = Ticket.objects.filter(run__in=ids)
        targets = [run.target for run in ended if run.target is not None]
        return cls(
            watched={
                *waiters.values_list("waiting_on", flat=True),
                *lines.values_list("run", flat=True),
            },
            busy=busy_among([target for target in targets if _may_come_again(target)]),
            clocks=observing.clocks_of({target.job_id: target.job for target in targets}.values()),
        )


def _may_come_again(target: Target) -> bool:
    """Whether the end of a run of it asks for the others that are open."""
    return target.job.feed is not None or target.parked == Parked.OPEN


def busy_among(targets: Sequence[Target]) -> set[int | None]:
    """The ids of those that have an open run."""
    if not targets:
        return set()
    open_runs = Run.objects.open().filter(target__in=[target.pk for target in targets])
    return set(open_runs.values_list("target_id", flat=True))


def seated(run_ids: Collection[UUID]) -> set[UUID | None]:
    """Those that have seats. Each ends in a transaction of its own: who frees the seats of two
    locks for two runs would wait for somebody who does it the other way round.
    """
    return set(Seat.objects.filter(run__in=run_ids).values_list("run", flat=True))
