"""Jobs: registered once, looked up, searched, paused and retired in bulk."""

from __future__ import annotations

from collections.abc import Iterable
from typing import Any, Literal, cast

from django.db import transaction
from django.db.models import Q

from scheduling import clock, declared_keywords, runs
from scheduling.backend.filters import OneOrMany, among, words
from scheduling.backend.pages import ROWS, Page, page
from scheduling.declarations.columns import columns_of
from scheduling.declared_values import as_name
from scheduling.errors import InvalidDeclaration, UnknownJob
from scheduling.models import Circuit, Job
from scheduling.models.job import DeclaredIn, Kind
from scheduling.registry import Declaration
from scheduling.registry import Kind as DeclaredKind
from scheduling.runs.cursors import by_rules

BY = "backend"
ACTIVE, PAUSED, RETIRED = STATES = ("active", "paused", "retired")
StateOf = Literal["active", "paused", "retired"]
ORDERS = {"name": "name", "created_at": "created_at"}


def register_job(
    name: str,
    *,
    task: str = "",
    command: str = "",
    program: str = "",
    internal: bool = True,
    keyed: bool = False,
    **settings: Any,
) -> Job:
    """Make a job for a Celery task, a management command or a program, all by name.

    A job of this name that exists is left untouched and given, whatever else is said. `settings`
    are the keywords of `@job`. `keyed`, or a job that is fed: it has no plain target; its targets
    are made by `create_targets`. Raises InvalidDeclaration. The reference: `create_task_type`.
    """
    name = as_name(name)
    known = get_job(name)
    if known is not None:
        return known
    declaration = _declaration(name, task, command, program, internal, settings)
    now = clock.now()
    with transaction.atomic():
        if declaration.circuit is not None:
            Circuit.objects.get_or_create(name=declaration.circuit)
        job, created = Job.objects.get_or_create(
            name=name,
            defaults={
                **columns_of(declaration),
                "declared_in": DeclaredIn.ADMIN,
                "runs_left": declaration.runs,
            },
        )
        if created:
            by_rules(job.schedule, job)  # which a calendar may leave without any fire
            if not keyed and declaration.feed is None:
                runs.adopt(job, now=now)
    return job


def _declaration(
    name: str, task: str, command: str, program: str, internal: bool, settings: dict[str, Any]
) -> Declaration:
    """Read what is said of a job that is nobody's code. Raises InvalidDeclaration."""
    what = {Kind.TASK: task, Kind.COMMAND: command, Kind.PROGRAM: program}
    kinds = [kind for kind, said in what.items() if said]
    if len(kinds) != 1:
        raise InvalidDeclaration(
            f"Job {name!r} is to run {', '.join(filter(None, what.values())) or 'nothing'}; "
            "give one of task, command and program"
        )
    for hook in ("should_run", "ready", "status"):
        if settings.get(hook) is not None:
            raise InvalidDeclaration(
                f"Job {name!r}: {hook} is a function, which no row keeps; declare it in code"
            )
    for keyword in settings:
        if keyword not in declared_keywords.OF_FUNCTIONS:
            raise InvalidDeclaration(
                f"Job {name!r} has {keyword!r}; known are "
                f"{', '.join(sorted(declared_keywords.OF_FUNCTIONS))}"
            )
    fields = declared_keywords.read(
        declared_keywords.OF_FUNCTIONS, {"schedule": "manual", **settings}, name
    )
    return Declaration(
        name=name,
        kind=cast(DeclaredKind, kinds[0].value),
        declared_in="admin",
        task=task,
        command=command or program,
        internal=internal,
        **fields,
    )


def get_job(name: str) -> Job | None:
    """Give a job by its name; None: there is none. The reference: `get_task_type`."""
    return Job.objects.filter(name=name).first()


def search_jobs(
    *,
    name: OneOrMany[str] | None = None,
    prefix: str = "",
    state: OneOrMany[StateOf] | None = None,
    kind: OneOrMany[str] | None = None,
    declared_in: OneOrMany[str] | None = None,
    circuit: OneOrMany[str] | None = None,
    fed: bool | None = None,
    order: str = "name",
    limit: int = ROWS,
    after: str | None = None,
) -> Page[Job]:
    """Give a page of the jobs for which all that is given holds. The reference: `get_task_types`.

    Orders: name, created_at; with a leading - descending. Raises InvalidRequest.
    """
    words("kind", kind, Kind.values)
    words("declared_in", declared_in, DeclaredIn.values)
    asked = among("name", name) & among("kind", kind) & among("declared_in", declared_in)
    asked &= among("circuit", circuit) & _of_states(words("state", state, STATES))
    if prefix:
        asked &= Q(name__startswith=prefix)
    if fed is not None:
        asked &= Q(feed__isnull=not fed)
    return page(Job.objects.filter(asked), order=order, orders=ORDERS, limit=limit, after=after)


def _of_states(states: Iterable[str] | None) -> Q:
    """Retired is retired, paused or not."""
    if states is None:
        return Q()
    conditions = {
        ACTIVE: Q(retired_at=None, paused_at=None),
        PAUSED: Q(retired_at=None, paused_at__isnull=False),
        RETIRED: Q(retired_at__isnull=False),
    }
    asked = Q(pk__in=())
    for state in states:
        asked |= conditions[state]
    return asked


def set_jobs(names: OneOrMany[str], state: StateOf, *, reason: str = "", by: str = BY) -> list[Job]:
    """Make jobs active, paused or retired; give those that this has changed, by name.

    Active: a pause ends and a retired job is put back; what it has missed is skipped. An unknown
    name is an error, and then nothing is changed; none at all does nothing. Raises InvalidRequest,
    UnknownJob. The reference has no such call; people edit its table.
    """
    words("state", state, STATES)
    jobs = list(jobs_named([names] if isinstance(names, str) else names).values())
    return [job for job in jobs if _set_job(job, state, reason=reason, by=by)]


def _set_job(job: Job, state: str, *, reason: str, by: str) -> bool:
    now = clock.now()
    if state == PAUSED:
        return runs.pause(job, by=by, reason=reason, now=now)
    if state == RETIRED:
        return runs.retire(job, now=now)
    revived = runs.revive(job, now=now)
    return runs.resume(job, by=by, now=now) or revived


def jobs_named(names: Iterable[str]) -> dict[str, Job]:
    """name -> job, by name. Raises UnknownJob, which names those that do not exist."""
    wanted = set(names)
    found = {job.name: job for job in Job.objects.filter(name__in=wanted).order_by("name")}
    missing = sorted(wanted - found.keys())
    if missing:
        raise UnknownJob(
            f"There is no job {', '.join(map(repr, missing))}; declare or register it first",
            names=missing,
        )
    return found
