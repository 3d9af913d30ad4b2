from __future__ import annotations

import os
from datetime import timedelta
from typing import Any

import pytest
from django.db import OperationalError

from scheduling import clock
from scheduling.models import Process, Reason, Run, State
from tests.factories import make_run
from tests.waiting import wait_for
from workers.presence import Presence

pytestmark = pytest.mark.django_db(transaction=True)


@pytest.fixture(autouse=True)
def quick(settings: Any) -> None:
    settings.JOBS_LEASE_RENEWAL = timedelta(seconds=0.05)


def test_a_worker_has_a_row_from_its_start_to_its_clean_stop() -> None:
    presence = Presence("w@x", {"queues": ["celery"], "concurrency": 2})
    presence.start()
    wait_for(Process.objects.filter(name="w@x").exists)
    row = Process.objects.get()
    assert (row.kind, row.detail["queues"], row.detail["concurrency"]) == ("worker", ["celery"], 2)
    assert abs(row.detail["clock_skew"]) < 5
    wait_for(lambda: Process.objects.get().seen_at > row.seen_at)
    assert Process.objects.get().started_at == row.started_at
    presence.stop()
    assert not Process.objects.exists()


def test_it_survives_an_outage(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    presence = Presence("w@x", {})
    write = presence.write
    failures: list[int] = []

    def flaky() -> None:
        if len(failures) < 3:
            failures.append(1)
            raise OperationalError("gone")
        write()

    monkeypatch.setattr(presence, "write", flaky)
    presence.start()
    wait_for(Process.objects.exists)
    presence.stop()
    assert caplog.text.count("not recorded") == 1


def test_a_stopping_worker_leaves_the_row_of_its_successor() -> None:
    presence = Presence("w@x", {})
    presence.write()
    Process.objects.update(pid=1)
    presence.delete()
    assert Process.objects.exists()


def test_a_worker_that_was_ended_at_once_says_which_runs_are_lost() -> None:
    presence = Presence("w@x", {})
    presence.write()
    now = clock.now()
    begun: dict[str, Any] = {"state": State.RUNNING, "started_at": now, "lease_until": now}
    cut_short = make_run(worker="w@x/123", **begun)
    others = [
        make_run(worker="v@x/123", **begun),
        # Of a thread of this process, which has ended only when that has.
        make_run(worker=f"w@x/{os.getpid()}", **begun),
        # Of a worker of that name before this one.
        make_run(worker="w@x/122", **begun | {"started_at": now - timedelta(hours=1)}),
    ]
    presence.leave(os.getpid())
    assert Run.objects.get(reason=Reason.LOST) == cut_short
    assert Run.objects.running().count() == len(others)
    # It is missed, and what it had taken off the broker is published again.
    assert Process.objects.exists()


def test_a_process_that_was_forked_from_a_worker_says_nothing_of_it() -> None:
    presence = Presence("w@x", {})
    presence.write()
    now = clock.now()
    make_run(worker="w@x/123", state=State.RUNNING, started_at=now, lease_until=now)
    presence.leave(1)
    assert Run.objects.running().exists()
