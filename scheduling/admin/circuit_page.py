"""What the page of a circuit shows: open or closed, why, and how ready its members are."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime

from django import forms
from django.http import HttpRequest
from django.urls import reverse
from django.utils.html import format_html
from django.utils.safestring import SafeString

from scheduling import clock
from scheduling.admin import display, overview
from scheduling.admin.fields import ReasonField
from scheduling.admin.pausing import may_pause
from scheduling.ledger import JobState, derive_state, facts_of, held_jobs
from scheduling.models import Circuit, Job
from scheduling.runs.circuits import told

MOST_MEMBERS = 200


class ReasonForm(forms.Form):
    reason = ReasonField(
        help_text="Stays in the log, the notification and the history of the admin"
    )


@dataclass(frozen=True, slots=True, kw_only=True)
class Member:
    """One job of the circuit, ready for the template."""

    job: Job
    name: SafeString
    state: SafeString
    readiness: str
    asked: SafeString


@dataclass(frozen=True, slots=True, kw_only=True)
class CircuitPage:
    """`switch` is the way to the question that opens or closes it; "": one may not."""

    is_open: bool
    opened: str
    since: SafeString
    next_check: SafeString
    probes: int
    unready: list[str]
    members: list[Member]
    has_more: bool
    switch: str
    may_leave_out: bool


def of(circuit: Circuit, request: HttpRequest) -> CircuitPage:
    now = clock.now()
    jobs = Job.objects.active().filter(circuit=circuit).select_related("circuit")
    found = list(jobs.order_by("left_out", "name")[: MOST_MEMBERS + 1])
    verb = "close" if circuit.is_open else "open"
    return CircuitPage(
        is_open=circuit.is_open,
        opened=told(circuit) if circuit.is_open else "",
        since=display.moment(circuit.opened_at, now),
        next_check=display.moment(circuit.check_at, now),
        probes=circuit.probes,
        unready=unready_of(circuit),
        members=_members(found[:MOST_MEMBERS], request, now),
        has_more=len(found) > MOST_MEMBERS,
        switch=reverse(f"admin:scheduling_circuit_{verb}", args=(circuit.pk,))
        if may_pause(request)
        else "",
        may_leave_out=may_pause(request),
    )


def unready_of(circuit: Circuit) -> list[str]:
    """The members that an open circuit waits for: their `ready` has not said yes."""
    jobs = Job.objects.active().filter(circuit=circuit, left_out=False, ready_since=None)
    unready = jobs.filter(unready_detail__startswith="ready()").order_by("name")
    return list(unready.values_list("name", flat=True)[:MOST_MEMBERS])


def readiness(job: Job) -> str:
    if job.left_out:
        return "left out"
    if job.unready_detail:
        return job.unready_detail
    return "ready" if job.ready_since is not None else "not asked yet"


def _members(jobs: list[Job], request: HttpRequest, now: datetime) -> list[Member]:
    facts, held = facts_of(jobs), set[int]().union(*held_jobs(jobs, now))
    may_look = request.user.has_perm("scheduling.view_job")
    members = []
    for job in jobs:
        state = derive_state(job, facts[job.pk], paused=job.pk in held)
        tone = "blue" if facts[job.pk].running else overview.TONES[JobState(state)]
        members.append(
            Member(
                job=job,
                name=display.link(display.job_url(job.pk), job.name)
                if may_look
                else format_html("{}", job.name),
                state=display.badge(state.value, tone),
                readiness=readiness(job),
                asked=display.moment(job.asked_at, now),
            )
        )
    return members
