"""The figures. They take arrays, draw them and return a figure; they compute nothing."""

import math
from collections.abc import Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any, Literal, NamedTuple

import matplotlib as mpl
import numpy as np
import numpy.typing as npt
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import FixedLocator, FuncFormatter, LogLocator, MaxNLocator, NullLocator

from s3bench.report.analysis.loss_curve import Curve
from s3bench.report.figures.style import COLOURS, STYLE, WARNING, Look, plain

DODGE = 1.12  # factor between optimizers at one multiplier: side by side, not on top of each other
SIDE = 1.05  # the same, between optimizers at one dose
SPREAD = 1.9  # factor between the first and the last of them, at most
CHARACTER, ROW = 0.06, 0.17  # inches: of a legend's text, the width of a character, and a line's height
SMALL, LARGE = 1e-150, 1e150  # of an axis of losses: further out matplotlib's own products overflow
LIFT = 0.008  # between the lines of shares: none hides another


@dataclass
class Series:
    """An optimizer's values over `x`, such as multipliers: `middle` with `low` and `high`; `points`, one per seed."""

    x: list[float] = field(default_factory=list)
    middle: list[float] = field(default_factory=list)
    low: list[float] = field(default_factory=list)
    high: list[float] = field(default_factory=list)
    points: list[tuple[float, float]] = field(default_factory=list)  # (multiplier, value); infinite: drawn at the top


class ShockRow(NamedTuple):
    """A row of `shock_responses`: a panel for each step of the shock, of the optimizers' values against a dose."""

    ylabel: str
    xlabel: str
    panels: Mapping[int, Mapping[str, Series]]  # step of the shock -> optimizer -> values over the doses
    over_time: bool = False  # steps for doses: lines with bands


def loss_curves(
    rows: Mapping[str, Mapping[str, Sequence[Curve]]],
    looks: Mapping[str, Look],
    *,
    share: Literal["row", "all"] = "row",
) -> Figure:
    """Small multiples of raw losses, all seeds of a cell in one panel.

    Spikes are marked by triangles at their peaks, or at the upper edge where the peak lies above it. The upper edge is
    at most ten times the largest first loss. A dotted line is where a run diverged.

    Args:
        rows: row's label -> column's title -> curves; panels that a row lacks stay empty.
        looks: of all columns, in their order.
        share: which panels have one axis of losses.
    """
    columns = [name for name in looks if any(name in row for row in rows.values())]
    everything = [curve for row in rows.values() for curves in row.values() for curve in curves]
    with mpl.rc_context(STYLE):
        figure = Figure(figsize=(1.2 + 1.9 * len(columns), 0.7 + 1.6 * len(rows)))
        grid = figure.subplots(len(rows), len(columns), sharex=True, sharey=share, squeeze=False)
        for axes_of_row, (label, row) in zip(grid, rows.items(), strict=True):
            of_row = [curve for curves in row.values() for curve in curves]
            _limit_losses(axes_of_row[0], of_row if share == "row" else everything)
            axes_of_row[0].set_ylabel(f"{plain(label)}\ntraining loss")
            for axes, name in zip(axes_of_row, columns, strict=True):
                if row.get(name):
                    _draw_curves(axes, row[name], looks[name].colour)
                else:
                    axes.text(0.5, 0.5, "no runs", transform=axes.transAxes, ha="center", color="gray")
        for column, name in enumerate(columns):
            grid[0][column].set_title(plain(name))
            grid[-1][column].set_xlabel("step")
    return figure


