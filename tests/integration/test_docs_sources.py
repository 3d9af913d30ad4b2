"""The examples of docs/sources.md do what the page says."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from celery import current_app

from scheduling import clock, sync
from scheduling.models import Job, Source, Target
from scheduling.registry import registry
from scheduling.sources import sources
from tests.integration.cli import jobs
from tests.unit.test_docs import examples_of, load

pytestmark = pytest.mark.django_db(transaction=True)


@pytest.fixture(autouse=True)
def declared(transactional_db: None) -> Iterator[None]:
    """What the examples declare; it goes away again."""
    before, tasks = dict(registry._by_name), set(current_app.tasks)
    named = dict(sources._by_name)
    for code in examples_of("docs/sources.md"):
        load(code)
    sync.sync(now=clock.now())
    yield
    registry._by_name, sources._by_name = before, named
    for name in set(current_app.tasks) - tasks:
        current_app.tasks.pop(name)


def test_the_source_of_the_page_gives_its_job_targets() -> None:
    told = jobs("run", "shops.full", "--json").document()
    assert (told["state"], told["outcome"]) == ("succeeded", "changed")
    assert "2 named, 2 new" in told["output"]
    north, south = Target.objects.filter(job__name="check_shop").order_by("key")
    assert (north.kwargs, north.paused_at) == ({"depth": 2}, None)
    assert north.next_fire_at is not None
    assert south.paused_by == "source shops"


def test_all_examples_are_sources() -> None:
    made = Source.objects.exclude(name="inventory").values_list("name", flat=True)
    assert set(made) == {"shops", "customers", "partners", "archives", "registry"}
    assert Job.objects.filter(name="customers.incremental").exists()
    assert not Job.objects.filter(name="partners.incremental").exists()
