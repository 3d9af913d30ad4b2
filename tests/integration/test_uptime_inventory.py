"""The uptime example: endpoints that a file names, and how often they are checked."""

from __future__ import annotations

import csv
import time
from datetime import timedelta
from pathlib import Path

import pytest
from django.core.management import CommandError, call_command
from pytest_django import Settings

from examples.uptime import endpoints, inventory
from examples.uptime.models import Endpoint, Measurement
from scheduling import Outcome, clock, declarations, runs
from scheduling.models import Job, Listing, Resource, Run, Source, State, Target
from scheduling.sources import Page
from scheduling.sources.progress import listing_of
from scheduling.sync import sync
from tests.factories import NOW
from tests.integration.uptime import Site, add, execute, fresh, target_of
from workers.politeness import key_of

# Celery closes the database connection around a task.
pytestmark = pytest.mark.django_db(transaction=True)

HOUR = timedelta(hours=1)
# One pass over 10,000 lines takes about five seconds; a row at a time it would take minutes.
LONGEST_LISTING = 60.0


@pytest.fixture(autouse=True)
def jobs() -> None:
    sync(now=NOW)


@pytest.fixture
def file(tmp_path: Path, settings: Settings) -> Path:
    settings.UPTIME_ENDPOINTS = path = tmp_path / "endpoints.csv"
    return path


def write(file: Path, *lines: str, columns: str = "name,address") -> None:
    file.write_text("\n".join((columns, *lines, "")), encoding="utf-8")


def run_now(name: str) -> Run:
    job = Job.objects.get(name=name)
    return execute(runs.trigger(job, by="tester", now=clock.now()))


def list_file() -> Run:
    """List the file once, with what follows a listing."""
    run = run_now("inventory.full")
    for follower in Run.objects.filter(parent=run).select_related("job"):
        assert execute(follower).state == State.SUCCEEDED
    return run


def check(name: str) -> Run:
    """Check once and at once, with no attempt after a failed one."""
    Job.objects.filter(name=endpoints.INVENTORY).update(retries=0, polite=None)
    endpoint = Endpoint.objects.get(name=name)
    return execute(endpoints.check_now(endpoint, by="tester", now=clock.now()))


def target(name: str) -> Target:
    return target_of(Endpoint.objects.get(name=name), endpoints.INVENTORY)


# --- the file


def test_ten_thousand_endpoints_are_listed_in_bulk_and_fed_in_portions(file: Path) -> None:
    call_command("uptime_inventory", 10_000, file, hosts=20, verbosity=0)
    began = time.monotonic()
    run = list_file()
    took = time.monotonic() - began
    assert (run.state, run.outcome) == (State.SUCCEEDED, Outcome.CHANGED), run.error
    assert run.output.startswith("Full listing of inventory: 10000 named, 10000 new")
    listed = Target.objects.filter(job__name=endpoints.INVENTORY)
    assert Endpoint.objects.filter(is_listed=True, is_active=True).count() == 10_000
    assert Resource.objects.count() == Listing.objects.count() == 10_000
    assert listed.filter(eligible_since__isnull=False).count() == 10_000
    assert list_file().outcome == Outcome.UNCHANGED
    assert took < LONGEST_LISTING

    job = Job.objects.get(name=endpoints.INVENTORY)
    now = clock.now()
    assert job in runs.jobs_to_feed(now)
    runs.feed(job, runs.Lengths(), now=now)
    assert Run.objects.filter(job=job, state=State.QUEUED).count() == 200


def test_a_line_becomes_a_resource_a_target_and_an_endpoint(file: Path) -> None:
    columns = "name,address,kind,expects,tags"
    write(file, 'shop,http://SHOP.example.org:81/,http_status,"200,404",one two', columns=columns)
    list_file()
    endpoint = Endpoint.objects.get()
    assert (endpoint.name, endpoint.address) == ("shop", "http://SHOP.example.org:81/")
    assert (endpoint.tags, endpoint.is_listed, endpoint.is_up) == ("one two", True, None)
    assert target("shop").kwargs == {
        "address": "http://SHOP.example.org:81/",
        "kind": "http_status",
        "expects": "200,404",
    }
    labels = Resource.objects.get(key="shop").labels
    assert labels == {"host": "shop.example.org", "tags": "one two"}


