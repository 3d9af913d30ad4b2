from __future__ import annotations

import pytest
from hypothesis import given
from hypothesis import strategies as st

from workers.output import HeadTail, TextSink, harmless


def kept(*pieces: bytes, limit: int = 10, head: int = 4) -> HeadTail:
    output = HeadTail(limit, head)
    for piece in pieces:
        output.write(piece)
    return output


@pytest.mark.parametrize(
    "pieces", [[b"0123456789"], [b"0123", b"456789"], [bytes([c]) for c in b"0123456789"]]
)
def test_what_fits_is_kept_whole(pieces: list[bytes]) -> None:
    output = kept(*pieces)
    assert output.text() == "0123456789"
    assert output.total == 10


def test_of_more_than_fits_head_and_tail_are_kept_and_the_gap_is_counted() -> None:
    output = kept(b"HEAD" + b"." * 12_345 + b"TAIL66")
    assert output.text() == "HEAD\n... 12,345 bytes left out ...\nTAIL66"
    assert output.total == 12_355


def test_it_can_be_read_in_the_middle_and_goes_on() -> None:
    output = kept(b"0123456789abc")
    assert output.text().endswith("789abc")
    output.write(b"def")
    assert output.text() == "0123\n... 6 bytes left out ...\nabcdef"


@pytest.mark.parametrize(("limit", "head"), [(5, 5), (5, 0), (5, 9), (0, 0)])
def test_either_part_may_be_empty(limit: int, head: int) -> None:
    output = kept(b"0123456789", limit=limit, head=head)
    assert output.total == 10
    assert "5 bytes" in output.text() or limit == 0


@given(st.lists(st.binary(max_size=40), max_size=30), st.integers(0, 50), st.integers(0, 50))
def test_never_more_than_the_limit_and_never_a_wrong_byte(
    pieces: list[bytes], limit: int, head: int
) -> None:
    output = kept(*pieces, limit=limit, head=head)
    whole = b"".join(pieces)
    first, gap, _ = output.text().partition(" bytes left out ...\n")
    if len(whole) <= limit:
        assert first == harmless(whole.decode("utf-8", "replace"))
    else:
        assert gap
        assert int(first.rpartition("... ")[2].replace(",", "")) == len(whole) - limit


def test_memory_stays_bounded_under_a_flood() -> None:
    output = HeadTail(1000, 100)
    for _ in range(10_000):
        output.write(b"x" * 100)
    assert len(output._tail) <= 2 * 900
    assert output.total == 1_000_000


@pytest.mark.parametrize(
    ("data", "text"),
    [
        (b"a\0b", "a\ufffdb"),
        (b"caf\xc3\xa9", "café"),
        (b"\xff\xfe", "\ufffd\ufffd"),
        (b"\xed\xa0\x80", "\ufffd\ufffd\ufffd"),
    ],
)
def test_bytes_that_a_database_refuses_are_replaced(data: bytes, text: str) -> None:
    assert kept(data, limit=100).text() == text


def test_a_lone_surrogate_is_made_harmless() -> None:
    assert harmless("a\ud800b") == "a?b"


def test_a_text_sink_counts_bytes_and_says_how_many_characters_it_took() -> None:
    output = HeadTail(100, 10)
    sink = TextSink(output)
    assert sink.write("café\ud800") == 5
    assert output.text() == "café?"
    assert output.total == 6
    assert not sink.isatty()
