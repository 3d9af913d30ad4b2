"""What others do while a source is listed, and what is written in groups."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from django.db import connection
from django.test import override_settings
from django.test.utils import CaptureQueriesContext

from scheduling import Named, clock, runs
from scheduling.models import Listing, Resource, Source, State, Target
from scheduling.runs import Recorded, naming, vanishing
from scheduling.runs import listing as places
from scheduling.runs.vanishing import end_listing
from tests.factories import NOW, make_job, make_target
from tests.integration.naming import (
    Dies,
    keys,
    lists,
    make_fed_job,
    make_source,
    names,
    numbered,
    target,
)
from tests.integration.rivals import needs_row_locks, side_by_side

pytestmark = pytest.mark.django_db


# --- what is named meanwhile ----------------------------------------------------------------------


def test_what_a_listing_has_named_stays_though_somebody_else_names_it_by_an_older_source() -> None:
    source = make_source()
    lists(source, names("a", "b", "c"))
    held = runs.source_named("customers")
    place = places.begin_listing(source, full=True, now=NOW)
    place = places.record_page(place, names("a", "b", "c"), now=NOW)
    runs.record(held, names("a"), now=NOW)
    assert end_listing(place, now=NOW).gone == 0
    assert keys(retired_at=None) == ["a", "b", "c"]


def test_being_named_never_makes_a_listing_older() -> None:
    source = make_source()
    runs.record(source, names("a"), now=NOW)
    Listing.objects.update(seen_in=9)
    runs.record(source, names("a"), now=NOW)
    assert Listing.objects.get().seen_in == 9


def test_what_is_named_between_the_look_and_the_lock_does_not_go(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    source = make_source()
    lists(source, names("a", "b", "c"))
    place = places.begin_listing(source, full=True, now=NOW)
    place = places.record_page(place, names("b", "c"), now=NOW)
    whole = vanishing._lock_unnamed

    def first_named(*args: Any, **kwargs: Any) -> Any:
        runs.record(source, names("a"), now=NOW)
        return whole(*args, **kwargs)

    monkeypatch.setattr(vanishing, "_lock_unnamed", first_named)
    assert end_listing(place, now=NOW).gone == 0
    assert target("a").retired_at is None
    found = Listing.objects.get(resource__key="a")
    assert (found.missed, found.gone_at) == (0, None)


@needs_row_locks
@pytest.mark.django_db(transaction=True)
@override_settings(JOBS_LIST_BATCH=7, JOBS_VANISH_LIMIT=1.0)
def test_what_is_named_while_it_is_let_go_is_back_or_stays() -> None:
    source = make_source()
    for _ in range(3):
        lists(source, numbered(60))
        place = places.begin_listing(source, full=True, now=clock.now())
        place = places.record_page(place, numbered(10), now=clock.now())
        named = numbered(60)[::-1]
        side_by_side(
            lambda place=place: end_listing(place, now=clock.now()),  # type: ignore[misc]
            lambda named=named: runs.record(source, named, now=clock.now()),  # type: ignore[misc]
        )
        assert keys(retired_at=None) == sorted(item.key for item in named)
        assert Listing.objects.filter(gone_at=None).count() == 60


@pytest.mark.parametrize("missed", [32_766, 32_767])
def test_what_is_kept_for_ever_is_counted_up_to_what_the_column_takes(missed: int) -> None:
    source = make_source()
    lists(source, names("a"))
    Listing.objects.update(missed=missed)
    assert lists(source, [], vanish="keep").state == State.SUCCEEDED
    assert Listing.objects.get().missed == 32_767


# --- targets whose resource is another ------------------------------------------------------------


def test_a_target_with_a_resource_of_its_own_goes_on_when_its_source_is_made_live() -> None:
    source = make_source(is_trial=True)
    make_target(source.jobs.get(), "a", resource="shared")
    runs.record(source, names("a"), now=NOW)
    assert target("a").paused_by == "source customers"
    runs.set_trial(source, is_trial=False, by="ann", now=NOW)
    found = target("a")
    assert (found.paused_at, found.eligible_since) == (None, NOW)
    assert found.resource == Resource.objects.get(key="shared")


def test_a_target_is_not_picked_while_the_resource_of_its_own_is_paused() -> None:
    source = make_source()
    made = make_target(source.jobs.get(), "a", resource="shared")
    runs.record(source, names("a", enabled=False), now=NOW)
    assert made.resource is not None
    runs.pause(made.resource, by="ann", reason="moving house", now=NOW)
    runs.record(source, names("a"), now=NOW)
    found = target("a")
    assert (found.paused_at, found.eligible_since, found.eligible_at) == (None, None, None)


def test_a_target_with_a_resource_of_its_own_is_retired_and_back_as_others_are() -> None:
    source = make_source()
    make_target(source.jobs.get(), "a", resource="shared")
    lists(source, names("a", "b", "c"))
    lists(source, names("b", "c"))
    assert target("a").retired_at == Listing.objects.get(resource__key="a").gone_at
    lists(source, names("a", "b", "c"))
    assert target("a").retired_at is None


def test_a_resource_that_goes_takes_only_targets_of_its_key() -> None:
    source = make_source()
    lists(source, names("a", "b", "c"))
    Target.objects.filter(key="b").update(resource=Resource.objects.get(key="a"))
    lists(source, names("b", "c"))
    assert keys(retired_at=None) == ["b", "c"]


# --- in groups ------------------------------------------------------------------------------------


def dying_at(call: int, function: Callable[..., bool]) -> Callable[..., bool]:
    calls = []

    def dying(*args: Any, **kwargs: Any) -> bool:
        calls.append(1)
        if len(calls) == call:
            raise Dies
        return function(*args, **kwargs)

    return dying


@pytest.fixture
def fires(monkeypatch: pytest.MonkeyPatch) -> Source:
    """A source of ten whose job has fire times; two are retired or put back at once."""
    monkeypatch.setattr(naming, "AT_ONCE", 2)
    monkeypatch.setattr(vanishing, "AT_ONCE", 2)
    source = make_source("customers", make_job("count", schedule="every 1h"))
    lists(source, numbered(10))
    return source


def test_a_death_while_targets_that_fire_are_retired_costs_one_group(
    fires: Source, monkeypatch: pytest.MonkeyPatch
) -> None:
    with monkeypatch.context() as patch:
        patch.setattr(vanishing, "retire_target", dying_at(4, runs.retire_target))
        with pytest.raises(Dies):
            lists(fires, numbered(5))
    assert keys(retired_at=None) == ["000", "001", "002", "003", "004", "007", "008", "009"]
    result = lists(fires, [])  # it is not asked again what there is
    assert result.value["gone"] == 5
    gone = Listing.objects.exclude(gone_at=None)
    assert set(gone.values_list("missed", flat=True)) == {1}
    for each in gone.select_related("resource"):
        assert target(each.resource.key, "count").retired_at == each.gone_at
    assert len(keys(retired_at=None)) == 5


def test_a_death_while_targets_that_fire_are_put_back_costs_one_group(
    fires: Source, monkeypatch: pytest.MonkeyPatch
) -> None:
    lists(fires, numbered(5))
    with monkeypatch.context() as patch:
        patch.setattr(naming, "revive_target", dying_at(4, runs.revive_target))
        with pytest.raises(Dies):
            lists(fires, numbered(10))
    assert len(keys(retired_at=None)) > 5
    result = lists(fires, numbered(10))
    assert result.value["gone"] == 0
    assert len(keys(retired_at=None, next_fire_at__isnull=False)) == 10


def test_what_comes_back_without_a_cursor_is_written_at_once(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    monkeypatch.setattr(naming, "AT_ONCE", 2)
    source = make_source()
    lists(source, numbered(10))
    lists(source, numbered(5))
    assert len(list(naming.batches(source, numbered(10)))) == 1
    assert runs.record(source, numbered(10), now=clock.now()) == Recorded(
        seen=10, changed=5, resumed=5
    )


# --- going live -----------------------------------------------------------------------------------


@override_settings(JOBS_LIST_BATCH=2)
def test_a_source_made_live_is_asked_for_by_way_of_its_listings() -> None:
    job = make_fed_job()
    source, other = make_source("customers", job, is_trial=True), make_source("other", job)
    lists(source, [*numbered(3), Named("off", enabled=False)])
    lists(other, names("x", "y"))
    with CaptureQueriesContext(connection) as queries:
        runs.set_trial(source, is_trial=False, by="ann", now=NOW)
    assert keys(paused_at=None) == ["000", "001", "002", "x", "y"]
    of_targets = [
        sql
        for query in queries
        if (sql := query["sql"]).startswith("SELECT") and 'FROM "scheduling_target"' in sql
    ]
    assert of_targets
    assert [sql for sql in of_targets if '"key" IN' not in sql and '"id" IN' not in sql] == []
