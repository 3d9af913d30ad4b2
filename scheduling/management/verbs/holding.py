"""pause, resume: everything, circuits, jobs, resources, or one target."""

from __future__ import annotations

from argparse import ArgumentParser, Namespace
from collections.abc import Sequence
from datetime import datetime

from scheduling import clock, runs
from scheduling.declarations import periodic
from scheduling.errors import UnknownTarget
from scheduling.management.verbs.base import (
    Answer,
    BadInput,
    Say,
    Verb,
    add_reason,
    find_job,
    moment,
    operator,
)
from scheduling.models import Circuit, Job, Resource, Target
from scheduling.policies import CatchUp


def scope_arguments(parser: ArgumentParser) -> None:
    scope = parser.add_mutually_exclusive_group(required=True)
    scope.add_argument("--all", action="store_true", help="everything")
    scope.add_argument("--circuit", action="append", metavar="CIRCUIT", help="may be repeated")
    scope.add_argument("--job", action="append", metavar="JOB", help="may be repeated")
    scope.add_argument("--resource", action="append", metavar="KEY", help="may be repeated")
    parser.add_argument("--key", help="only this target of the one --job")


def pause_arguments(parser: ArgumentParser) -> None:
    scope_arguments(parser)
    add_reason(parser, help="shown wherever the pause is")
    parser.add_argument("--until", type=moment, metavar="ISO", help="default: until resumed")


def resume_arguments(parser: ArgumentParser) -> None:
    scope_arguments(parser)
    parser.add_argument(
        "--missed",
        choices=[member.value for member in CatchUp],
        default=CatchUp.NONE.value,
        help="what to run of the fires that were missed (default: %(default)s)",
    )


def scopes(options: Namespace) -> Sequence[runs.Scope]:
    """Find all that is named before anything is changed."""
    if options.key is not None and options.job is None:
        raise BadInput("--key names a target of a --job; drop it, or the other scope")
    if options.all:
        return [runs.installation()]
    if options.circuit:
        return [find_circuit(name) for name in dict.fromkeys(options.circuit)]
    if options.resource:
        return [find_resource(key) for key in dict.fromkeys(options.resource)]
    jobs = [find_job(name) for name in dict.fromkeys(options.job)]
    if options.key is None:
        return jobs
    if len(jobs) > 1:
        raise BadInput("--key names a target of one job; give a single --job")
    target = Target.objects.select_related("job").filter(job=jobs[0], key=options.key).first()
    if target is None:
        raise UnknownTarget(f"Job {jobs[0].name!r} has no target with the key {options.key!r}")
    return [target]


def find_circuit(name: str) -> Circuit:
    circuit = Circuit.objects.filter(name=name).first()
    if circuit is None:
        known = ", ".join(Circuit.objects.values_list("name", flat=True)[:20]) or "none"
        raise BadInput(f"There is no circuit {name!r}; known: {known}")
    return circuit


def find_resource(key: str) -> Resource:
    resource = Resource.objects.filter(key=key).first()
    if resource is None:
        raise BadInput(f"There is no resource {key!r}; correct the key")
    return resource


def pause(options: Namespace, say: Say) -> Answer:
    now = clock.now()
    if options.until is not None and options.until <= now:
        raise BadInput(f"--until {options.until.isoformat()} has passed; give a time to come")
    found = scopes(options)
    changed = sum(
        runs.pause(scope, by=operator(), reason=options.reason, until=options.until, now=now)
        for scope in found
    )
    left = len(found) - changed
    already = f"; paused already, and left as it was: {left}" if left else ""
    return Answer(data={"changed": changed}, text=f"Paused: {changed}{already}")


def resume(options: Namespace, say: Say) -> Answer:
    now, missed = clock.now(), CatchUp(options.missed)
    changed = sum(resume_scope(scope, missed=missed, now=now) for scope in scopes(options))
    return Answer(data={"changed": changed}, text=f"Resumed: {changed}")


def resume_scope(scope: runs.Scope, *, missed: CatchUp, now: datetime) -> bool:
    # The row of a job would pause it again.
    if isinstance(scope, Job) and periodic.enable_row(scope, missed=missed, by=operator(), now=now):
        return True
    return runs.resume(scope, missed=missed, by=operator(), now=now)


VERBS = (
    Verb("pause", "fire no more until resumed", pause_arguments, pause),
    Verb("resume", "fire again", resume_arguments, resume),
)
