"""Politeness towards those who come later than they were told, or never."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import pytest

from scheduling import redis
from tests.factories import make_job
from tests.integration.workers.polite_runs import a_run, polite, told
from tests.waiting import wait_for
from workers import politeness

pytestmark = pytest.mark.django_db(transaction=True)


@pytest.fixture
def job() -> Any:
    return make_job(overlap="allow")


def test_the_time_of_runs_that_never_come_passes(job: Any, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(politeness, "PATIENCE", timedelta(seconds=0.05))
    polite(job, per_second=20)
    for _ in range(30):
        told(a_run(job))
    client = redis.client()
    (expected,) = client.keys(f"{politeness.PREFIX}*:expected")
    wait_for(lambda: not client.exists(expected), timeout=5, message="all are overdue")
    assert told(a_run(job)) == 0


def test_who_comes_too_late_still_goes_before_those_who_asked_later(
    job: Any, monkeypatch: pytest.MonkeyPatch
) -> None:
    polite(job, per_second=0.5)
    late, begins, *others = (a_run(job) for _ in range(10))
    assert told(begins) == 0
    assert told(late) < told(others[0]) < told(others[1])
    client = redis.client()
    (expected,) = client.keys(f"{politeness.PREFIX}*:expected")
    client.zadd(expected, {f"{late.pk}/1": 1})
    monkeypatch.setattr(politeness, "PATIENCE", timedelta(0))
    # The one in front is not there, and does not count.
    assert told(others[2]) < 7
    assert told(late) <= 2.1


def test_one_call_takes_a_thousand_late_ones_out_of_the_line_and_nobody_waits_for_the_rest(
    job: Any,
) -> None:
    polite(job, per_second=1)
    told(a_run(job))
    waits = a_run(job)
    assert told(waits) > 0
    client = redis.client()
    (line,) = map(str, client.keys(f"{politeness.PREFIX}*:line"))
    expected, missed = (line.replace(":line", f":{name}") for name in ("expected", "missed"))
    ticket = client.zscore(line, f"{waits.pk}/1") or 0
    late = [f"late {number:04}" for number in range(3000)]
    client.zadd(line, {name: ticket - 3000 + number for number, name in enumerate(late)})
    client.zadd(expected, {name: 1 + number for number, name in enumerate(late)})
    for call in (1, 2, 3):
        assert told(a_run(job)) < 1.1 + call
        assert client.zcard(missed) == 1000 * call
        assert client.zcard(line) == 3001 - 1000 * call + call
    assert set(client.zrange(missed, 0, -1)) == set(late)
    assert 0 < client.ttl(missed) <= politeness.TICKETS_KEPT.total_seconds()


def test_a_late_one_of_which_the_line_knows_nothing_does_not_get_the_first_place(job: Any) -> None:
    polite(job, per_second=0.5)
    told(a_run(job))
    early, high, lost = a_run(job), a_run(job, priority=1), a_run(job)
    assert told(high) < told(early)
    client = redis.client()
    (expected,) = client.keys(f"{politeness.PREFIX}*:expected")
    client.zadd(expected, {f"{lost.pk}/1": 1})
    assert told(lost) > told(early) > told(high)
