"""Records become a report: tables, figures and the page."""

import math
import os
import shutil
from collections.abc import Mapping, Sequence
from pathlib import Path

import numpy as np
import pandas as pd
from matplotlib.figure import Figure

from s3bench import comparisons, figures
from s3bench.across import performance_profile, profile_bands
from s3bench.censored import Steps, kaplan_meier, median_steps
from s3bench.claims import judge
from s3bench.errors import UserError
from s3bench.page import DRAWN, page
from s3bench.runs import Run, grouped, read_all
from s3bench.shocks import paired, shock_figures, shock_tables
from s3bench.shown import markdown, shown
from s3bench.tables import make_tables, part, picked, run_table, time_table
from s3bench.verdicts import as_json, as_markdown

WITHIN = np.geomspace(1, 8, 200)  # factors of the performance profile


def write_report(results_dir: str | Path) -> Path:
    """Write <results_dir>/report/ and return its index.html.

    Raises UserError: no records, a damaged one, or records of one task that were not held to the same targets and
    detector parameters or had other data.
    """
    runs, shocked = read_all(results_dir)
    pairs = paired(runs, shocked)
    tables = make_tables(runs)
    tables |= shock_tables(pairs, tables["holes"])
    claims = judge(runs)
    drawn = make_figures(runs, tables)
    looks = figures.looks(sorted({run.row["optimizer"] for run in [*runs, *shocked]}))
    drawn |= {f"shock_{_file_name(name)}": figure for name, figure in shock_figures(pairs, looks).items()}
    report = Path(results_dir) / "report"
    draft = report.with_name(f".report-{os.getpid()}")
    try:
        shutil.rmtree(draft, ignore_errors=True)
        files = {name: figures.save(figure, _made(draft / "figures") / name) for name, figure in drawn.items()}
        for name, table in tables.items():
            table.to_csv(_made(draft / "tables") / f"{name}.csv", index=False)
            (draft / "tables" / f"{name}.md").write_text(markdown(shown(name, table)), encoding="utf-8")
        (draft / "claims.json").write_text(as_json(claims), encoding="utf-8")
        (draft / "claims.md").write_text(as_markdown(claims), encoding="utf-8")
        text = page(str(results_dir), runs, tables, files, [claim.as_dict() for claim in claims])
        (draft / "index.html").write_text(text, encoding="utf-8")
        shutil.rmtree(report, ignore_errors=True)
        draft.rename(report)
    except OSError as error:
        raise UserError(f"{report} cannot be written: {error.strerror}") from error
    finally:
        shutil.rmtree(draft, ignore_errors=True)
    return report / "index.html"


def _made(folder: Path) -> Path:
    folder.mkdir(parents=True, exist_ok=True)
    return folder


def make_figures(runs: Sequence[Run], tables: Mapping[str, pd.DataFrame]) -> dict[str, Figure]:
    """All figures of what has a result, by name; none if nothing has."""
    drawn: dict[str, Figure] = {}
    tasks = grouped([run for run in runs if run.has_result], "task")
    if not tasks:
        return drawn
    looks = figures.looks(sorted({run.row["optimizer"] for run in runs}))
    cells = tables["cells"]
    drawn["final_loss"] = figures.over_multipliers(
        {task: _final_losses(group, cells) for task, group in tasks.items()},
        looks,
        ylabel="final held-out loss",
        beyond="diverged",
    )
    drawn["spike_rate"] = figures.over_multipliers(
        {task: _spike_rates(group, cells) for task, group in tasks.items()},
        looks,
        ylabel="spikes per 10,000 steps",
        from_zero=True,
        lines=False,
    )
    panels = {}
    for task, group in tasks.items():
        if group[0].targets:
            panels[f"{task}: {group[0].targets[0]}"] = _steps_to_target(group, group[0].targets[0])
    if panels:
        drawn["steps_to_target"] = figures.over_multipliers(
            panels, looks, ylabel="steps to target", beyond="not reached", from_zero=True
        )
    drawn |= _target_figures(runs, looks)
    for task, group in tasks.items():
        drawn[f"loss_{_file_name(task)}"] = _loss_figure(group, looks)
    return drawn


