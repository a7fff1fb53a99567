"""The figures on the paper's claims: those of the paper, and some that it lacks. None without the records it needs."""

import math
from collections.abc import Mapping, Sequence
from functools import partial

import numpy as np
import pandas as pd

from s3bench.report.analysis import cells, comparisons, loss_curve
from s3bench.report.analysis.results import Results
from s3bench.report.analysis.roles import parts, role
from s3bench.report.analysis.runs import Run, grouped
from s3bench.report.analysis.spike_onsets import AROUND, Traces
from s3bench.report.figures import plots, style
from s3bench.report.figures.captions import Drawing, caption, count, file_name
from s3bench.report.stats.bootstrap import mean_interval

PAPER_LR = 3e-3  # of the paper's curves of the ablation
ADAMS = ("adamw", "adamw_95", "adamw_same")
UPDATES = ("size of the update,\nover the usual one", "share of coordinates\nabove 1", "loss,\nless the usual one")
VARIANTS = {  # (one β for both averages, look-ahead) -> how a figure names it
    (True, True): "one β, look-ahead",
    (True, False): "one β, no look-ahead",
    (False, True): "another β, look-ahead",
    (False, False): "another β, no look-ahead",
}

Looks = Mapping[str, style.Look]
Part = tuple[float, bool, bool]  # order p, one β for both averages, look-ahead


def paper_drawings(results: Results, looks: Looks) -> dict[str, Drawing]:
    """Return all figures on the claims that these results allow."""
    made = _fig2(results, looks) | _horizons(results, looks) | _rate(results, looks)
    made |= _sensitivity(results, looks) | _ablation(results)
    for task, group in grouped(results.with_result, "task_label").items():
        made |= _fig5(task, group) | _fig6(task, group, looks)
    return made


def _fig2(results: Results, looks: Looks) -> dict[str, Drawing]:
    """Return C2: updates before and at spikes, by task and optimizer, over all learning rates."""
    panels: dict[str, dict[str, list[plots.Series]]] = {}
    spikes, shown = [], []
    for task, of_task in grouped([run for run in results.with_result if len(run.traces)], "ladder").items():
        counts = []
        for optimizer, group in grouped(of_task, "optimizer_label").items():
            traces = np.concatenate([run.traces for run in group])
            panels.setdefault(task, {})[optimizer] = [_quartiles(traces[:, row]) for row in range(len(UPDATES))]
            counts.append(f"{optimizer} {count(len(traces), 'spike')} in {count(len(group), 'run')}")
        spikes.append(f"{task}: {', '.join(counts)}")
        shown += of_task
    if not panels:
        return {}
    text = caption("fig2", shown, spikes="; ".join(spikes))
    return {"fig2": Drawing(text, partial(plots.around_onsets, panels, looks, UPDATES))}


def _quartiles(traces: Traces) -> plots.Series:
    """Return median and quartiles at each step around the onset; NaN where half of the spikes have no number."""
    known = np.isfinite(traces).mean(axis=0) > 0.5
    low, middle, high = np.full((3, traces.shape[1]), np.nan)
    low[known], middle[known], high[known] = np.nanquantile(traces[:, known], [0.25, 0.5, 0.75], axis=0)
    steps = np.arange(-float(AROUND), AROUND + 1)
    return plots.Series(x=steps.tolist(), middle=middle.tolist(), low=low.tolist(), high=high.tolist())


def _variants(runs: Sequence[Run]) -> dict[Part, list[Run]]:
    """Return a task's runs of S3 by their parts, of one label each; empty unless each part is there in two ways."""
    found: dict[Part, list[Run]] = {}
    for group in grouped(runs, "optimizer_label").values():
        settings = group[0].config["optimizer"]
        if role(settings) in ("s3", "s3 variant") and len(group) > len(found.get(parts(settings), [])):
            found[parts(settings)] = group
    return found if all(len(set(values)) > 1 for values in zip(*found, strict=True)) else {}


def _fig5(task: str, runs: Sequence[Run]) -> dict[str, Drawing]:
    """Return C8: the loss curves of every row of the ablation, at the learning rate nearest to the paper's."""
    variants = _variants(runs)
    if not variants:
        return {}
    rates = {run.lr_multiplier: run.lr for group in variants.values() for run in group}
    nearest = min(sorted(rates), key=lambda multiplier: abs(math.log(rates[multiplier] / PAPER_LR)))
    rows: dict[str, dict[str, list[loss_curve.Curve]]] = {}
    shown = []
    for (same, look_ahead), label in VARIANTS.items():
        for p in sorted({part[0] for part in variants}):
            group = [r for r in variants.get((p, same, look_ahead), []) if r.lr_multiplier == nearest]
            curves = [run.curve for run in group if run.curve is not None]
            rows.setdefault(label.replace(", ", ",\n"), {})[f"p = {p:g}"] = curves
            shown += group
    columns = style.looks(list(next(iter(rows.values()))))
    text = caption("fig5", shown, task=task, lr=rates[nearest], multiplier=nearest, paper=PAPER_LR)
    return {f"fig5_{file_name(task)}": Drawing(text, partial(plots.loss_curves, rows, columns, share="all"))}


def _ablation(results: Results) -> dict[str, Drawing]:
    """Return C8: final losses over the order p, a line for each way to set the other two parts."""
    panels: dict[str, dict[str, plots.Series]] = {}
    shown = []
    for task, of_task in grouped(results.with_result, "task_label").items():
        losses: dict[str, dict[float, list[float]]] = {}
        for (p, *others), group in sorted(_variants(of_task).items()):
            at_best = cells.runs_at_best(_rows_of(results.table, group)).final_loss.tolist()
            if at_best:
                losses.setdefault(VARIANTS[others[0], others[1]], {})[p] = at_best
                shown += group
        if losses:
            panels[task] = {name: _means(of_name) for name, of_name in losses.items()}
    if not panels:
        return {}
    looks = style.looks(list(VARIANTS.values()))
    draw = partial(plots.over_axis, panels, looks, xlabel="order p", ylabel="final evaluation loss")
    return {"ablation": Drawing(caption("ablation", shown), draw)}


