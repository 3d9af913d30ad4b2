"""What stays although it is old: what open runs still need, and the newest of each target."""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Sequence
from datetime import datetime
from uuid import UUID

from django.db.models import OuterRef, Subquery

from scheduling.archive.rules import Candidate
from scheduling.conf import conf
from scheduling.models import Notification, Run, Seat, State, Target
from scheduling.models.system import Ping

# Whoever goes back to the stock scheduler and returns looks for the newest row, also a skipped one.
KEPT_SKIPS = 1
REMEMBERED = 100_000


def needed(page: Sequence[Candidate]) -> set[UUID]:
    """Those of a page that something open refers to, or that have something left to deliver.

    A chain stays whole while anything in it is open: its end may lead to more, once each. Only an
    open run of a chain makes new ones, so what is not needed now never will be.
    """
    ids = [run.id for run in page]
    root_of = {run.id: run.root_id or run.id for run in page}
    roots = set(root_of.values())
    open_runs = Run.objects.open()
    open_roots = {
        *open_runs.filter(root__in=roots).values_list("root_id", flat=True),
        *open_runs.filter(pk__in=roots).values_list("pk", flat=True),
    }
    found: set[UUID | None] = {pk for pk, root in root_of.items() if root in open_roots}
    found.update(open_runs.filter(waiting_on__in=ids).values_list("waiting_on_id", flat=True))
    found.update(open_runs.filter(parent__in=ids).values_list("parent_id", flat=True))
    # Held until the next fire; and a lock's row is nobody's to change who does not hold the lock.
    found.update(Seat.objects.filter(run__in=ids).values_list("run_id", flat=True))
    for rows in (Notification.objects.filter(run__in=ids), Ping.objects.filter(run__in=ids)):
        found.update(rows.filter(deliver_at__isnull=False).values_list("run_id", flat=True))
    return found & set(ids)  # type: ignore[return-value]


class Newest:
    """The newest runs of each target, of each kind, as JOBS_KEEP_* say.

    Remembers what it has found out: a target's newest runs change, but only so that more may go.
    """

    def __init__(self) -> None:
        self._is_single: dict[int, bool] = {}
        # (target, state) -> the place of the oldest that stays; None: all stay
        self._oldest: dict[tuple[int, str], tuple[datetime, UUID] | None] = {}

    def among(self, page: Sequence[Candidate]) -> set[UUID]:
        if len(self._oldest) > REMEMBERED:
            self._oldest.clear()
        asked = [run for run in page if run.target_id is not None and self._number(run) > 0]
        self._look_up(asked)
        return {run.id for run in asked if self._stays(run)}

    def _stays(self, run: Candidate) -> bool:
        assert run.target_id is not None
        oldest = self._oldest[run.target_id, run.state]
        return oldest is None or (run.scheduled_at, run.id) >= oldest

    def _number(self, run: Candidate) -> int:
        """How many runs of this kind its target keeps."""
        if run.state == State.SKIPPED:
            return KEPT_SKIPS
        if run.job_id is None or not self._has_one_target(run.job_id):
            return conf.KEEP_PER_TARGET
        return conf.KEEP_GOOD if run.state == State.SUCCEEDED else conf.KEEP_FAILED

    def _has_one_target(self, job_id: int) -> bool:
        if job_id not in self._is_single:
            second = Target.objects.filter(job=job_id).order_by("key").values_list("pk")[1:2]
            self._is_single[job_id] = not second.exists()
        return self._is_single[job_id]

    def _look_up(self, runs: Iterable[Candidate]) -> None:
        unknown: dict[tuple[str, int], set[int]] = defaultdict(set)
        for run in runs:
            assert run.target_id is not None
            if (run.target_id, run.state) not in self._oldest:
                unknown[run.state, self._number(run)].add(run.target_id)
        for (state, number), targets in unknown.items():
            newest = (
                Run.objects.filter(target=OuterRef("pk"), state=state)
                .order_by("-scheduled_at", "-pk")
                .values("pk")[number - 1 : number]
            )
            rows = Target.objects.filter(pk__in=targets).order_by().annotate(last=Subquery(newest))
            last = dict(rows.values_list("pk", "last"))
            wanted = [pk for pk in last.values() if pk is not None]
            at = dict(Run.objects.filter(pk__in=wanted).values_list("pk", "scheduled_at"))
            for target in targets:
                pk = last.get(target)
                self._oldest[target, state] = (at[pk], pk) if pk in at else None
