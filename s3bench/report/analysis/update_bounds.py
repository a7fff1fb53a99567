"""The largest measured update of each update rule, beside the largest that its weights allow, over a grid of betas."""

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
import pandas as pd

from s3bench.record.shock_kinds import shock_label
from s3bench.report.analysis import cells
from s3bench.report.analysis.results import Results
from s3bench.report.analysis.runs import Run, grouped, largest
from s3bench.report.analysis.update_rules import betas, worst_step

KEY = ["optimizer", "lr_multiplier", "shock"]
BOUND = [*cells.CELL, "beta1", "beta2", "shock", "n", "update_max", "own_update", "worst_step_in_run", "worst_step"]


def bound_table(results: Results) -> pd.DataFrame:
    """Return one row per cell and shock, of the tasks on which one optimizer has several pairs of betas.

    `own_update` is the largest measured update over the runs, less what weight decay can have added, in units of the
    learning rate. `worst_step_in_run` is what the rule allows up to the runs' last update, `worst_step` ever. The rows
    are in the order of the first; optimizers whose bound is not known are left out.
    """
    rows = []
    for task, runs in grouped(runs_with_grids(results), "task_label").items():
        groups: dict[tuple[Any, ...], list[Run]] = {}
        for run in runs:
            groups.setdefault((run.optimizer_label, run.lr_multiplier, shock_label(run.shock)), []).append(run)
        rows += [{"task": task} | dict(zip(KEY, key, strict=True)) | _scores(group) for key, group in groups.items()]
    table = pd.DataFrame(rows, columns=BOUND)
    order = ["worst_step_in_run", "beta1", "beta2"]
    return table.sort_values(["task", *order, "lr_multiplier"], kind="stable", ignore_index=True)


def _scores(group: Sequence[Run]) -> dict[str, Any]:
    """Return the betas, the largest measured updates and the bounds of runs with the same optimizer."""
    rule = group[0].config["optimizer"]
    row: dict[str, Any] = dict(zip(("beta1", "beta2"), betas(rule), strict=True)) | {"n": len(group)}
    for name in ("update_max", "own_update"):
        row[name] = largest(np.array([getattr(run, name) for run in group]))
    bounds = [worst_step(rule, updates) for updates in (group[0].horizon, math.inf)]
    return row | dict(zip(("worst_step_in_run", "worst_step"), bounds, strict=True))


def runs_with_grids(results: Results) -> list[Run]:
    """Return runs with a result and a known bound, of tasks on which one optimizer has several pairs of betas."""
    everything = [*results.runs, *(pair.run for pair in results.pairs)]
    known = [run for run in everything if run.has_result and worst_step(run.config["optimizer"]) is not None]
    pairs: dict[tuple[str, str], set[tuple[float, float]]] = {}
    for run in known:
        pairs.setdefault((run.task_label, run.optimizer), set()).add(betas(run.config["optimizer"]))
    tasks = {task for (task, _), found in pairs.items() if len(found) > 1}
    return [run for run in known if run.task_label in tasks]
