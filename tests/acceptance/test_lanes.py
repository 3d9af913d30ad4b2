"""Lanes: what comes later in a higher lane starts before what waits on the broker already."""

from __future__ import annotations

import pytest
from django.db import transaction

from scheduling import runs
from scheduling.models import Run
from tests.acceptance.rig import Rig, add_job, now, trigger
from tests.waiting import wait_for

pytestmark = pytest.mark.acceptance

HOLD = "tests.testapp.jobs.hold"


def test_a_high_lane_overtakes_what_is_queued_already(either_rig: Rig) -> None:
    rig = either_rig
    go = rig.folder / "go"
    rig.beat()
    rig.worker(concurrency=1)
    trigger(add_job("holding", task=HOLD, kwargs={"until": str(go)}))
    wait_for(lambda: rig.lines("start", "holding"), timeout=60, message="the worker is busy")
    notes = add_job("notes", overlap="allow")
    runs.adopt(notes, now=now())

    def add(*lanes: int | None) -> list[str]:
        added = []
        for lane in lanes:
            with transaction.atomic():
                run = runs.trigger(notes, by="a test", now=now())
                Run.objects.filter(pk=run.pk).update(priority=lane)
            added.append(str(run.pk))
        unpublished = Run.objects.filter(pk__in=added, published_at=None)
        wait_for(lambda: not unpublished.exists(), timeout=20, message="they are published")
        return added

    first, second, third = add(None, None, None)
    low, high, middle = add(3, 1, 2)
    (high_too,) = add(1)
    assert rig.messages() == 7
    go.touch()
    wait_for(lambda: not Run.objects.open().exists(), timeout=30, message="all have ended")
    assert [line.run for line in rig.lines("start", "notes")] == [
        high,
        high_too,
        middle,
        low,
        first,
        second,
        third,
    ]
    rig.check_oracle()