def _rows_of(table: pd.DataFrame, runs: Sequence[Run]) -> pd.DataFrame:
    return table[table.run_id.isin([run.run_id for run in runs])]


def _means(values: Mapping[float, Sequence[float]]) -> plots.Series:
    """Return the mean and its interval at each x, a gap where a run diverged, and all values as points."""
    known = [place for place, of_place in values.items() if np.isfinite(of_place).all()]
    ends = [mean_interval(values[place]) for place in known]
    return plots.Series(
        x=known,
        middle=[float(np.mean(values[place])) for place in known],
        low=[low for low, _ in ends],
        high=[high for _, high in ends],
        points=[(place, value) for place, of_place in values.items() for value in of_place],
    )


def _ladders(results: Results, column: str) -> dict[str, dict[str, plots.Series]]:
    """Return a column at each horizon of the ladders that have several, at each optimizer's best learning rate."""
    panels = {}
    at_best = results.tuned_at_best
    for ladder, of_ladder in at_best[at_best[column].notna()].groupby("ladder", sort=False):
        if of_ladder.horizon.nunique() > 1:
            panels[str(ladder)] = {
                str(optimizer): _means({float(str(h)): v.tolist() for h, v in group.groupby("horizon")[column]})
                for optimizer, group in of_ladder.groupby("optimizer")
                if group.horizon.nunique() > 1
            }
    return {ladder: panel for ladder, panel in panels.items() if panel}


def _horizons(results: Results, looks: Looks) -> dict[str, Drawing]:
    """Return C5: final losses against the horizon."""
    panels = _ladders(results, "final_loss")
    if not panels:
        return {}
    draw = partial(plots.over_axis, panels, looks, xlabel="horizon, in steps", ylabel="final evaluation loss")
    return {"horizons": Drawing(caption("horizons", _drawn(results, panels)), draw)}


def _rate(results: Results, looks: Looks) -> dict[str, Drawing]:
    """Return C10: the smallest norm of the true gradient against the horizon."""
    panels = _ladders(results, "smallest_gradient")
    if not panels:
        return {}
    draw = partial(plots.over_axis, panels, looks, xlabel="T, in steps", ylabel="smallest gradient norm", slope=-0.25)
    return {"rate": Drawing(caption("rate", _drawn(results, panels)), draw)}


def _drawn(results: Results, panels: Mapping[str, Mapping[str, plots.Series]]) -> list[Run]:
    """Return the runs of the ladders and optimizers in these panels."""
    return [run for run in results.with_result if run.optimizer_label in panels.get(run.ladder, {})]


def _sensitivity(results: Results, looks: Looks) -> dict[str, Drawing]:
    """Return C9: the learning-rate sensitivity of the optimizers with a task's longest grid that two of them have."""
    panels: dict[str, dict[str, plots.Series]] = {}
    over = results.table[results.table.final_loss.notna()]
    for task, of_task in over.groupby("task", sort=False):
        grid = _common_grid({str(name): set(group.lr_multiplier) for name, group in of_task.groupby("optimizer")})
        panel = {}
        for optimizer, group in of_task[of_task.lr_multiplier.isin(grid)].groupby("optimizer"):
            values = comparisons.sensitivity_by_seed(group).tolist() if set(group.lr_multiplier) == grid else []
            if values:
                low, high = mean_interval(values)
                points = [(0.0, value) for value in values]
                mean = float(np.mean(values))
                panel[str(optimizer)] = plots.Series(x=[0.0], middle=[mean], low=[low], high=[high], points=points)
        if panel:
            panels[f"{task}: ×{min(grid):g} to ×{max(grid):g}"] = panel
    if not panels:
        return {}
    draw = partial(plots.bars, panels, looks, xlabel="learning-rate sensitivity")
    return {"sensitivity": Drawing(caption("sensitivity", results.with_result), draw)}


def _common_grid(grids: Mapping[str, set[float]]) -> set[float]:
    """Return the longest of the grids that at least two optimizers have, or the only optimizer's."""
    shared = [grid for grid in grids.values() if sum(grid <= other for other in grids.values()) > 1 or len(grids) == 1]
    return max(shared, key=lambda grid: (len(grid), sorted(grid)), default=set())


def _fig6(task: str, runs: Sequence[Run], looks: Looks) -> dict[str, Drawing]:
    """Return C7: the loss curves of AdamW with equal betas beside those with the usual ones."""
    of_role = {role(group[0].config["optimizer"]): group for group in grouped(runs, "optimizer_label").values()}
    if "adamw_same" not in of_role:
        return {}
    shown = [run for name in ADAMS for run in of_role.get(name, []) if run.curve is not None]
    rows: dict[str, dict[str, list[loss_curve.Curve]]] = {}
    for run in sorted(shown, key=lambda run: run.lr_multiplier):
        row = rows.setdefault(f"×{run.lr_multiplier:g}", {})
        if run.curve is not None:
            row.setdefault(run.optimizer_label, []).append(run.curve)
    order = {name: looks[name] for name in dict.fromkeys(run.optimizer_label for run in shown)}
    draw = partial(plots.loss_curves, rows, order)
    return {f"fig6_{file_name(task)}": Drawing(caption("fig6", shown, task=task), draw)}
