"""A circuit, its members, and their failures, for the tests of circuits."""

from __future__ import annotations

from datetime import datetime, timedelta

from django.db.models import Sum

from scheduling import runs
from scheduling.models import Cause, Circuit, Notification, Reason, Run, State, Target
from scheduling.runs import Result
from tests.factories import NOW, make_job, make_target

SECOND = timedelta(seconds=1)
MINUTE = timedelta(minutes=1)


def member(name: str, schedule: str = "every 1m", **fields: object) -> Target:
    job = make_job(name, schedule=schedule, circuit_id="edge", **fields)
    return make_target(job, next_fire_at=NOW)


def claim(now: datetime) -> list[Run]:
    return runs.claim(now=now, limit=100).runs


def recover(now: datetime) -> None:
    runs.recover(now=now, reap=False)


def end(run: Run, now: datetime, *, state: State = State.FAILED, reason: str = "error") -> None:
    started = runs.start(run.pk, run.attempt, worker="w", now=now)
    assert started is not None
    result = Result(state=state, reason=Reason(reason) if state == State.FAILED else None)
    assert runs.finish(run.pk, run.attempt, token=started.token, result=result, now=now)


def fail(name: str, now: datetime) -> None:
    [run] = [run for run in claim(now) if run.name == name]
    end(run, now)


def is_open() -> bool:
    return Circuit.objects.get().is_open


def events() -> list[str]:
    told = Notification.objects.filter(circuit__isnull=False).order_by("pk")
    return list(told.values_list("event", flat=True))


def accounted(target: Target) -> int:
    rows = Run.objects.filter(target=target, cause__in=(Cause.SCHEDULE, Cause.CATCH_UP))
    return int(rows.aggregate(Sum("fires"))["fires__sum"] or 0)