def spike_curve(
    curve: Curve, bound: npt.NDArray[np.floating], spans: Sequence[tuple[float, float]], *, title: str, ylabel: str
) -> Figure:
    """One loss, raw and its level, its spikes marked by triangles at their peaks and shaded from onset to end.

    The upper edge is at most ten times the first or the median loss, whichever is larger. `bound` is what a loss must
    exceed to begin a spike, shape (n,); `curve.trend` the level; `spans` are in steps.
    """
    with mpl.rc_context(STYLE):
        figure = Figure(figsize=(7.0, 3.0))
        axes = figure.subplots()
        losses = curve.loss[np.isfinite(curve.loss)]
        if len(losses):
            _limit_axis(axes, losses, max(losses[0], float(np.median(losses))))
        for onset, end in spans:
            axes.axvspan(onset, end, color=WARNING, alpha=0.15, lw=0)
        _draw_curves(axes, [curve], COLOURS[0])
        axes.plot(curve.steps, bound, color=COLOURS[-1], lw=0.8, ls=(0, (3, 1)), rasterized=True)
        handles = [
            Line2D([], [], color=COLOURS[0], lw=0.5, alpha=0.6, label="loss"),
            Line2D([], [], color=COLOURS[0], lw=1.0, label="level"),
            Line2D([], [], color=COLOURS[-1], lw=0.8, ls=(0, (3, 1)), label="level + max(kσ, δ)"),
        ]
        axes.legend(handles=handles, loc="upper right", ncols=3)
        axes.set_title(plain(title), loc="left")
        axes.set_ylabel(plain(ylabel))
        axes.set_xlabel("step")
    return figure


def _limit_losses(axes: Axes, curves: Sequence[Curve]) -> None:
    losses = np.concatenate([curve.loss[np.isfinite(curve.loss)] for curve in curves] or [np.ones(1)])
    if not len(losses):
        return
    first = max((float(curve.loss[0]) for curve in curves if np.isfinite(curve.loss[0])), default=1.0)
    _limit_axis(axes, losses, first)


def _limit_axis(axes: Axes, losses: npt.NDArray[np.float64], usual: float) -> None:
    """From the smallest loss up to the largest, or ten times the usual one; logarithmic where all are positive."""
    low, high = float(losses.min()), float(losses.max())
    top = min(high, 10 * float(usual)) if usual > 0 else high
    if low > 0:
        low, top = (min(max(end, SMALL), LARGE) for end in (low, top))
        _logarithmic(axes, low, top)
        axes.set_ylim(low / 1.1, top * 1.1)
    else:
        low, top = max(low, -LARGE), min(top, LARGE)
        axes.set_ylim(low, top if top > low else low + max(1, -low / 10))


def _draw_curves(axes: Axes, curves: Sequence[Curve], colour: str) -> None:
    bottom, top = axes.get_ylim()
    for curve in curves:
        # Thousands of points each: as an image within SVG and PDF, one for all of a panel, as they are drawn in a row
        axes.plot(curve.steps, curve.loss, color=colour, lw=0.5, alpha=0.4, rasterized=True, zorder=1.9)
        axes.plot(curve.steps, curve.trend, color=colour, lw=1.0)
        heights = [min(max(loss, bottom), top) if math.isfinite(loss) else top for _, loss in curve.peaks]
        if heights:
            places = [step for step, _ in curve.peaks]
            axes.plot(places, heights, "v", color=WARNING, ms=4, mec="white", mew=0.5, zorder=5, clip_on=False)
        if curve.diverged:
            axes.axvline(float(curve.steps[-1]), color=WARNING, lw=1, ls=":")


def over_multipliers(
    panels: Mapping[str, Mapping[str, Series]],
    looks: Mapping[str, Look],
    *,
    ylabel: str,
    beyond: str = "",
    from_zero: bool = False,
    lines: bool = True,
) -> Figure:
    """A panel per task, an optimizer's values over the learning-rate multipliers, a small marker per seed.

    Args:
        panels: title -> optimizer -> series.
        looks: of all optimizers.
        ylabel: the value and its unit.
        beyond: what an infinite value means; such points are drawn on a line above the others that says so.
        from_zero: the axis of values begins at 0; otherwise where they begin.
        lines: connect the multipliers.
    """
    shown = [name for name in looks if any(name in panel for panel in panels.values())]
    columns = min(3, len(panels))
    rows = math.ceil(len(panels) / columns)
    with mpl.rc_context(STYLE):
        figure = Figure(figsize=(0.9 + 3.6 * columns, 0.5 + 2.8 * rows))
        grid = figure.subplots(rows, columns, squeeze=False)
        for axes in grid.flat[len(panels) :]:
            axes.remove()
        for axes, (title, panel) in zip(grid.flat, panels.items(), strict=False):
            here = [name for name in shown if name in panel]
            for place, name in enumerate(here):
                shift = _shift(DODGE, place, len(here))
                _draw_series(axes, panel[name], looks[name], shift, lines)
                _draw_beyond(axes, panel[name], looks[name], shift)
            if any(math.isinf(value) for series in panel.values() for _, value in series.points):
                axes.text(0, 1.04, f"{beyond} ", transform=axes.transAxes, ha="right", va="center", fontsize=6)
            _multiplier_axis(axes, panel)
            if from_zero:
                axes.set_ylim(0, axes.get_ylim()[1])
            else:
                _value_axis(axes, panel)
            axes.set_title(plain(title), pad=16 if beyond else None)
            axes.set_ylabel(ylabel)
        _legend(figure, shown, looks)
    return figure


