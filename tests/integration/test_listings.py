"""Listings that are interrupted, and what full ones no longer name."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import timedelta
from typing import Any

import pytest
from django.test import override_settings

from scheduling import Named, clock, runs
from scheduling.errors import StaleSource
from scheduling.models import CoverageChange, Listing, Resource, State, Target
from scheduling.runs import listing as places
from scheduling.runs.vanishing import end_listing
from scheduling.sources import Page
from scheduling.sources.progress import Listing as InProgress
from tests.factories import NOW, make_job
from tests.integration.naming import keys, lists, make_fed_job, make_source, names, numbered, target

pytestmark = pytest.mark.django_db

DAY = timedelta(days=1)


class Dies(BaseException):
    """As a killed worker leaves it: nothing more is written."""


# --- interrupted ----------------------------------------------------------------------------------


class Paged:
    """A source in pages of two, which dies before its nth page; remembers what it was asked for."""

    def __init__(self, count: int, *, dies_before: int | None = None, error: type = Dies) -> None:
        self.items = [f"{number:02}" for number in range(count)]
        self.dies_before, self.error = dies_before, error
        self.asked: list[int] = []

    def __call__(self, listing: InProgress) -> Iterator[Page]:
        for begin in range(listing.token or 0, len(self.items), 2):
            self.asked.append(begin)
            if begin == self.dies_before:
                raise self.error(f"before {begin}")
            yield Page(names(*self.items[begin : begin + 2]), begin + 2)


def test_a_listing_that_was_killed_goes_on_after_its_last_recorded_page() -> None:
    source, first = make_source(), Paged(10, dies_before=4)
    with pytest.raises(Dies):
        lists(source, first)
    assert keys() == ["00", "01", "02", "03"]
    second = Paged(10)
    result = lists(source, second)
    assert second.asked == [4, 6, 8]
    assert result.value["seen"] == 10
    assert len(keys()) == 10
    source.refresh_from_db()
    assert source.listings == 1
    third = Paged(10)
    lists(source, third)
    assert third.asked[0] == 0


def test_what_was_recorded_stays_when_a_source_raises_in_the_middle() -> None:
    def enumerate_(listing: InProgress) -> Iterator[Named]:
        yield from numbered(3)
        raise OSError("the disk is gone")

    source = make_source()
    with override_settings(JOBS_LIST_BATCH=2), pytest.raises(OSError, match="disk"):
        lists(source, enumerate_)
    assert keys() == ["000", "001"]
    lists(source, numbered(3))
    assert keys() == ["000", "001", "002"]


def test_a_page_and_its_token_are_written_together_or_not_at_all(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    source = make_source()
    place = places.begin_listing(source, full=True, now=NOW)
    monkeypatch.setattr(places, "_saved", lambda *_, **__: (_ for _ in ()).throw(Dies))
    with pytest.raises(Dies):
        places.record_page(place, names("a"), now=NOW, token=1)
    monkeypatch.undo()
    assert keys() == []
    kept = places.interrupted_listing(runs.source_named("customers"), full=True)
    assert kept is not None
    assert kept.token is None


@override_settings(JOBS_LIST_BATCH=3)
def test_a_page_larger_than_a_batch_has_its_token_with_the_last_part() -> None:
    source = make_source()
    place = places.begin_listing(source, full=True, now=NOW)
    place = places.record_page(place, numbered(7), now=NOW, token="next")
    assert (place.token, place.recorded.seen) == ("next", 7)
    kept = places.interrupted_listing(runs.source_named("customers"), full=True)
    assert kept == place


def test_a_worker_that_was_believed_dead_cannot_write_on() -> None:
    source = make_source()
    old = places.begin_listing(source, full=True, now=NOW)
    new = places.begin_listing(runs.source_named("customers"), full=True, now=NOW + DAY / 2)
    places.record_page(new, names("a"), now=NOW + DAY / 2)
    with pytest.raises(StaleSource):
        places.record_page(old, names("b"), now=NOW + DAY / 2)
    assert keys() == ["a"]


def test_a_listing_that_was_left_for_long_begins_anew() -> None:
    source = make_source()
    place = places.begin_listing(source, full=True, now=NOW)
    places.record_page(place, names("a"), now=NOW, token="old")
    again = places.begin_listing(source, full=True, now=NOW + DAY + timedelta(seconds=1))
    assert (again.token, again.number) == (None, 2)


def test_a_token_that_leads_nowhere_is_given_up_after_some_attempts() -> None:
    source = make_source()
    place = places.begin_listing(source, full=True, now=NOW)
    places.record_page(place, names("a"), now=NOW, token="broken")
    tokens = [
        places.begin_listing(source, full=True, now=NOW + timedelta(minutes=n)).token
        for n in range(1, 6)
    ]
    assert tokens == ["broken", "broken", "broken", None, None]


def test_an_incremental_listing_does_not_disturb_an_interrupted_full_one() -> None:
    source = make_source()
    with pytest.raises(Dies):
        lists(source, Paged(10, dies_before=4))
    lists(source, names("new"), full=False)
    rest = Paged(10)
    lists(source, rest)
    assert rest.asked == [4, 6, 8]
    # Named while the full listing was under way: it is there.
    assert target("new").retired_at is None


def test_what_changed_since_is_counted_from_where_the_newest_whole_listing_began() -> None:
    source = make_source()
    place = places.begin_listing(source, full=True, now=NOW)
    assert place.since is None
    end_listing(place, now=NOW + timedelta(hours=3))
    assert places.begin_listing(source, full=False, now=NOW + DAY).since == NOW


def test_what_no_source_gives_is_refused() -> None:
    with pytest.raises(TypeError, match=r"'customers' gives 'a'; give Named or Page"):
        lists(make_source(), ["a"])


# --- vanished -------------------------------------------------------------------------------------


def pool_of(key: str) -> tuple[Any, Any]:
    found = target(key)
    return found.eligible_at, found.eligible_since


def test_what_a_full_listing_no_longer_names_is_retired_and_never_deleted() -> None:
    source = make_source()
    lists(source, names("a", "b", "c"))
    result = lists(source, names("a", "b"))
    assert result.value["gone"] == 1
    gone = Listing.objects.get(resource__key="c")
    assert gone.gone_at is not None
    assert target("c").retired_at == gone.gone_at
    assert pool_of("c") == (None, None)
    assert target("a").retired_at is None
    assert Resource.objects.filter(key="c").exists()


def test_an_incremental_listing_says_nothing_of_what_it_does_not_name() -> None:
    source = make_source()
    lists(source, names("a", "b"))
    lists(source, names("a"), full=False)
    assert target("b").retired_at is None
    assert Listing.objects.get(resource__key="b").missed == 0


def test_the_rule_may_ask_for_several_full_listings_in_a_row() -> None:
    source = make_source()
    lists(source, names("a", "b", "c"))
    for items, missed in ((("a", "b"), 1), (("a", "b", "c"), 0), (("a", "b"), 1)):
        lists(source, names(*items), vanish_after=2)
        assert Listing.objects.get(resource__key="c").missed == missed
        assert target("c").retired_at is None
    lists(source, names("a", "b"), vanish_after=2)
    assert target("c").retired_at is not None


def test_the_rule_may_keep_everything() -> None:
    source = make_source()
    lists(source, names("a", "b"))
    for _ in range(3):
        lists(source, [], vanish="keep")
    assert Listing.objects.get(resource__key="a").missed == 3
    assert target("a").retired_at is None


def test_what_is_named_again_is_back() -> None:
    source = make_source()
    lists(source, names("a", "b", "c"))
    lists(source, names("a", "b"))
    result = lists(source, names("a", "b", "c"))
    assert result.value["resumed"] == 1
    found = target("c")
    assert (found.retired_at, found.parked) == (None, "")
    assert found.eligible_since is not None
    assert Listing.objects.get(resource__key="c").gone_at is None


def test_targets_that_fire_are_retired_and_put_back_with_their_cursor() -> None:
    source = make_source("customers", make_job("count", schedule="every 1h"))
    lists(source, names("a", "b", "c"))
    lists(source, names("a", "b"))
    found = target("c", "count")
    assert found.retired_at == Listing.objects.get(resource__key="c").gone_at
    assert (found.next_fire_at, found.parked) == (None, "retired")
    lists(source, names("a", "b", "c"))
    found = target("c", "count")
    assert found.retired_at is None
    assert found.next_fire_at is not None


def test_what_another_source_still_lists_goes_over_to_it() -> None:
    job = make_fed_job()
    one, two = make_source("one", job), make_source("two", job)
    lists(one, names("a", "b", "c", kwargs={"by": 1}))
    lists(two, names("c", kwargs={"by": 2}))
    lists(one, names("a", "b"))
    found = target("c")
    assert (found.retired_at, found.source, found.kwargs) == (None, two, {"by": 2})
    lists(one, names("a", "b", "c", kwargs={"by": 1}))
    assert target("c").source == two


def test_a_listing_that_leaves_out_most_retires_nothing() -> None:
    source = make_source()
    lists(source, numbered(10))
    result = lists(source, numbered(4))
    assert (result.state, result.reason) == (State.FAILED, "permanent")
    assert "no longer names 6 of 10" in result.error
    assert "sources finish customers --force" in result.error
    assert not Target.objects.filter(source=source, retired_at__isnull=False).exists()
    assert set(Listing.objects.values_list("missed", flat=True)) == {0}
    assert lists(source, numbered(5)).state == State.SUCCEEDED  # half of them is not most


def test_what_was_left_out_may_be_let_go_by_force() -> None:
    source = make_source()
    lists(source, numbered(10))
    lists(source, numbered(4))
    place = places.interrupted_listing(runs.source_named("customers"), full=True)
    assert place is not None
    assert place.is_listed
    assert end_listing(place, now=clock.now(), force=True).gone == 6
    assert Target.objects.filter(source=source, retired_at=None).count() == 4


def test_what_is_let_go_by_force_follows_the_sources_rule() -> None:
    source = make_source()
    lists(source, numbered(10))
    Listing.objects.exclude(resource__key="000").update(missed=1)
    Listing.objects.filter(resource__key__in=("001", "002")).update(missed=0)
    lists(source, numbered(1), vanish_after=2)
    assert runs.finish_listing(source, force=True, by="ann", now=clock.now()) == 7
    assert sorted(keys(retired_at=None)) == ["000", "001", "002"]


def test_the_next_full_listing_lists_anew_after_one_that_left_out_most() -> None:
    source = make_source()
    lists(source, numbered(10))
    lists(source, numbered(4))
    assert lists(source, numbered(10)).value == {
        "seen": 10, "created": 0, "changed": 0, "resumed": 0, "gone": 0, "unread": 0,
    }  # fmt: skip


@override_settings(JOBS_LIST_BATCH=2, JOBS_VANISH_LIMIT=1.0)
def test_letting_go_that_was_interrupted_goes_on_and_counts_nothing_twice(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    source = make_source()
    lists(source, numbered(10))
    from scheduling.runs import vanishing

    whole, calls = vanishing._let_go, []

    def dying(*args: Any, **kwargs: Any) -> Any:
        calls.append(1)
        if len(calls) == 3:
            raise Dies
        return whole(*args, **kwargs)

    monkeypatch.setattr(vanishing, "_let_go", dying)
    with pytest.raises(Dies):
        lists(source, numbered(1), vanish_after=2)
    monkeypatch.undo()
    result = lists(source, [], vanish_after=2)  # it is not asked again what there is
    assert result.state == State.SUCCEEDED
    missed = Listing.objects.exclude(resource__key="000").values_list("missed", flat=True)
    assert list(missed) == [1] * 9
    assert Listing.objects.get(resource__key="000").missed == 0


def test_coverage_hears_of_what_comes_and_goes() -> None:
    source = make_source()
    lists(source, names("a", "b", "c"))
    lists(source, names("a", "b"))
    of_source = CoverageChange.objects.filter(source=source.pk, measure="known")
    assert sum(of_source.values_list("delta", flat=True)) == 2
