"""HTTP listings with paging, against a small server of the tests' own."""

from __future__ import annotations

import json
import threading
from collections.abc import Iterator
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

import pytest

from scheduling import runs
from scheduling.errors import UnreadablePage
from scheduling.models import Listing
from scheduling.sources import from_pages
from scheduling.sources.progress import Listing as InProgress
from scheduling.sources.progress import listing_of
from tests.integration.naming import key_lists, keys, lists, make_fed_job, make_source

pytestmark = pytest.mark.django_db


class Site:
    """A small HTTP server of these pages (path -> status, body); remembers what it was asked."""

    def __init__(self) -> None:
        self.pages: dict[str, tuple[int, Any]] = {}
        self.asked: list[tuple[str, str]] = []
        site = self

        class Handler(BaseHTTPRequestHandler):
            def do_GET(self) -> None:
                site.asked.append((self.path, self.headers.get("Authorization", "")))
                status, body = site.pages.get(self.path, (404, "no such page"))
                self.send_response(status)
                if 300 <= status < 400:
                    self.send_header("Location", body)
                self.end_headers()
                self.wfile.write(
                    body.encode() if isinstance(body, str) else json.dumps(body).encode()
                )

            def log_message(self, *args: Any) -> None:
                """Say nothing."""

        self.server = ThreadingHTTPServer(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self.server.server_port}"
        threading.Thread(target=self.server.serve_forever, args=(0.02,), daemon=True).start()


@pytest.fixture
def site() -> Iterator[Site]:
    site = Site()
    yield site
    site.server.shutdown()
    site.server.server_close()


def all_of(site: Site, listing: InProgress, **fields: Any) -> list[list[str]]:
    return key_lists(from_pages(listing, f"{site.url}/shops", key="id", **fields))


def test_pages_are_followed_by_their_links(site: Site) -> None:
    site.pages = {
        "/shops": (200, {"results": [{"id": "a"}, {"id": "b"}], "next": "/shops?page=2"}),
        "/shops?page=2": (200, {"results": [{"id": "c"}], "next": None}),
    }
    listing = listing_of(make_source(), full=True)
    headers = {"Authorization": "Bearer x"}
    assert all_of(site, listing, items="results", headers=headers) == [["a", "b"], ["c"]]
    assert site.asked == [("/shops", "Bearer x"), ("/shops?page=2", "Bearer x")]


def test_pages_are_followed_by_their_tokens(site: Site) -> None:
    site.pages = {
        "/shops": (200, {"data": {"items": [{"id": 1}]}, "cursor": "x y"}),
        "/shops?after=x+y": (200, {"data": {"items": [{"id": 2}]}, "cursor": ""}),
    }
    listing = listing_of(make_source(), full=True)
    found = all_of(site, listing, items="data.items", next="cursor", parameter="after")
    assert found == [["1"], ["2"]]


def test_a_page_that_fails_is_where_the_next_attempt_goes_on(site: Site) -> None:
    site.pages = {"/shops": (200, {"results": [{"id": "a"}], "next": "/shops?page=2"})}
    source = make_source()

    def enumerate_(listing: InProgress) -> Iterator[Any]:
        return from_pages(listing, f"{site.url}/shops", key="id", items="results")

    with pytest.raises(UnreadablePage, match=r"page=2 cannot be read: HTTP Error 404"):
        lists(source, enumerate_)
    site.pages["/shops?page=2"] = (200, {"results": [{"id": "b"}]})
    assert lists(source, enumerate_).value["seen"] == 2
    assert [path for path, _ in site.asked] == ["/shops", "/shops?page=2", "/shops?page=2"]


@pytest.mark.parametrize(
    ("following", "why"),
    [
        ("http://elsewhere.example/shops", "leads to 'elsewhere.example'"),
        ("file:///etc/hostname", "is no address of a listing"),
        ("/shops", "names itself"),
    ],
)
def test_links_that_lead_away_are_refused(site: Site, following: str, why: str) -> None:
    site.pages = {"/shops": (200, {"results": [], "next": following})}
    with pytest.raises(UnreadablePage, match=why):
        all_of(site, listing_of(make_source(), full=True), items="results")


def test_a_redirection_is_followed_only_where_links_may_lead(site: Site) -> None:
    site.pages = {"/shops": (302, "http://elsewhere.example/shops")}
    with pytest.raises(UnreadablePage, match=r"leads to 'elsewhere\.example'"):
        all_of(site, listing_of(make_source(), full=True))
    site.pages = {"/shops": (302, "/all"), "/all": (200, [{"id": "a"}])}
    assert all_of(site, listing_of(make_source("again", make_fed_job("again")), full=True)) == [
        ["a"]
    ]


def test_an_address_that_is_none_of_http_is_refused() -> None:
    listing = listing_of(make_source(), full=True)
    with pytest.raises(UnreadablePage, match="give one with http or https"):
        list(from_pages(listing, "file:///etc/hostname", key="id"))


@pytest.mark.parametrize(
    ("body", "why"),
    [
        ("[" * 100_000, "is no JSON"),
        ("x" * 500, "is larger than 400 bytes"),
        ({"found": []}, "has no entries at 'results'"),
        ({"results": {}}, "has dict at 'results' instead of a list"),
    ],
)
def test_pages_that_make_no_sense_are_told(site: Site, body: Any, why: str) -> None:
    site.pages = {"/shops": (200, body)}
    largest = 400 if why.startswith("is larger") else 1024 * 1024
    with pytest.raises(UnreadablePage, match=why):
        all_of(site, listing_of(make_source(), full=True), items="results", largest=largest)


def test_entries_that_cannot_be_read_stop_no_other(site: Site) -> None:
    site.pages = {"/shops": (200, [{"id": "a"}, {"name": "b"}, 7])}
    source = make_source()
    result = lists(source, lambda it: from_pages(it, f"{site.url}/shops", key="id"))
    assert keys() == ["a"]
    assert result.value["unread"] == 2
    assert "entry 2 of http://127.0.0.1" in result.output
    assert Listing.objects.filter(source=runs.source_named("customers")).count() == 1
