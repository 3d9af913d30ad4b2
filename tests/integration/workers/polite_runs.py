"""Runs of a polite job, and what politeness says to them."""

from __future__ import annotations

from itertools import count
from typing import Any

from scheduling import redis
from scheduling.feeds import Polite
from scheduling.models import Run
from tests.factories import make_run, make_target
from workers import politeness
from workers.politeness import Turn, turn_of

_number = count(1)
HOST = "shop.example.org"


def polite(job: Any, **limits: Any) -> None:
    job.polite = Polite(**limits).as_json()
    job.save(update_fields=["polite"])


def a_run(job: Any, key: str = "", **fields: Any) -> Run:
    key = key or f"https://{HOST}/{next(_number)}"
    return make_run(make_target(job, key), **fields)


def turn(run: Run) -> Turn:
    found = turn_of(Run.objects.select_related("job", "target__resource").get(pk=run.pk))
    assert found is not None
    return found


def told(run: Run) -> float:
    """In how many seconds a run is told to come again; 0: it begins."""
    wait = turn(run)._take()
    return 0.0 if wait is None else wait.total_seconds()


def holders() -> set[str]:
    client = redis.client()
    return {
        str(run)
        for key in client.keys(f"{politeness.PREFIX}*:holders")
        for run in client.zrange(key, 0, -1)
    }
