"""What the page of one run shows, ready for the template."""

from __future__ import annotations

import json
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

from django.http import HttpRequest
from django.urls import reverse
from django.utils.safestring import SafeString

from scheduling import clock
from scheduling.admin import chain, display
from scheduling.explanations import explanation, surroundings_of
from scheduling.models import Attempt, Cause, Run, State
from scheduling.models.run import OPEN_STATES

MOST_LISTED = 20


@dataclass(frozen=True, slots=True, kw_only=True)
class Step:
    name: str
    at: SafeString
    note: str = ""
    is_done: bool = True


@dataclass(frozen=True, slots=True, kw_only=True)
class RunPage:
    run: Run
    is_open: bool
    state: SafeString
    steps: list[Step]
    facts: list[tuple[str, Any]]
    sentence: str
    waiting_run: SafeString | None
    parent: SafeString | None
    followers: list[dict[str, Any]]
    chain: chain.Chain | None
    attempts: list[dict[str, Any]]
    more_attempts: int
    may_see_output: bool
    mark: str
    """Changes with what the run has written."""
    is_known: bool
    """The browser has it all, and it stays as it is there."""
    output: str
    cut: str
    error: str
    arguments: str
    metadata: str
    may_stop: bool
    stop_asked: str
    fragment_url: str


def of(run: Run, request: HttpRequest, *, seen: str = "") -> RunPage:
    """Prepare the page; `seen` is the mark of the output that the browser shows already."""
    now = clock.now()
    may_see_output = request.user.has_perm("scheduling.view_run_output")
    # The browser keeps them until there is another one, and they may be long.
    has_earlier = seen.split("/")[1:2] == [str(run.attempt)]
    earlier = [] if has_earlier else _earlier_attempts(run, now, may_see_output=may_see_output)
    followers = Run.objects.filter(parent=run).defer("output", "error").order_by("created_at")
    is_open = run.state in OPEN_STATES
    return RunPage(
        run=run,
        is_open=is_open,
        state=display.state_badge(run),
        steps=_steps(run, now),
        facts=_facts(run, now),
        sentence=explanation(run, now, surroundings_of([run], now), with_error=may_see_output),
        waiting_run=None if run.waiting_on is None else _link(run.waiting_on),
        parent=None if run.parent is None else _link(run.parent),
        followers=[
            {"link": _link(each), "state": display.state_badge(each)}
            for each in followers[:MOST_LISTED]
        ],
        chain=chain.chain_of(run, now),
        attempts=earlier,
        more_attempts=max(0, run.attempt - 1 - MOST_LISTED),
        may_see_output=may_see_output,
        mark=_mark(run),
        is_known=seen == _mark(run),
        output=run.output if may_see_output else "",
        cut=_cut(run),
        error=run.error if may_see_output else "",
        arguments=json.dumps(run.kwargs, indent=2) if may_see_output and run.kwargs else "",
        metadata=json.dumps(run.metadata, indent=2) if may_see_output and run.metadata else "",
        may_stop=is_open
        and run.job_id is not None
        and request.user.has_perm("scheduling.cancel_run"),
        stop_asked=_stop_asked(run, now),
        fragment_url=reverse("admin:scheduling_run_fragment", args=(run.pk,)),
    )


def took(run: Run, now: datetime) -> timedelta | None:
    return None if run.started_at is None else (run.ended_at or now) - run.started_at


def lateness(run: Run) -> timedelta | None:
    """From the fire time to the start of the newest attempt."""
    return None if run.started_at is None else run.started_at - run.scheduled_at


def _steps(run: Run, now: datetime) -> list[Step]:
    def step(name: str, at: datetime | None, note: str = "") -> Step:
        return Step(name=name, at=display.moment(at, now), note=note, is_done=at is not None)

    steps = [step("Scheduled", run.scheduled_at), step("Created", run.created_at)]
    if run.state == State.SKIPPED:
        return [*steps, step("Skipped", run.ended_at or run.created_at, run.get_reason_display())]
    if run.ready_at is not None and run.ready_at > run.created_at + timedelta(seconds=1):
        steps.append(step("Ready", run.ready_at))
    again = f"{run.publications} times" if run.publications > 1 else ""
    return [
        *steps,
        step("Published", run.published_at, again),
        step("Started", run.started_at, _late(run)),
        step("Ended", run.ended_at, _took(run, now)),
    ]


