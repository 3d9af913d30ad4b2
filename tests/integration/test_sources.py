"""What sources name becomes resources, listings and targets, in bulk and without repeating."""

from __future__ import annotations

import threading
from datetime import timedelta
from typing import Any
from uuid import uuid4

import pytest
from django.db import connection
from django.test import override_settings

from scheduling import Named, clock, runs
from scheduling.context import CurrentRun, running
from scheduling.errors import StaleSource, UnknownSource
from scheduling.models import Listing, Resource, Run, ScheduleStretch, Source, Target
from scheduling.runs import Recorded
from scheduling.runs.naming import record_batch
from scheduling.sources import Page
from tests.factories import NOW, make_job, make_target
from tests.integration.naming import keys, lists, make_fed_job, make_source, names, numbered, target

pytestmark = pytest.mark.django_db

DAY = timedelta(days=1)


# --- resources and listings -----------------------------------------------------------------------


def test_what_is_named_first_is_seen_first_and_last_at_the_same_time() -> None:
    source = make_source()
    assert runs.record(source, numbered(100), now=NOW) == Recorded(created=100, seen=100)
    for model in (Listing, Resource):
        seen = model.objects.values_list("first_seen_at", "last_seen_at")
        assert set(seen) == {(NOW, NOW)}


def test_what_is_named_again_keeps_when_it_was_seen_first() -> None:
    source = make_source()
    runs.record(source, numbered(100), now=NOW)
    again = runs.record(source, numbered(150), now=NOW + DAY)
    assert again == Recorded(created=50, seen=150)
    for model in (Listing, Resource):
        assert model.objects.values("first_seen_at").distinct().count() == 2
        assert set(model.objects.values_list("last_seen_at", flat=True)) == {NOW + DAY}


def test_a_listing_does_not_touch_what_it_does_not_name() -> None:
    source = make_source()
    runs.record(source, names("a", "b"), now=NOW)
    runs.record(source, names("a"), now=NOW + DAY)
    assert Resource.objects.get(key="b").last_seen_at == NOW
    assert Listing.objects.get(resource__key="b").last_seen_at == NOW


def test_of_a_key_that_comes_twice_in_a_batch_the_last_counts() -> None:
    source = make_source()
    items = [Named("a", {"depth": 1}), Named("b"), Named("a", {"depth": 2})]
    assert runs.record(source, items, now=NOW) == Recorded(created=2, seen=2)
    assert Listing.objects.get(resource__key="a").kwargs == {"depth": 2}
    assert target("a").kwargs == {"depth": 2}


@override_settings(JOBS_LIST_BATCH=20)
def test_a_listing_may_fill_its_last_batch() -> None:
    source = make_source()
    assert runs.record(source, numbered(20), now=NOW).seen == 20
    assert runs.record(source, numbered(41), now=NOW) == Recorded(created=21, seen=41)
    assert len(keys()) == 41


def test_a_listing_that_does_not_know_a_hint_keeps_the_older_one() -> None:
    source = make_source()
    runs.record(source, names("a", hint_at=NOW), now=NOW)
    assert runs.record(source, names("a"), now=NOW + DAY).changed == 0
    assert Listing.objects.get().hint_at == NOW
    assert target("a").hint_at == NOW


def test_other_parameters_count_as_a_change() -> None:
    source = make_source()
    runs.record(source, names("a", "b", kwargs={"depth": 1}), now=NOW)
    again = [Named("a", {"depth": 2}), Named("b", {"depth": 1})]
    assert runs.record(source, again, now=NOW) == Recorded(seen=2, changed=1)
    assert target("a").kwargs == {"depth": 2}


def test_labels_of_others_and_of_people_stay() -> None:
    Resource.objects.create(key="a", labels={"team": "north"}, description="By hand")
    runs.record(make_source(), names("a", labels={"kind": "shop"}), now=NOW)
    resource = Resource.objects.get()
    assert resource.labels == {"team": "north", "kind": "shop"}
    assert resource.description == "By hand"


@pytest.mark.parametrize(
    ("fields", "word"),
    [
        ({"key": ""}, "is no key"),
        ({"key": "x" * 301}, "is no key"),
        ({"key": 7}, "is no key"),
        ({"key": "a\0b"}, "no database stores"),
        ({"key": "a", "kwargs": {"at": NOW}}, "nothing for JSON"),
        ({"key": "a", "hint_at": NOW.replace(tzinfo=None)}, "no time zone"),
    ],
)
def test_what_cannot_be_stored_is_refused_by_name(fields: dict[str, Any], word: str) -> None:
    with pytest.raises(ValueError, match=word):
        Named(**fields)


# --- targets --------------------------------------------------------------------------------------


def test_each_job_of_a_source_gets_a_target_for_each_resource() -> None:
    source = make_source("customers", make_fed_job("check"), make_job("count", schedule="every 1h"))
    runs.record(source, names("a", "b"), now=NOW)
    assert keys(job__name="check") == keys(job__name="count") == ["a", "b"]
    assert target("a").source == source
    assert target("a").resource == Resource.objects.get(key="a")


