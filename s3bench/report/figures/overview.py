"""The figures that records allow, by name, each with its caption; none is drawn before it is asked for."""

import math
from collections.abc import Mapping, Sequence
from functools import partial

import numpy as np
import pandas as pd

from s3bench.report.analysis import comparisons, loss_curve
from s3bench.report.analysis.cells import cells as make_cells
from s3bench.report.analysis.cells import untuned
from s3bench.report.analysis.runs import Run, grouped
from s3bench.report.analysis.tables import part, picked, run_table, time_table, tuned_only
from s3bench.report.figures import plots, style
from s3bench.report.figures.captions import DRAWN, Drawing, caption
from s3bench.report.stats.across_tasks import performance_profile, profile_bands
from s3bench.report.stats.censored import Steps, kaplan_meier, median_steps

WITHIN = np.geomspace(1, 8, 200)  # factors of the performance profile


def multiplier_drawings(runs: Sequence[Run], looks: Mapping[str, style.Look]) -> dict[str, Drawing]:
    """Final losses, spike rates and steps to each task's main target against the learning rate."""
    tasks, cells = grouped(runs, "task"), make_cells(run_table(runs))
    draw = partial(plots.over_multipliers, looks=looks)
    losses = {task: _final_losses(group, cells) for task, group in tasks.items()}
    rates = {task: _spike_rates(group, cells) for task, group in tasks.items()}
    with_target = [run for run in runs if run.targets]
    steps = {
        f"{task}: {group[0].targets[0]}": _steps_to_target(group, group[0].targets[0])
        for task, group in grouped(with_target, "task").items()
    }
    made = {
        "final_loss": Drawing(
            caption("final_loss", runs),
            partial(draw, losses, ylabel="final held-out loss", beyond="diverged"),
        ),
        "spike_rate": Drawing(
            caption("spike_rate", runs),
            partial(draw, rates, ylabel="spikes per 10,000 steps", from_zero=True, lines=False),
        ),
    }
    if steps:
        made["steps_to_target"] = Drawing(
            caption("steps_to_target", with_target),
            partial(draw, steps, ylabel="steps to target", beyond="not reached", from_zero=True),
        )
    return made


def _final_losses(runs: Sequence[Run], cells: pd.DataFrame) -> dict[str, plots.Series]:
    """Mean, smallest and largest over the seeds, a gap where one diverged; diverged ones as infinite points."""
    series = _cell_series(runs, part(cells, diverged=0), "final_loss_mean", "final_loss_min", "final_loss_max")
    for optimizer, group in grouped(runs, "optimizer").items():
        series[optimizer].points = [(run.row["lr_multiplier"], run.scores["final_loss"]) for run in group]
    return series


def _spike_rates(runs: Sequence[Run], cells: pd.DataFrame) -> dict[str, plots.Series]:
    """The rate of each cell with its exact interval."""
    return _cell_series(runs, cells, "spikes_per_10k", "spikes_per_10k_low", "spikes_per_10k_high")


def _cell_series(runs: Sequence[Run], cells: pd.DataFrame, *columns: str) -> dict[str, plots.Series]:
    """Three columns of the cells of a task's runs, as middle, low and high, by optimizer."""
    series = {}
    for optimizer, group in grouped(runs, "optimizer").items():
        cell = part(cells, task=group[0].row["task"], optimizer=optimizer)
        cell = cell[cell.n > 0]
        middle, low, high = (cell[column].tolist() for column in columns)
        series[optimizer] = plots.Series(cell.lr_multiplier.tolist(), middle, low, high)
    return series


def _steps_to_target(runs: Sequence[Run], name: str) -> dict[str, plots.Series]:
    """The median over the seeds, a gap where it is infinite; seeds that never reached it as infinite points."""
    series = {}
    for optimizer, group in grouped(runs, "optimizer").items():
        multipliers = sorted({run.row["lr_multiplier"] for run in group})
        times = {m: [run.times[name] for run in group if run.row["lr_multiplier"] == m] for m in multipliers}
        median = {m: median_steps(times[m]) for m in multipliers}
        known = [m for m in multipliers if math.isfinite(median[m])]  # at least half of the seeds reached it
        reached = {m: [time.high for time in times[m] if time.reached] for m in known}
        series[optimizer] = plots.Series(
            x=known,
            middle=[median[m] for m in known],
            low=[min(reached[m]) for m in known],
            high=[max(reached[m]) for m in known],
            points=[(m, time.high) for m in multipliers for time in times[m]],
        )
    return series


def target_drawings(runs: Sequence[Run], looks: Mapping[str, style.Look]) -> dict[str, Drawing]:
    """When runs at their optimizer's best learning rate reached each task's main target, and the profile over tasks."""
    made: dict[str, Drawing] = {}
    plain = run_table(runs)
    at_best, times = (tuned_only(table, untuned(plain)) for table in picked(plain, time_table(runs)))
    times = times[times.target == times.groupby("task", sort=False).target.transform("first")]
    panels, horizons = {}, {}
    for (task, target), group in times.groupby(["task", "target"], sort=False):
        title = f"{task}: {target}"
        horizons[title] = int(group.horizon.iloc[0])
        panels[title] = {
            str(optimizer): kaplan_meier([Steps(*ends) for ends in zip(of_it.low, of_it.high, strict=True)])
            for optimizer, of_it in group.groupby("optimizer")
        }
    if panels:
        made["reached"] = Drawing(
            caption("reached", [run for run in runs if run.row["task"] in set(times.task)]),
            partial(plots.reached_curves, panels, looks, horizons),
        )
    longest = times[times.task.isin(comparisons.longest(at_best).task)]
    if longest.task.nunique() > 1:
        optimizers, tasks, ratios = comparisons.profile_ratios(longest)
        if len(set(tasks)) > 1:
            shares = dict(zip(optimizers, performance_profile(ratios, tasks, WITHIN).T, strict=True))
            bands = dict(zip(optimizers, profile_bands(ratios, tasks, WITHIN), strict=False))
            made["profile"] = Drawing(
                caption("profile", [run for run in runs if run.row["task"] in set(tasks)]),
                partial(plots.profile, WITHIN, shares, bands, looks),
            )
    return made


def loss_drawing(task: str, runs: Sequence[Run], looks: Mapping[str, style.Look]) -> Drawing:
    """The curves of each cell's first seeds."""
    rows: dict[str, dict[str, list[loss_curve.Curve]]] = {}
    for run in sorted(runs, key=lambda run: float(run.row["lr_multiplier"])):
        row = rows.setdefault(f"×{run.row['lr_multiplier']:g}", {})
        of_cell = row.setdefault(run.row["optimizer"], [])
        if run.curve is not None and len(of_cell) < DRAWN:
            of_cell.append(run.curve)
    return Drawing(caption("loss", runs, task=task), partial(plots.loss_curves, rows, looks))
