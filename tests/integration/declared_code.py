"""Jobs declared by code, for tests of the sync: `code = pytest.fixture(declared_code)`."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from typing import Any

from scheduling.registry import Declaration, registry
from scheduling.schedules import parse

Declare = Callable[..., Declaration]


def declared_code() -> Iterator[Declare]:
    """Declare a job by code; declaring it again is the next deploy."""
    before = dict(registry._by_name)

    def declare(name: str = "work", schedule: str = "every 1h", **fields: Any) -> Declaration:
        declaration = Declaration(
            name=name,
            kind="task",
            declared_in="function",
            task=f"tests.{name}",
            schedule=parse(schedule),
            **fields,
        )
        registry._by_name[name] = declaration
        return declaration

    yield declare
    registry._by_name = before
