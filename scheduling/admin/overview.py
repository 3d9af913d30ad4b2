"""What stands above a job's form: how it is, what comes, what was."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from typing import Any

from django.http import HttpRequest
from django.urls import reverse
from django.utils import timezone
from django.utils.dateparse import parse_datetime
from django.utils.html import format_html
from django.utils.safestring import SafeString

from scheduling import clock, ledger, runs
from scheduling.admin import display, feeding, muting
from scheduling.admin.saving import in_form
from scheduling.declarations import columns, row_jobs
from scheduling.errors import InvalidSchedule
from scheduling.ledger import JobFacts, JobState
from scheduling.models import Circuit, FollowUp, Job, Resource, Run, Target
from scheduling.models.base import Pausable
from scheduling.models.job import DeclaredIn
from scheduling.runs.circuits import held_by
from scheduling.runs.circuits import told as opened
from scheduling.runs.cursors import by_rules
from scheduling.runs.scopes import told
from scheduling.schedules import Schedule

NEXT_FIRES = 5
LAST_RUNS = 8

TONES = {
    JobState.INITIALIZING: "grey",
    JobState.RUNNING: "green",
    JobState.RETRYING: "amber",
    JobState.STOPPED: "amber",
    JobState.FAILED: "red",
    JobState.FINISHED: "grey",
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Overview:
    """Ready for the template: no questions are left to the database."""

    job: Job
    health: SafeString
    sentence: str
    feeding: list[str]
    problem: str
    clock: str
    zone: str
    fires: list[SafeString]
    no_fires: str
    last_runs: list[dict[str, Any]]
    failing_since: SafeString | None
    last_error: str
    targets: int
    has_plain_target: bool
    is_paused: bool
    is_row_disabled: bool
    pauses: list[SafeString]
    follow_ups: list[FollowUp]
    follows: list[FollowUp]
    overrides: int
    may_run: bool
    may_pause: bool
    may_change: bool
    mute: dict[str, Any]
    is_made_here: bool
    row_url: str


def of(job: Job, request: HttpRequest) -> Overview:
    now = clock.now()
    facts = ledger.facts_of([job])[job.pk]
    everything = runs.installation()
    held = runs.pause_of(job, None, now, everything=everything)
    plain = Target.objects.filter(job=job, key="").first()
    schedule, problem = _read(job)
    may_see = request.user.has_perm
    failing = (
        Target.objects.filter(job=job, failing_since__isnull=False)
        .order_by("failing_since")
        .first()
    )
    return Overview(
        job=job,
        health=health_badge(job, facts, held=held),
        sentence="" if problem else ledger.sentence_of(job, facts),
        feeding=feeding.in_words(job),
        problem=problem,
        clock=timezone.get_current_timezone_name(),
        zone=zone_of(schedule),
        fires=[display.moment(fire, now) for fire in next_fires(job, plain, schedule)],
        no_fires=_why_no_fires(job, plain, facts, is_held=held is not None),
        last_runs=_last_runs(job, now) if may_see("scheduling.view_run") else [],
        failing_since=None if failing is None else display.moment(failing.failing_since, now),
        last_error=last_error(job) if may_see("scheduling.view_run_output") else "",
        targets=facts.targets,
        has_plain_target=plain is not None and plain.retired_at is None,
        is_paused=job.is_paused(now),
        is_row_disabled=job.paused_by == row_jobs.BY,
        pauses=pauses_of(job, None, now),
        follow_ups=list(job.follow_ups.select_related("follower")),
        follows=list(job.follows.select_related("job")),
        overrides=len(job.overrides),
        may_run=may_see("scheduling.trigger_job") and job.retired_at is None,
        may_pause=may_see("scheduling.pause_job") and job.retired_at is None,
        may_change=may_see("scheduling.change_job"),
        mute=muting.mute_of(request, job),
        is_made_here=job.declared_in == DeclaredIn.ADMIN,
        row_url=_row_url(job) if may_see("django_celery_beat.view_periodictask") else "",
    )


def health_badge(job: Job, facts: JobFacts, *, held: display.Hold | None) -> SafeString:
    """The derived state; and that it is failing, where the state speaks of something else."""
    if job.retired_at is not None:
        return display.badge("Retired", "grey", "No longer declared; its history is kept")
    if job.schedule_error:
        return display.badge("Schedule error", "red", job.schedule_error)
    circuit = held_by(job)
    state = ledger.derive_state(job, facts, paused=held is not None or circuit is not None)
    tone = "blue" if facts.running else TONES[state]
    title = f"{facts.running} running, {facts.queued} queued"
    if state is JobState.STOPPED and held is not None:
        title = told(*held)
    elif state is JobState.STOPPED and circuit is not None:
        title = opened(circuit)
    shown = display.badge(state.value, tone, title)
    if facts.failing and state is not JobState.FAILED:
        return format_html("{} {}", shown, display.badge("Failing", "red"))
    return shown


def next_fires(job: Job, target: Target | None, schedule: Schedule | None) -> list[datetime]:
    """The cursor and the fire times after it; nothing for a target that is parked."""
    if target is None or target.next_fire_at is None or schedule is None:
        return []
    fires = [target.next_fire_at]
    while len(fires) < NEXT_FIRES:
        fire = schedule.next(fires[-1], name=target.name)
        if fire is None or (job.ends_at is not None and fire > job.ends_at):
            break
        fires.append(fire)
    scopes = [scope for _, scope in runs.scopes_of(job, target)]
    free = [fire for fire in fires if not any(scope.is_paused(fire) for scope in scopes)]
    return free[: job.runs_left]


def zone_of(schedule: Schedule | None) -> str:
    return str(getattr(schedule, "tz", None) or "")


def overrides(job: Job, now: datetime) -> list[dict[str, Any]]:
    """Each overridden field: its value, the code's, who and when."""
    rows = []
    for column, mark in sorted(job.overrides.items()):
        at = parse_datetime(str(mark.get("at") or ""))
        rows.append(
            {
                "column": column,
                "name": in_form(column),
                "value": columns.shown(column, getattr(job, column, None)),
                "code": columns.shown(column, mark.get("code")),
                "by": mark.get("by"),
                "at": display.moment(at, now),
            }
        )
    return rows