def _final_losses(runs: Sequence[Run], cells: pd.DataFrame) -> dict[str, figures.Series]:
    """Mean, smallest and largest over the seeds, a gap where one diverged; diverged ones as infinite points."""
    series = _cell_series(runs, part(cells, diverged=0), "final_loss_mean", "final_loss_min", "final_loss_max")
    for optimizer, group in grouped(runs, "optimizer").items():
        series[optimizer].points = [(run.row["lr_multiplier"], run.scores["final_loss"]) for run in group]
    return series


def _spike_rates(runs: Sequence[Run], cells: pd.DataFrame) -> dict[str, figures.Series]:
    """The rate of each cell with its exact interval."""
    return _cell_series(runs, cells, "spikes_per_10k", "spikes_per_10k_low", "spikes_per_10k_high")


def _cell_series(runs: Sequence[Run], cells: pd.DataFrame, *columns: str) -> dict[str, figures.Series]:
    """Three columns of the cells of a task's runs, as middle, low and high, by optimizer."""
    series = {}
    for optimizer, group in grouped(runs, "optimizer").items():
        cell = part(cells, task=group[0].row["task"], optimizer=optimizer)
        cell = cell[cell.n > 0]
        middle, low, high = (cell[column].tolist() for column in columns)
        series[optimizer] = figures.Series(cell.lr_multiplier.tolist(), middle, low, high)
    return series


def _steps_to_target(runs: Sequence[Run], name: str) -> dict[str, figures.Series]:
    """The median over the seeds, a gap where it is infinite; seeds that never reached it as infinite points."""
    series = {}
    for optimizer, group in grouped(runs, "optimizer").items():
        multipliers = sorted({run.row["lr_multiplier"] for run in group})
        times = {m: [run.times[name] for run in group if run.row["lr_multiplier"] == m] for m in multipliers}
        median = {m: median_steps(times[m]) for m in multipliers}
        known = [m for m in multipliers if math.isfinite(median[m])]  # at least half of the seeds reached it
        reached = {m: [time.high for time in times[m] if time.reached] for m in known}
        series[optimizer] = figures.Series(
            multipliers=known,
            middle=[median[m] for m in known],
            low=[min(reached[m]) for m in known],
            high=[max(reached[m]) for m in known],
            points=[(m, time.high) for m in multipliers for time in times[m]],
        )
    return series


def _target_figures(runs: Sequence[Run], looks: Mapping[str, figures.Look]) -> dict[str, Figure]:
    """When runs at their optimizer's best learning rate reached each task's main target, and the profile over tasks."""
    drawn: dict[str, Figure] = {}
    at_best, times = picked(run_table(runs), time_table(runs))
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
        drawn["reached"] = figures.reached_curves(panels, looks, horizons)
    longest = times[times.task.isin(comparisons.longest(at_best).task)]
    if longest.task.nunique() > 1:
        optimizers, tasks, ratios = comparisons.profile_ratios(longest)
        if len(set(tasks)) > 1:
            shares = dict(zip(optimizers, performance_profile(ratios, tasks, WITHIN).T, strict=True))
            bands = dict(zip(optimizers, profile_bands(ratios, tasks, WITHIN), strict=False))
            drawn["profile"] = figures.profile(WITHIN, shares, bands, looks)
    return drawn


def _loss_figure(runs: Sequence[Run], looks: Mapping[str, figures.Look]) -> Figure:
    """The curves of each cell's first seeds."""
    curves: dict[tuple[float, str], list[figures.Curve]] = {}
    for run in runs:
        of_cell = curves.setdefault((run.row["lr_multiplier"], run.row["optimizer"]), [])
        if run.curve is not None and len(of_cell) < DRAWN:
            of_cell.append(run.curve)
    return figures.loss_curves(curves, looks)


def _file_name(text: str) -> str:
    return "".join(character if character.isalnum() or character in "-_" else "_" for character in text)
