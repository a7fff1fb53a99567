"""Panels: their grids and sizes, their axes, and the legend below them."""

import math
from collections.abc import Collection, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import FixedLocator, FuncFormatter, LogLocator, NullLocator

from s3bench.report.analysis.loss_curve import Curve
from s3bench.report.figures.marks import Series
from s3bench.report.figures.style import Look, plain

COLUMNS = 3  # panels in a row, at most
CHARACTER, LINE = 0.06, 0.17  # inches: width of a character of a legend or label, height of a line of a legend
HANDLE = 0.5  # inches: width of a legend's handle, with the space around it
ABOVE_FIRST = 10  # the axis of losses ends at this multiple of the largest first loss
SMALLEST, LARGEST = 1e-150, 1e150  # limits of an axis of losses: beyond them matplotlib's own products overflow
BESIDE = 1.8  # factor from the first and the last x to the ends of their axis


@dataclass(frozen=True, kw_only=True)
class PanelSize:
    """The size of a panel, and what the figure adds for labels, titles and a legend; all in inches."""

    width: float
    height: float
    extra_width: float
    extra_height: float

    def figure(self, rows: int, columns: int) -> Figure:
        """Return an empty figure with room for this many panels."""
        return Figure(figsize=(self.extra_width + self.width * columns, self.extra_height + self.height * rows))

    def grid(self, count: int) -> tuple[Figure, list[Axes]]:
        """Return a figure with this many panels, row by row."""
        figure = self.figure(*grid_shape(count))
        return figure, add_panels(figure, count)


def grid_shape(count: int) -> tuple[int, int]:
    """Return the rows and columns in which this many panels are laid out."""
    columns = min(COLUMNS, count)
    return math.ceil(count / columns), columns


def add_panels(figure: Figure, count: int, heights: Sequence[float] | None = None) -> list[Axes]:
    """Add panels to a figure, row by row; `heights` are those of the rows, relative to each other."""
    grid = figure.subplots(*grid_shape(count), squeeze=False, height_ratios=heights)
    for axes in grid.flat[count:]:
        if heights:
            axes.set_axis_off()  # leaves an empty group in an SVG: figures stay the same byte for byte
        else:
            axes.remove()
    return list(grid.flat[:count])


def names_in(panels: Iterable[Collection[str]], looks: Mapping[str, Look]) -> list[str]:
    """Return the names that at least one panel has, in the order of the looks."""
    panels = list(panels)
    return [name for name in looks if any(name in panel for panel in panels)]


def mark_empty(axes: Axes) -> None:
    """Say in the middle of a panel that there are no runs."""
    axes.text(0.5, 0.5, "no runs", transform=axes.transAxes, ha="center", color="gray")


def add_legend(
    figure: Figure, names: Sequence[str], looks: Mapping[str, Look], labels: Sequence[str] | None = None
) -> None:
    """Add a legend below the panels, with as many columns as fit; the figure grows by the rows after the first."""
    texts = labels or names
    width, height = figure.get_size_inches()
    columns = max(1, min(len(names), int(width / (HANDLE + CHARACTER * max(map(len, texts), default=0)))))
    figure.set_size_inches(width, height + LINE * (math.ceil(len(names) / columns) - 1))
    handles = [Line2D([], [], color=looks[name].colour, marker=looks[name].marker, ms=5) for name in names]
    figure.legend(handles, map(plain, texts), loc="outside lower center", ncols=columns)


def limit_losses(axes: Axes, curves: Sequence[Curve]) -> None:
    """Limit the axis of losses to those of the curves, at most ABOVE_FIRST times the largest first loss."""
    losses = np.concatenate([curve.loss[np.isfinite(curve.loss)] for curve in curves] or [np.ones(1)])
    if not len(losses):
        return
    first = max((float(curve.loss[0]) for curve in curves if np.isfinite(curve.loss[0])), default=1.0)
    limit_axis(axes, losses, ABOVE_FIRST * first if first > 0 else math.inf)


def limit_axis(axes: Axes, losses: npt.NDArray[np.float64], most: float) -> None:
    """Limit the axis to the losses, up to `most`; logarithmic if all are positive."""
    low, top = float(losses.min()), min(float(losses.max()), most)
    if low > 0:
        low, top = (min(max(end, SMALLEST), LARGEST) for end in (low, top))
        _logarithmic(axes, low, top)
        axes.set_ylim(low / 1.1, top * 1.1)
    else:
        low, top = max(low, -LARGEST), min(top, LARGEST)
        axes.set_ylim(low, top if top > low else low + max(1, -low / 10))


def set_value_axis(axes: Axes, series: Iterable[Series], factor: float = 5) -> None:
    """Make the axis of values logarithmic if they are positive and span more than a factor."""
    series = list(series)
    values = [value for one in series for value in (*one.low, *one.high) if math.isfinite(value)]
    values += [value for one in series for _, value in one.points if math.isfinite(value)]
    if values and min(values) > 0 and max(values) > factor * min(values):
        _logarithmic(axes, min(values), max(values))


def _logarithmic(axes: Axes, low: float, high: float) -> None:
    """Make the axis of values logarithmic, with enough ticks between `low` and `high`, as plain numbers."""
    axes.set_yscale("log")
    decades = math.log10(high / low)
    subs = (1, 1.5, 2, 3, 4, 5, 6, 8) if decades < 1 else (1, 2, 5) if decades < 3 else (1,)
    axes.yaxis.set_major_locator(LogLocator(subs=subs))
    axes.yaxis.set_minor_locator(NullLocator())
    axes.yaxis.set_major_formatter(numbers())


def set_places(axes: Axes, series: Iterable[Series], sign: str = "") -> None:
    """Make the axis of x logarithmic with a tick at every x of the series, labelled with a sign and its number."""
    places = sorted({x for one in series for x in (*one.x, *(x for x, _ in one.points))})
    axes.set_xscale("log")
    axes.set_xlim(places[0] / BESIDE, places[-1] * BESIDE)
    _set_ticks(axes, FixedLocator(places), sign)


def set_factors(axes: Axes, last: float) -> None:
    """Make the axis of x logarithmic for factors from 1 to `last`."""
    axes.set_xscale("log")
    _set_ticks(axes, LogLocator(subs=(1, 1.5, 2, 3, 4, 6)))
    axes.set_xlim(1, last)


def _set_ticks(axes: Axes, locator: Any, sign: str = "") -> None:
    axes.xaxis.set_major_locator(locator)
    axes.xaxis.set_minor_locator(NullLocator())
    axes.xaxis.set_major_formatter(numbers(sign))


def numbers(sign: str = "") -> FuncFormatter:
    """Return what writes the ticks of a logarithmic axis as plain numbers after a sign."""
    return FuncFormatter(lambda value, _: f"{sign}{value:g}")
