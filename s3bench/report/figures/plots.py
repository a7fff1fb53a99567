"""The figures of a report. Each function takes arrays, draws them and returns a figure; it computes nothing."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Literal

import matplotlib as mpl
import numpy as np
import numpy.typing as npt
from matplotlib.figure import Figure
from matplotlib.lines import Line2D
from matplotlib.ticker import MaxNLocator

from s3bench.report.analysis.loss_curve import Curve
from s3bench.report.figures.marks import (
    DODGE,
    draw_bands,
    draw_bar,
    draw_curves,
    draw_share_band,
    draw_shares,
    draw_side_by_side,
    has_infinite,
)
from s3bench.report.figures.marks import Series as Series  # what the figures take
from s3bench.report.figures.panels import (
    CHARACTER,
    PanelSize,
    add_legend,
    add_panels,
    grid_shape,
    limit_losses,
    mark_empty,
    names_in,
    set_factors,
    set_places,
    set_value_axis,
)
from s3bench.report.figures.style import STYLE, Look, plain

# Sizes in inches
LOSSES = PanelSize(width=1.9, height=1.6, extra_width=1.2, extra_height=0.7)
VALUES = PanelSize(width=3.6, height=2.8, extra_width=0.9, extra_height=0.5)
ONSETS = PanelSize(width=3.4, height=1.7, extra_width=1.0, extra_height=0.8)
SHOCKS = PanelSize(width=2.6, height=1.8, extra_width=1.2, extra_height=0.9)
ONE_CURVE = (7.0, 3.0)
BARS_WIDTH, BAR, BARS_EXTRA = 3.0, 0.26, 0.6  # width of a panel of bars; height of a bar, and of title and axis
SHARE_TOP = 1.03  # upper end of an axis of shares: the lifted lines stay inside
TITLE_PAD = 16  # points between a panel and its title if infinite values are drawn there


@dataclass(frozen=True, kw_only=True)
class ShockRow:
    """A row of `shock_responses`: for each step of the shock a panel with the optimizers' values against a dose."""

    ylabel: str
    xlabel: str
    panels: Mapping[int, Mapping[str, Series]]  # step of the shock -> optimizer -> values over the doses
    over_time: bool = False  # x is steps instead of doses: lines with bands
    names: Mapping[float, str] = field(default_factory=dict)  # of the places on x, if they are no doses


@mpl.rc_context(STYLE)
def loss_curves(
    rows: Mapping[str, Mapping[str, Sequence[Curve]]],
    looks: Mapping[str, Look],
    *,
    share: Literal["row", "all"] = "row",
) -> Figure:
    """Draw small multiples of raw losses, all seeds of a cell in one panel.

    Spikes are marked by triangles at their peaks, or at the upper edge where the peak lies above it. The upper edge is
    at most ten times the largest first loss. A dotted line is where a run diverged.

    Args:
        rows: row's label -> column's title -> curves; a panel that a row lacks stays empty.
        looks: of all columns, in their order.
        share: which panels share one axis of losses.
    """
    columns = names_in(rows.values(), looks)
    everything = [curve for row in rows.values() for curves in row.values() for curve in curves]
    figure = LOSSES.figure(len(rows), len(columns))
    grid = figure.subplots(len(rows), len(columns), sharex=True, sharey=share, squeeze=False)
    for axes_of_row, (label, row) in zip(grid, rows.items(), strict=True):
        of_row = [curve for curves in row.values() for curve in curves]
        limit_losses(axes_of_row[0], of_row if share == "row" else everything)
        axes_of_row[0].set_ylabel(f"{plain(label)}\ntraining loss")
        for axes, name in zip(axes_of_row, columns, strict=True):
            if row.get(name):
                draw_curves(axes, row[name], looks[name].colour)
            else:
                mark_empty(axes)
    for column, name in enumerate(columns):
        grid[0][column].set_title(plain(name))
        grid[-1][column].set_xlabel("step")
    return figure


@mpl.rc_context(STYLE)
def over_multipliers(
    panels: Mapping[str, Mapping[str, Series]],
    looks: Mapping[str, Look],
    *,
    ylabel: str,
    beyond: str = "",
    from_zero: bool = False,
    lines: bool = True,
) -> Figure:
    """Draw the optimizers' values against the learning-rate multipliers, a panel per task, a small marker per seed.

    Args:
        panels: title -> optimizer -> series.
        looks: of all optimizers.
        ylabel: the value and its unit.
        beyond: what an infinite value means; such points are drawn on a line above the others that says so.
        from_zero: begin the axis of values at 0, not at the smallest value.
        lines: connect the multipliers.
    """
    figure, grid = VALUES.grid(len(panels))
    for axes, (title, panel) in zip(grid, panels.items(), strict=True):
        here = names_in([panel], looks)
        draw_side_by_side(axes, panel, here, looks, factor=DODGE, beyond=beyond, lines=lines)
        set_places(axes, panel.values(), sign="×")
        axes.set_xlabel("learning rate, in multiples of the task's")
        if not any(len(series.x) for series in panel.values()):
            axes.set_yticks([])  # all values are beyond
        elif from_zero:
            axes.set_ylim(0, axes.get_ylim()[1])
        else:
            set_value_axis(axes, panel.values())
        axes.set_title(plain(title), pad=TITLE_PAD if beyond else None)
        axes.set_ylabel(ylabel)
    add_legend(figure, names_in(panels.values(), looks), looks)
    return figure


