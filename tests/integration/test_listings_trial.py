"""Sources on trial, and what an express source names for the first time."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path

import pytest

from scheduling import Named, clock, runs
from scheduling.models import Feeder, Source, State
from scheduling.runs import listing as places
from scheduling.runs.express import waiting_for_express
from scheduling.runs.vanishing import end_listing
from scheduling.sources import Listing, Page, Unread, from_csv
from tests.factories import NOW
from tests.integration.naming import keys, lists, make_fed_job, make_source, names, numbered, target

pytestmark = pytest.mark.django_db

DAY = timedelta(days=1)


def test_a_source_on_trial_lists_a_few_and_pauses_their_targets() -> None:
    source = make_source(is_trial=True)
    result = lists(source, numbered(30), trial_limit=10)
    assert result.state == State.SUCCEEDED
    assert "On trial" in result.output
    assert len(keys()) == 10
    found = target("000")
    assert (found.paused_by, found.pause_reason) == ("source customers", "trial")
    assert found.eligible_since is None


def test_a_source_on_trial_is_not_listed_incrementally_and_lets_nothing_go() -> None:
    source = make_source(is_trial=True)
    lists(source, numbered(30))
    assert "On trial" in lists(source, names("x"), full=False).output
    lists(source, names("a"))
    assert keys(retired_at__isnull=False) == []
    assert "x" not in keys()


def test_pages_are_cut_at_the_limit_of_a_trial() -> None:
    source = make_source(is_trial=True)
    lists(source, [Page(numbered(30), "more")], trial_limit=5)
    assert len(keys()) == 5
    again = places.begin_listing(source, full=True, now=clock.now())
    assert again.token is None


def test_what_cannot_be_read_takes_no_place_of_a_trial() -> None:
    source = make_source(is_trial=True)
    unread = [Unread(f"line {number}", "it is broken") for number in range(20)]
    result = lists(source, [*unread, *numbered(9)], trial_limit=5)
    assert keys() == ["000", "001", "002", "003", "004"]
    assert result.value["unread"] == 20


def test_a_trial_reads_no_million_of_entries_that_cannot_be_read() -> None:
    source = make_source(is_trial=True)
    taken = []

    def enumerate_(listing: Listing) -> Iterator[Named | Unread]:
        yield from names("a")
        for number in range(1_000_000):
            taken.append(number)
            yield Unread(f"line {number}", "it is broken")

    result = lists(source, enumerate_)
    assert len(taken) == 1000
    assert keys() == ["a"]
    assert "It ends after 1000 entries that cannot be read." in result.output


def test_a_trial_is_given_its_few_though_much_cannot_be_read(tmp_path: Path) -> None:
    path = tmp_path / "shops.csv"
    lines = (f"{number}" if number % 50 == 0 else f"{number},x" for number in range(2000))
    path.write_text("\n".join(["key", *lines]))
    source = make_source(is_trial=True)
    lists(source, lambda listing: from_csv(listing, path), trial_limit=10)
    assert len(keys()) == 10


def test_a_source_made_live_lets_its_targets_go_on() -> None:
    source = make_source(is_trial=True)
    lists(source, [Named("off", enabled=False), *numbered(3)])
    assert runs.set_trial(source, is_trial=False, by="ann", now=NOW)
    assert keys(paused_at=None) == ["000", "001", "002"]
    assert target("000").eligible_since is not None
    assert target("off").paused_at is not None
    assert not runs.set_trial(source, is_trial=False, by="ann", now=NOW)


def test_a_live_source_may_be_put_on_trial() -> None:
    source = make_source()
    lists(source, numbered(3))
    runs.pause(target("000"), by="ann", reason="looks odd", now=NOW)
    assert runs.set_trial(source, is_trial=True, by="ann", now=NOW)
    assert target("000").paused_by == "ann"
    assert target("001").paused_by == "source customers"
    source.refresh_from_db()
    runs.set_trial(source, is_trial=False, by="ann", now=NOW)
    assert keys(paused_at=None) == ["001", "002"]


def test_a_source_on_trial_does_not_hold_what_another_one_named_first() -> None:
    job = make_fed_job()
    one, two = make_source("one", job), make_source("two", job, is_trial=True)
    lists(one, names("a"))
    lists(two, names("a", "b"))
    assert target("a").paused_at is None
    assert target("b").paused_by == "source two"


# --- express --------------------------------------------------------------------------------------


def test_first_checks_go_first_only_after_a_listing_has_ended() -> None:
    job = make_fed_job()
    source = make_source("customers", job, is_express=True)
    place = places.begin_listing(source, full=True, now=NOW)
    place = places.record_page(place, names("a"), now=NOW)
    assert waiting_for_express(job) == []
    Feeder.objects.create(job=job, next_at=NOW + 9 * DAY)
    end_listing(place, now=NOW + DAY)
    source = runs.source_named("customers")
    assert (source.listing_ended_at, source.full_listing_ended_at) == (NOW + DAY, NOW + DAY)
    assert waiting_for_express(job) == [source]
    assert Feeder.objects.get().next_at is None
    Source.objects.update(express_done_at=NOW + DAY)
    assert waiting_for_express(job) == []
    lists(source, names("a", "b"))
    assert waiting_for_express(job) == [source]
