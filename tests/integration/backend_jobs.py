"""The jobs, targets and runs of the tests of the backend."""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import Any

import pytest

from scheduling import backend, clock
from scheduling.models import Job, Run

SECOND = timedelta(seconds=1)
HOUR = timedelta(hours=1)


def registered(name: str = "load", **settings: Any) -> Job:
    """A job whose runs may run side by side; others execute it, so no beat is in the way."""
    settings.setdefault("overlap", "allow")
    return backend.register_job(name, task="tests.testapp.jobs.note", **settings)


def one_offs(number: int, **fields: Any) -> list[backend.NewRun]:
    return [backend.NewRun(job="load", kwargs={"number": n}, **fields) for n in range(number)]


def one_off(**fields: Any) -> Run:
    fields.setdefault("job", "load")
    return backend.create_runs([backend.NewRun(**fields)])[0]


def started(**fields: Any) -> Run:
    run = backend.start_run(one_off(**fields).pk)
    assert run is not None
    return run


def set_time(monkeypatch: pytest.MonkeyPatch, moment: datetime) -> None:
    monkeypatch.setattr(clock, "now", lambda: moment)