def test_targets_that_are_picked_are_in_the_pool_at_once_and_have_no_cursor() -> None:
    runs.record(make_source(), names("a"), now=NOW)
    found = target("a")
    assert (found.eligible_since, found.eligible_at, found.next_fire_at) == (NOW, None, None)
    assert not ScheduleStretch.objects.filter(target=found).exists()


def test_targets_that_fire_get_the_cursor_that_they_would_get_by_hand() -> None:
    job = make_job("count", schedule="every 1h spread")
    runs.record(make_source("customers", job), names("a", "b"), now=NOW)
    twin = runs.add_target(make_job("twin", schedule="every 1h"), "a", now=NOW)
    for found in Target.objects.filter(job=job):
        assert found.next_fire_at is not None
        assert NOW < found.next_fire_at <= NOW + timedelta(hours=1)
        stretch = ScheduleStretch.objects.get(target=found)
        assert stretch.since == found.next_fire_at
    assert twin.eligible_since is None
    assert target("a", "count").next_fire_at != target("b", "count").next_fire_at


def test_targets_whose_job_runs_first_now_get_that_run() -> None:
    job = make_job("count", schedule="every 1h", first_run="now")
    runs.record(make_source("customers", job), names("a", "b"), now=NOW)
    assert sorted(Run.objects.filter(job=job).values_list("key", flat=True)) == ["a", "b"]


def test_a_target_that_was_there_becomes_the_sources() -> None:
    job = make_fed_job()
    make_target(job, "a")
    source = make_source("customers", job)
    runs.record(source, names("a", kwargs={"depth": 1}), now=NOW)
    found = target("a")
    assert (found.source, found.kwargs) == (source, {"depth": 1})
    assert found.resource is not None


def test_a_hint_newer_than_what_was_found_makes_a_target_stale() -> None:
    source = make_source()
    runs.record(source, names("a", "b"), now=NOW)
    Target.objects.update(found_at=NOW)
    items = [Named("a", hint_at=NOW + DAY), Named("b", hint_at=NOW)]
    runs.record(source, items, now=NOW + DAY)
    assert target("a").staleness == DAY
    assert target("b").staleness is None  # exactly when it was found: nothing is out of date


def test_a_scheduling_mark_is_not_overwritten() -> None:
    source = make_source()
    runs.record(source, names("a"), now=NOW)
    Target.objects.update(last_scheduled_at=NOW, eligible_since=None, eligible_at=NOW + DAY)
    runs.record(source, names("a", kwargs={"depth": 2}, hint_at=NOW), now=NOW + DAY)
    found = target("a")
    assert (found.last_scheduled_at, found.eligible_at) == (NOW, NOW + DAY)
    assert found.eligible_since is None


# --- two sources, one key -------------------------------------------------------------------------


def test_two_sources_share_a_target_and_keep_their_own_listings() -> None:
    job = make_fed_job()
    one, two = make_source("one", job), make_source("two", job)
    runs.record(one, names("a", kwargs={"by": 1}, hint_at=NOW), now=NOW)
    runs.record(two, names("a", kwargs={"by": 2}, hint_at=NOW + DAY), now=NOW + DAY)
    assert keys() == ["a"]
    assert Resource.objects.count() == 1
    first, second = Listing.objects.order_by("source__name")
    assert (first.kwargs, first.hint_at, first.first_seen_at) == ({"by": 1}, NOW, NOW)
    assert (second.kwargs, second.hint_at, second.first_seen_at) == (
        {"by": 2},
        NOW + DAY,
        NOW + DAY,
    )
    found = target("a")
    assert (found.source, found.kwargs, found.hint_at) == (one, {"by": 1}, NOW + DAY)


def test_a_source_says_nothing_of_the_targets_of_other_jobs() -> None:
    one, two = make_source("one", make_fed_job("check")), make_source("two", make_fed_job("count"))
    runs.record(one, names("a", kwargs={"by": 1}), now=NOW)
    runs.record(two, names("a", kwargs={"by": 2}, enabled=False), now=NOW)
    assert (target("a", "check").kwargs, target("a", "check").paused_at) == ({"by": 1}, None)
    assert target("a", "count").paused_by == "source two"


# --- enabled, paused, retired ---------------------------------------------------------------------


def test_what_is_not_enabled_is_paused_and_goes_on_once_it_is() -> None:
    source = make_source()
    runs.record(source, [Named("a", enabled=False), Named("b")], now=NOW)
    held = target("a")
    assert (held.paused_by, held.eligible_since) == ("source customers", None)
    assert target("b").paused_at is None
    again = runs.record(source, names("a", "b"), now=NOW + DAY)
    assert (again.resumed, again.changed) == (1, 1)
    freed = target("a")
    assert (freed.paused_at, freed.paused_by, freed.eligible_since) == (None, "", NOW + DAY)


def test_the_pause_of_a_person_is_not_a_sources_to_end() -> None:
    source = make_source()
    runs.record(source, names("a"), now=NOW)
    runs.pause(target("a"), by="ann", reason="looks odd", now=NOW)
    runs.record(source, names("a", enabled=False), now=NOW)
    assert runs.record(source, names("a"), now=NOW).resumed == 0
    assert target("a").paused_by == "ann"


