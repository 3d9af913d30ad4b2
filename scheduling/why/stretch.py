"""The answers for a stretch of fire times: each has its row, or a sentence why it has none."""

from __future__ import annotations

from datetime import datetime

from django.db.models import Q

from scheduling.conf import conf
from scheduling.errors import InvalidSchedule
from scheduling.explanations import fires_in_words, rounded, stamp, surroundings_of
from scheduling.models import Job, Parked, Run, Target
from scheduling.runs.circuits import held_by
from scheduling.runs.circuits import told as opened
from scheduling.runs.scopes import pause_of
from scheduling.why.coming import beats_now, paused
from scheduling.why.findings import Finding, of_run
from scheduling.why.fire_times import (
    Absent,
    absent_fires,
    claimed_up_to,
    eras_of,
)

# Long texts that no explanation needs more of than its end.
HEAVY = ("output",)


def of_stretch(
    job: Job,
    target: Target | None,
    *,
    after: datetime | None,
    until: datetime | None,
    limit: int,
    now: datetime,
    with_output: bool = True,
    with_error: bool = True,
) -> tuple[list[Finding], bool]:
    """Account for the fire times in (after, until], newest first; and whether these are all.

    Without bounds: the newest up to now. With a target, the fires of its schedule that have no row
    are among them.
    """
    rows, is_all = _rows(
        job, target, after=after, until=until, limit=limit, with_output=with_output
    )
    around = surroundings_of(rows, now)
    findings = [of_run(run, now, around, with_error=with_error) for run in rows]
    if target is not None:
        absent, are_all = _absent(
            job, target, rows, after=after, until=until, is_all=is_all, now=now
        )
        findings += [absent_finding(job, target, each, now) for each in absent]
        is_all = is_all and are_all
    # Stable: rows of one time stay in the order of their creation.
    findings.sort(key=lambda finding: finding.at or now, reverse=True)
    return findings[:limit], is_all and len(findings) <= limit


def _rows(
    job: Job,
    target: Target | None,
    *,
    after: datetime | None,
    until: datetime | None,
    limit: int,
    with_output: bool,
) -> tuple[list[Run], bool]:
    """The newest rows of the stretch, and whether they are all."""
    found = Run.objects.filter(job=job)
    if target is not None:
        found = found.filter(target=target).order_by("-scheduled_at", "-created_at")
    else:
        # Of all targets together the history has an index by creation only, which comes later.
        found = found.newest_first()
        if after is not None:
            found = found.filter(created_at__gt=after)
    if after is not None:
        found = found.filter(Q(scheduled_at__gt=after) | Q(scheduled_until__gt=after))
    if until is not None:
        found = found.filter(scheduled_at__lte=until)
    if not with_output:
        found = found.defer(*HEAVY)
    rows = list(found[: limit + 1])
    for row in rows:
        row.job = job
    return rows[:limit], len(rows) <= limit


def _absent(
    job: Job,
    target: Target,
    rows: list[Run],
    *,
    after: datetime | None,
    until: datetime | None,
    is_all: bool,
    now: datetime,
) -> tuple[list[Absent], bool]:
    decided = claimed_up_to(target)
    newest = max((row.scheduled_until or row.scheduled_at for row in rows), default=None)
    end = min(until or now, now)
    if decided is None:
        # Nobody waits for a fire after the last one: the job has ended, or has no such times.
        end = min(end, newest or end)
    begin = after
    if rows and (begin is None or not is_all):
        # What is older lies beyond what was asked for.
        begin = rows[-1].scheduled_at
    if begin is None:
        if decided is None:
            return [], True
        begin = decided - decided.resolution
    if begin >= end:
        return [], True
    try:
        eras = eras_of(target, job)
    except InvalidSchedule:
        return [], True  # what comes next says so
    return absent_fires(target, job, rows, after=begin, until=end, eras=eras)


def absent_finding(job: Job, target: Target, absent: Absent, now: datetime) -> Finding:
    """Say why fire times have no row; it is a problem unless that is as it should be."""
    words = fires_in_words(absent.fires, absent.first, absent.last)
    if absent.is_more:
        words = f"More than {words}"
    several = absent.fires > 1
    has, it = ("have", "them") if several else ("has", "it")

    def find(sentence: str, *, is_problem: bool) -> Finding:
        return Finding(
            explanation=sentence,
            is_problem=is_problem,
            about=absent.first,
            until=absent.last if several else None,
            fires=absent.fires,
        )

    decided = claimed_up_to(target)
    was_decided = decided is None or absent.first < decided
    if absent.archived is not None and was_decided and absent.first > target.created_at:
        return find(
            f"{words} {has} no row any more: history from before {stamp(absent.archived)} has been "
            f"archived or deleted (JOBS_RETENTION){_where()}.",
            is_problem=False,
        )
    if absent.before is not None:
        known = (
            f"the target is known since {stamp(target.created_at)}"
            if absent.first <= target.created_at
            else f"the first fire of its schedule is that of {stamp(absent.before)}"
        )
        return find(f"{words} {has} no row: {known}, which is later.", is_problem=False)
    if was_decided:
        return find(
            f"{words} {has} no row: the row is older than what is kept, or the job had come to its "
            f"end then. The target is known since {stamp(target.created_at)}.",
            is_problem=True,
        )
    held = pause_of(job, target, now)
    if held is not None:
        return find(
            f"{words} {has} no row yet; whoever resumes it decides about {it}. {paused(*held)}",
            is_problem=True,
        )
    circuit = held_by(job)
    if circuit is not None:
        return find(
            f"{words} {has} no row yet: when the circuit closes, that skips {it}. "
            f"{opened(circuit)}.",
            is_problem=True,
        )
    if target.parked == Parked.PAUSED:
        return find(
            f"{words} {has} no row yet: the pause has ended, and the resume decides about {it} "
            "within seconds.",
            is_problem=False,
        )
    if now - absent.first <= conf.GRACE:
        return find(f"{words} is due now; a beat claims {it} within seconds.", is_problem=False)
    late = f"{'the first ' if several else ''}{rounded(now - absent.first)} late"
    return find(
        f"{words} {'are' if several else 'is'} due and not claimed yet, {late}: {beats_now(now)}.",
        is_problem=True,
    )


def _where() -> str:
    return f"; the files in {conf.ARCHIVE} may have it" if conf.ARCHIVE else ""