def reached_curves(
    panels: Mapping[str, Mapping[str, tuple[npt.NDArray[np.float64], npt.NDArray[np.float64]]]],
    looks: Mapping[str, Look],
    horizons: Mapping[str, int],
) -> Figure:
    """A panel per task: the share of runs that reached its target by each step, up to the horizon.

    Args:
        panels: title -> optimizer -> steps and shares, of a rising step function from step 0.
        looks: of all optimizers.
        horizons: title -> horizon.
    """
    with _panels(panels, looks, "runs that reached the target") as (figure, grid):
        for axes, (title, panel) in zip(grid, panels.items(), strict=True):
            for place, (name, (steps, shares)) in enumerate(panel.items()):
                ends = np.append(steps, horizons[title]), np.append(shares, shares[-1])
                _draw_shares(axes, *ends, looks[name], place, len(panel))
            axes.set_xlim(0, horizons[title])
            axes.set_xlabel("step")
    return figure


def profile(
    factors: npt.NDArray[np.float64],
    shares: Mapping[str, npt.NDArray[np.float64]],
    bands: Mapping[str, npt.NDArray[np.float64]],
    looks: Mapping[str, Look],
) -> Figure:
    """A performance profile: the share of problems solved within each factor of the fastest, by optimizer.

    `bands`: the interval of each share, shape (factors, 2), of the optimizers that have one; drawn lightly.
    """
    with _panels({"": shares}, looks, "share of tasks and seeds") as (figure, (axes,)):
        for place, (name, values) in enumerate(shares.items()):
            if name in bands:
                low, high = bands[name].T + LIFT * place
                axes.fill_between(factors, low, high, step="post", color=looks[name].colour, alpha=0.12, lw=0)
            _draw_shares(axes, factors, values, looks[name], place, len(shares))
        axes.set_xscale("log")
        axes.xaxis.set_major_locator(LogLocator(subs=(1, 1.5, 2, 3, 4, 6)))
        axes.xaxis.set_minor_locator(NullLocator())
        axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))
        axes.set_xlim(1, factors[-1])
        axes.set_xlabel("steps to target, in multiples of the fastest optimizer's")
    return figure


def over_axis(
    panels: Mapping[str, Mapping[str, Series]],
    looks: Mapping[str, Look],
    *,
    xlabel: str,
    ylabel: str,
    slope: float | None = None,
) -> Figure:
    """A panel per title: values over x, such as horizons, on logarithmic axes.

    Args:
        panels: title -> series' name -> series; infinite points are drawn above the axis, as diverged.
        looks: of all series.
        xlabel: what the values stand against.
        ylabel: the value and its unit.
        slope: of a dashed line for comparison, y ~ x^slope, from the highest first value on.
    """
    with _panels(panels, looks, ylabel) as (figure, grid):
        for axes, panel in zip(grid, panels.values(), strict=True):
            axes.set_ylim(auto=True)
            _draw_doses(axes, panel, [name for name in looks if name in panel], looks)
            _value_axis(axes, panel, 5 if slope is None else 1)
            axes.set_xlabel(xlabel)
            first = [(s.x[0], s.middle[0]) for s in panel.values() if s.x]
            if slope is not None and first:
                x, y = max(first, key=lambda point: point[1])
                last = max(s.x[-1] for s in panel.values() if s.x)
                axes.plot([x, last], [y, y * (last / x) ** slope], color="black", lw=0.8, ls="--", zorder=1)
                axes.legend([Line2D([], [], color="black", lw=0.8, ls="--")], [f"slope {slope:g}"], loc="upper right")
            if any(math.isinf(value) for series in panel.values() for _, value in series.points):
                axes.set_title(axes.get_title(), pad=16)
    return figure


