from __future__ import annotations

from datetime import timedelta
from typing import Any

import pytest
from django.db import OperationalError

from scheduling.models import Process
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
