"""Results as a picture. Needs matplotlib, which is loaded only here."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from math import ceil
from pathlib import Path
from typing import TYPE_CHECKING, Any

from scheduling.errors import SchedulingError
from scheduling.simulation.measures import DAY, Result, Sample
from scheduling.simulation.report import CannotWrite, span

if TYPE_CHECKING:
    from matplotlib.axes import Axes

KINDS = (".png", ".svg")
# Seven colours that people with any colour vision tell apart (Okabe and Ito), and black.
_COLOURS = ("#0072B2", "#D55E00", "#009E73", "#CC79A7", "#E69F00", "#56B4E9", "#000000", "#8A8A8A")
_DASHES = ("-", "--", ":")
_TICKS = (60.0, 600.0, 3600.0, 6 * 3600.0, DAY, 7 * DAY, 30 * DAY, 90 * DAY, 365 * DAY)
_INK, _QUIET, _LINES = "#222222", "#666666", "#DDDDDD"


class CannotPlot(SchedulingError, ValueError):
    """The picture cannot be drawn."""


def require_plot(path: Path) -> None:
    """Refuse at once what could not be drawn after an hour of simulation. Raises CannotPlot."""
    if path.suffix.lower() not in KINDS:
        raise CannotPlot(f"A plot cannot be written to {path.name!r}; end it with .png or .svg")
    try:
        import matplotlib  # noqa: F401
    except ImportError as error:
        raise CannotPlot(
            "Plots need matplotlib, which is not installed; "
            "install it with: pip install 'beatkeeper[simulate]'"
        ) from error


def plot(path: Path, results: Sequence[Result], *, title: str) -> None:
    """Draw coverage, freshness, lag and waste over the time, a line for each result.

    Raises CannotPlot, CannotWrite.
    """
    require_plot(path)
    from matplotlib import rc_context
    from matplotlib.backends.backend_agg import FigureCanvasAgg
    from matplotlib.figure import Figure

    style: Any = {
        "font.size": 10,
        "axes.edgecolor": _LINES,
        "axes.labelcolor": _QUIET,
        "text.color": _INK,
        "xtick.color": _QUIET,
        "ytick.color": _QUIET,
        "svg.hashsalt": "beatkeeper",  # the same results give the same file
    }
    with rc_context(style):
        figure = Figure(figsize=(13, 8.5), layout="constrained")
        FigureCanvasAgg(figure)
        axes = figure.subplots(2, 2, sharex=True)
        panels: Sequence[tuple[Axes, str, Callable[[Sample], float | None]]] = (
            (axes[0, 0], "Checked at least once, of all known", _share("checked", "known")),
            (axes[0, 1], "Fresh: not changed since, of all known", _share("fresh", "known")),
            (axes[1, 0], "Lag from a change to its check, 9 of 10 within", lambda one: one.lag_p90),
            (axes[1, 1], "Waste: checks that found nothing new", lambda one: one.waste),
        )
        for place, heading, value in panels:
            for number, result in enumerate(results):
                place.plot(
                    [each.day for each in result.series],
                    [_or_gap(value(each)) for each in result.series],
                    color=_COLOURS[number % len(_COLOURS)],
                    linestyle=_DASHES[number // len(_COLOURS) % len(_DASHES)],
                    linewidth=1.8,
                    zorder=3 - number / len(results),  # the first one lies on top
                    label=result.scenario.name,
                )
            _dress(place, heading, top=_top(value, results))
        _as_spans(axes[1, 0], results)
        for place in axes[1]:
            place.set_xlabel("days")
        figure.suptitle(title, x=0.01, ha="left", fontsize=13, fontweight="bold")
        handles, labels = axes[0, 0].get_legend_handles_labels()
        figure.legend(
            handles, labels, loc="outside lower left", ncols=min(len(labels), 7), frameon=False
        )
        _save(figure, path)


def _share(part: str, whole: str) -> Callable[[Sample], float | None]:
    def value(one: Sample) -> float | None:
        return getattr(one, part) / getattr(one, whole) if getattr(one, whole) else None

    return value


def _or_gap(value: float | None) -> float:
    return float("nan") if value is None else value


def _top(value: Callable[[Sample], float | None], results: Sequence[Result]) -> float:
    """Give the quarter that no share exceeds."""
    highest = max(value(each) or 0.0 for result in results for each in result.series)
    return min(1.0, ceil(max(highest, 0.01) * 4) / 4)


def _dress(place: Axes, heading: str, *, top: float) -> None:
    from matplotlib.ticker import PercentFormatter

    place.set_title(heading, loc="left", fontsize=11)
    place.grid(axis="y", color=_LINES, linewidth=0.8)
    place.set_axisbelow(True)
    for side in ("top", "right", "left"):
        place.spines[side].set_visible(False)
    place.tick_params(length=0)
    place.margins(x=0.01)
    place.set_ylim(-0.02 * top, 1.02 * top)
    place.yaxis.set_major_formatter(PercentFormatter(1.0, decimals=0))


def _as_spans(place: Axes, results: Sequence[Result]) -> None:
    """Give the axis of the lags ticks that people count in."""
    lags = [
        each.lag_p90 for result in results for each in result.series if each.lag_p90 is not None
    ]
    low, high = max(min(lags, default=60.0), 1.0) / 1.5, max(lags, default=DAY) * 1.5
    place.set_yscale("log")
    place.set_ylim(low, high)
    ticks = [each for each in _TICKS if low <= each <= high]
    place.set_yticks(ticks, [span(each) for each in ticks])
    place.minorticks_off()


def _save(figure: Any, path: Path) -> None:
    kind = path.suffix.lower().removeprefix(".")
    # Without the date of drawing, the same results give the same file.
    metadata: dict[str, Any] = {"Date": None} if kind == "svg" else {"Software": None}
    try:
        figure.savefig(path, format=kind, dpi=130, metadata=metadata)
    except OSError as error:
        raise CannotWrite(f"{str(path)!r} cannot be written: {error}") from error