@mpl.rc_context(STYLE)
def reached_curves(
    panels: Mapping[str, Mapping[str, tuple[npt.NDArray[np.float64], npt.NDArray[np.float64]]]],
    looks: Mapping[str, Look],
    horizons: Mapping[str, int],
) -> Figure:
    """Draw the share of runs that reached the target by each step up to the horizon, a panel per task.

    Args:
        panels: title -> optimizer -> steps and shares, of a rising step function from step 0.
        looks: of all optimizers.
        horizons: title -> horizon.
    """
    figure, grid = VALUES.grid(len(panels))
    for axes, (title, panel) in zip(grid, panels.items(), strict=True):
        axes.set_title(plain(title))
        axes.set_ylabel("runs that reached the target")
        axes.set_ylim(0, SHARE_TOP)
        for place, (name, (steps, shares)) in enumerate(panel.items()):
            ends = np.append(steps, horizons[title]), np.append(shares, shares[-1])
            draw_shares(axes, *ends, looks[name], place, len(panel))
        axes.set_xlim(0, horizons[title])
        axes.set_xlabel("step")
    add_legend(figure, names_in(panels.values(), looks), looks)
    return figure


@mpl.rc_context(STYLE)
def profile(
    factors: npt.NDArray[np.float64],
    shares: Mapping[str, npt.NDArray[np.float64]],
    bands: Mapping[str, npt.NDArray[np.float64]],
    looks: Mapping[str, Look],
) -> Figure:
    """Draw a performance profile: the share of problems solved within each factor of the fastest optimizer's steps.

    Args:
        factors: shape (n,), from 1.
        shares: optimizer -> share within each factor, shape (n,).
        bands: optimizer -> interval of each share, shape (n, 2), drawn lightly; of those optimizers that have one.
        looks: of all optimizers.
    """
    figure, (axes,) = VALUES.grid(1)
    axes.set_ylabel("share of tasks and seeds")
    axes.set_ylim(0, SHARE_TOP)
    for place, (name, values) in enumerate(shares.items()):
        if name in bands:
            draw_share_band(axes, factors, bands[name], looks[name], place)
        draw_shares(axes, factors, values, looks[name], place, len(shares))
    set_factors(axes, factors[-1])
    axes.set_xlabel("steps to target, in multiples of the fastest optimizer's")
    add_legend(figure, names_in([shares], looks), looks)
    return figure


@mpl.rc_context(STYLE)
def over_axis(
    panels: Mapping[str, Mapping[str, Series]],
    looks: Mapping[str, Look],
    *,
    xlabel: str,
    ylabel: str,
    slope: float | None = None,
) -> Figure:
    """Draw values against x, such as horizons, on logarithmic axes, a panel per title.

    Args:
        panels: title -> series' name -> series; infinite points are drawn above the axis, as diverged.
        looks: of all series.
        xlabel: what x is, and its unit.
        ylabel: the value and its unit.
        slope: of a dashed line for comparison, y ~ x^slope, from the highest first value on.
    """
    figure, grid = VALUES.grid(len(panels))
    for axes, (title, panel) in zip(grid, panels.items(), strict=True):
        axes.set_ylabel(ylabel)
        draw_side_by_side(axes, panel, names_in([panel], looks), looks)
        set_places(axes, panel.values())
        set_value_axis(axes, panel.values(), 5 if slope is None else 1)
        axes.set_xlabel(xlabel)
        first = [(s.x[0], s.middle[0]) for s in panel.values() if s.x]
        if slope is not None and first:
            x, y = max(first, key=lambda point: point[1])
            last = max(s.x[-1] for s in panel.values() if s.x)
            axes.plot([x, last], [y, y * (last / x) ** slope], color="black", lw=0.8, ls="--", zorder=1)
            axes.legend([Line2D([], [], color="black", lw=0.8, ls="--")], [f"slope {slope:g}"], loc="upper right")
        axes.set_title(plain(title), pad=TITLE_PAD if has_infinite(panel.values()) else None)
    add_legend(figure, names_in(panels.values(), looks), looks)
    return figure


