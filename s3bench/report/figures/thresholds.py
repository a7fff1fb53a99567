"""The figure of the learning rates at which losses left."""

import math
from collections.abc import Mapping, Sequence
from functools import partial
from typing import Any

import matplotlib as mpl
from matplotlib.axes import Axes
from matplotlib.figure import Figure

from s3bench.report.analysis.results import Results
from s3bench.report.analysis.runs import Run, grouped
from s3bench.report.analysis.thresholds import threshold_table
from s3bench.report.figures.captions import Drawing, caption
from s3bench.report.figures.panels import CHARACTER, add_panels, grid_shape, names_in, numbers
from s3bench.report.figures.style import STYLE, Look, plain

WIDTH, LINE, EXTRA = 2.6, 0.22, 0.75  # inches: of a panel without its labels, of a row, of title and axis
BESIDE = 1.5  # factor from the first and the last rate to the ends of their axis
BELOW = 0.24  # rows from a mean to its seeds


def threshold_drawings(results: Results, looks: Mapping[str, Look]) -> dict[str, Drawing]:
    """Return the figure if there is a ramp with a result, by its name."""
    ramps = [run for run in results.ramps if run.has_result]
    if not ramps:
        return {}
    rows = {(row["task"], row["optimizer"]): row for row in threshold_table(results).to_dict("records")}
    return {"thresholds": Drawing(caption("thresholds", ramps), partial(threshold_dots, ramps, rows, looks))}


@mpl.rc_context(STYLE)
def threshold_dots(
    ramps: Sequence[Run], rows: Mapping[tuple[str, str], Mapping[Any, Any]], looks: Mapping[str, Look]
) -> Figure:
    """Draw a panel per task and in it a row per optimizer: the mean with its interval, and every seed below it.

    Args:
        ramps: with a result.
        rows: those of threshold_table, by task and optimizer.
        looks: of all optimizers.
    """
    tasks = grouped(ramps, "task_label")
    names = {task: names_in([grouped(runs, "optimizer_label")], looks) for task, runs in tasks.items()}
    count, columns = grid_shape(len(tasks))
    heights = [EXTRA + LINE * max(map(len, names.values()))] * count
    label = CHARACTER * max(len(name) for own in names.values() for name in own)
    figure = Figure(figsize=((WIDTH + label) * columns, sum(heights)))
    for axes, (task, runs) in zip(add_panels(figure, len(tasks), heights), tasks.items(), strict=True):
        for place, name in enumerate(names[task]):
            _draw_row(axes, rows[task, name], looks[name], place)
            _draw_seeds(axes, [run for run in runs if run.optimizer_label == name], looks[name], place + BELOW)
        first = min(run.lr_multiplier * run.config["schedule"]["start"] for run in runs)
        axes.set_xscale("log")
        axes.xaxis.set_major_formatter(numbers("×"))
        axes.set_xlim(first / BESIDE, max(run.lr_multiplier for run in runs) * BESIDE)
        axes.set_yticks(range(len(names[task])), list(map(plain, names[task])))
        axes.set_ylim(len(names[task]) - 0.5, -0.5)
        axes.set_title(plain(task))
        axes.set_xlabel("multiplier at which the loss left")
    return figure


def _draw_row(axes: Axes, row: Mapping[Any, Any], look: Look, place: float) -> None:
    """Draw a mean that is known, with its interval if it has one."""
    if math.isnan(row["threshold"]):
        return
    axes.plot(row["threshold"], place, look.marker, color=look.colour, ms=5)
    if not math.isnan(row["threshold_low"]):
        axes.plot([row["threshold_low"], row["threshold_high"]], [place, place], "|-", color=look.colour, ms=6, lw=1.2)


def _draw_seeds(axes: Axes, runs: Sequence[Run], look: Look, place: float) -> None:
    """Draw each seed, an arrowhead where only a bound is known."""
    for run in runs:
        assert run.threshold is not None
        least, most = run.threshold.least, run.threshold.most
        if run.threshold.is_known:
            axes.plot(least, place, look.marker, color=look.colour, ms=2.5, alpha=0.7, mew=0)
        elif least > 0 or math.isfinite(most):
            axes.plot(least or most, place, ">" if least > 0 else "<", color=look.colour, ms=4, mfc="none")
