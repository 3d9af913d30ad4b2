"""CSV files as sources: rows whose quotes do not close, and headers that cannot be used."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest

from scheduling.errors import UnreadableFile
from scheduling.models import State
from scheduling.runs import Result
from scheduling.sources import from_csv
from scheduling.sources.progress import listing_of
from tests.integration.naming import Dies, dying_after, key_lists, keys, lists, make_source

pytestmark = pytest.mark.django_db

FIFTY = [f"k{number:02},y" for number in range(50)]


def write(path: Path, *lines: str) -> Path:
    path.write_text("".join(f"{line}\n" for line in lines), encoding="utf-8")
    return path


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return tmp_path / "shops.csv"


def list_file(file: Path, *lines: str, **fields: Any) -> Result:
    write(file, *lines)
    return lists(make_source(), lambda it: from_csv(it, file, **fields))


# --- rows -----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "more",
    [FIFTY, FIFTY[:10], [*FIFTY[:10], 'z,"closed"']],
    ids=["many lines", "to the end of the file", "to the next quote"],
)
def test_a_quote_that_is_not_closed_swallows_no_other_line(file: Path, more: list[str]) -> None:
    result = list_file(file, "key,note", "a,x", 'b,"oops', *more)
    assert keys() == ["a", *(line.partition(",")[0] for line in more)]
    assert result.value["unread"] == 1
    assert "line 3: it is no row of CSV (is a quote not closed?): " in result.output


def test_what_stands_behind_a_quote_that_is_not_closed_does_not_vanish(file: Path) -> None:
    write(file, "key,note", "a,x", "b,y", *FIFTY)
    source = make_source()
    lists(source, lambda it: from_csv(it, file))
    write(file, "key,note", "a,x", 'b,"oops', *FIFTY[:-1])
    result = lists(source, lambda it: from_csv(it, file))
    assert result.state == State.SUCCEEDED
    assert "none of it counts as missed" in result.output
    assert keys(retired_at__isnull=False) == []


def test_a_row_of_a_few_lines_is_a_row(file: Path) -> None:
    result = list_file(file, "key,note", 'a,"one', "two", 'three"', 'b,"x ""y"" z"')
    assert keys() == ["a", "b"]
    assert result.value["unread"] == 0


def test_a_row_of_very_many_lines_is_told(file: Path) -> None:
    result = list_file(file, "key,note", 'a,"one', *["more"] * 20, 'end"', "b,x")
    assert keys() == ["b"]
    assert "line 2: " in result.output
    assert "it goes on for more than 20 lines" in result.output


def test_a_key_of_two_lines_is_told(file: Path) -> None:
    result = list_file(file, "key,note", '"a', 'b",x', "c,x")
    assert "c" in keys()
    assert not any("\n" in key for key in keys())
    assert "line 2: " in result.output


def test_a_row_with_one_bad_line_among_good_ones_is_told(file: Path) -> None:
    file.write_bytes(b'key,note\na,"\xff\nfine"\nb,x\n')
    result = lists(make_source(), lambda it: from_csv(it, file))
    assert keys() == ["b"]
    assert "line 2: " in result.output
    assert "it is no UTF-8" in result.output


def test_a_file_is_gone_on_with_behind_a_row_that_cannot_be_read(file: Path) -> None:
    write(file, "key,note", "a,x", 'b,"oops', "c,x", "d,x", "e,x")
    source = make_source()
    with pytest.raises(Dies):
        lists(source, lambda it: dying_after(1, from_csv(it, file)), page_size=2)
    assert keys() == ["a", "c"]
    listing = listing_of(source, full=True, page_size=2)
    rest = [key for page in key_lists(from_csv(listing, file)) for key in page]
    assert rest == ["d", "e"]


# --- headers --------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("header", "fields", "why"),
    [
        ("", {}, r"shops\.csv, line 1 names no columns"),
        ("key;note", {}, r"line 1 names the columns 'key;note'; it has no 'key'"),
        ("key,note", {"key": "url"}, r"line 1 names the columns 'key', 'note'; it has no 'url'"),
        ("key,note", {"hint": "changed"}, r"it has no 'changed'"),
        ("key,note", {"kwargs": ["depth"]}, r"it has no 'depth'"),
        ("key,note,key", {}, r"line 1 names 'key' more than once"),
        ('key,"note', {}, r"line 1 cannot be read: it is no row of CSV"),
        ("key,note", {"columns": ("id", "id"), "key": "id"}, r"columns= names 'id' more than once"),
        ("key,note", {"columns": ("id", "url")}, r"columns= names the columns 'id', 'url'; it has"),
    ],
)
def test_a_header_that_cannot_be_used_fails_the_listing(
    file: Path, header: str, fields: dict[str, Any], why: str
) -> None:
    with pytest.raises(UnreadableFile, match=why):
        list_file(file, header, "a,x", **fields)
    assert keys() == []


def test_an_empty_file_names_no_columns(file: Path) -> None:
    with pytest.raises(UnreadableFile, match="names no columns"):
        list_file(file)


def test_a_header_that_is_no_text_fails_the_listing(file: Path) -> None:
    file.write_bytes("key,note\n".encode("utf-16"))
    with pytest.raises(UnreadableFile, match="line 1 cannot be read: it is no UTF-8"):
        lists(make_source(), lambda it: from_csv(it, file))


def test_columns_without_a_name_may_be_several(file: Path) -> None:
    list_file(file, "key,,", "a,,")
    assert keys() == ["a"]


def test_a_function_says_itself_what_it_needs_of_a_row(file: Path) -> None:
    result = list_file(file, "url,note", "a,x", key=lambda row: row["url"])
    assert keys() == ["a"]
    assert result.value["unread"] == 0
