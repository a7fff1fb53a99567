"""The figures of every report: losses, spikes and steps to target. None is drawn before it is asked for."""

import math
from collections.abc import Mapping, Sequence, Set
from dataclasses import replace
from functools import partial

import numpy as np
import pandas as pd

from s3bench.report.analysis import comparisons, loss_curve
from s3bench.report.analysis.results import Results
from s3bench.report.analysis.runs import Run, grouped
from s3bench.report.analysis.tables import rows_with
from s3bench.report.figures import plots, style
from s3bench.report.figures.captions import DRAWN, Drawing, caption
from s3bench.report.stats.across_tasks import performance_profile, profile_bands
from s3bench.report.stats.censored import Steps, kaplan_meier, median_steps

COLUMNS = 24  # optimizers with loss curves, at most: the picture is nearly two inches wider for each
WITHIN = np.geomspace(1, 8, 200)  # factors of the performance profile


def multiplier_drawings(results: Results, looks: Mapping[str, style.Look]) -> dict[str, Drawing]:
    """Return final losses, spike rates and steps to each task's main target against the learning rate."""
    runs, cells = results.with_result, results.cells
    tasks = grouped(runs, "task_label")
    draw = partial(plots.over_multipliers, looks=looks)
    losses = {task: _final_losses(group, cells) for task, group in tasks.items()}
    rates = {task: _spike_rates(group, cells) for task, group in tasks.items()}
    with_target = [run for run in runs if run.targets]
    steps = {
        f"{task}: {group[0].target_names[0]}": _steps_to_target(group, group[0].target_names[0])
        for task, group in grouped(with_target, "task_label").items()
    }
    made = {
        "final_loss": Drawing(
            caption("final_loss", runs),
            partial(draw, losses, ylabel="final evaluation loss", beyond="diverged"),
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
    """Return mean, smallest and largest over the seeds; a gap where one diverged, as infinite points."""
    series = _cell_series(runs, rows_with(cells, diverged=0), "final_loss_mean", "final_loss_min", "final_loss_max")
    for optimizer, group in grouped(runs, "optimizer_label").items():
        points = [(run.lr_multiplier, run.final_loss) for run in group]
        series[optimizer] = replace(series[optimizer], points=points)
    return series


def _spike_rates(runs: Sequence[Run], cells: pd.DataFrame) -> dict[str, plots.Series]:
    """Return the rate of each cell with its exact interval."""
    return _cell_series(runs, cells, "spikes_per_10k", "spikes_per_10k_low", "spikes_per_10k_high")


def _cell_series(runs: Sequence[Run], cells: pd.DataFrame, *columns: str) -> dict[str, plots.Series]:
    """Return three columns of the cells of a task's runs, as middle, low and high, by optimizer."""
    series = {}
    for optimizer, group in grouped(runs, "optimizer_label").items():
        cell = rows_with(cells, task=group[0].task_label, optimizer=optimizer)
        cell = cell[cell.n > 0]
        middle, low, high = (cell[column].tolist() for column in columns)
        series[optimizer] = plots.Series(x=cell.lr_multiplier.tolist(), middle=middle, low=low, high=high)
    return series


def _steps_to_target(runs: Sequence[Run], name: str) -> dict[str, plots.Series]:
    """Return the median over the seeds; a gap where it is infinite; seeds that never reached it as infinite points."""
    series = {}
    for optimizer, group in grouped(runs, "optimizer_label").items():
        multipliers = sorted({run.lr_multiplier for run in group})
        times = {m: [run.times[name] for run in group if run.lr_multiplier == m] for m in multipliers}
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


def target_drawings(results: Results, looks: Mapping[str, style.Look]) -> dict[str, Drawing]:
    """Return when runs at their optimizer's best learning rate reached the main target, and the profile over tasks."""
    made: dict[str, Drawing] = {}
    runs, times = results.with_result, results.tuned_times
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
            caption("reached", _of_tasks(runs, set(times.task))),
            partial(plots.reached_curves, panels, looks, horizons),
        )
    longest = times[times.task.isin(results.longest_at_best.task)]
    if longest.task.nunique() > 1:
        optimizers, tasks, ratios = comparisons.profile_ratios(longest)
        if len(set(tasks)) > 1:
            shares = dict(zip(optimizers, performance_profile(ratios, tasks, WITHIN).T, strict=True))
            bands = dict(zip(optimizers, profile_bands(ratios, tasks, WITHIN), strict=False))
            made["profile"] = Drawing(
                caption("profile", _of_tasks(runs, set(tasks))),
                partial(plots.profile, WITHIN, shares, bands, looks),
            )
    return made


def _of_tasks(runs: Sequence[Run], tasks: Set[str]) -> list[Run]:
    return [run for run in runs if run.task_label in tasks]


def _end(run: Run) -> float:
    """Return a run's final loss, infinite where it is unknown."""
    return math.inf if math.isnan(run.final_loss) else run.final_loss


def loss_drawing(task: str, runs: Sequence[Run], looks: Mapping[str, style.Look]) -> Drawing:
    """Return the loss curves of each cell's first seeds, of at most COLUMNS optimizers."""
    rows: dict[str, dict[str, list[loss_curve.Curve]]] = {}
    lowest = {name: min(map(_end, own)) for name, own in grouped(runs, "optimizer_label").items()}
    columns = set(sorted(lowest, key=lambda name: lowest[name])[:COLUMNS])
    left_out = f" Only the {COLUMNS} of {len(lowest)} optimizers whose best run ends lowest are drawn."
    shown = [run for run in runs if run.optimizer_label in columns]
    for run in sorted(shown, key=lambda run: run.lr_multiplier):
        row = rows.setdefault(f"×{run.lr_multiplier:g}", {})
        of_cell = row.setdefault(run.optimizer_label, [])
        if run.curve is not None and len(of_cell) < DRAWN:
            of_cell.append(run.curve)
    text = caption("loss", shown, task=task, left_out=left_out if len(lowest) > COLUMNS else "")
    return Drawing(text, partial(plots.loss_curves, rows, looks))
