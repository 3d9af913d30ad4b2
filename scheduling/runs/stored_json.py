"""Values of callers as the database keeps them: JSON, and texts without what no database takes."""

from __future__ import annotations

import json
from collections.abc import Mapping
from typing import Any

from scheduling.errors import InvalidRequest


def as_text(value: Any) -> str:
    """JSON that is equal for equal values. Raises InvalidRequest for what is none."""
    try:
        return json.dumps(value, sort_keys=True, allow_nan=False)
    except (TypeError, ValueError, RecursionError) as error:
        raise InvalidRequest(f"{value!r} cannot be kept as JSON: {error}") from error


def sorted_json(value: Mapping[str, Any]) -> dict[str, Any]:
    """The same, with its names in one order: SQLite compares JSON as texts."""
    return dict(json.loads(as_text(value)))


def storable(value: Any) -> Any:
    """The same value, as every database takes it: no NUL and no half character in its texts."""
    if isinstance(value, str):
        return value.replace("\x00", "").encode("utf-8", "replace").decode()
    if isinstance(value, Mapping):
        return {storable(str(name)): storable(each) for name, each in value.items()}
    if isinstance(value, list | tuple):
        return [storable(each) for each in value]
    return value
