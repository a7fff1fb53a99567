"""The marks in a panel: loss curves, series with error bars, bands, step functions and bars."""

import math
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
import numpy.typing as npt
from matplotlib.axes import Axes

from s3bench.report.analysis.loss_curve import Curve
from s3bench.report.figures.style import WARNING, Look

DODGE = 1.12  # factor between neighbouring optimizers at one multiplier: side by side, not on top of each other
CLOSE_DODGE = 1.05  # the same at one dose or horizon
SPREAD = 1.9  # the largest factor between the first optimizer and the last
LIFT = 0.008  # between neighbouring step functions, so that none hides another
BEYOND = 1.04  # height of the line of infinite values, in heights of the panel
MARKS_PER_BAND = 6  # markers along the middle of a band


@dataclass(frozen=True, kw_only=True)
class Series:
    """An optimizer's values over `x`, such as multipliers: `middle` with `low` and `high`; `points`, one per seed."""

    x: Sequence[float]
    middle: Sequence[float]
    low: Sequence[float]
    high: Sequence[float]
    points: Sequence[tuple[float, float]] = ()  # (x, value); infinite values are drawn at the top


def has_infinite(series: Iterable[Series]) -> bool:
    """Return whether any point of these series is infinite."""
    return any(math.isinf(value) for one in series for _, value in one.points)


def draw_curves(axes: Axes, curves: Sequence[Curve], colour: str) -> None:
    """Draw losses with their trends, a triangle at each spike's peak and a dotted line where a run diverged.

    A peak outside the axis of losses, whose limits must be set before, is marked at its edge.
    """
    bottom, top = axes.get_ylim()
    for curve in curves:
        # Thousands of points each. SVG and PDF hold them as an image, one per panel if they are drawn in a row.
        axes.plot(curve.steps, curve.loss, color=colour, lw=0.5, alpha=0.4, rasterized=True, zorder=1.9)
        axes.plot(curve.steps, curve.trend, color=colour, lw=1.0)
        heights = [min(max(loss, bottom), top) if math.isfinite(loss) else top for _, loss in curve.peaks]
        if heights:
            places = [step for step, _ in curve.peaks]
            axes.plot(places, heights, "v", color=WARNING, ms=4, mec="white", mew=0.5, zorder=5, clip_on=False)
        if curve.diverged:
            axes.axvline(float(curve.steps[-1]), color=WARNING, lw=1, ls=":")


def draw_side_by_side(
    axes: Axes,
    panel: Mapping[str, Series],
    names: Sequence[str],
    looks: Mapping[str, Look],
    *,
    factor: float = CLOSE_DODGE,
    beyond: str = "diverged",
    lines: bool = True,
) -> None:
    """Draw each optimizer's series with error bars and seeds, shifted so that none hides another.

    Args:
        axes: with a logarithmic axis of x.
        panel: optimizer -> series.
        names: the optimizers that get a place, in this order; a name that the panel lacks leaves its place empty.
        looks: the looks of all names.
        factor: between the places of neighbouring optimizers.
        beyond: the label of the line above the panel that holds the infinite values.
        lines: connect the values.
    """
    for place, name in enumerate(names):
        if name in panel:
            shift = _shift(factor, place, len(names))
            _draw_series(axes, panel[name], looks[name], shift, lines)
            _draw_beyond(axes, panel[name], looks[name], shift)
    if has_infinite(panel.values()):
        axes.text(0, BEYOND, f"{beyond} ", transform=axes.transAxes, ha="right", va="center", fontsize=6)


def _shift(factor: float, place: int, count: int) -> float:
    """Return the factor by which the place-th of `count` optimizers is moved away from their common x."""
    step = min(factor, SPREAD ** (1 / max(1, count - 1)))
    return float(step ** (place - (count - 1) / 2))


def _draw_series(axes: Axes, series: Series, look: Look, shift: float, lines: bool) -> None:
    x = [at * shift for at in series.x]
    middle, low, high = (np.array(values, dtype=float) for values in (series.middle, series.low, series.high))
    bars = np.maximum(0, [middle - low, high - middle])  # the mean of equal numbers may differ from them by rounding
    style: dict[str, Any] = {
        "color": look.colour,
        "marker": look.marker,
        "ms": 5,
        "lw": 1.2,
        "capsize": 2,
        "clip_on": False,
    }
    if x:  # an unclipped line without points would upset the layout
        axes.errorbar(x, middle, yerr=bars, ls="-" if lines else "none", elinewidth=0.8, **style)
    points = [(at * shift, value) for at, value in series.points if math.isfinite(value)]
    axes.plot([x for x, _ in points], [y for _, y in points], look.marker, color=look.colour, ms=3, alpha=0.7, mew=0)


def _draw_beyond(axes: Axes, series: Series, look: Look, shift: float) -> None:
    """Draw the infinite points on a line above the panel."""
    x = sorted({at * shift for at, value in series.points if math.isinf(value)})
    if not x:
        return
    style: dict[str, Any] = {"transform": axes.get_xaxis_transform(), "clip_on": False, "mew": 1.2, "mfc": "none"}
    axes.plot(x, [BEYOND] * len(x), look.marker, color=look.colour, ms=5, **style)


def draw_bands(axes: Axes, panel: Mapping[str, Series], names: Sequence[str], looks: Mapping[str, Look]) -> None:
    """Draw the middle of each series as a line, from `low` to `high` a band; markers tell the lines apart."""
    for name in names:
        if name in panel:
            series, colour = panel[name], looks[name].colour
            axes.fill_between(series.x, series.low, series.high, color=colour, alpha=0.13, lw=0)
            axes.plot(series.x, series.middle, color=colour, lw=1.0)
            every, place = max(1, len(series.x) // MARKS_PER_BAND), names.index(name)
            marked = slice(place * every // len(names), None, every)  # not at the same steps as the other optimizers'
            axes.plot(series.x[marked], series.middle[marked], looks[name].marker, color=colour, ms=3, mew=0)


def draw_shares(
    axes: Axes, x: npt.NDArray[np.float64], shares: npt.NDArray[np.float64], look: Look, place: int, count: int
) -> None:
    """Draw a step function, the place-th of `count`, lifted by its place; its marker is beside the axes, at its end."""
    lifted = shares + LIFT * place
    axes.plot(x, lifted, drawstyle="steps-post", color=look.colour, lw=1.3, clip_on=False)
    at = axes.get_yaxis_transform()
    beside = 1.03 + min(0.03, 0.2 / count) * place
    axes.plot(beside, lifted[-1], look.marker, color=look.colour, ms=4, transform=at, clip_on=False)


def draw_share_band(
    axes: Axes, x: npt.NDArray[np.float64], band: npt.NDArray[np.float64], look: Look, place: int
) -> None:
    """Draw the interval of a step function, shape (len(x), 2), lifted as the function is."""
    low, high = band.T + LIFT * place
    axes.fill_between(x, low, high, step="post", color=look.colour, alpha=0.12, lw=0)


def draw_bar(axes: Axes, series: Series, look: Look, place: int) -> None:
    """Draw a horizontal bar, light enough to show its interval and its seeds."""
    (middle,), (low,), (high,) = series.middle, series.low, series.high
    axes.barh(place, middle, height=0.7, color=look.colour, alpha=0.45, lw=0)
    axes.plot([low, high], [place, place], "|-", color="black", ms=6, lw=1.0)
    values = [value for _, value in series.points]
    axes.plot(values, [place + 0.22] * len(values), look.marker, color=look.colour, ms=2.5, mew=0)
