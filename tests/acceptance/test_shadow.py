"""Beside the stock scheduler: what it fires is seen, what it misses is named, nothing twice."""

from __future__ import annotations

import logging
from datetime import datetime, timedelta
from itertools import pairwise
from typing import Any

import pytest
from django_celery_beat.models import PeriodicTask

from scheduling.models import Run, Target
from tests.acceptance.rig import Rig, now
from tests.acceptance.test_periodic_tasks import STOCK, add_row, every
from tests.integration.cli import jobs
from tests.waiting import wait_for

logger = logging.getLogger(__name__)
pytestmark = pytest.mark.acceptance

INTERVALS = {"three": 3, "five": 5}
SECOND = timedelta(seconds=1)
# Above half of each interval: then every fire belongs to the due moment that is nearest.
TOLERANCE = "4s"
DEAD_FOR = 11


def fires(name: str) -> list[datetime]:
    rows = Run.objects.filter(cause="foreign", key=name)
    return sorted(rows.values_list("scheduled_at", flat=True))


def wait_for_fires(number: int) -> None:
    """Wait for so many more fires of each row."""
    goals = {name: len(fires(name)) + number for name in INTERVALS}
    wait_for(
        lambda: all(len(fires(name)) >= goal for name, goal in goals.items()),
        timeout=60,
        interval=0.1,
        message=lambda: f"{goals}, and there are { {name: fires(name) for name in goals} }",
    )


def compare(after: datetime, until: datetime) -> dict[str, Any]:
    told = jobs(
        *("shadow", "--json", "--tolerance", TOLERANCE),
        *("--from", after.isoformat(), "--to", until.isoformat()),
    )
    document = told.document()
    assert isinstance(document, dict)
    assert told.code == (1 if document["differences"] else 0)
    return document


def test_shadow_mode_names_exactly_what_the_stock_scheduler_missed(rig: Rig) -> None:
    check_shadow_mode(rig)


@pytest.mark.soak
def test_so_it_does_on_sqlite(embedded_rig: Rig) -> None:
    check_shadow_mode(embedded_rig)


def check_shadow_mode(rig: Rig) -> None:
    rig.environ["JOBS_TEST_SHADOW"] = "1"
    for name, seconds in INTERVALS.items():
        add_row(name, interval=every(seconds))
    as_added = list(PeriodicTask.objects.order_by("pk").values())
    shadow, worker = rig.beat("shadow"), rig.worker()
    # Alone, it lets fires pass, and nothing of them is to be seen anywhere.
    begun = now()
    wait_for(
        lambda: not Target.objects.filter(next_fire_at__lte=begun + 6 * SECOND).exists(),
        timeout=30,
        message="two fires have passed",
    )
    assert shadow.says("SHADOW MODE")
    assert (rig.lines(), rig.messages(), Run.objects.count()) == ([], 0, 0)
    assert list(PeriodicTask.objects.order_by("pk").values()) == as_added

    stock = rig.beat("stock", scheduler=STOCK)
    wait_for_fires(1)
    after = now()
    wait_for_fires(3)
    stock.kill()
    killed = now()
    rig.wait_until(killed + DEAD_FOR * SECOND)
    before = compare(after, max(fires(name)[-1] for name in INTERVALS))
    logger.info("Before: %s", before)
    assert before["differences"] == 0

    stock = rig.beat("stock-again", scheduler=STOCK)
    wait_for_fires(3)
    until = max(fires(name)[-1] for name in INTERVALS)
    rig.wait_until(now() + 5 * SECOND)
    found = compare(after, until)
    logger.info("After: %s", found)
    compared = [each for each in found["jobs"] if each["name"] in INTERVALS]
    assert len(compared) == len(INTERVALS)
    for each in compared:
        interval = INTERVALS[each["name"]] * SECOND
        assert each["extra"] == []
        # By what was seen alone: an interval after each fire, up to the nearest to the next.
        expected = [
            earlier + interval * k
            for earlier, later in pairwise(fires(each["name"]))
            for k in range(1, round((later - earlier) / interval))
        ]
        missing = [datetime.fromisoformat(moment) for moment in each["missing"]]
        assert missing == [moment for moment in expected if after < moment <= until]
        after_kill = [moment for moment in missing if moment > killed]
        assert len(after_kill) >= round(DEAD_FOR * SECOND / interval) - 1
    assert Run.objects.exclude(cause="foreign").count() == 0
    rig.check_oracle_of_foreign()

    # Taking over, cleanly.
    for process in (shadow, stock, worker):
        process.stop()
    rig.environ["JOBS_TEST_SHADOW"] = ""
    seen = {str(pk) for pk in Run.objects.values_list("pk", flat=True)}
    # A worker that is told to stop may leave to the next what it has received last.
    assert {line.run for line in rig.lines("start")} <= seen
    rig.worker("worker-again")
    rig.beat("ours")
    for name in INTERVALS:
        already = len(rig.lines("end", name))
        wait_for(
            lambda: len(rig.lines("end", name)) >= already + 3,  # noqa: B023
            timeout=60,
            message=f"three fires of {name} by Beatkeeper",
        )
        ours = Run.objects.filter(job__name=name).order_by("scheduled_at")
        times = [fires(name)[-1], *ours.values_list("scheduled_at", flat=True)]
        gaps = [later - earlier for earlier, later in pairwise(times)]
        logger.info("Between the last fire of stock beat and those of ours: %s", gaps)
        # Ours are at whole seconds.
        assert min(gaps) > (INTERVALS[name] - 1) * SECOND, "something was repeated"
    rig.check_oracle_of_foreign()