def pauses_of(job: Job, target: Target | None, now: datetime) -> list[SafeString]:
    """Tell every pause that holds a job or one of its targets, the widest first; then its circuit,
    if that is open.
    """
    told = [
        pause_text(scope, now, held=format_html("{}: ", _scope_link(name, scope)))
        for name, scope in runs.scopes_of(job, target)
        if scope.is_paused(now)
    ]
    circuit = held_by(job)
    if circuit is not None:
        link = _scope_link(opened(circuit), circuit)
        told.append(format_html("{}, {}", link, display.moment(circuit.opened_at, now)))
    return told


def _scope_link(name: str, scope: Pausable) -> SafeString | str:
    if isinstance(scope, Circuit | Resource):
        url = reverse(f"admin:scheduling_{scope._meta.model_name}_change", args=(scope.pk,))
        return display.link(url, name)
    return name


def pause_text(paused: Any, now: datetime, *, held: str = "") -> SafeString:
    until = (
        "until somebody resumes it"
        if paused.paused_until is None
        else format_html("until {}", display.moment(paused.paused_until, now))
    )
    return format_html(
        "{}{} by {} {}, {}: <q>{}</q>",
        held,
        "paused" if held else "Paused",
        paused.paused_by or "somebody",
        display.relative(paused.paused_at, now),
        until,
        paused.pause_reason or "no reason given",
    )


def last_error(job: Job) -> str:
    """The last line of what the newest failed run said."""
    newest = Run.objects.filter(job=job, state="failed").newest_first()
    return last_line(newest.values_list("error", flat=True).first() or "")


def last_line(text: str) -> str:
    lines = text.strip().splitlines()
    return lines[-1][:300] if lines else ""


def _read(job: Job) -> tuple[Schedule | None, str]:
    try:
        return by_rules(job.schedule, job), job.schedule_error
    except InvalidSchedule as error:
        return None, str(error)


def _why_no_fires(job: Job, plain: Target | None, facts: JobFacts, *, is_held: bool) -> str:
    if job.retired_at is not None:
        return "It is retired and fires no more."
    if is_held:
        return "Nothing while it is paused."
    if facts.own_schedules:
        return "None of its own: look at its targets."
    if job.is_picked:
        return "None: strategies pick its targets when slots are free."
    if facts.follows:
        return "None of its own: it runs after another job."
    if plain is not None and plain.parked == "open":
        return "It counts from the end of the run that is open."
    return "Nothing: it runs when somebody or another job asks for it."


def _last_runs(job: Job, now: datetime) -> list[dict[str, Any]]:
    newest = Run.objects.filter(job=job).newest_first().defer("output", "error")
    return [
        {
            "url": display.run_url(run),
            "state": display.state_badge(run),
            "scheduled": display.moment(run.scheduled_at, now),
            "key": run.key,
            "duration": display.duration(took(run, now)) if run.started_at else "",
        }
        for run in newest[:LAST_RUNS]
    ]


def took(run: Run, now: datetime) -> Any:
    return None if run.started_at is None else (run.ended_at or now) - run.started_at


def _row_url(job: Job) -> str:
    if job.periodic_task_id is None:
        return ""
    return reverse("admin:django_celery_beat_periodictask_change", args=(job.periodic_task_id,))
