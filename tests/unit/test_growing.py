"""What `jobs history --follow` says of an output that grows."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from scheduling.management.verbs.growing import Growing
from workers.output import HeadTail

KEPT = 64
pieces = st.lists(st.binary(max_size=40), max_size=20)


def told(*looks: tuple[str, int], end: bool = True) -> list[list[str]]:
    growing = Growing()
    last = len(looks) - 1
    return [
        growing.lines(text, total, ended=end and number == last)
        for number, (text, total) in enumerate(looks)
    ]


def test_only_what_is_new_is_told_and_only_whole_lines() -> None:
    assert told(
        ("one\ntw", 6), ("one\ntwo\nth", 10), ("one\ntwo\nth", 10), ("one\ntwo\nthree", 13)
    ) == [
        ["one"],
        ["two"],
        [],
        ["three"],
    ]


def test_a_letter_of_which_only_a_part_is_there_is_told_when_it_is_whole() -> None:
    kept = HeadTail(KEPT, KEPT)
    kept.write(b"10 \xe2\x82")
    first = (kept.text(), kept.total)
    kept.write(b"\xac\n")
    assert told(first, (kept.text(), kept.total)) == [[], ["10 \N{EURO SIGN}"]]


def test_bytes_that_are_no_text_are_told_as_they_are_stored() -> None:
    kept = HeadTail(KEPT, KEPT)
    kept.write(b"\xff\0\xff\n")
    first = (kept.text(), kept.total)
    kept.write(b"done\n")
    assert told(first, (kept.text(), kept.total)) == [["\ufffd" * 3], ["done"]]


def test_what_goes_by_between_two_looks_is_counted() -> None:
    kept = HeadTail(16, 8)
    kept.write(b"a\nb\n")
    looks = [(kept.text(), kept.total)]
    kept.write(b"c\n" * 50 + b"y\nz\n")
    looks.append((kept.text(), kept.total))
    kept.write(b"end\n")
    looks.append((kept.text(), kept.total))
    assert told(*looks) == [
        ["a", "b"],
        ["c", "c", "... 92 bytes went by ...", "c", "c", "y", "z"],
        ["end"],
    ]


def test_an_output_that_is_cut_already_is_told_from_its_beginning() -> None:
    kept = HeadTail(16, 8)
    kept.write(b"line 01\nline 02\nline 03\n")
    assert told((kept.text(), kept.total)) == [["line 01", "... 8 bytes went by ...", "line 03"]]


def test_of_an_attempt_of_which_the_end_is_kept_the_rest_is_told() -> None:
    growing = Growing()
    growing.lines("one\ntw", 6, ended=False)
    assert growing.last_lines("ne\ntwo\nthree", 13) == ["two", "three"]
    growing = Growing()
    growing.lines("one\n", 4, ended=False)
    assert growing.last_lines("z\n", 100) == ["... 94 bytes went by ...", "z"]
    assert growing.last_lines("z\n", 100) == []


def test_a_job_may_write_the_words_of_the_cut_itself() -> None:
    text = "a\n... 5 bytes left out ...\nb\n"
    assert told((text, len(text))) == [["a", "... 5 bytes left out ...", "b"]]


@given(pieces)
def test_an_output_that_fits_is_told_whole_however_it_comes(written: list[bytes]) -> None:
    kept = HeadTail(10_000, 100)
    growing, lines = Growing(), []
    for piece in written:
        kept.write(piece)
        lines += growing.lines(kept.text(), kept.total, ended=False)
    lines += growing.lines(kept.text(), kept.total, ended=True)
    assert "\n".join(lines) == kept.text().removesuffix("\n")


@given(st.lists(st.text("ab\n", max_size=30), max_size=20))
def test_a_long_output_seen_often_enough_is_told_without_a_gap(written: list[str]) -> None:
    kept = HeadTail(80, 40)
    growing, lines = Growing(), []
    for piece in written:
        kept.write(piece.encode())
        lines += growing.lines(kept.text(), kept.total, ended=False)
    lines += growing.lines(kept.text(), kept.total, ended=True)
    assert "\n".join(lines) == "".join(written).removesuffix("\n")
