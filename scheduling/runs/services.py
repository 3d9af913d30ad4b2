"""Services: each target of theirs has one open run, always.

What ends is started again (see `restarts`): after a clean return, a failure, a lost worker alike.
What is held (paused, an open circuit), retired or over is asked to stop.
"""

from __future__ import annotations

from datetime import datetime

from scheduling.conf import conf
from scheduling.db import short_transaction
from scheduling.models import Event, Installation, Job, Run, Target
from scheduling.runs import circuits, scopes, telling
from scheduling.runs.cursors import lock_target
from scheduling.runs.line import request_stop
from scheduling.runs.make import is_by_hand
from scheduling.services import ALWAYS

BATCH = 200
WELL_FIELDS = ("failing_since", "failures_in_a_row", "misses", "streak", "short_runs")


def look_after(now: datetime) -> int:
    """Ask the services to stop that may not run now, and tell of those that run well again; give
    how many.
    """
    # A look at the jobs first: mostly none of them is a service.
    services = list(Job.objects.filter(schedule=ALWAYS).values_list("pk", flat=True))
    return _stop_held(services, now) + _forgive(services, now) if services else 0


def _stop_held(services: list[int], now: datetime) -> int:
    running = (
        Run.objects.running()
        .filter(job__in=services, stop_requested_at=None)
        .select_related("job__circuit", "target__resource")
        .defer("output", "error")
    )
    everything = Installation.objects.filter(pk=1).first()
    asked = 0
    for run in running:
        why = _why_stopped(run, everything, now)
        asked += bool(why) and request_stop(run, by=why, at_once=False, now=now)
    return asked


def _why_stopped(run: Run, everything: Installation | None, now: datetime) -> str:
    job, target = run.job, run.target
    if job is None or target is None:
        return ""
    if job.retired_at is not None or target.retired_at is not None:
        return "its retirement"
    if job.ends_at is not None and job.ends_at < now:
        return "the end of its schedule"
    held = scopes.pause_of(job, target, now, everything=everything)
    if held is not None and _holds(run, held[1].paused_at):
        return f"a pause: {scopes.told(*held)}"
    circuit = circuits.held_by(job)
    if circuit is not None and _holds(run, circuit.opened_at):
        return f"a circuit: {circuits.told(circuit)}"
    return ""


def _holds(run: Run, since: datetime | None) -> bool:
    """People may run what is held by hand: only what begins after that stops their run."""
    if since is None or run.started_at is None:
        return False
    return not is_by_hand(run) or run.started_at < since


def stop_former(target: Target, *, now: datetime) -> None:
    """Ask the run of a service to stop whose schedule was edited. The target is locked."""
    for run in Run.objects.running().filter(target=target):
        request_stop(run, by="an edit of its schedule", at_once=False, now=now)


def _forgive(services: list[int], now: datetime) -> int:
    """Tell of services that had failed and have run well since.

    A service may never end, so nobody waits for its success.
    """
    well = (
        Run.objects.running()
        .filter(
            target__failing_since__isnull=False,
            job__in=services,
            started_at__lte=now - conf.SERVICE_DELAY_MAX,
        )
        .values_list("pk", "attempt", "target_id")
    )
    forgiven = 0
    for run_id, attempt, target_id in well[:BATCH]:
        with short_transaction():
            target = lock_target(target_id)
            still = Run.objects.running().filter(pk=run_id, attempt=attempt)
            run = still.select_related("job").defer("output", "error").first()
            if run is None or run.job is None or target.failing_since is None:
                continue
            detail = telling.standing_before(target)
            target.failing_since = None
            target.failures_in_a_row = target.misses = target.streak = target.short_runs = 0
            target.save(update_fields=WELL_FIELDS)
            telling.insert(run, run.job, {Event.FIXED: detail}, now=now)
            forgiven += 1
    return forgiven