def test_targets_that_fire_are_held_and_let_go_as_well() -> None:
    source = make_source("customers", make_job("count", schedule="every 1h"))
    runs.record(source, names("a"), now=NOW)
    runs.record(source, names("a", enabled=False), now=NOW)
    assert runs.record(source, names("a"), now=NOW + DAY).resumed == 1
    found = target("a", "count")
    assert found.paused_at is None
    assert found.next_fire_at is not None


def test_a_target_that_paused_itself_has_new_chances_when_it_is_named_again() -> None:
    source = make_source()
    runs.record(source, names("a"), now=NOW)
    runs.pause(target("a"), by="Beatkeeper", reason="3 failures in a row", now=NOW)
    Target.objects.update(misses=3, streak=3, failures_in_a_row=3)
    assert runs.record(source, names("a"), now=NOW + DAY).resumed == 1
    found = target("a")
    assert (found.paused_at, found.misses, found.streak, found.failures_in_a_row) == (None, 0, 0, 0)


def test_what_an_operator_retired_stays_retired() -> None:
    source = make_source()
    runs.record(source, names("a"), now=NOW)
    runs.retire_target(target("a"), now=NOW)
    assert runs.record(source, names("a"), now=NOW + DAY).resumed == 0
    assert target("a").retired_at == NOW


# --- state ----------------------------------------------------------------------------------------


def test_who_read_an_older_state_is_told_so() -> None:
    make_source()
    read = runs.source_named("customers")
    changed = runs.update_state("customers", {"page": 2}, read.version)
    assert runs.state_of(changed) == {"page": 2}
    with pytest.raises(StaleSource, match=r"'customers' is at version 2, and version 1") as caught:
        runs.update_state("customers", {"page": 1}, read.version)
    assert (caught.value.version, caught.value.current) == (1, 2)  # type: ignore[attr-defined]
    assert runs.state_of(runs.source_named("customers")) == {"page": 2}


def test_an_unknown_source_is_named() -> None:
    make_source()
    with pytest.raises(UnknownSource, match=r"'custmers': customers"):
        runs.update_state("custmers", {}, 1)


def test_a_state_changed_meanwhile_stops_the_listing_that_does_not_know_it() -> None:
    source = make_source()

    def enumerate_(listing: Any) -> Any:
        yield from names("a")
        listing.save({"page": 1})
        runs.update_state("customers", {"page": 9}, runs.source_named("customers").version)
        yield from names("b")

    with pytest.raises(StaleSource):
        lists(source, enumerate_)
    assert keys() == ["a"]
    assert runs.state_of(runs.source_named("customers")) == {"page": 9}


def test_a_source_finds_the_state_that_it_saved() -> None:
    source = make_source()
    found = []

    def enumerate_(listing: Any) -> Any:
        found.append((listing.state, listing.since))
        yield from names("a")
        listing.save({"page": 1})

    lists(source, enumerate_)
    lists(source, enumerate_)
    assert found[0] == ({}, None)
    assert found[1][0] == {"page": 1}
    assert found[1][1] <= clock.now()


def test_a_listing_that_is_to_stop_stops_after_what_it_has_taken() -> None:
    source = make_source()
    run = CurrentRun(
        id=uuid4(),
        job="customers.full",
        key="",
        resource="",
        scheduled_at=NOW,
        attempt=1,
        token=1,
        stop_flag=lambda: True,
    )
    with running(run):
        result = lists(source, [Page(names("a"), 1), Page(names("b"), 2)])
    assert "Stopped before its end" in result.output
    assert keys() == ["a"]
    assert runs.source_named("customers").listing_ended_at is None


def test_somebody_who_names_the_same_at_this_moment_is_no_error() -> None:
    source = make_source()
    tries: list[Recorded] = []

    def rival(recorded: Recorded) -> None:
        if not tries:
            tries.append(recorded)
            # As the unique constraint would say it.
            Listing.objects.create(
                source=source, resource=Resource.objects.get(), first_seen_at=NOW, last_seen_at=NOW
            )

    record_batch(source, names("a"), now=NOW, advance=rival)
    assert Listing.objects.count() == 1
    assert len(tries) == 1


@pytest.mark.django_db(transaction=True)
@override_settings(JOBS_LIST_BATCH=20)
def test_two_sources_may_name_the_same_at_the_same_moment() -> None:
    job = make_fed_job()
    one, two = make_source("one", job), make_source("two", job)
    errors: list[BaseException] = []

    def list_(source: Source, items: list[Named]) -> None:
        try:
            for _ in range(3):
                runs.record(source, items, now=NOW)
        except BaseException as error:
            errors.append(error)
        finally:
            connection.close()

    items = numbered(60)
    threads = [
        threading.Thread(target=list_, args=(one, items)),
        threading.Thread(target=list_, args=(two, items[::-1])),
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert errors == []
    assert len(keys()) == 60
    assert one.named.count() == two.named.count() == 60