def test_endpoints_of_one_host_are_counted_together(file: Path) -> None:
    write(
        file,
        "one,http://127.0.0.1:81/",
        "other,redis://127.0.0.1",
        "third,127.0.0.2:22",
        "fourth,unix:///run/valkey.sock",
    )
    list_file()
    polite = declarations.collect().declarations[endpoints.INVENTORY].polite
    assert polite is not None
    assert (polite.at_once, polite.per_second) == (2, 2)
    found = {
        each.key: key_of(polite, each)
        for each in Target.objects.filter(job__name=endpoints.INVENTORY).select_related("resource")
    }
    assert found == {
        "one": "127.0.0.1",
        "other": "127.0.0.1",
        "third": "127.0.0.2",
        "fourth": "/run/valkey.sock",
    }


def test_lines_that_cannot_be_read_are_named_by_number_and_stop_no_other(file: Path) -> None:
    add("by hand")
    write(
        file,
        "good,http://127.0.0.1/,,",
        "spaced,http://127.0.0.1/a b,,",
        "gopher,gopher://127.0.0.1/,,",
        "few,http://127.0.0.1/",
        ",http://127.0.0.1/,,",
        f"{'n' * 101},http://127.0.0.1/,,",
        "long,http://127.0.0.1/" + 1000 * "x" + ",,",
        "kind,http://127.0.0.1/,http_stats,",
        "expects,http://127.0.0.1/,http_status,2xx",
        "by hand,http://127.0.0.1/,,",
        "last,127.0.0.1:22,,",
        columns="name,address,kind,expects",
    )
    output = list_file().output
    told = {
        int(line.split()[1].rstrip(":")): line for line in output.splitlines() if "line" in line
    }
    assert sorted(told) == list(range(3, 12))
    for number, words in (
        (3, "has a space in it"),
        (4, "cannot be probed"),
        (5, "2 columns instead of 4"),
        (6, "its name has 0 characters"),
        (7, "its name has 101 characters"),
        (8, "its address has 1017 characters"),
        (9, "its kind is 'http_stats'; known are http_status"),
        (10, "'2xx' is no HTTP status"),
        (11, "'by hand' was added by hand"),
    ):
        assert words in told[number]
    names = Endpoint.objects.filter(is_listed=True).values_list("name", flat=True)
    assert sorted(names) == ["good", "last"]
    assert not Endpoint.objects.get(name="by hand").is_listed


@pytest.mark.parametrize(
    "address",
    [
        "redis://:s3cret@127.0.0.1:6379",
        "rediss://ann:s3cret@127.0.0.1",
        "redis://:s3c/ret@127.0.0.1",
        "redis://:s3cret@127.0.0.1/a b",
        "unix://:s3cret@/run/valkey.sock",
        "http://ann:s3cret@127.0.0.1/",
        "http://s3cret@127.0.0.1/",
        "http://127.0.0.1:s3cret@127.0.0.1:x/",
        "ann:s3cret@127.0.0.1:22",
    ],
)
def test_an_address_with_a_password_is_refused_and_not_shown(file: Path, address: str) -> None:
    write(file, f"bad,{address}", "good,$REDIS_URL", "also,http://127.0.0.1/@ann")
    run = list_file()
    assert "line 2: its address holds a name or password" in run.output
    assert "write $REDIS_URL" in run.output
    assert "s3c" not in run.output
    assert sorted(Endpoint.objects.values_list("name", flat=True)) == ["also", "good"]
    assert target("good").kwargs["address"] == "$REDIS_URL"


def test_a_file_without_a_column_of_addresses_says_so(file: Path) -> None:
    write(file, "shop,http://127.0.0.1/", columns="name,url")
    assert "line 2: its address has 0 characters" in list_file().output
    assert not Endpoint.objects.exists()


def test_an_endpoint_added_by_hand_meanwhile_stays_as_it_is(file: Path) -> None:
    write(file, "shop,http://127.0.0.1/", "other,http://127.0.0.1/")
    listing = listing_of(Source.objects.get(name="inventory"), full=True, page_size=1)
    pages = inventory.enumerate_file(listing)
    assert isinstance(other := next(pages), Page)
    assert [item.key for item in other.items] == ["shop"]
    add("other")
    list(pages)
    endpoint = Endpoint.objects.get(name="other")
    assert (endpoint.address, endpoint.is_listed) == ("tcp://127.0.0.1:9", False)


