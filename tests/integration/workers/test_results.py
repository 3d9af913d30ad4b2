from __future__ import annotations

import math
from datetime import timedelta
from typing import Any

import pytest
from celery.exceptions import Retry

from scheduling import Found, Outcome
from scheduling.models import State
from scheduling.outcome import LONGEST_WAIT
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


def test_what_a_job_has_found_says_more_than_an_outcome() -> None:
    told = results.from_return(Found(fingerprint="5e1d", retry_after=timedelta(hours=6)))
    assert told == Result(state=State.SUCCEEDED, fingerprint="5e1d", next_after=timedelta(hours=6))
    missing = results.from_return(Found(outcome=Outcome.MISSING))
    assert missing == Result(state=State.SUCCEEDED, outcome=Outcome.MISSING)


def test_a_wait_beyond_the_calendar_is_cut() -> None:
    told = results.from_return(Found(retry_after=timedelta.max))
    assert told.next_after == LONGEST_WAIT


@pytest.mark.parametrize(
    "wrong",
    [
        {"fingerprint": ""},
        {"fingerprint": "x" * 129},
        {"fingerprint": b"5e1d"},
        {"fingerprint": "5e\x001d"},
        {"fingerprint": "5e1d", "outcome": Outcome.CHANGED},
        {"outcome": "gone"},
        {"retry_after": timedelta(0)},
        {"retry_after": 60},
    ],
)
def test_what_cannot_have_been_found_fails_in_the_job_itself(wrong: dict[str, Any]) -> None:
    with pytest.raises(ValueError, match=r"."):
        Found(**wrong)
