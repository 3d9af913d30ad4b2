from __future__ import annotations

import math
from typing import Any

import pytest
from celery.exceptions import Retry

from scheduling import Outcome
from scheduling.models import State
from scheduling.runs import Result
from tests.factories import NOW
from workers import results


class Flaky(ConnectionError):
    pass


@pytest.mark.parametrize(
    ("value", "kept"),
    [
        (None, None),
        (3, 3),
        ("text", "text"),
        ((1, 2), [1, 2]),
        ({"rows": 3, "mean": 0.5, "äß": ["\N{SNOWMAN}"]}, {"rows": 3, "mean": 0.5, "äß": ["☃"]}),
        ({1: 2}, {"1": 2}),
    ],
)
def test_what_a_job_gives_back_is_kept_as_json_has_it(value: Any, kept: Any) -> None:
    assert results.from_return(value) == Result(state=State.SUCCEEDED, value=kept)


ENDLESS: list[Any] = []
ENDLESS.append(ENDLESS)
DEEP: list[Any] = []
for _ in range(100_000):
    DEEP = [DEEP]


@pytest.mark.parametrize(
    "value",
    [object(), {1, 2}, b"bytes", math.nan, math.inf, "\0", "\ud800", {(1, 2): 3}, ENDLESS, DEEP],
    ids=range(10),
)
def test_what_is_nothing_for_json_or_for_postgresql_is_not_kept(
    value: Any,
) -> None:
    assert results.from_return(value) == Result(state=State.SUCCEEDED)


def test_of_values_only_short_ones_are_kept(settings: Any) -> None:
    settings.JOBS_RESULT_LIMIT = 10
    assert results.kept("x" * 8) == "x" * 8
    assert results.kept("x" * 9) is None
    assert results.kept("ä" * 5) is None  # bytes, not characters
    assert results.kept(list(range(1_000_000))) is None


def test_an_outcome_is_no_value() -> None:
    assert results.from_return(Outcome.CHANGED).value is None


def test_an_error_is_known_by_all_its_names() -> None:
    names = results.from_error(Flaky("x")).error_types
    assert names == (
        f"{__name__}.Flaky",
        "Flaky",
        "ConnectionError",
        "OSError",
        "Exception",
    )


def test_a_retry_is_known_by_its_cause() -> None:
    assert "Flaky" in results.from_retry(Retry(exc=Flaky("x")), now=NOW).error_types
