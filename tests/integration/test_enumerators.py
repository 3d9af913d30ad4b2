"""The ready-made enumerators: querysets, generators and files."""

from __future__ import annotations

import json
from collections.abc import Iterator
from datetime import timedelta
from pathlib import Path
from typing import Any

import pytest

from scheduling import Named, clock
from scheduling.errors import InvalidDeclaration
from scheduling.models import Resource, State
from scheduling.sources import (
    Unread,
    from_csv,
    from_generator,
    from_json_lines,
    from_queryset,
)
from scheduling.sources.progress import Listing as InProgress
from scheduling.sources.progress import listing_of
from tests.factories import NOW
from tests.integration.naming import Dies, dying_after, key_lists, keys, lists, make_source, target

pytestmark = pytest.mark.django_db

DAY = timedelta(days=1)


# --- querysets: resources of another kind stand in for a team's table -----------------------------


def rows(*keys: str, seen: Any = NOW) -> None:
    for key in keys:
        row = Resource.objects.create(key=f"row {key}", description=key, labels={"depth": 1})
        Resource.objects.filter(pk=row.pk).update(last_seen_at=seen)


def from_rows(listing: InProgress, **fields: Any) -> Iterator[Any]:
    table = Resource.objects.filter(key__startswith="row ")
    return from_queryset(listing, table, key="description", hint="last_seen_at", **fields)


def test_a_queryset_is_named_page_by_page() -> None:
    rows("a", "b", "c")
    source = make_source()
    listing = listing_of(source, full=True, page_size=2)
    assert key_lists(from_rows(listing)) == [["a", "b"], ["c"]]
    lists(source, lambda listing: from_rows(listing, kwargs=["labels"]), page_size=2)
    assert target("a").kwargs == {"labels": {"depth": 1}}
    assert target("a").hint_at == NOW


def test_rows_that_come_and_go_meanwhile_shift_no_page() -> None:
    rows("a", "b", "c", "d", "e")
    listing = listing_of(make_source(), full=True, page_size=2)
    pages = from_rows(listing)
    assert [item.key for item in next(pages).items] == ["a", "b"]
    Resource.objects.filter(description__in=("a", "c")).delete()
    rows("f")
    assert key_lists(pages) == [["d", "e"], ["f"]]


def test_twenty_rows_at_a_limit_of_twenty_are_one_page() -> None:
    rows(*(f"{n:02}" for n in range(20)))
    listing = listing_of(make_source(), full=True, page_size=20)
    assert [len(page) for page in key_lists(from_rows(listing))] == [20]


def test_a_queryset_goes_on_after_a_kill() -> None:
    rows("a", "b", "c", "d", "e")
    source = make_source()
    with pytest.raises(Dies):
        lists(source, lambda listing: dying_after(2, from_rows(listing)), page_size=2)
    assert keys() == ["a", "b", "c", "d"]
    asked: list[str] = []

    def rest(listing: InProgress) -> Iterator[Any]:
        for page in from_rows(listing):
            asked.extend(named.key for named in page.items)
            yield page

    lists(source, rest, page_size=2)
    assert asked == ["e"]


def test_an_incremental_listing_names_what_has_changed_since_the_last_began() -> None:
    now = clock.now()
    rows("old", seen=now - DAY)
    source = make_source()
    lists(source, from_rows)
    rows("b", "a", seen=clock.now())
    rows("future", seen=clock.now() + DAY)
    source.refresh_from_db()
    listing = listing_of(source, full=False, page_size=1)
    assert key_lists(from_rows(listing)) == [["b"], ["a"]]


def test_rows_of_one_moment_are_neither_skipped_nor_repeated_after_a_kill() -> None:
    rows("a", "b", "c", seen=clock.now())
    source = make_source()
    with pytest.raises(Dies):
        lists(source, lambda listing: dying_after(1, from_rows(listing)), full=False, page_size=2)
    listing = listing_of(source, full=False, page_size=2)
    assert key_lists(from_rows(listing)) == [["c"]]


def test_an_incremental_listing_needs_a_hint() -> None:
    source = make_source()
    listing = listing_of(source, full=False)
    with pytest.raises(InvalidDeclaration, match="without a hint"):
        list(from_queryset(listing, Resource.objects.all(), key="key"))


# --- generators -----------------------------------------------------------------------------------


def test_things_are_read_by_their_fields_or_by_functions() -> None:
    things = [
        {"id": 7, "at": "2026-01-05T12:00:00Z", "owner": {"name": "ann"}, "on": "no"},
        {"id": 8, "at": "", "owner": {"name": "bob"}, "on": True},
        {"name": "without id"},
    ]
    found = list(
        from_generator(
            things,
            key=lambda thing: f"shop {thing['id']}" if "id" in thing else "",
            hint="at",
            kwargs=["owner.name"],
            enabled="on",
        )
    )
    assert found[0] == Named("shop 7", {"owner.name": "ann"}, NOW, enabled=False)
    assert found[1] == Named("shop 8", {"owner.name": "bob"})
    assert isinstance(found[2], Unread)
    assert found[2].where == "entry 3"


