"""`jobs sources`, the pages of sources in the admin, and sources as the code declares them."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
from celery import current_app

from scheduling import Named, clock, inventory, runs, source, sync
from scheduling.errors import InvalidDeclaration
from scheduling.models import Job, Listing, Run, Source
from scheduling.registry import registry
from scheduling.sources import Listing as InProgress
from scheduling.sources import sources
from tests.factories import NOW, make_job
from tests.integration.admin_pages import log_in, messages_of, page, text_of
from tests.integration.cli import jobs
from tests.integration.declared_code import declared_code
from tests.integration.naming import keys, lists, make_fed_job, make_source, names, numbered, target

pytestmark = pytest.mark.django_db

code = pytest.fixture(declared_code)


@pytest.fixture(autouse=True)
def undeclared(code: Any, db: None) -> Iterator[None]:
    """What a test declares goes away again, its Celery tasks as well; the example's source is not
    there.
    """
    before, tasks = dict(sources._by_name), set(current_app.tasks)
    sources._by_name = {}
    Source.objects.all().delete()
    yield
    sources._by_name = before
    for name in set(current_app.tasks) - tasks:
        current_app.tasks.pop(name)


def customers(listing: InProgress) -> Iterator[Named]:
    """Name the customers.

    And more.
    """
    yield from names("a", "b")


# --- declared -------------------------------------------------------------------------------------


def declare(function: Any = customers, **keywords: Any) -> None:
    keywords.setdefault("jobs", "work")
    source(**keywords)(function)


def synced() -> sync.SyncResult:
    return sync.sync(now=NOW)


def test_a_source_is_two_ordinary_jobs_that_never_run_together(code: Any) -> None:
    code(keyed=True)
    declare(full="cron 0 3 * * * tz UTC", incremental="every 15m", recipients="a@example.org")
    result = synced()
    assert {"customers.full", "customers.incremental"} <= set(result.created)
    full, incremental = Job.objects.filter(name__startswith="customers.").order_by("name")
    assert (full.schedule, incremental.schedule) == ("cron 0 3 * * * tz UTC", "every 15m")
    assert (full.kwargs, incremental.kwargs) == ({"full": True}, {"full": False})
    assert full.locks == incremental.locks == ["source customers"]
    assert full.recipients == ["a@example.org"]
    assert full.rerun_if_lost
    assert full.hard_limit is not None
    made = Source.objects.get(name="customers")
    assert [job.name for job in made.jobs.all()] == ["work"]
    assert made.description == "Name the customers."


def test_the_task_of_a_source_lists_it(code: Any) -> None:
    code(keyed=True)
    declare()
    synced()
    task = current_app.tasks[Job.objects.get(name="customers.full").task]
    assert task.run(full=True).value["created"] == 2
    assert keys() == ["a", "b"]


def test_a_second_sync_changes_nothing(code: Any) -> None:
    code(keyed=True)
    declare()
    assert synced().diff["source customers"] == ["created", "jobs:  -> work"]
    assert "source customers" not in synced().diff


def test_an_unknown_job_of_a_source_is_named_and_stops_nothing_else(code: Any) -> None:
    code(keyed=True)
    declare(jobs=("work", "wrok"))
    result = synced()
    (problem,) = [each for each in result.problems if "wrok" in each]
    assert problem == (
        "Source 'customers' gives its targets to 'wrok', which is no job; correct the name"
    )
    assert [job.name for job in Source.objects.get().jobs.all()] == ["work"]


def test_a_job_with_a_plain_target_is_no_job_for_a_source(code: Any) -> None:
    code()
    declare()
    assert any("declare that job with keyed=True" in each for each in synced().problems)


def test_a_source_gone_from_the_code_is_retired_and_keeps_what_it_listed(code: Any) -> None:
    code(keyed=True)
    declare()
    synced()
    lists(Source.objects.get(), names("a"))
    Source.objects.create(name="made by the API")
    task = registry["customers.full"].task
    del registry._by_name["customers.full"]
    result = synced()
    assert result.diff["source customers"] == ["retired: no -> yes"]
    assert "customers.full" in result.retired
    assert target("a", "work").retired_at is None
    assert Source.objects.get(name="made by the API").retired_at is None
    current_app.tasks.pop(task)
    declare()
    assert synced().diff["source customers"] == [f"retired_at: {NOW} -> None"]


def test_a_source_begins_on_trial_and_the_code_does_not_put_it_back(code: Any) -> None:
    code(keyed=True)
    declare(trial=True)
    synced()
    assert Source.objects.get().is_trial
    runs.set_trial(Source.objects.get(), is_trial=False, by="ann", now=NOW)
    synced()
    assert not Source.objects.get().is_trial


def test_another_source_is_another_code_for_beats(code: Any) -> None:
    code(keyed=True)
    declare()
    before = sync.declarations_hash()
    current_app.tasks.pop(registry["customers.full"].task)
    sources._by_name.clear()
    declare(express=True)
    assert sync.declarations_hash() != before


@pytest.mark.parametrize(
    ("keywords", "word"),
    [
        ({"jobs": ()}, "names no jobs"),
        ({"vanish": "delete"}, "choose 'retire' or 'keep'"),
        ({"vanish_after": 0}, "vanish_after is 0"),
        ({"name": "x" * 190}, "so that its jobs can be named after it"),
        ({"full": "every"}, "customers.full"),
        ({"express": "yes"}, "give True or False"),
        ({"kwargs": {"depth": 1}}, "'customers' gives kwargs="),
        ({"args": (1,)}, "'customers' gives args="),
        ({"schedule": "every 1d"}, "'customers' gives schedule=.*full= and incremental="),
    ],
)
def test_a_wrong_declaration_is_refused(keywords: dict[str, Any], word: str) -> None:
    with pytest.raises(InvalidDeclaration, match=word):
        declare(**keywords)


def test_a_name_that_two_functions_want_is_refused() -> None:
    declare()
    with pytest.raises(InvalidDeclaration, match="declared twice"):
        declare(jobs="other")


# --- the command line -----------------------------------------------------------------------------


def test_sources_are_told_with_their_counts() -> None:
    found = make_source()
    lists(found, names("a", "b", "c"))
    lists(found, names("a", "b"))
    (row,) = jobs("sources", "--json").document()
    for name in ("listing_began_at", "listing_ended_at", "full_listing_ended_at"):
        assert row.pop(name).endswith("+00:00")
    assert row.pop("version") > 1
    assert row == {
        "name": "customers",
        "state": "live",
        "jobs": ["check"],
        "express": False,
        "listed": 2,
        "gone": 1,
        "has_more": False,
    }
    assert "customers" in jobs("sources").stdout


def test_no_sources_are_said() -> None:
    assert jobs("sources").stdout == "No sources; declare one with @source.\n"
    assert jobs("sources", "--json").document() == []


def test_a_source_is_made_live_and_listed_from_the_command_line() -> None:
    found = make_source(is_trial=True)
    job = make_job("customers.full")
    runs.adopt(job, now=NOW)
    lists(found, numbered(3))
    told = jobs("sources", "live", "customers", "--json")
    assert (told.code, told.document()) == (0, {"changed": 1})
    assert keys(paused_at=None) == ["000", "001", "002"]
    assert Run.objects.filter(job=job).count() == 1
    assert jobs("sources", "live", "customers", "--json").document() == {"changed": 0}
    assert jobs("sources", "trial", "customers").stdout == "customers is on trial\n"


def test_a_listing_is_asked_for() -> None:
    make_source()
    runs.adopt(make_job("customers.full"), now=NOW)
    document = jobs("sources", "list", "customers", "--json").document()
    assert (document["job"], document["state"]) == ("customers.full", "queued")
    told = jobs("sources", "list", "customers", "--incremental")
    assert told.code == 2
    assert "no incremental listing" in told.stderr


def test_a_listing_that_left_out_most_is_finished_by_force() -> None:
    found = make_source()
    lists(found, numbered(10))
    lists(found, numbered(4))
    told = jobs("sources", "finish", "customers")
    assert told.code == 2
    assert "no longer names 6 of 10" in told.stderr
    assert jobs("sources", "finish", "customers", "--force", "--json").document() == {"gone": 6}
    assert jobs("sources", "finish", "customers", "--force").code == 2


@pytest.mark.parametrize(
    ("words", "error"),
    [
        (("live",), "needs the name of a source"),
        (("live", "nobody"), "No source is named 'nobody'"),
        (("--force",), "--force is for"),
        (("live", "customers", "--incremental"), "--incremental is for"),
    ],
)
def test_what_makes_no_sense_is_refused(words: tuple[str, ...], error: str) -> None:
    make_source()
    told = jobs("sources", *words)
    assert told.code == 2
    assert error in told.stderr


# --- the admin ------------------------------------------------------------------------------------


def shown(found: Source, *permissions: str, name: str = "alice") -> str:
    client = log_in("view_source", *permissions, name=name)
    return text_of(client.get(page("scheduling_source_change", found.pk)))


def test_the_page_of_a_source_says_what_it_named() -> None:
    found = make_source(description="<b>all</b>")
    lists(found, [Named("<i>a</i>", {"depth": 1}), Named("b", enabled=False)])
    text = shown(found)
    assert "<i>a</i>" in text  # as text: tags are taken out before
    assert "<b>all</b>" in text
    assert "List all now" not in text
    assert "live" in text


def test_a_listing_under_way_is_told() -> None:
    found = make_source()
    with pytest.raises(KeyError):
        lists(found, lambda listing: (_ for _ in ()).throw(KeyError))
    assert "The full listing is under way, or was interrupted: 0 named so far" in shown(found)
    lists(found, numbered(10))
    lists(found, numbered(4))
    text = shown(found, name="bob")
    assert "left out more than JOBS_VANISH_LIMIT allows" in text
    assert "if so much is really gone, manage.py jobs sources finish customers --force" in text


def test_parameters_and_what_its_code_saved_are_for_those_who_may_see_arguments() -> None:
    found = make_source(state={"token": "sesame"})
    lists(found, [Named("a", {"password": "12345"})])
    text = shown(found)
    assert "Parameters" not in text
    assert "State that its code saved" not in text
    assert "12345" not in text
    assert "sesame" not in text
    text = shown(found, "view_run_output", name="bob")
    assert "12345" in text
    assert "sesame" in text


def test_no_more_than_so_many_resources_are_counted_and_that_is_said(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    found = make_source()
    lists(found, numbered(5))
    lists(found, numbered(2))
    assert "there are more" not in shown(found)
    assert "there are more" not in jobs("sources").stdout
    monkeypatch.setattr(inventory, "MOST_COUNTED", 4)
    text = shown(found, name="bob")
    assert "Counted are its newest 4 resources; there are more." in text
    assert "Of customers, the newest 4 resources are counted" in jobs("sources").stdout
    (row,) = jobs("sources", "--json").document()
    assert (row["listed"] + row["gone"], row["has_more"]) == (4, True)


def test_listings_are_counted_by_no_more_rows_than_are_told(
    django_assert_num_queries: Any,
) -> None:
    found = make_source()
    with django_assert_num_queries(2) as asked:
        inventory.listed_by(found)
    assert all(f"LIMIT {n}" in each["sql"] for n, each in zip((10000, 1), asked, strict=True))


def test_the_list_of_sources_takes_few_queries(django_assert_max_num_queries: Any) -> None:
    for number in range(5):
        make_source(f"source {number}", make_fed_job(f"check {number}"))
    client = log_in("view_source")
    with django_assert_max_num_queries(12):
        text = text_of(client.get(page("scheduling_source_changelist")))
    assert "check 4" in text


@pytest.mark.parametrize(
    ("verb", "permission"),
    [("full", "trigger_job"), ("live", "pause_job"), ("trial", "pause_job")],
)
def test_who_may_not_changes_nothing(verb: str, permission: str) -> None:
    found = make_source(is_trial=verb == "live")
    runs.adopt(make_job("customers.full"), now=NOW)
    address = page(f"scheduling_source_{verb}", found.pk)
    assert log_in("view_source").post(address).status_code == 403
    assert log_in(permission, name="bob").post(address).status_code == 403
    assert log_in("view_source", permission, name="eve").get(address).status_code == 405
    assert not Run.objects.filter(job__name="customers.full").exists()
    found.refresh_from_db()
    assert found.is_trial == (verb == "live")


def test_a_source_is_made_live_on_its_page() -> None:
    found = make_source(is_trial=True)
    runs.adopt(make_job("customers.full"), now=clock.now())
    lists(found, names("a"))
    client = log_in("view_source", "pause_job")
    assert "Make live" in text_of(client.get(page("scheduling_source_change", found.pk)))
    answer = client.post(page("scheduling_source_live", found.pk), follow=True)
    assert messages_of(answer) == ["customers is made live", "customers.full is queued"]
    assert target("a").paused_at is None
    assert Listing.objects.count() == 1


def test_a_source_is_listed_from_its_page() -> None:
    found = make_source()
    runs.adopt(make_job("customers.full"), now=clock.now())
    client = log_in("view_source", "trigger_job")
    text = text_of(client.get(page("scheduling_source_change", found.pk)))
    assert "List all now" in text
    assert "List changes now" not in text
    answer = client.post(page("scheduling_source_full", found.pk), follow=True)
    assert messages_of(answer) == ["customers.full is queued"]
