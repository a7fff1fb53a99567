"""The figure of measured updates beside the bounds of their rules."""

from collections.abc import Mapping, Sequence
from functools import partial

import matplotlib as mpl
import pandas as pd
from matplotlib.figure import Figure
from matplotlib.lines import Line2D

from s3bench.report.analysis.results import Results
from s3bench.report.analysis.runs import grouped
from s3bench.report.analysis.update_bounds import bound_table, runs_with_grids
from s3bench.report.figures.captions import Drawing, caption, file_name
from s3bench.report.figures.panels import CHARACTER, set_factors
from s3bench.report.figures.style import STYLE, Look, looks, plain

WIDTH, LINE, EXTRA = 4.0, 0.2, 1.1  # inches: of the panel, of a row, of title, axis and legend
BEYOND = 1.3  # factor from the largest value to the end of the axis


def bound_drawings(results: Results) -> dict[str, Drawing]:
    """Return a figure for each task on which one optimizer has several pairs of betas, by its name."""
    table = bound_table(results)
    drawn = {}
    for task, runs in grouped(runs_with_grids(results), "task_label").items():
        of_task = table[table.task == task]
        kinds = looks(sorted(of_task.shock.unique(), key=lambda shock: (shock != "none", shock)))
        drawn[f"bounds_{file_name(task)}"] = Drawing(
            caption("bounds", runs, task=task), partial(bound_rows, of_task, kinds, task)
        )
    return drawn


@mpl.rc_context(STYLE)
def bound_rows(table: pd.DataFrame, kinds: Mapping[str, Look], title: str) -> Figure:
    """Draw a row per optimizer: the bound as a bar, and a marker at the largest measured update of each shock.

    Args:
        table: rows of bound_table, of one task.
        kinds: the look of each shock.
        title: of the panel.
    """
    names: Sequence[tuple[str, float]] = list(zip(table.optimizer, table.lr_multiplier, strict=True))
    places = {name: place for place, name in enumerate(dict.fromkeys(names))}
    several = table.lr_multiplier.nunique() > 1
    labels = [f"{optimizer} ×{multiplier:g}" if several else optimizer for optimizer, multiplier in places]
    width = WIDTH + CHARACTER * max(map(len, labels))
    figure = Figure(figsize=(width, EXTRA + LINE * len(places)))
    axes = figure.subplots()
    for (name, bound), (_, row) in zip(zip(names, table.worst_step_in_run, strict=True), table.iterrows(), strict=True):
        axes.plot([bound, bound], [places[name] - 0.4, places[name] + 0.4], color="black", lw=1.6)
        look = kinds[row["shock"]]
        axes.plot(row["own_update"], places[name], look.marker, color=look.colour, ms=4, alpha=0.8, mew=0)
    values = [value for value in (*table.own_update, *table.worst_step_in_run) if value > 0]
    set_factors(axes, max(values) * BEYOND)
    axes.set_xlim(left=min(1.0, *values) / BEYOND)
    axes.set_yticks(range(len(labels)), list(map(plain, labels)))
    axes.set_ylim(len(labels) - 0.5, -0.5)
    axes.set_title(plain(title))
    axes.set_xlabel("largest update, in units of the learning rate")
    handles = [Line2D([], [], color="black", marker="|", ls="", ms=8, mew=1.6)]
    handles += [Line2D([], [], color=look.colour, marker=look.marker, ls="", ms=4) for look in kinds.values()]
    texts = ["what the rule allows", *(f"measured, shock: {shock}" for shock in kinds)]
    figure.legend(handles, texts, loc="outside lower center", ncols=1 if width < 6 else 2)
    return figure
