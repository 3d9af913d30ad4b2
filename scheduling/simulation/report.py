"""Results for people and for other programs: a table, and the time series as CSV."""

from __future__ import annotations

import csv
from collections.abc import Sequence
from dataclasses import asdict
from pathlib import Path

from scheduling.errors import SchedulingError
from scheduling.simulation.measures import COLUMNS, Result

HEAD = (
    *("STRATEGY", "WORKERS", "CHECKS", "CHANGED", "WASTE", "FAILED", "MISSING"),
    *("CHECKED", "FRESH", "LAG p50", "p90", "p99", "FIRST p90", "BUSY", "QUEUE"),
)
_UNITS = ((86_400 * 365, "y"), (86_400, "d"), (3600, "h"), (60, "m"))


class CannotWrite(SchedulingError, OSError):
    """The file cannot be written."""


def rows(results: Sequence[Result]) -> list[tuple[str, ...]]:
    """Give the cells below HEAD, a row for each result."""
    return [
        (
            each.scenario.name,
            str(each.scenario.workers),
            f"{each.checks:,}",
            f"{each.changed:,}",
            percent(each.waste),
            f"{each.failed:,}",
            f"{each.missing:,}",
            percent(each.checked),
            percent(each.fresh),
            *(span(lag) for lag in (each.lag.p50, each.lag.p90, each.lag.p99)),
            span(each.first_check.p90),
            percent(each.utilisation),
            f"{each.last.open:,}",
        )
        for each in results
    ]


def require_folder(path: Path) -> None:
    """Refuse at once what could not be written after an hour of simulation. Raises CannotWrite."""
    if not path.parent.is_dir():
        raise CannotWrite(f"{str(path)!r} cannot be written: make the folder {str(path.parent)!r}")


def write_csv(path: Path, results: Sequence[Result]) -> None:
    """Write the time series of all results, a line for each sample. Raises CannotWrite."""
    try:
        with path.open("w", encoding="utf-8", newline="") as file:
            writer = csv.DictWriter(file, COLUMNS)
            writer.writeheader()
            for result in results:
                which = {"name": result.scenario.name, "workers": result.scenario.workers}
                writer.writerows(
                    which | asdict(each) | {"waste": each.waste} for each in result.series
                )
    except OSError as error:
        raise CannotWrite(f"{str(path)!r} cannot be written: {error}") from error


def percent(part: float) -> str:
    return f"{part * 100:.1f} %"


def span(seconds: float | None) -> str:
    """Give a span with two digits that count: 1.4d, 1d."""
    if seconds is None:
        return "-"
    for length, unit in _UNITS:
        if seconds >= length:
            count = seconds / length
            text = f"{count:.0f}" if count >= 10 else f"{count:.1f}".removesuffix(".0")
            return f"{text}{unit}"
    return f"{seconds:.0f}s"
