"""Inventories as files, and what simulations write: refused by line, read back as the same."""

from __future__ import annotations

import csv
import sys
from datetime import timedelta
from math import inf
from pathlib import Path
from xml.etree import ElementTree

import pytest

from scheduling.simulation import Result, Scenario, Synthetic, Thing, alone, simulate
from scheduling.simulation.files import (
    InvalidInventory,
    parse_inventory,
    read_inventory,
    write_inventory,
)
from scheduling.simulation.measures import COLUMNS
from scheduling.simulation.plot import CannotPlot, plot, require_plot
from scheduling.simulation.report import HEAD, CannotWrite, rows, span, write_csv

WEEK = timedelta(days=7)
DAY = 86_400.0


@pytest.fixture(scope="module")
def results() -> list[Result]:
    base = Scenario(workers=1, span=WEEK, samples=7)
    things = Synthetic(things=30).make(seed=1, span=WEEK)
    return [simulate(alone(name, base), things) for name in ("mix", "stalest")]


def only(line: str) -> Thing:
    (thing,) = parse_inventory([line], seed=1)
    return thing


@pytest.mark.parametrize(
    ("line", "every"),
    [
        ('{"key": "a", "change_every": 90}', 90.0),
        ('{"key": "a", "change_every": 0.5}', 0.5),
        ('{"key": "a", "change_every": "1d"}', 86_400.0),
        ('{"key": "a", "change_every": null}', inf),
        ('{"key": "a"}', inf),
        (
            '{"key": "a", "changes": ["2027-01-01", "2027-01-04T00:00:00Z", "2027-01-05"]}',
            172_800.0,
        ),
    ],
)
def test_a_line_says_how_often_a_resource_changes(line: str, every: float) -> None:
    assert only(line).change_every == every


def test_a_history_of_changes_is_a_hint_and_other_resources_have_none_unless_they_say_so() -> None:
    history = '{"key": "a", "changes": ["2027-01-01", "2027-01-02"]%s}'
    assert only(history % "").hinted
    assert not only(history % ', "hinted": false').hinted
    assert not only('{"key": "a"}').hinted
    assert only('{"key": "a", "hinted": true}').hinted


def test_when_a_resource_comes_and_goes_may_be_told() -> None:
    thing = only('{"key": "a", "appears_after": "1d", "gone_after": 172800}')
    assert (thing.appears_at, thing.gone_at) == (86_400.0, 172_800.0)


def test_resources_are_in_the_order_in_which_they_appear() -> None:
    lines = ['{"key": "b", "appears_after": "1h"}', "", '{"key": "a"}']
    assert [thing.key for thing in parse_inventory(lines, seed=1)] == ["a", "b"]


@pytest.mark.parametrize(
    ("line", "said"),
    [
        ("nonsense", "'nonsense' is not JSON"),
        ("[" * 100_000, "is not JSON"),
        ("[1]", "no JSON object"),
        ('{"change_every": 1}', "has no key"),
        ('{"key": ""}', "key is ''"),
        ('{"key": 7}', "key is 7"),
        ('{"key": "good"}', "'good' was there before"),
        ('{"key": "a", "colour": "red"}', "has 'colour'; known are key, change_every"),
        ('{"key": "a", "change_every": 0}', "change_every is 0"),
        ('{"key": "a", "change_every": -1}', "change_every is -1"),
        ('{"key": "a", "change_every": true}', "change_every is True"),
        ('{"key": "a", "change_every": NaN}', "change_every is nan"),
        ('{"key": "a", "change_every": "often"}', "Span 'often' cannot be read"),
        ('{"key": "a", "changes": "2027-01-01"}', "list of ISO 8601 times"),
        ('{"key": "a", "changes": ["today", "tomorrow"]}', "list of ISO 8601 times"),
        ('{"key": "a", "changes": ["2027-01-01"]}', "1 different times"),
        (
            '{"key": "a", "changes": ["2027-01-01", "2027-01-02"], "change_every": 1}',
            "both change_every and changes",
        ),
        ('{"key": "a", "hinted": 1}', "hinted is 1"),
        ('{"key": "a", "phase": "1d"}', "phase is '1d'"),
        ('{"key": "a", "gone_after": []}', r"gone_after is \[\]"),
    ],
)
def test_a_bad_line_is_refused_by_its_number(line: str, said: str) -> None:
    with pytest.raises(InvalidInventory, match=f"^Line 3 of the inventory: .*{said}") as refusal:
        parse_inventory(['{"key": "good"}', "", line], seed=1)
    assert vars(refusal.value)["line"] == 3


