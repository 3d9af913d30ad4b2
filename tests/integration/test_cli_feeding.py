"""`jobs select` and `jobs feeding`."""

from __future__ import annotations

from datetime import timedelta

import pytest

from scheduling.feeds import (
    EXPRESS,
    OLDEST_SCHEDULED,
    STALEST,
)
from scheduling.models import (
    Run,
)
from tests.factories import NOW, make_job, make_target
from tests.integration.cli import jobs
from tests.integration.fed_jobs import fed_job, feed, pooled, waiting

pytestmark = pytest.mark.django_db
DAY = timedelta(days=1)


def test_a_person_can_ask_what_a_strategy_would_pick() -> None:
    job = fed_job("crawl")
    pooled(job, 3)
    make_target(job, "cooling", last_scheduled_at=NOW, eligible_at=NOW + DAY)
    words = ("select", "crawl", "--strategy", OLDEST_SCHEDULED, "--dry-run", "--json")
    assert jobs(*words, "--count", "2").document() == [
        {"job": "crawl", "key": key, "strategy": OLDEST_SCHEDULED} for key in ("000", "001")
    ]
    assert len(jobs(*words, "--cooldowns", "absolute=,in_flight=").document()) == 4
    assert not Run.objects.exists()
    (picked,) = jobs(*words[:4], "--count", "1", "--json").document()
    assert picked["run"] == str(Run.objects.get().pk)


@pytest.mark.parametrize(
    ("words", "said"),
    [
        (("craw", "--strategy", STALEST), "did you mean 'crawl'"),
        (("plain", "--strategy", STALEST), "is not fed"),
        (("crawl", "--strategy", "newest"), "no strategy 'newest'"),
        (("crawl", "--strategy", STALEST, "--cooldowns", "failed=soon"), "soon"),
        (("crawl", "--strategy", STALEST, "--cooldowns", "often=1h"), "'often'"),
        (("crawl", "--strategy", EXPRESS, "--source", "nobody"), "No source is named 'nobody'"),
        (("crawl", "--strategy", STALEST, "--at", "2026-01-01T00:00:00Z"), "--dry-run"),
    ],
)
def test_what_cannot_be_selected_is_named(words: tuple[str, ...], said: str) -> None:
    fed_job("crawl")
    make_job("plain")
    told = jobs("select", *words, "--json")
    assert told.code == 2
    assert said in told.document()["error"]


def test_how_fed_jobs_stand_can_be_asked() -> None:
    job = fed_job("crawl", max_queue_length=3)
    pooled(job, 5)
    waiting(job, "urgent", 1, NOW + DAY)
    feed(job)
    (row,) = jobs("feeding", "crawl", "--json").document()
    # What has an open run, waiting or not, is in flight.
    assert (row["job"], row["open"], row["waiting"], row["lanes"]) == ("crawl", 3, 1, {"1": 1})
    assert (row["eligible"], row["cooling"], row["max_queue_length"]) == (2, 4, 3)
    assert row["last_round"]["picked"] == {OLDEST_SCHEDULED: 3}