def bars(panels: Mapping[str, Mapping[str, Series]], looks: Mapping[str, Look], *, xlabel: str) -> Figure:
    """A panel per title, a horizontal bar per optimizer: its `middle` with `low` and `high`, a small marker per seed.

    Each series has one value; the multiplier of its points is not used.
    """
    columns = min(3, len(panels))
    shown = [[name for name in looks if name in panel] for panel in panels.values()]
    of_rows = [shown[start : start + columns] for start in range(0, len(panels), columns)]
    heights = [0.6 + 0.26 * max(map(len, row)) for row in of_rows]
    labels = sum(CHARACTER * max(len(name) for names in shown[at::columns] for name in names) for at in range(columns))
    with mpl.rc_context(STYLE):
        figure = Figure(figsize=(0.5 + labels + 3.0 * columns, 0.4 + sum(heights)))
        grid = figure.subplots(len(of_rows), columns, squeeze=False, height_ratios=heights)
        for axes in grid.flat[len(panels) :]:
            axes.set_axis_off()
        for axes, names, (title, panel) in zip(grid.flat, shown, panels.items(), strict=False):
            for place, name in enumerate(names):
                _draw_bar(axes, panel[name], looks[name], place)
            axes.set_title(plain(title))
            axes.set_yticks(range(len(names)), list(map(plain, names)))
            axes.set_ylim(len(names) - 0.5, -0.5)
            axes.set_xlim(left=0)
            axes.xaxis.set_major_locator(MaxNLocator(4))
            axes.grid(visible=False, axis="y")
            axes.set_xlabel(xlabel)
    return figure


def _draw_bar(axes: Axes, series: Series, look: Look, place: int) -> None:
    """A light bar, so that its interval and seeds are seen on it."""
    (middle,), (low,), (high,) = series.middle, series.low, series.high
    axes.barh(place, middle, height=0.7, color=look.colour, alpha=0.45, lw=0)
    axes.plot([low, high], [place, place], "|-", color="black", ms=6, lw=1.0)
    values = [value for _, value in series.points]
    axes.plot(values, [place + 0.22] * len(values), look.marker, color=look.colour, ms=2.5, mew=0)


def around_onsets(
    panels: Mapping[str, Mapping[str, Sequence[Series]]], looks: Mapping[str, Look], ylabels: Sequence[str]
) -> Figure:
    """A column per title, a row per label: medians with bands against the steps from the onsets of spikes.

    Args:
        panels: title -> optimizer -> a series for each row, over the steps from the onset.
        looks: of all optimizers.
        ylabels: of the rows.
    """
    names = [name for name in looks if any(name in panel for panel in panels.values())]
    with mpl.rc_context(STYLE):
        figure = Figure(figsize=(1.0 + 3.4 * len(panels), 0.8 + 1.7 * len(ylabels)))
        grid = figure.subplots(len(ylabels), len(panels), sharex=True, squeeze=False)
        for column, (title, panel) in enumerate(panels.items()):
            grid[0][column].set_title(plain(title))
            grid[-1][column].set_xlabel("steps from the onset of a spike")
            for row, ylabel in enumerate(ylabels):
                axes = grid[row][column]
                axes.axvline(0, color="black", lw=0.8, ls=":")
                of_row = {name: rows[row] for name, rows in panel.items()}
                _draw_bands(axes, of_row, names, looks)
                _value_axis(axes, of_row)
                axes.set_ylabel(ylabel if column == 0 else "")
        _legend(figure, names, looks)
    return figure


