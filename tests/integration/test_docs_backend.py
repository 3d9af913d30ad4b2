"""The examples of docs/backend.md do what the page says."""

from __future__ import annotations

import inspect
import re
from typing import Any

import pytest

from scheduling import backend
from scheduling.models import Reason, Run, State, Target
from scheduling.runs.run_end import WORDS
from tests.unit.test_docs import code_in, examples_of, first_column, load, page

pytestmark = pytest.mark.django_db

EXAMPLES = examples_of("docs/backend.md")


def run_to(word: str) -> dict[str, Any]:
    """Run the examples in their order, up to the one with this word; give what that has made."""
    for code in EXAMPLES:
        names = load(code)
        if word in code:
            return names
    raise AssertionError(word)


def test_what_is_registered_and_created_again_is_there_once() -> None:
    run_to("create_targets")
    run_to("create_targets")
    targets = Target.objects.filter(job__name="load_git").order_by("key")
    assert [target.schedule_text for target in targets] == ["every 12h", "every 1h"]


def test_one_offs_are_found_by_their_metadata() -> None:
    names = run_to("metadata={")
    assert (names["urgent"].priority, names["later"].retry_limit) == (1, 3)
    found = load(next(code for code in EXAMPLES if "tickets" in code))["tickets"]
    assert [run.pk for run in found] == [names["later"].pk]


def test_an_executor_claims_starts_and_ends() -> None:
    run_to("claim_ready")
    rendered = Run.objects.filter(name="render")
    assert set(rendered.values_list("state", "outcome")) == {(State.SUCCEEDED, "changed")}
    assert [run.metadata for run in rendered] == [{"pages": 1}] * 3


def test_ends_in_bulk_say_what_became_of_each() -> None:
    names = run_to("end_runs")
    told, (first, second, third) = names["told"], names["runs"]
    assert told.changed == [first.pk, second.pk]
    assert told.unknown == [names["nobody"]]
    assert list(told.refused) == [third.pk]
    second.refresh_from_db()
    assert (second.state, second.reason) == (State.FAILED, Reason.LOST)


def test_every_example_is_run_by_one_of_these() -> None:
    assert len(EXAMPLES) == len(
        [
            word
            for word in ("create_targets", "due_at", "tickets", "claim_ready", "end_runs")
            if word
        ]
    )


def test_every_function_has_its_counterpart_named() -> None:
    text = page("backend")
    functions = {name for name in backend.__all__ if inspect.isfunction(getattr(backend, name))}
    table = text.partition("## Which function stands for which")[2]
    assert functions == {
        name for row in first_column(table) for name in re.findall(r"`(\w+)`", row[0])
    }
    for name in functions:
        assert "The reference" in (inspect.getdoc(getattr(backend, name)) or ""), name


@pytest.mark.parametrize("search", ["search_jobs", "search_targets", "search_runs"])
def test_every_filter_is_listed(search: str) -> None:
    (row,) = [row for row in first_column(page("backend")) if row[0] == f"`{search}`"][:1]
    filters = set(inspect.signature(getattr(backend, search)).parameters)
    assert code_in(row[1]) == filters - {"order", "limit", "after"}


def test_every_word_for_an_end_is_explained() -> None:
    assert set(WORDS) <= {row[0].strip("`") for row in first_column(page("backend"))}
