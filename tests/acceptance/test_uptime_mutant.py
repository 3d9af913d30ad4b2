"""The uptime example at work: a few hundred endpoints of a file, on hosts that count visits."""

from __future__ import annotations

import logging
from bisect import bisect_left
from collections.abc import Iterator
from datetime import timedelta

import pytest
from django.db.models import Max, Min

from examples.uptime.models import Endpoint
from scheduling import runs
from scheduling.models import Job, Run, Target
from tests.acceptance.hosts import Hosts
from tests.acceptance.rig import Rig, now
from tests.waiting import wait_for

logger = logging.getLogger(__name__)
pytestmark = pytest.mark.acceptance

HOSTS = 30
STEADY, CHANGING, SLOW = 7, 2, 10  # on each of 27 hosts, on each of two, on one
AT_ONCE, PER_SECOND = 2, 2
MOMENT = 1.0  # seconds from a worker's yes to the request, on a busy machine
OFTEN = 6  # visits


def lines(port: int) -> Iterator[str]:
    yield "name,address"
    for host in range(1, HOSTS + 1):
        kind, count = "steady", STEADY
        if host == HOSTS:
            kind, count = "slow", SLOW
        elif host > HOSTS - 3:
            kind, count = "changing", CHANGING
        for number in range(count):
            name = f"{kind}/{host}/{number}"
            yield f"{name},http://127.0.0.{host}:{port}/{name}"


def check_rate(starts: list[float]) -> None:
    """Check that in no stretch of time more requests have begun than may, and one."""
    for span in (1, 3, 10):
        most = max(bisect_left(starts, begin + span) - place for place, begin in enumerate(starts))
        assert most <= PER_SECOND * (span + MOMENT) + 1, f"{most} in {span} s"


def test_hundreds_of_endpoints_are_checked_politely_and_as_often_as_they_change(rig: Rig) -> None:
    file = rig.folder / "endpoints.csv"
    rig.environ |= {
        "DJANGO_SETTINGS_MODULE": "tests.acceptance.uptime_settings",
        "UPTIME_ENDPOINTS": str(file),
    }
    rig.manage("migrate", "--verbosity", "0")
    Job.objects.filter(name="check_inventory").update(polite=None)
    with Hosts(HOSTS) as hosts:
        named = list(lines(hosts.port))
        file.write_text("\n".join(named), encoding="utf-8")
        total = len(named) - 1
        runs.trigger(Job.objects.get(name="inventory.full"), by="a test", now=now())
        rig.beat()
        rig.worker(concurrency=6)
        wait_for(
            lambda: len(hosts.visits) == total,
            timeout=90,
            message=lambda: f"{len(hosts.visits)} of {total}: {list(Run.objects.open()[:5])}",
        )
        changing = [path for path in hosts.visits if path.startswith("/changing")]
        wait_for(
            lambda: min(hosts.visits[path] for path in changing) >= OFTEN,
            timeout=90,
            message=lambda: hosts.visits.most_common(8),
        )
        rig.stop()
    steady = [count for path, count in hosts.visits.items() if path.startswith("/steady")]
    logger.info("Visits of what changes: %d, of the rest at most %d", OFTEN, max(steady))
    assert max(steady) < OFTEN
    # The server is the oracle: the slow host was pressed as hard as allowed, and no host harder.
    assert hosts.most_at_once[f"127.0.0.{HOSTS}"] == AT_ONCE
    assert max(hosts.most_at_once.values()) == AT_ONCE
    for starts in hosts.starts.values():
        check_rate(starts)

    found = Target.objects.filter(job__name="check_inventory", observed_at__isnull=False)
    sooner = found.filter(key__startswith="changing").aggregate(most=Max("interval"))["most"]
    later = found.filter(key__startswith="steady").aggregate(least=Min("interval"))["least"]
    assert sooner == timedelta(seconds=1)
    assert later >= timedelta(seconds=8)
    assert not Endpoint.objects.exclude(is_up=True).exists()
