"""Feeds and politeness as values: read from code and from JSON, refused by name."""

from __future__ import annotations

from datetime import timedelta
from typing import Any

import pytest

from scheduling.errors import InvalidDeclaration
from scheduling.feeds import Cooldowns, Express, Feed, Polite

HOUR = timedelta(hours=1)


@pytest.mark.parametrize(
    "feed",
    [
        Feed(),
        Feed(shares={}),
        Feed(shares={"stalest": 1.0, "shop.strategies:PayingFirst": 0.0}, sample=0.1),
        Feed(
            cooldowns=Cooldowns(absolute=HOUR, failed=None),
            express=Express(queue="first", limit=3),
            max_queue_length=10_000,
            threshold=0.2,
        ),
    ],
)
def test_a_feed_comes_back_from_json_as_it_was(feed: Feed) -> None:
    assert Feed.read(feed.as_json()) == feed


@pytest.mark.parametrize(
    "polite", [Polite(at_once=2), Polite(by="label:region", per_second=0.5, group="crawl")]
)
def test_politeness_comes_back_from_json_as_it_was(polite: Polite) -> None:
    assert Polite.read(polite.as_json()) == polite


@pytest.mark.parametrize("value", ["", None, "0s", timedelta(0)])
def test_a_cooldown_can_be_switched_off(value: object) -> None:
    assert Cooldowns.read({"missing": value}).missing is None


def test_cooldowns_are_read_from_text_and_spans() -> None:
    read = Cooldowns.read({"absolute": "1h", "failed": 2 * HOUR})
    assert (read.absolute, read.failed, read.missing) == (HOUR, 2 * HOUR, timedelta(days=31))


def test_values_stand_where_their_json_does() -> None:
    feed = Feed.read({"cooldowns": Cooldowns(absolute=HOUR), "express": Express(queue="first")})
    assert feed == Feed(cooldowns=Cooldowns(absolute=HOUR), express=Express(queue="first"))


@pytest.mark.parametrize(
    ("value", "said"),
    [
        (7, "feed is 7"),
        ({"speed": 1}, "feed has 'speed'; known are shares"),
        ({"shares": ["stalest"]}, "give strategy -> weight"),
        ({"shares": {"newest": 1}}, "'newest'"),
        ({"shares": {"express": 1}}, "'express'"),
        ({"shares": {"shop.strategies:": 1}}, "'shop.strategies:'"),
        ({"shares": {"shop strategies:It": 1}}, "'shop strategies:It'"),
        ({"shares": {3: 1}}, "strategy 3"),
        ({"shares": {"stalest": -1}}, "'stalest' is -1"),
        ({"shares": {"stalest": True}}, "'stalest' is True"),
        ({"shares": {"stalest": float("nan")}}, "nan"),
        ({"max_queue_length": 0}, "from 1 to 10000"),
        ({"max_queue_length": 10_001}, "10001"),
        ({"max_queue_length": True}, "True"),
        ({"threshold": 1}, "from 0 to below 1"),
        ({"threshold": "much"}, "'much'"),
        ({"sample": 0}, "above 0"),
        ({"cooldowns": {"often": "1h"}}, "cooldowns has 'often'"),
        ({"cooldowns": {"failed": "soon"}}, "cooldowns.failed"),
        ({"cooldowns": {"failed": -HOUR}}, "such as 12h"),
        ({"cooldowns": {"failed": 3}}, "such as 12h"),
        ({"cooldowns": {"failed": timedelta(milliseconds=1)}}, "whole number of seconds"),
        ({"express": {}}, "name its queue"),
        ({"express": {"queue": ""}}, "printable"),
        ({"express": {"queue": "first", "limit": 0}}, "express.limit"),
    ],
)
def test_a_wrong_feed_is_refused_by_what_is_wrong(value: Any, said: str) -> None:
    with pytest.raises(InvalidDeclaration) as refused:
        Feed.read(value)
    assert said in str(refused.value)


@pytest.mark.parametrize(
    ("value", "said"),
    [
        ({}, "limits nothing"),
        ({"at_once": 0}, "from 1"),
        ({"at_once": 1, "per_second": 0}, "per second from 1e-05 to 10000"),
        # What takes longer than any calendar has no time to be told.
        ({"per_second": 1e-300}, "per second from 1e-05 to 10000"),
        ({"at_once": 1, "by": "colour"}, "'colour'"),
        ({"at_once": 1, "by": "label:"}, "'label:'"),
        ({"at_once": 1, "group": "\n"}, "printable"),
    ],
)
def test_wrong_politeness_is_refused_by_what_is_wrong(value: Any, said: str) -> None:
    with pytest.raises(InvalidDeclaration) as refused:
        Polite.read(value)
    assert said in str(refused.value)