def shock_responses(rows: Sequence[ShockRow], looks: Mapping[str, Look], bounds: Mapping[str, float | None]) -> Figure:
    """Small multiples, a column for each step of the shock: means over the seeds, from the smallest to the largest.

    Args:
        rows: in their order; panels that a row lacks stay empty.
        looks: of all optimizers.
        bounds: of the optimizers' steps, for the legend; None where none is known.
    """
    steps = sorted({step for row in rows for step in row.panels})
    with mpl.rc_context(STYLE):
        figure = Figure(figsize=(1.2 + 2.6 * len(steps), 0.9 + 1.8 * len(rows)))
        grid = figure.subplots(len(rows), len(steps), sharey="row", squeeze=False)
        for of_row, row in zip(grid, rows, strict=True):
            for axes, step in zip(of_row, steps, strict=True):
                axes.set_xlabel(row.xlabel)
                if panel := row.panels.get(step):
                    draw = _draw_bands if row.over_time else _draw_doses
                    draw(axes, panel, [name for name in looks if name in bounds], looks)
                else:
                    axes.text(0.5, 0.5, "no runs", transform=axes.transAxes, ha="center", color="gray")
                    axes.set_xticks([])
            of_row[0].set_ylabel(row.ylabel)
            if not row.over_time:
                _value_axis(of_row[0], {f"{at} {name}": s for at, p in row.panels.items() for name, s in p.items()})
        for axes, step in zip(grid[0], steps, strict=True):
            axes.set_title(f"at step {step:,}", pad=16)
        names = [name for name in looks if name in bounds]
        limits = [f" (≤ {bounds[name]:.3g})" if bounds[name] is not None else "" for name in names]
        _legend(figure, names, looks, [name + limit for name, limit in zip(names, limits, strict=True)])
    return figure


def _shift(factor: float, place: int, count: int) -> float:
    """By which factor the place-th of several optimizers stands beside their common place."""
    step = min(factor, SPREAD ** (1 / max(1, count - 1)))
    return float(step ** (place - (count - 1) / 2))


def _draw_doses(axes: Axes, panel: Mapping[str, Series], names: Sequence[str], looks: Mapping[str, Look]) -> None:
    doses = sorted({dose for series in panel.values() for dose, _ in series.points})
    for place, name in enumerate(names):
        if name in panel:
            shift = _shift(SIDE, place, len(names))
            _draw_series(axes, panel[name], looks[name], shift, lines=True)
            _draw_beyond(axes, panel[name], looks[name], shift)
    if any(math.isinf(value) for series in panel.values() for _, value in series.points):
        axes.text(0, 1.04, "diverged ", transform=axes.transAxes, ha="right", va="center", fontsize=6)
    axes.set_xscale("log")
    axes.set_xlim(doses[0] / 1.8, doses[-1] * 1.8)
    axes.xaxis.set_major_locator(FixedLocator(doses))
    axes.xaxis.set_minor_locator(NullLocator())
    axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))