def _late(run: Run) -> str:
    late = lateness(run)
    return "" if late is None else f"{display.duration(late)} late"


def _took(run: Run, now: datetime) -> str:
    span = took(run, now)
    if span is None:
        return ""
    return f"{'after' if run.ended_at else 'running for'} {display.duration(span)}"


def _facts(run: Run, now: datetime) -> list[tuple[str, Any]]:
    """Pairs of a name and a value; what says nothing is left out."""
    cause: Any = run.get_cause_display()
    if run.cause == Cause.MANUAL and run.requested_by:
        cause = f"{cause}, asked for by {run.requested_by}"
    pairs = [
        ("Job", display.link(display.job_url(run.job_id), run.name) if run.job_id else run.name),
        ("Target", run.key),
        ("Cause", cause),
        ("Fires", f"{run.fires} fires" if run.fires > 1 else ""),
        ("Last of them", display.moment(run.scheduled_until, now) if run.scheduled_until else ""),
        ("Detail", run.detail),
        ("Picked by", run.strategy),
        ("Lane", "" if run.priority is None else str(run.priority)),
        ("Attempt", display.attempt(run, _retries(run))),
        ("Outcome", run.get_outcome_display() if run.outcome else ""),
        ("Exit code", "" if run.exit_code is None else str(run.exit_code)),
        ("Worker", run.worker),
        ("Queue", run.queue),
        ("Fencing token", "" if run.token is None else str(run.token)),
        ("Must start by", display.moment(run.start_by, now) if _is_due(run) else ""),
        ("Lease until", display.moment(run.lease_until, now) if run.state == State.RUNNING else ""),
        ("Id", display.as_code(run.pk)),
    ]
    return [(name, value) for name, value in pairs if value]


def _retries(run: Run) -> int:
    """Its own number of retries, else that of its job."""
    if run.retry_limit is not None:
        return run.retry_limit
    return 0 if run.job is None else run.job.retries


def _mark(run: Run) -> str:
    return f"{run.state}/{run.attempt}/{run.output_bytes}"


def _earlier_attempts(run: Run, now: datetime, *, may_see_output: bool) -> list[dict[str, Any]]:
    """The newest first; what they wrote for those who may see it."""
    if run.attempt == 1:
        return []
    rows = Attempt.objects.filter(run=run).order_by("-number")
    return [
        {
            "number": row.number,
            "worker": row.worker,
            "started": display.moment(row.started_at, now),
            "took": display.duration(row.ended_at - row.started_at) if row.started_at else "",
            "why": row.get_reason_display(),
            "exit_code": "" if row.exit_code is None else str(row.exit_code),
            "error": row.error if may_see_output else "",
            "output": row.output if may_see_output else "",
            "is_cut": row.output_bytes > len(row.output.encode()),
        }
        for row in rows[:MOST_LISTED]
    ]


def _is_due(run: Run) -> bool:
    return run.state == State.QUEUED and run.start_by is not None


def _cut(run: Run) -> str:
    stored = len(run.output.encode())
    if run.output_bytes <= stored:
        return ""
    wrote = "has written" if run.state in OPEN_STATES else "wrote"
    return f"The job {wrote} {run.output_bytes:,} bytes; the beginning and the end are kept."


def _stop_asked(run: Run, now: datetime) -> str:
    if run.stop_requested_at is None:
        return ""
    by = run.stop_requested_by or "somebody"
    return f"{by} asked it to stop {display.relative(run.stop_requested_at, now)}."


def _link(run: Run) -> SafeString:
    return display.link(display.run_url(run), str(run))
