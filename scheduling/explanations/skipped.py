"""Why a fire time, or a stretch of them, got no run."""

from __future__ import annotations

from scheduling.conf import conf
from scheduling.explanations.surroundings import Surroundings, named_run, was_late_to_start
from scheduling.explanations.waiting import standing, why_late
from scheduling.explanations.words import rounded, stamp
from scheduling.models import Reason, Run

MISSED = {
    Reason.LATE: "the catch-up policy 'none' makes up for nothing",
    Reason.COALESCED: str(Reason.COALESCED.label),
    Reason.WINDOW: str(Reason.WINDOW.label),
}


def skip_reason(run: Run, around: Surroundings) -> str:
    if was_late_to_start(run):
        return why_late(run, around)
    if run.reason in MISSED and not run.detail:
        return _missed(run, around)
    if run.reason == Reason.OVERLAP:
        return _overlap(run, around)
    if run.reason == Reason.CANCELLED and run.detail.startswith("by "):
        return f"cancelled {run.detail}"
    if run.reason == Reason.PAUSED and not run.detail:
        return "it was paused, and was not made up for when that ended"
    label = str(Reason(run.reason).label) if run.reason else "for a reason that was not stored"
    return f"{label} ({run.detail.rstrip('.')})" if run.detail else label


def _missed(run: Run, around: Surroundings) -> str:
    """Nobody claimed it while it was due: the policy for catching up decided about it."""
    why = MISSED[Reason(run.reason)]
    if run.reason == Reason.COALESCED:
        stands = around.replacing.get((run.target_id or 0, run.created_at))
        named = f", run {stands.pk} of {stamp(stands.scheduled_at)}" if stands is not None else ""
        why = f"{why}{named} (catch-up policy 'latest')"
    last = run.scheduled_until or run.scheduled_at
    if run.created_at - last <= conf.GRACE:
        return why
    what, newest = ("them", "the newest ") if run.fires > 1 else ("it", "")
    return (
        f"missed, no beat claimed {what} until {stamp(run.created_at)}, "
        f"{newest}{rounded(run.created_at - last)} late; {why}"
    )


def _overlap(run: Run, around: Surroundings) -> str:
    before = around.runs.get(pk) if (pk := named_run(run)) is not None else None
    if before is not None:
        return f"the run before was still open: run {before.pk} {standing(before)}"
    if run.detail.startswith("the fire of "):
        return f"by its overlap policy, {run.detail.rstrip('.')}"
    label = str(Reason.OVERLAP.label)
    return f"{label} ({run.detail.rstrip('.')})" if run.detail else label
