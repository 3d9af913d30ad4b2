"""Which runs share a message."""

from __future__ import annotations

from typing import Any
from uuid import uuid4

import pytest

from scheduling.batching import bundles, is_batched
from scheduling.models import Job, Run


def make(job: Job, **fields: Any) -> Run:
    return Run(pk=uuid4(), job=job, name=job.name, **fields)


def job(pk: int = 1, **fields: Any) -> Job:
    return Job(pk=pk, name=f"job {pk}", **{"kind": "task", "task": "t", "batch": 2, **fields})


def test_runs_of_a_job_share_messages_of_at_most_its_batch() -> None:
    rows = [make(job()) for _ in range(5)]
    assert bundles(rows) == [rows[:2], rows[2:4], rows[4:]]


def test_messages_go_out_in_the_order_of_their_first_runs() -> None:
    one, other, single = job(), job(2), job(3, batch=1)
    a, b, c, d, e = (make(each) for each in (one, other, single, other, one))
    assert bundles([a, b, c, d, e]) == [[a, e], [b, d], [c]]


@pytest.mark.parametrize(
    "differs", [{"queue": "q"}, {"priority": 1}, {"strategy": "express"}], ids=str
)
def test_what_goes_elsewhere_has_a_message_of_its_own(differs: dict[str, Any]) -> None:
    a, b = make(job()), make(job(), **differs)
    assert bundles([a, b]) == [[a], [b]]


def test_what_was_lost_goes_alone() -> None:
    a, b, c = make(job()), make(job(), losses=1), make(job())
    assert bundles([a, b, c]) == [[a, c], [b]]


@pytest.mark.parametrize(
    "fields",
    [
        {"batch": 1},
        {"kind": "command", "command": "c"},
        {"declared_in": "periodic_task"},
        {"declared_in": "settings"},
        {"locks": ["db"]},
        {"polite": {"by": "host"}},
        {"schedule": "always"},
    ],
    ids=str,
)
def test_jobs_that_take_their_runs_one_by_one(fields: dict[str, Any]) -> None:
    assert is_batched(job())
    assert not is_batched(job(**fields))


def test_serial_runs_share_nothing(settings: Any) -> None:
    settings.JOBS_SERIAL = True
    assert not is_batched(job())