def test_an_inventory_that_is_empty_away_or_no_text_is_refused(tmp_path: Path) -> None:
    (tmp_path / "bytes").write_bytes(b"\xff\xfe")
    (tmp_path / "empty").touch()
    for name, said in (("bytes", "UTF-8"), ("empty", "is empty"), ("away", "cannot be read")):
        with pytest.raises(InvalidInventory, match=said):
            read_inventory(tmp_path / name, seed=1)
    with pytest.raises(InvalidInventory, match="cannot be written"):
        write_inventory(tmp_path / "no" / "folder", [])


def test_what_is_written_is_read_back_as_the_same_things(tmp_path: Path) -> None:
    things = Synthetic(things=50, per_hour=0.1, missing=0.3).make(seed=3, span=WEEK)
    things.append(Thing(key="steady", change_every=inf, appears_at=WEEK.total_seconds()))
    write_inventory(tmp_path / "things.jsonl", things)
    assert read_inventory(tmp_path / "things.jsonl", seed=99) == things


# --- what is written ------------------------------------------------------------------------------


def test_the_table_has_a_row_for_each_result(results: list[Result]) -> None:
    assert [len(row) for row in rows(results)] == [len(HEAD)] * 2
    assert [row[0] for row in rows(results)] == ["mix", "stalest"]


@pytest.mark.parametrize(
    ("seconds", "text"),
    [(None, "-"), (0.0, "0s"), (59.0, "59s"), (90.0, "1.5m"), (86_400.0, "1d"), (1e6, "12d")],
)
def test_a_span_is_told_in_two_digits(seconds: float | None, text: str) -> None:
    assert span(seconds) == text


def test_the_time_series_is_written_with_a_line_for_each_sample(
    tmp_path: Path, results: list[Result]
) -> None:
    write_csv(tmp_path / "year.csv", results)
    with (tmp_path / "year.csv").open(encoding="utf-8", newline="") as file:
        lines = list(csv.DictReader(file))
    assert list(lines[0]) == list(COLUMNS)
    assert [(line["name"], float(line["day"])) for line in lines] == [
        (name, day) for name in ("mix", "stalest") for day in range(1, 8)
    ]
    with pytest.raises(CannotWrite, match="cannot be written"):
        write_csv(tmp_path / "no" / "folder.csv", results)


def test_the_plot_is_a_picture_and_the_same_one_each_time(
    tmp_path: Path, results: list[Result]
) -> None:
    for name in ("one.png", "one.svg", "two.png", "two.svg"):
        plot(tmp_path / name, results, title="30 resources")
    assert (tmp_path / "one.png").read_bytes().startswith(b"\x89PNG\r\n")
    assert ElementTree.parse(tmp_path / "one.svg").getroot().tag.endswith("svg")
    for kind in ("png", "svg"):
        one, two = (tmp_path / f"{name}.{kind}" for name in ("one", "two"))
        assert one.read_bytes() == two.read_bytes()


def test_a_plot_that_cannot_be_drawn_is_refused_before_anything_is_simulated(
    tmp_path: Path, results: list[Result], monkeypatch: pytest.MonkeyPatch
) -> None:
    with pytest.raises(CannotPlot, match=r"'year.gif'; end it with .png or .svg"):
        require_plot(tmp_path / "year.gif")
    with pytest.raises(CannotWrite, match="cannot be written"):
        plot(tmp_path / "no" / "folder.png", results, title="")
    monkeypatch.setitem(sys.modules, "matplotlib", None)
    with pytest.raises(CannotPlot, match=r"pip install 'beatkeeper\[simulate\]'"):
        require_plot(tmp_path / "year.png")