@mpl.rc_context(STYLE)
def bars(panels: Mapping[str, Mapping[str, Series]], looks: Mapping[str, Look], *, xlabel: str) -> Figure:
    """Draw a horizontal bar per optimizer: `middle` with `low` and `high`, a small marker per seed; a panel per title.

    Each series has one value; the x of its points is not used.
    """
    _, columns = grid_shape(len(panels))
    names = [names_in([panel], looks) for panel in panels.values()]
    of_rows = [names[start : start + columns] for start in range(0, len(panels), columns)]
    heights = [BARS_EXTRA + BAR * max(map(len, row)) for row in of_rows]
    labels = sum(CHARACTER * max(len(name) for here in names[at::columns] for name in here) for at in range(columns))
    figure = Figure(figsize=(0.5 + labels + BARS_WIDTH * columns, 0.4 + sum(heights)))
    grid = add_panels(figure, len(panels), heights)
    for axes, here, (title, panel) in zip(grid, names, panels.items(), strict=True):
        for place, name in enumerate(here):
            draw_bar(axes, panel[name], looks[name], place)
        axes.set_title(plain(title))
        axes.set_yticks(range(len(here)), list(map(plain, here)))
        axes.set_ylim(len(here) - 0.5, -0.5)
        axes.set_xlim(left=0)
        axes.xaxis.set_major_locator(MaxNLocator(4))
        axes.grid(visible=False, axis="y")
        axes.set_xlabel(xlabel)
    return figure


@mpl.rc_context(STYLE)
def around_onsets(
    panels: Mapping[str, Mapping[str, Sequence[Series]]], looks: Mapping[str, Look], ylabels: Sequence[str]
) -> Figure:
    """Draw medians with bands against the steps from the onsets of spikes: a column per title, a row per label.

    Args:
        panels: title -> optimizer -> a series for each row, over the steps from the onset.
        looks: of all optimizers.
        ylabels: of the rows.
    """
    names = names_in(panels.values(), looks)
    figure = ONSETS.figure(len(ylabels), len(panels))
    grid = figure.subplots(len(ylabels), len(panels), sharex=True, squeeze=False)
    for column, (title, panel) in enumerate(panels.items()):
        grid[0][column].set_title(plain(title))
        grid[-1][column].set_xlabel("steps from the onset of a spike")
        for row, ylabel in enumerate(ylabels):
            axes = grid[row][column]
            axes.axvline(0, color="black", lw=0.8, ls=":")
            of_row = {name: rows[row] for name, rows in panel.items()}
            draw_bands(axes, of_row, names, looks)
            set_value_axis(axes, of_row.values())
            axes.set_ylabel(ylabel if column == 0 else "")
    add_legend(figure, names, looks)
    return figure


@mpl.rc_context(STYLE)
def shock_responses(rows: Sequence[ShockRow], looks: Mapping[str, Look], bounds: Mapping[str, float | None]) -> Figure:
    """Draw means over the seeds, from the smallest to the largest: a column for each step of the shock.

    Args:
        rows: in their order; a panel that a row lacks stays empty.
        looks: of all optimizers.
        bounds: optimizer -> the largest step that its update rule allows, for the legend; None if none is known.
    """
    names = [name for name in looks if name in bounds]
    steps = sorted({step for row in rows for step in row.panels})
    figure = SHOCKS.figure(len(rows), len(steps))
    grid = figure.subplots(len(rows), len(steps), sharey="row", squeeze=False)
    for of_row, row in zip(grid, rows, strict=True):
        for axes, step in zip(of_row, steps, strict=True):
            axes.set_xlabel(row.xlabel)
            panel = row.panels.get(step)
            if not panel:
                mark_empty(axes)
                axes.set_xticks([])
            elif row.over_time:
                draw_bands(axes, panel, names, looks)
            else:
                draw_side_by_side(axes, panel, names, looks, lines=not row.names)
                set_places(axes, panel.values())
                if row.names:
                    axes.set_xticks(list(row.names), list(map(plain, row.names.values())), rotation=60, ha="right")
        of_row[0].set_ylabel(row.ylabel)
        if not row.over_time:
            set_value_axis(of_row[0], [series for panel in row.panels.values() for series in panel.values()])
    for axes, step in zip(grid[0], steps, strict=True):
        axes.set_title(f"at step {step:,}", pad=TITLE_PAD)
    limits = [f" (≤ {bounds[name]:.3g})" if bounds[name] is not None else "" for name in names]
    add_legend(figure, names, looks, [name + limit for name, limit in zip(names, limits, strict=True)])
    return figure
