"""What the uptime example compares answers by."""

from __future__ import annotations

import time
from datetime import timedelta

import pytest

from examples.uptime import net, probes
from examples.uptime.checks import Check
from tests.unit.sockets import LOCALHOST, answering, page, server

TITLED = b"<html><TITLE lang=en>Shop</title><p>%d visitors"
ETAG = 'ETag: "v1"\r\n'


def mark(body: bytes = b"welcome", status: int = 200, etag: str = "") -> str:
    return net.Answer(status=status, body=body, charset="utf-8", location="", etag=etag).mark


@pytest.mark.parametrize(
    ("one", "other", "same"),
    [
        pytest.param(mark(b"a"), mark(b"a"), True, id="the same body"),
        pytest.param(mark(b"a"), mark(b"b"), False, id="another body"),
        pytest.param(mark(b"a"), mark(b"a", 404), False, id="another status"),
        pytest.param(mark(b"a", etag="1"), mark(b"b", etag="1"), True, id="the same ETag"),
        pytest.param(mark(b"a", etag="1"), mark(b"a", etag="2"), False, id="another ETag"),
        pytest.param(mark(TITLED % 1), mark(TITLED % 2), True, id="the same title"),
        pytest.param(mark(b"<title>a</title>"), mark(b"<title>b</title>"), False, id="another"),
        pytest.param(mark(b"<title>a"), mark(b"<title>b"), False, id="a title without an end"),
        pytest.param(mark(b"<title></title>a"), mark(b"<title></title>b"), False, id="empty"),
    ],
)
def test_answers_are_told_apart(one: str, other: str, same: bool) -> None:
    assert (one == other) is same


def test_a_page_made_to_be_slow_to_read_is_not() -> None:
    began = time.monotonic()
    mark(b"<title" * (net.BODY_LIMIT // 6))
    assert time.monotonic() - began < 1


def fingerprint(kind: str, address: str, expects: str = "") -> str:
    result = probes.run(kind, expects, address, timeout=timedelta(seconds=20))
    assert result.ok, result.message
    return Check(results=(result,)).fingerprint


def test_all_http_probes_compare_answers_and_not_their_times() -> None:
    with server(page(b"one", headers=ETAG)) as one, server(page(b"one, too", headers=ETAG)) as two:
        for kind, expects in (
            ("http_status", ""),
            ("body_contains", "one"),
            ("response_time", "20s"),
        ):
            marks = {
                fingerprint(kind, f"http://{LOCALHOST}:{port}/", expects) for port in (one, two)
            }
            assert len(marks) == 1
            assert all(len(each) == 64 for each in marks)


def test_what_is_no_http_is_compared_by_what_it_says() -> None:
    with server(answering()) as port:
        first, second = (fingerprint("tcp_connect", f"{LOCALHOST}:{port}") for _ in range(2))
    assert first == second
