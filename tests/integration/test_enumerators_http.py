"""HTTP listings with paging, against a small server of the tests' own."""

from __future__ import annotations

import json
import threading
import traceback
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
                if isinstance(body, bytes):
                    self.wfile.write(body)  # all of the answer, as it is
                    return
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

    with pytest.raises(UnreadablePage, match=r"shops\?page=… cannot be read: HTTP Error 404"):
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


# --- the next page


@pytest.mark.parametrize(
    ("page", "following"),
    [
        ({"results": []}, "next"),
        ({"results": [], "next": ""}, "next"),
        ({"results": [], "meta": {}}, "meta.next"),
        ({"results": [], "meta": {"next": None}}, "meta.next"),
        ({"results": []}, lambda page: None),
    ],
)
def test_a_page_that_names_no_next_one_is_the_last(site: Site, page: Any, following: Any) -> None:
    site.pages = {"/shops": (200, page)}
    assert all_of(site, listing_of(make_source(), full=True), items="results", next=following) == [
        []
    ]


@pytest.mark.parametrize(
    ("page", "following", "why"),
    [
        ({"results": [], "meta": None}, "meta.next", "NoneType instead of what holds 'next'"),
        ({"results": [], "meta": []}, "meta.next", "list instead of what holds 'next'"),
        ({"results": []}, "meta.next", "it has no 'meta'"),
        ({"results": [], "next": {"page": 2}}, "next", "it has dict"),
        ({"results": [], "next": False}, "next", "it has bool"),
        ({"results": [], "next": 2}, "next", "it has int"),
        ({"results": [], "next": "http://[1"}, "next", "Invalid IPv6"),
        ({"results": []}, lambda page: page["meta"]["next"], "KeyError: 'meta'"),
        ({"results": []}, lambda page: page.meta, "AttributeError"),
        ({"results": []}, lambda page: 1 / 0, "ZeroDivisionError"),
    ],
)
def test_a_next_page_that_cannot_be_read_is_no_end(
    site: Site, page: Any, following: Any, why: str
) -> None:
    site.pages = {"/shops": (200, page)}
    with pytest.raises(UnreadablePage, match=f"does not say which page is next: .*{why}"):
        all_of(site, listing_of(make_source(), full=True), items="results", next=following)


def test_a_function_for_the_entries_that_fails_is_told(site: Site) -> None:
    site.pages = {"/shops": (200, {"found": []})}
    with pytest.raises(UnreadablePage, match=r"has no entries.*KeyError: 'results'"):
        all_of(site, listing_of(make_source(), full=True), items=lambda page: page["results"])


def test_parameters_without_a_value_stay(site: Site) -> None:
    site.pages = {
        "/shops?all=&x=1": (200, {"results": [{"id": "a"}], "next": 2}),
        "/shops?all=&x=1&page=2": (200, {"results": [{"id": "b"}], "next": 3}),
        "/shops?all=&x=1&page=3": (200, {"results": [{"id": "c"}]}),
    }
    listing = listing_of(make_source(), full=True)
    pages = from_pages(
        listing, f"{site.url}/shops?all=&x=1", key="id", items="results", parameter="page"
    )
    assert key_lists(pages) == [["a"], ["b"], ["c"]]


@pytest.mark.parametrize("back", range(1, 5))
def test_pages_that_link_in_a_circle_are_told(site: Site, back: int) -> None:
    site.pages = {
        f"/shops?page={number}": (
            200,
            {"results": [], "next": f"/shops?page={number + 1 if number < 5 else back}"},
        )
        for number in range(1, 6)
    }
    listing = listing_of(make_source(), full=True)
    with pytest.raises(UnreadablePage, match=r"/shops\?page=… comes again.*its paging is broken"):
        list(from_pages(listing, f"{site.url}/shops?page=1", key="id", items="results"))
    assert len(site.asked) <= 15


# --- what goes wrong on the way


@pytest.mark.parametrize(
    ("answer", "why"),
    [
        (b"nonsense\r\n\r\n", "BadStatusLine"),
        (
            b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\nff\r\n[1",
            "IncompleteRead",
        ),
        (b"HTTP/1.1 200 OK\r\nX: " + b"x" * 70_000 + b"\r\n\r\n[]", "LineTooLong"),
    ],
)
def test_answers_that_are_no_http_are_told(site: Site, answer: bytes, why: str) -> None:
    site.pages = {"/shops": (200, answer)}
    with pytest.raises(UnreadablePage, match=f"/shops cannot be read: {why}"):
        all_of(site, listing_of(make_source(), full=True))


SECRET = "s3cret"


@pytest.mark.parametrize(
    "answer",
    [
        (404, "no such page"),
        (200, "{"),
        (200, {}),
        (200, {"results": {}}),
        (200, {"results": [], "next": f"http://elsewhere.example/?key={SECRET}"}),
        (200, {"results": [], "next": f"file:///etc/hostname?key={SECRET}"}),
        (200, {"results": [], "next": f"http://ann:{SECRET}@127.0.0.1/"}),
        (200, {"results": [], "next": f"/shops?key={SECRET} and a space"}),
        (200, {"results": [], "next": f"/shops?{SECRET}#{SECRET}"}),
        (200, {"results": [], "next": f"/shops?key={SECRET}"}),
        (302, f"file:///etc/hostname?key={SECRET}"),
        (302, f"http://elsewhere.example/?key={SECRET}"),
        (302, f"http://ann:{SECRET}@127.0.0.1/"),
        (302, f"/shops?key={SECRET}"),
    ],
)
def test_no_error_shows_what_an_address_keeps_secret(site: Site, answer: tuple[int, Any]) -> None:
    site.pages = {f"/shops?key={SECRET}": answer}
    listing = listing_of(make_source(), full=True)
    with pytest.raises(UnreadablePage) as caught:
        list(from_pages(listing, f"{site.url}/shops?key={SECRET}", key="id", items="results"))
    told = "".join(traceback.format_exception(caught.value))
    assert SECRET not in told
    assert "/shops" in told or "?key=…" in told


def test_an_address_with_a_password_is_refused_without_showing_it() -> None:
    listing = listing_of(make_source(), full=True)
    with pytest.raises(UnreadablePage, match="give it in headers=") as caught:
        list(from_pages(listing, f"https://ann:{SECRET}@api.example/shops", key="id"))
    assert SECRET not in str(caught.value)


def test_entries_that_cannot_be_read_do_not_show_the_query(site: Site) -> None:
    site.pages = {f"/shops?key={SECRET}&all": (200, [7])}
    url = f"{site.url}/shops?key={SECRET}&all"
    result = lists(make_source(), lambda it: from_pages(it, url, key="id"))
    assert f"entry 1 of {site.url}/shops?key=…&…: " in result.output
    assert SECRET not in result.output
