"""What a follow-up is told of the runs that led to it."""

from __future__ import annotations

from scheduling.context import ParentRun
from scheduling.models import FollowUp, Run
from scheduling.runs.joins import ended_under

TOLD = (
    "name",
    "key",
    "scheduled_at",
    "state",
    "reason",
    "outcome",
    "result",
    "job_id",
    "target_id",
)


def parent_of(run: Run) -> ParentRun | None:
    """The run it follows; None also if that has been pruned since."""
    if run.parent_id is None:
        return None
    found = Run.objects.filter(pk=run.parent_id).only(*TOLD).first()
    return None if found is None else _told(found)


def parents_of(run: Run) -> tuple[ParentRun, ...]:
    """All it follows, in the order of their ends: for a joined one the last run of each target."""
    if not run.joined or run.root_id is None:
        parent = parent_of(run)
        return () if parent is None else (parent,)
    members = FollowUp.objects.filter(follower=run.job_id, join=True).values_list(
        "job_id", flat=True
    )
    ended = ended_under(run.root_id, members).only(*TOLD)
    # Put in anew, so that the place is that of the last one.
    last: dict[int | None, Run] = {}
    for each in ended:
        last.pop(each.target_id, None)
        last[each.target_id] = each
    return tuple(map(_told, last.values()))


def _told(run: Run) -> ParentRun:
    return ParentRun(
        id=run.pk,
        job=run.name,
        key=run.key,
        scheduled_at=run.scheduled_at,
        state=run.state,
        reason=run.reason,
        outcome=run.outcome,
        result=run.result,
    )
