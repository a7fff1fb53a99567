"""The figures. They take arrays, draw them and return a figure; they compute nothing."""

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import matplotlib as mpl
import numpy as np
import numpy.typing as npt
from matplotlib.axes import Axes
from matplotlib.figure import Figure
from matplotlib.ticker import FixedLocator, FuncFormatter, LogLocator, NullLocator

# Okabe and Ito's colours, which the colour-blind tell apart, and markers, for print in grey.
COLOURS = ("#0072B2", "#E69F00", "#009E73", "#CC79A7", "#D55E00", "#56B4E9", "#000000", "#999999", "#F0E442")
MARKERS = ("o", "s", "^", "D", "v", "P", "X", "*", "<")
STYLE: Any = {
    "font.family": "DejaVu Sans",
    "font.size": 8,
    "axes.spines.top": False,
    "axes.spines.right": False,
    "axes.grid": True,
    "axes.titlesize": 9,
    "grid.alpha": 0.25,
    "legend.frameon": False,
    "pdf.fonttype": 42,
    "svg.hashsalt": "s3bench",  # the same figure, the same file
    "figure.constrained_layout.use": True,
}


@dataclass
class Curve:
    """One run's loss: `steps` and `loss` of shape (n,), `peaks` the steps of its spikes' peaks."""

    steps: npt.NDArray[np.int64]
    loss: npt.NDArray[np.float64]
    trend: npt.NDArray[np.float64]  # the running median
    peaks: Sequence[int] = ()
    diverged: bool = False


@dataclass
class Series:
    """An optimizer's values over the multipliers: `points` has each seed's value, `middle`, `low` and `high` a line."""

    multipliers: list[float] = field(default_factory=list)
    middle: list[float] = field(default_factory=list)
    low: list[float] = field(default_factory=list)
    high: list[float] = field(default_factory=list)
    points: list[tuple[float, float]] = field(default_factory=list)  # (multiplier, value); infinite: drawn at the top


def loss_curves(curves: Mapping[tuple[float, str], Sequence[Curve]], title: str) -> Figure:
    """Small multiples, a row per learning-rate multiplier, a column per optimizer: raw losses of all seeds."""
    multipliers = sorted({multiplier for multiplier, _ in curves})
    optimizers = list(dict.fromkeys(optimizer for _, optimizer in curves))
    with mpl.rc_context(STYLE):
        figure = Figure(figsize=(1 + 1.9 * len(optimizers), 0.8 + 1.6 * len(multipliers)))
        grid = figure.subplots(len(multipliers), len(optimizers), sharex=True, sharey=True, squeeze=False)
        for (multiplier, optimizer), runs in curves.items():
            row, column = multipliers.index(multiplier), optimizers.index(optimizer)
            _draw_curves(grid[row][column], runs, COLOURS[column % len(COLOURS)])
        for column, optimizer in enumerate(optimizers):
            grid[0][column].set_title(_plain(optimizer))
            grid[-1][column].set_xlabel("step")
        for row, multiplier in enumerate(multipliers):
            grid[row][0].set_ylabel(f"×{multiplier:g}\ntraining loss")
        _limit_losses(grid[0][0], curves)
        figure.suptitle(_plain(title), fontsize=9)
    return figure


def _draw_curves(axes: Axes, runs: Sequence[Curve], colour: str) -> None:
    for run in runs:
        axes.plot(run.steps, run.loss, color=colour, lw=0.5, alpha=0.35)
        axes.plot(run.steps, run.trend, color=colour, lw=1.0)
        peaks = [step for step in run.peaks if math.isfinite(run.loss[step])]
        axes.plot(peaks, [run.loss[step] for step in peaks], "v", color="#B00000", ms=4, mec="white", mew=0.5, zorder=5)
        if run.diverged:
            axes.axvline(run.steps[-1], color="#B00000", lw=1, ls=":")


def _limit_losses(axes: Axes, curves: Mapping[tuple[float, str], Sequence[Curve]]) -> None:
    """A logarithmic axis where all losses are positive; its upper end at ten times the largest first loss."""
    losses = np.concatenate([run.loss for runs in curves.values() for run in runs] or [np.ones(1)])
    losses = losses[np.isfinite(losses)]
    first = max((float(run.loss[0]) for runs in curves.values() for run in runs if len(run.loss)), default=1.0)
    if len(losses) and losses.min() > 0:
        _logarithmic(axes)
        axes.set_ylim(losses.min() / 1.1, min(losses.max() * 1.1, first * 10))
    elif len(losses):
        axes.set_ylim(None, min(losses.max(), first * 10))