@pytest.mark.parametrize(
    ("field", "why"),
    [
        (lambda thing: thing["id"], "KeyError: 'id'"),
        (lambda thing: thing["ids"][3], "IndexError: "),
        (lambda thing: f"shop {100 / thing['zero']}", "ZeroDivisionError: "),
        (lambda thing: thing.id, "AttributeError: "),
        (lambda thing: thing["zero"] + "", "TypeError: "),
        ("id", "it has no 'id'"),
    ],
)
def test_what_a_function_cannot_find_in_a_thing_stops_no_other(field: Any, why: str) -> None:
    things = [{"zero": 0, "ids": []}]
    first, last = from_generator([*things, *things], key=field)
    assert isinstance(first, Unread)
    assert isinstance(last, Unread)
    assert (first.where, last.where) == ("entry 1", "entry 2")
    assert first.why.startswith(why)


# --- files ----------------------------------------------------------------------------------------


def write(path: Path, *lines: str) -> Path:
    path.write_text("".join(f"{line}\n" for line in lines), encoding="utf-8")
    return path


def test_json_lines_are_named_and_bad_ones_told_by_number(tmp_path: Path) -> None:
    path = write(
        tmp_path / "shops.jsonl",
        '{"url": "https://a.example", "depth": 1}',
        "{broken",
        "",
        '{"depth": 2}',
        '["no object"]',
        '{"url": "https://b.example", "depth": 3}',
    )
    source = make_source()
    result = lists(source, lambda it: from_json_lines(it, path, key="url", kwargs=["depth"]))
    assert keys() == ["https://a.example", "https://b.example"]
    assert target("https://b.example").kwargs == {"depth": 3}
    assert result.value["unread"] == 3
    assert "3 could not be read:\n  line 2: it is no JSON" in result.output
    assert "  line 4: it has no 'url'\n  line 5: it is" in result.output


def test_with_lines_that_cannot_be_read_nothing_counts_as_missed(tmp_path: Path) -> None:
    path = tmp_path / "shops.jsonl"
    source = make_source()
    for lines in (('{"key": "a"}', '{"key": "b"}', '{"key": "c"}'), ('{"key": "a"}', "{")):
        write(path, *lines)
        result = lists(source, lambda it: from_json_lines(it, path))
    assert result.state == State.SUCCEEDED
    assert "none of it counts as missed" in result.output
    assert keys(retired_at__isnull=False) == []
    write(path, '{"key": "a"}', '{"key": "b"}')
    lists(source, lambda it: from_json_lines(it, path))
    assert keys(retired_at__isnull=False) == ["c"]


@pytest.mark.parametrize("kind", ["jsonl", "csv"])
def test_a_file_is_gone_on_with_at_the_byte_it_had_come_to(tmp_path: Path, kind: str) -> None:
    texts = [f"shop {number} \N{SNOWMAN}" for number in range(7)]
    path = tmp_path / f"shops.{kind}"
    if kind == "jsonl":
        write(path, *(json.dumps({"key": text, "more": "two\nlines"}) for text in texts))
        read: Any = from_json_lines
    else:
        write(path, "key,more", *(f'{text},"two\nlines"' for text in texts))
        read = from_csv
    source = make_source()
    with pytest.raises(Dies):
        lists(source, lambda it: dying_after(2, read(it, path)), page_size=2)
    assert keys() == texts[:4]
    listing = listing_of(source, full=True, page_size=2)
    assert [key for page in key_lists(read(listing, path)) for key in page] == texts[4:]


def test_another_file_of_the_same_name_is_read_from_its_start(tmp_path: Path) -> None:
    path = write(tmp_path / "shops.jsonl", *(json.dumps({"key": str(n)}) for n in range(6)))
    source = make_source()
    with pytest.raises(Dies):
        lists(source, lambda it: dying_after(1, from_json_lines(it, path)), page_size=2)
    write(path, '{"key": "first"}', '{"key": "second"}')
    listing = listing_of(source, full=True, page_size=2)
    assert [key for page in key_lists(from_json_lines(listing, path)) for key in page] == [
        "first",
        "second",
    ]


def test_csv_rows_are_read_by_their_columns(tmp_path: Path) -> None:
    path = write(
        tmp_path / "shops.csv",
        "\N{BYTE ORDER MARK}url;updated;depth",
        "a;2026-01-05T12:00:00+00:00;1",
        "too;few",
        "b;yesterday;1",
        "c;;3",
    )
    source = make_source()
    result = lists(
        source,
        lambda it: from_csv(
            it, path, key="url", delimiter=";", hint="updated", kwargs=lambda row: {"depth": 1}
        ),
    )
    assert keys() == ["a", "c"]
    assert (target("a").hint_at, target("c").hint_at) == (NOW, None)
    assert "line 3: it has 2 columns instead of 3" in result.output
    assert "line 4: " in result.output


def test_a_csv_file_without_a_heading_has_its_columns_named(tmp_path: Path) -> None:
    path = write(tmp_path / "shops.csv", "1,a", "2,b")
    lists(make_source(), lambda it: from_csv(it, path, columns=("id", "url"), key="url"))
    assert keys() == ["a", "b"]


def test_a_line_without_end_and_bytes_that_are_no_text_stop_no_other(tmp_path: Path) -> None:
    path = tmp_path / "shops.jsonl"
    long = b'{"key": "' + b"x" * (1024 * 1024 + 5) + b'"}\n'
    path.write_bytes(b'{"key": "\xff"}\n' + long + b'{"key": "good"}')
    result = lists(make_source(), lambda it: from_json_lines(it, path))
    assert keys() == ["good"]
    assert "line 1: it is no UTF-8" in result.output
    assert "line 2: it is longer than" in result.output
