"""What a pause can hold: everything, a circuit, a job, a resource, a target."""

from __future__ import annotations

from contextlib import AbstractContextManager, nullcontext
from datetime import datetime

from django.db.models import Q

from scheduling.db import short_transaction
from scheduling.models import Circuit, Installation, Job, Resource, Target
from scheduling.models.base import Pausable
from scheduling.models.target import TargetQuerySet
from scheduling.runs import coverage, log, pool

Scope = Installation | Circuit | Job | Resource | Target


def installation() -> Installation:
    return Installation.objects.get_or_create(pk=1)[0]


def scopes_of(
    job: Job, target: Target | None, *, everything: Installation | None = None
) -> list[tuple[str, Pausable]]:
    """The scopes that hold a target, each with its name in a sentence, the widest first.

    Those of a job alone if `target` is None. `everything` spares a query to who has it already.
    """
    everything = everything or Installation.objects.filter(pk=1).first()
    scopes: list[Scope | None] = [everything, job.circuit, job]
    if target is not None:
        scopes += [target.resource, target]
    return [(name_of(scope), scope) for scope in scopes if scope is not None]


def name_of(scope: Scope) -> str:
    """Name a scope as a sentence begins."""
    if isinstance(scope, Installation):
        return "Everything"
    if isinstance(scope, Circuit):
        return f"The circuit {scope.name!r}"
    if isinstance(scope, Job):
        return f"The job {scope.name!r}"
    if isinstance(scope, Resource):
        return f"The resource {scope.key!r}"
    return f"The target {scope.key!r}" if scope.key else "The target"


def told(name: str, scope: Pausable) -> str:
    """Tell of a pause: who, why."""
    by = f" by {scope.paused_by}" if scope.paused_by else ""
    why = f": {scope.pause_reason}" if scope.pause_reason else ""
    return f"{name} was paused{by}{why}"


def pause_of(
    job: Job, target: Target | None, now: datetime, *, everything: Installation | None = None
) -> tuple[str, Pausable] | None:
    """The widest scope that is paused now, with its name; None if nothing holds the target."""
    scopes = scopes_of(job, target, everything=everything)
    return next(((name, scope) for name, scope in scopes if scope.is_paused(now)), None)


def targets_of(scope: Scope) -> TargetQuerySet:
    """The targets that a scope holds."""
    if isinstance(scope, Circuit):
        return Target.objects.filter(job__circuit=scope)
    if isinstance(scope, Job):
        return Target.objects.filter(job=scope)
    if isinstance(scope, Resource):
        return Target.objects.filter(resource=scope)
    return Target.objects.filter(pk=scope.pk) if isinstance(scope, Target) else Target.objects.all()


def counted(scope: Scope) -> AbstractContextManager[None]:
    """Note what a block makes of a target; the other scopes are not counted."""
    return coverage.noting(scope.pk) if isinstance(scope, Target) else nullcontext()


def hold(
    scope: Scope, *, by: str, reason: str, now: datetime, until: datetime | None = None
) -> bool:
    """Pause a scope, by one UPDATE. False: it was paused already."""
    free = type(scope).objects.filter(Q(paused_at=None) | Q(paused_until__lte=now), pk=scope.pk)
    with short_transaction(), counted(scope):
        changed: int = free.update(
            paused_at=now, paused_by=by[:150], pause_reason=reason[:300], paused_until=until
        )
    if changed:
        # Whoever has it in hand is to know; of the row, nothing else is written from here.
        scope.paused_at, scope.paused_until = now, until
        if isinstance(scope, Resource | Target):
            pool.take_out(targets_of(scope))
        log.pausing(str(scope), "paused", by, reason)
    return bool(changed)