def over_multipliers(
    panels: Mapping[str, Mapping[str, Series]], *, ylabel: str, beyond: str = "", from_zero: bool = False
) -> Figure:
    """A panel per task, a line per optimizer over the learning-rate multipliers, a small marker per seed.

    Args:
        panels: task -> optimizer -> series.
        ylabel: the value and its unit.
        beyond: what an infinite value means; such points are drawn on a line above the others that says so.
        from_zero: the axis of values begins at 0; otherwise where they begin.
    """
    optimizers = list(dict.fromkeys(optimizer for panel in panels.values() for optimizer in panel))
    with mpl.rc_context(STYLE):
        figure = Figure(figsize=(0.9 + 3.4 * len(panels), 3.2))
        row = figure.subplots(1, len(panels), squeeze=False)[0]
        for axes, (task, panel) in zip(row, panels.items(), strict=True):
            for optimizer, series in panel.items():
                index = optimizers.index(optimizer)
                shift = 1.06 ** (index - (len(optimizers) - 1) / 2)  # side by side, not on top of each other
                _draw_series(axes, series, shift, index, _plain(optimizer))
            _draw_beyond(axes, panel, beyond, len(optimizers))
            _multiplier_axis(axes, panel)
            if from_zero:
                axes.set_ylim(bottom=0)
            else:
                _value_axis(axes, panel)
            axes.set_title(_plain(task), pad=16 if beyond else None)
        row[0].set_ylabel(ylabel)
        handles, labels = row[0].get_legend_handles_labels()
        figure.legend(handles, labels, loc="outside lower center", ncols=min(6, max(1, len(labels))))
    return figure


def _draw_series(axes: Axes, series: Series, shift: float, index: int, label: str) -> None:
    colour, marker = COLOURS[index % len(COLOURS)], MARKERS[index % len(MARKERS)]
    x = [multiplier * shift for multiplier in series.multipliers]
    middle, low, high = (np.array(values, dtype=float) for values in (series.middle, series.low, series.high))
    axes.errorbar(
        x, middle, yerr=[middle - low, high - middle], color=colour, marker=marker, ms=5, lw=1.2, capsize=2, label=label
    )
    points = [(multiplier * shift, value) for multiplier, value in series.points if math.isfinite(value)]
    axes.plot([x for x, _ in points], [y for _, y in points], marker, color=colour, ms=2.5, alpha=0.6, mew=0)


def _draw_beyond(axes: Axes, panel: Mapping[str, Series], beyond: str, count: int) -> None:
    """The infinite points, above the axis."""
    drawn = False
    for index, series in enumerate(panel.values()):
        shift = 1.06 ** (index - (count - 1) / 2)
        lost = sorted(multiplier for multiplier, value in series.points if math.isinf(value))
        for multiplier in dict.fromkeys(lost):
            where = (multiplier * shift, 1.04)
            style: dict[str, Any] = {
                "transform": axes.get_xaxis_transform(),
                "clip_on": False,
                "mew": 1.2,
                "mfc": "none",
            }
            axes.plot(*where, MARKERS[index % len(MARKERS)], color=COLOURS[index % len(COLOURS)], ms=5, **style)
            drawn = True
    if drawn:
        axes.text(0.0, 1.04, f"{beyond} ", transform=axes.transAxes, ha="right", va="center", fontsize=6)


def _value_axis(axes: Axes, panel: Mapping[str, Series]) -> None:
    """Logarithmic where positive values span more than a factor of five, with plain numbers."""
    values = [value for series in panel.values() for value in (*series.low, *series.high) if math.isfinite(value)]
    if values and min(values) > 0 and max(values) > 5 * min(values):
        _logarithmic(axes)


def _logarithmic(axes: Axes) -> None:
    """A logarithmic axis of values, with plain numbers."""
    axes.set_yscale("log")
    axes.yaxis.set_major_locator(LogLocator(subs=(1, 2, 5)))
    axes.yaxis.set_minor_locator(NullLocator())
    axes.yaxis.set_major_formatter(FuncFormatter(lambda value, _: f"{value:g}"))


def _multiplier_axis(axes: Axes, panel: Mapping[str, Series]) -> None:
    multipliers = {multiplier for series in panel.values() for multiplier in series.multipliers}
    multipliers |= {multiplier for series in panel.values() for multiplier, _ in series.points}
    axes.set_xscale("log")
    axes.set_xlim(min(multipliers) / 1.6, max(multipliers) * 1.6)
    axes.xaxis.set_major_locator(FixedLocator(sorted(multipliers)))
    axes.xaxis.set_minor_locator(NullLocator())
    axes.xaxis.set_major_formatter(FuncFormatter(lambda value, _: f"×{value:g}"))
    axes.set_xlabel("learning rate, in multiples of the task's")


def save(figure: Figure, file: Path) -> list[Path]:
    """Write the figure as SVG and PNG; the same figure gives the same bytes. Returns the files."""
    files = [file.with_suffix(".svg"), file.with_suffix(".png")]
    with mpl.rc_context(STYLE):
        figure.draw_without_rendering()
        figure.set_layout_engine("none")  # it is laid out; each file would do it again
        figure.savefig(files[0], metadata={"Date": None})
        figure.savefig(files[1], dpi=150, metadata={"Software": None})
    return files


def _plain(text: str) -> str:
    """Text in which matplotlib sees no formula."""
    return text.replace("$", r"\$")