def test_an_endpoint_follows_its_line(file: Path) -> None:
    write(file, *(f"{number},127.0.0.1:{number}" for number in range(1, 11)))
    list_file()
    write(file, "1,127.0.0.1:99", *(f"{number},127.0.0.1:{number}" for number in range(2, 10)))
    run = list_file()
    assert "1 gone" in run.output
    assert Endpoint.objects.get(name="1").address == "127.0.0.1:99"
    assert target("1").kwargs["address"] == "127.0.0.1:99"
    assert not Endpoint.objects.get(name="10").is_active
    assert target("10").retired_at is not None
    assert Endpoint.objects.filter(is_active=True).count() == 9
    write(file, *(f"{number},127.0.0.1:{number}" for number in range(1, 11)))
    list_file()
    assert Endpoint.objects.get(name="10").is_active
    assert target("10").retired_at is None


def test_without_a_file_nothing_is_listed_and_a_listing_by_hand_says_why() -> None:
    declared = declarations.collect().declarations
    assert str(declared["inventory.full"].schedule) == "manual"
    run = run_now("inventory.full")
    assert run.state != State.SUCCEEDED
    assert "set UPTIME_ENDPOINTS to a CSV file" in run.error


def test_a_sample_names_no_host_but_this_one(tmp_path: Path) -> None:
    file = tmp_path / "sample.csv"
    call_command("uptime_inventory", 300, file, hosts=254, port=8001, verbosity=0)
    with file.open(encoding="utf-8", newline="") as lines:
        rows = list(csv.DictReader(lines))
    assert len({row["name"] for row in rows}) == len({row["address"] for row in rows}) == 300
    assert len({row["address"].split("/")[2] for row in rows}) == 254
    assert all(row["address"].startswith("http://127.0.0.") for row in rows)
    with pytest.raises(CommandError, match="255 hosts"):
        call_command("uptime_inventory", 1, file, hosts=255)


# --- checks, and when the next one is


def until_next(name: str) -> timedelta | None:
    found = target(name)
    if found.eligible_at is None or found.observed_at is None:
        return None
    return found.eligible_at - found.observed_at


def test_what_changes_is_checked_sooner_and_what_does_not_later(file: Path) -> None:
    with Site() as site:
        write(file, f"site,{site.url}")
        list_file()
        assert check("site").outcome == Outcome.CHANGED
        assert until_next("site") == HOUR / 2
        waits = []
        for body in (b"welcome", b"welcome", b"welcome", b"other", b"another", b"another"):
            site.body = body
            check("site")
            waits.append(until_next("site"))
    assert waits == [HOUR, 2 * HOUR, 4 * HOUR, 2 * HOUR, HOUR, 2 * HOUR]
    endpoint = Endpoint.objects.get()
    assert (endpoint.is_up, endpoint.reliability) == (True, 100)
    assert Measurement.objects.count() == 7


def test_a_line_may_say_what_is_asked(file: Path) -> None:
    with Site() as site:
        columns = "name,address,kind,expects"
        write(
            file,
            f"good,{site.url},body_contains,welcome",
            f"bad,{site.url},body_contains,farewell",
            f"moved,{site.url},,301",
            columns=columns,
        )
        list_file()
        assert check("good").state == State.SUCCEEDED
        failed = check("bad")
        moved = check("moved")
    assert failed.state == State.FAILED
    assert "'farewell' is not in the answer" in failed.error
    assert "HTTP status 200 instead of 301" in moved.error
    assert Endpoint.objects.get(name="bad").reliability == 0


def test_three_failures_pause_an_endpoint_until_the_file_is_listed_again(file: Path) -> None:
    with Site() as site:
        site.status = 500
        write(file, f"site,{site.url}", "other,127.0.0.1:1")
        list_file()
        waits = []
        for _ in range(3):
            assert check("site").state == State.FAILED
            waits.append(until_next("site"))
        assert target("site").paused_by == "Beatkeeper"
        assert target("other").paused_at is None
        assert waits == [HOUR, HOUR, None]
        list_file()
        assert target("site").paused_at is None
        assert target("site").misses == 0


def test_a_line_without_its_row_is_missing(file: Path) -> None:
    write(file, "site,127.0.0.1:1")
    list_file()
    run = endpoints.check_now(Endpoint.objects.get(), by="tester", now=clock.now())
    Endpoint.objects.all().delete()
    assert execute(run).outcome == Outcome.MISSING


def test_a_check_of_the_file_leaves_those_by_hand_alone(file: Path) -> None:
    with Site() as site:
        by_hand = add("by hand")
        write(file, f"site,{site.url}")
        list_file()
        check("site")
    assert fresh(by_hand).is_up is None
