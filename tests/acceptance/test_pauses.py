"""Pause and resume with each choice in each scope, counted by the oracle."""

from __future__ import annotations

from datetime import datetime, timedelta

import pytest

from scheduling import runs
from scheduling.models import Circuit, Resource, Run, Target
from scheduling.policies import CatchUp
from tests.acceptance.rig import Rig, add_job, every_second, now
from tests.waiting import wait_for

pytestmark = pytest.mark.acceptance

NARROW = ("circuit", "job", "resource", "target")


def test_each_scope_resumes_as_it_was_chosen(rig: Rig) -> None:
    check_scopes(rig, list(CatchUp))


def test_so_it_does_on_sqlite(embedded_rig: Rig) -> None:
    check_scopes(embedded_rig, [CatchUp.ALL])


def check_scopes(rig: Rig, choices: list[CatchUp]) -> None:
    """First everything is paused, once for each choice; then each narrower scope, side by side."""
    begun: dict[Target, datetime] = {}
    targets = {(kind, choice): make(kind, choice, begun) for kind in NARROW for choice in choices}
    rig.beat()
    rig.worker(concurrency=4)
    wait_for(
        lambda: {line.job for line in rig.lines("end")} == {str(t.job) for t in targets.values()},
        timeout=60,
        message="every job has run",
    )
    for choice in choices:
        paused, resumed = hold([runs.installation()], list(targets.values()), [choice])
        for target in targets.values():
            check(rig, target, choice, paused, resumed)
    scopes = [scope(kind, target) for (kind, _), target in targets.items()]
    paused, resumed = hold(scopes, list(targets.values()), [choice for _, choice in targets])
    for (_, choice), target in targets.items():
        check(rig, target, choice, paused, resumed)

    ends = {target: rig.end(target.job) for target in targets.values()}
    rig.wait_for_ends(timeout=60)
    for target, end in ends.items():
        rig.check_fires(target, every_second(begun[target], end))
    rig.check_oracle()


def make(kind: str, choice: CatchUp, begun: dict[Target, datetime]) -> Target:
    """Make a job of every second in a circuit, with a resource, of its own; note when."""
    name = f"{kind} {choice}"
    circuit = Circuit.objects.create(name=name)
    resource = Resource.objects.create(key=name)
    # Waiting, so that a slow machine loses no fire to the overlap.
    job = add_job(name, schedule="every 1s", overlap="queue", circuit=circuit)
    at = now()
    target = runs.add_target(job, "one", resource=resource, now=at)
    begun[target] = at
    return target


def scope(kind: str, target: Target) -> runs.Scope:
    if kind == "circuit":
        return Circuit.objects.get(name=target.job.name)
    if kind == "resource":
        return Resource.objects.get(key=target.job.name)
    return target.job if kind == "job" else target


def hold(
    scopes: list[runs.Scope], targets: list[Target], choices: list[CatchUp]
) -> tuple[datetime, datetime]:
    """Pause, wait until at least two fires were missed, resume; give the two moments."""
    for each in scopes:
        assert runs.pause(each, by="ann", reason="works", now=now())
    paused = now()
    wait_for(
        lambda: not Target.objects.filter(pk__in=[t.pk for t in targets], parked="").exists(),
        timeout=30,
        message="all are parked",
    )
    cursors = Target.objects.values_list("parked_cursor", flat=True)
    first = max(cursor for cursor in cursors if cursor is not None)
    wait_for(
        lambda: now() > first + timedelta(seconds=2), timeout=10, message="two more are missed"
    )
    resumed = now()
    for each, choice in zip(scopes, choices, strict=True):
        assert runs.resume(each, missed=choice, by="ann", now=resumed)
    return paused, resumed


def check(rig: Rig, target: Target, choice: CatchUp, paused: datetime, resumed: datetime) -> None:
    """Of the fires in (paused, resumed] exactly those run that were chosen."""
    missed = every_second(paused, resumed)
    chosen = {CatchUp.NONE: [], CatchUp.LATEST: missed[-1:], CatchUp.ALL: missed}[choice]
    wait_for(
        lambda: set(map(datetime.isoformat, chosen)) <= times_told(rig, target),
        timeout=60,
        message=f"{target}: what was missed has run",
    )
    told = times_told(rig, target)
    assert [fire for fire in missed if fire.isoformat() in told] == chosen
    # A row may begin with a fire of just before the pause, which the beat has met in it.
    within = Run.objects.filter(target=target, state="skipped", scheduled_at__lte=resumed).exclude(
        scheduled_at__lte=paused, scheduled_until=None
    )
    skipped = {
        fire
        for row in within
        for fire in every_second(
            row.scheduled_at - timedelta.resolution, row.scheduled_until or row.scheduled_at
        )
    }
    later = [row for row in within if (row.scheduled_until or row.scheduled_at) > paused]
    assert [fire for fire in missed if fire in skipped] == [f for f in missed if f not in chosen]
    assert {row.reason for row in later} <= {"paused"}


def times_told(rig: Rig, target: Target) -> set[str]:
    return {line.scheduled_at for line in rig.lines("end", target.job.name)}
