"""Tasks delivered as a worker's child would: through Celery's own tracer, in this process."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from celery.app.trace import build_tracer

from config.celery import app
from scheduling.models import Run
from tests.integration.workers.externals import ROOT, Runner
from workers import intake, lease, locks, task, warm

HOST = "tester@here"

Deliver = Callable[..., Run]


@pytest.fixture(autouse=True)
def redis_was_never_away(monkeypatch: pytest.MonkeyPatch) -> None:
    """An outage that one test leaves behind would be an old story, not logged, to the next."""
    monkeypatch.setattr(locks, "_outage", locks.Outage())


@pytest.fixture(autouse=True)
def messages_may_be_taken(monkeypatch: pytest.MonkeyPatch) -> None:
    """A worker that one test has made present would be taken for cut off in the next."""
    monkeypatch.setattr(intake, "_answered_at", None)
    monkeypatch.setattr(intake, "_was_open", True)


@pytest.fixture
def deliver() -> Deliver:
    """Give a function that delivers the message of a run and returns the run as it is then."""

    def deliver(run: Run, *, attempt: int | None = None, name: str = "") -> Run:
        assert run.job is not None
        send(
            name or run.job.task,
            task_id=str(run.pk),
            jobs_run=[str(run.pk), attempt or run.attempt],
        )
        return Run.objects.get(pk=run.pk)

    return deliver


def send(name: str, *args: Any, task_id: str, **headers: Any) -> None:
    task.install(app)
    guarded = app.tasks[name]
    trace = build_tracer(name, guarded, app=app)
    request = {"id": task_id, "hostname": HOST, "delivery_info": {}, **headers}
    trace(task_id, list(args), {}, request)


@pytest.fixture(scope="session")
def warm_door() -> Iterator[warm.Door]:
    """A warm process for this one; started by the first run that asks for it."""
    # These three are what Django and our settings have put there.
    given = os.environ.keys() - {"TZ", "JOBS_VAR", "FLOWER_CONF"}
    door = warm.Door(lambda: {name: os.environ[name] for name in given}, ROOT)
    yield door
    door.close()


@pytest.fixture(params=["fresh", "warm"])
def way(request: pytest.FixtureRequest, monkeypatch: pytest.MonkeyPatch) -> str:
    """How shepherds are started."""
    if request.param == "warm":
        monkeypatch.setattr(warm, "_door", request.getfixturevalue("warm_door"))
    return str(request.param)


@pytest.fixture
def runner(way: str, tmp_path: Path) -> Runner:
    return Runner(tmp_path)


@pytest.fixture
def worker() -> str:
    return lease.worker_name(HOST)