def _draw_bands(axes: Axes, panel: Mapping[str, Series], names: Sequence[str], looks: Mapping[str, Look]) -> None:
    for name in names:
        if name in panel:
            series, colour = panel[name], looks[name].colour
            axes.fill_between(series.x, series.low, series.high, color=colour, alpha=0.13, lw=0)
            axes.plot(series.x, series.middle, color=colour, lw=1.0)
            every, place = max(1, len(series.x) // 6), names.index(name)
            marked = slice(place * every // len(names), None, every)  # each at other steps than the others
            axes.plot(series.x[marked], series.middle[marked], looks[name].marker, color=colour, ms=3, mew=0)


def _draw_shares(
    axes: Axes, x: npt.NDArray[np.float64], shares: npt.NDArray[np.float64], look: Look, place: int, count: int
) -> None:
    """A step function, lifted by its place, so that none hides another; its marker at the end, beside the axes."""
    lifted = shares + LIFT * place
    axes.plot(x, lifted, drawstyle="steps-post", color=look.colour, lw=1.3, clip_on=False)
    at = axes.get_yaxis_transform()
    beside = 1.03 + min(0.03, 0.2 / count) * place
    axes.plot(beside, lifted[-1], look.marker, color=look.colour, ms=4, transform=at, clip_on=False)


@contextmanager
def _panels(
    panels: Mapping[str, Mapping[str, Any]], looks: Mapping[str, Look], ylabel: str
) -> Iterator[tuple[Figure, list[Axes]]]:
    """A figure with a panel per title for shares from 0 to 1, and a legend."""
    shown = [name for name in looks if any(name in panel for panel in panels.values())]
    columns = min(3, len(panels))
    rows = math.ceil(len(panels) / columns)
    with mpl.rc_context(STYLE):
        figure = Figure(figsize=(0.9 + 3.6 * columns, 0.5 + 2.8 * rows))
        grid = figure.subplots(rows, columns, squeeze=False)
        for axes in grid.flat[len(panels) :]:
            axes.remove()
        for axes, title in zip(grid.flat, panels, strict=False):
            axes.set_title(plain(title))
            axes.set_ylabel(ylabel)
            axes.set_ylim(0, 1.03)
        yield figure, list(grid.flat[: len(panels)])
        _legend(figure, shown, looks)


def _legend(
    figure: Figure, names: Sequence[str], looks: Mapping[str, Look], labels: Sequence[str] | None = None
) -> None:
    """Below the figure, in as many columns as its width has room for; the figure grows by the rows after the first."""
    texts = labels or names
    width, height = figure.get_size_inches()
    columns = max(1, min(len(names), int(width / (0.5 + CHARACTER * max(map(len, texts), default=0)))))
    figure.set_size_inches(width, height + ROW * (math.ceil(len(names) / columns) - 1))
    handles = [Line2D([], [], color=looks[name].colour, marker=looks[name].marker, ms=5) for name in names]
    figure.legend(handles, map(plain, texts), loc="outside lower center", ncols=columns)


def _draw_series(axes: Axes, series: Series, look: Look, shift: float, lines: bool) -> None:
    x = [multiplier * shift for multiplier in series.x]
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
    points = [(multiplier * shift, value) for multiplier, value in series.points if math.isfinite(value)]
    axes.plot([x for x, _ in points], [y for _, y in points], look.marker, color=look.colour, ms=3, alpha=0.7, mew=0)


def _draw_beyond(axes: Axes, series: Series, look: Look, shift: float) -> None:
    """The infinite points, above the axis."""
    x = sorted({multiplier * shift for multiplier, value in series.points if math.isinf(value)})
    if not x:
        return
    style: dict[str, Any] = {"transform": axes.get_xaxis_transform(), "clip_on": False, "mew": 1.2, "mfc": "none"}
    axes.plot(x, [1.04] * len(x), look.marker, color=look.colour, ms=5, **style)


def _value_axis(axes: Axes, panel: Mapping[str, Series], factor: float = 5) -> None:
    """Logarithmic where positive values span more than a factor."""
    values = [value for series in panel.values() for value in (*series.low, *series.high) if math.isfinite(value)]
    values += [value for series in panel.values() for _, value in series.points if math.isfinite(value)]
    if values and min(values) > 0 and max(values) > factor * min(values):
        _logarithmic(axes, min(values), max(values))


def _logarithmic(axes: Axes, low: float, high: float) -> None:
    """A logarithmic axis of values, with plain numbers, enough of them."""
    axes.set_yscale("log")
    decades = math.log10(high / low)
    subs = (1, 1.5, 2, 3, 4, 5, 6, 8) if decades < 1 else (1, 2, 5) if decades < 3 else (1,)
    axes.yaxis.set_major_locator(LogLocator(subs=subs))
    axes.yaxis.set_minor_locator(NullLocator())
    axes.yaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))


def _multiplier_axis(axes: Axes, panel: Mapping[str, Series]) -> None:
    multipliers = {multiplier for series in panel.values() for multiplier in series.x}
    multipliers |= {multiplier for series in panel.values() for multiplier, _ in series.points}
    axes.set_xscale("log")
    axes.set_xlim(min(multipliers) / 1.8, max(multipliers) * 1.8)
    axes.xaxis.set_major_locator(FixedLocator(sorted(multipliers)))
    axes.xaxis.set_minor_locator(NullLocator())
    axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"×{value:g}"))
    axes.set_xlabel("learning rate, in multiples of the task's")
