"""Values as Python source: what a person pastes means the value again, and nothing else."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from datetime import UTC, datetime, timedelta
from typing import Any

SECOND = timedelta(seconds=1)
UNITS = (
    ("days", timedelta(days=1)),
    ("hours", timedelta(hours=1)),
    ("minutes", timedelta(minutes=1)),
    ("seconds", SECOND),
    ("microseconds", timedelta.resolution),
)


def literal(value: Any) -> str:
    """Write spans, times, and what JSON has; times need `datetime`, spans `timedelta`."""
    if isinstance(value, str):
        return f'"{escaped(value, quote=True)}"'
    if isinstance(value, timedelta):
        return f"timedelta({', '.join(_parts(value)) or 'seconds=0'})"
    if isinstance(value, datetime):
        return f"datetime.fromisoformat({literal(value.astimezone(UTC).isoformat())})"
    if isinstance(value, Mapping):
        return "{" + ", ".join(f"{literal(k)}: {literal(v)}" for k, v in value.items()) + "}"
    if isinstance(value, list | tuple):
        return "[" + ", ".join(map(literal, value)) + "]"
    return repr(value)


def escaped(text: str, *, quote: bool = False) -> str:
    """Write what cannot be seen as escapes, so that no text ends its line or turns it around."""
    special = '"\\' if quote else ""
    return "".join(
        f"\\{each}"
        if each in special
        else each
        if each.isprintable()
        else each.encode("unicode_escape").decode()
        for each in text
    )


def _parts(span: timedelta) -> Iterator[str]:
    for name, unit in UNITS:
        number, span = divmod(span, unit)
        if number:
            yield f"{name}={number}"
