"""Inventories as files: JSON lines, one resource each."""

from __future__ import annotations

import json
import math
from collections.abc import Callable, Iterable, Mapping, Sequence
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

from scheduling.declared_values import LONGEST_KEY
from scheduling.errors import InvalidSpan, SchedulingError
from scheduling.simulation.inventory import Thing, words
from scheduling.spans import parse_span

LONGEST_SPAN = 36_525 * 86_400.0


class InvalidInventory(SchedulingError, ValueError):
    """The file is no inventory."""


def read_inventory(path: Path, *, seed: int) -> list[Thing]:
    """Read the things of a file, in the order in which they appear.

    What a line leaves open is drawn by seed and key. Raises InvalidInventory, which names the line.
    """
    try:
        with path.open(encoding="utf-8") as lines:
            return parse_inventory(lines, seed=seed)
    except OSError as error:
        raise InvalidInventory(f"The inventory {str(path)!r} cannot be read: {error}") from error
    except UnicodeDecodeError as error:
        raise InvalidInventory(
            f"The inventory {str(path)!r} is not text in UTF-8; write JSON lines"
        ) from error


def parse_inventory(lines: Iterable[str], *, seed: int) -> list[Thing]:
    """Raises InvalidInventory, which names the line."""
    things: dict[str, Thing] = {}
    for number, line in enumerate(lines, start=1):
        if not line.strip():
            continue
        try:
            thing = _thing(line, seed)
            if thing.key in things:
                raise InvalidInventory(f"the key {thing.key!r} was there before; name each once")
        except InvalidInventory as error:
            raise InvalidInventory(
                f"Line {number} of the inventory: {error}", line=number
            ) from None
        things[thing.key] = thing
    if not things:
        raise InvalidInventory(
            'The inventory is empty; write lines such as {"key": "a", "change_every": "1d"}'
        )
    return sorted(things.values(), key=lambda thing: thing.appears_at)


def write_inventory(path: Path, things: Sequence[Thing]) -> None:
    """Write what `read_inventory` reads as the same things. Raises InvalidInventory."""
    try:
        with path.open("w", encoding="utf-8") as file:
            file.writelines(f"{json.dumps(_as_json(thing))}\n" for thing in things)
    except OSError as error:
        raise InvalidInventory(f"The inventory {str(path)!r} cannot be written: {error}") from error


def _as_json(thing: Thing) -> dict[str, Any]:
    line: dict[str, Any] = {"key": thing.key, "hinted": thing.hinted}
    if math.isfinite(thing.change_every):
        line |= {"change_every": thing.change_every, "phase": thing.phase}
    if thing.appears_at:
        line["appears_after"] = thing.appears_at
    if math.isfinite(thing.gone_at):
        line["gone_after"] = thing.gone_at
    return line


def _thing(line: str, seed: int) -> Thing:
    try:
        read = json.loads(line)
    except (ValueError, RecursionError) as error:
        raise InvalidInventory(f"{line.strip()[:40]!r} is not JSON ({error})") from None
    if not isinstance(read, dict):
        raise InvalidInventory(f"{line.strip()[:40]!r} is no JSON object")
    for name in read:
        if name not in _READERS:
            raise InvalidInventory(f"it has {name!r}; known are {', '.join(_READERS)}")
    if "key" not in read:
        raise InvalidInventory("it has no key; name the resource")
    given = {name: _READERS[name](value, name) for name, value in read.items()}
    every = _change_every(given)
    drawn = words(seed, given["key"])
    return Thing(
        key=given["key"],
        change_every=every,
        phase=given.get("phase", -drawn[1] * every if math.isfinite(every) else 0.0),
        hinted=given.get("hinted", "changes" in given),
        appears_at=given.get("appears_after", 0.0),
        gone_at=given.get("gone_after", math.inf),
    )


def _change_every(given: Mapping[str, Any]) -> float:
    """Give the period; of a history of changes, their mean distance. Neither: it never changes."""
    if "changes" not in given:
        return float(given.get("change_every", math.inf))
    if "change_every" in given:
        raise InvalidInventory("it has both change_every and changes; give one of them")
    times: list[datetime] = given["changes"]
    return (max(times) - min(times)).total_seconds() / (len(times) - 1)


def _as_key(value: Any, name: str) -> str:
    if isinstance(value, str) and 0 < len(value) <= LONGEST_KEY:
        return value
    raise InvalidInventory(f"{name} is {value!r}; give 1 to {LONGEST_KEY} characters")


def _as_seconds(value: Any, name: str) -> float:
    if isinstance(value, str):
        try:
            value = parse_span(value) / timedelta(seconds=1)
        except InvalidSpan as error:
            raise InvalidInventory(f"{name}: {error}") from None
    if (
        isinstance(value, int | float)
        and not isinstance(value, bool)
        and 0 <= value <= LONGEST_SPAN
    ):
        return float(value)
    raise InvalidInventory(
        f"{name} is {value!r}; give seconds or a span such as 1d, at most a century"
    )


def _as_period(value: Any, name: str) -> float:
    if value is None:
        return math.inf
    if seconds := _as_seconds(value, name):
        return seconds
    raise InvalidInventory(f"{name} is {value!r}; give more than nothing, or null for never")


def _as_phase(value: Any, name: str) -> float:
    if (
        isinstance(value, int | float)
        and not isinstance(value, bool)
        and abs(value) <= LONGEST_SPAN
    ):
        return float(value)
    raise InvalidInventory(
        f"{name} is {value!r}; give seconds from the beginning, at most a century"
    )


def _as_flag(value: Any, name: str) -> bool:
    if isinstance(value, bool):
        return value
    raise InvalidInventory(f"{name} is {value!r}; give true or false")


def _as_times(value: Any, name: str) -> list[datetime]:
    try:
        times = [datetime.fromisoformat(each) for each in value]
        # What names no zone is as good as in UTC here: only distances count.
        times = [each if each.tzinfo else each.replace(tzinfo=UTC) for each in times]
    except (TypeError, ValueError):
        raise InvalidInventory(
            f"{name} is {str(value)[:60]!r}; give a list of ISO 8601 times"
        ) from None
    if len(set(times)) < 2:
        raise InvalidInventory(
            f"{name} has {len(set(times))} different times; give two or more, or change_every"
        )
    return times


_READERS: Mapping[str, Callable[[Any, str], Any]] = {
    "key": _as_key,
    "change_every": _as_period,
    "phase": _as_phase,
    "changes": _as_times,
    "hinted": _as_flag,
    "appears_after": _as_seconds,
    "gone_after": _as_seconds,
}
