"""The field: every optimizer at its own best learning rate, at 3 and at 10 times it: spikes, losses, cost of a step."""

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
import pandas as pd

from s3bench.report.analysis import cells
from s3bench.report.analysis.comparisons import reference_among
from s3bench.report.analysis.results import Results, run_table
from s3bench.report.analysis.runs import Run, grouped
from s3bench.report.analysis.thresholds import BOUNDS, of_setups, threshold_table
from s3bench.report.stats.rates import per_10k, poisson_interval

FACTORS = {"best": 1.0, "x3": 3.0, "x10": 10.0}  # of an optimizer's own best learning rate
AT = ["spikes", "steps", "per_10k", "per_10k_low", "per_10k_high", "burden", "loss"]
COLUMNS = ["task", "optimizer", "n", "best_multiplier", "edge", "largest_without_spike"]
COLUMNS += [f"{name}_{factor}" for factor in FACTORS for name in AT] + ["step_time", "reference"]
THRESHOLD = ["threshold", "threshold_low", "threshold_high", *BOUNDS]


def field_table(results: Results) -> pd.DataFrame:
    """Return one row per task and optimizer that is tuned on it.

    Returns:
        A table with these columns, of undisturbed runs alone. `best_multiplier` and `edge` are those of the table
        `tuned`; `n` counts the runs there. At the best multiplier and at 3 and 10 times it, where the grid has them:
        `spikes_*` in `steps_*` steps, their rate `per_10k_*` with its exact 95% interval (which takes spikes as
        independent), `burden_*`, the sum of the losses' excess over the level during spikes in nats × steps per 10,000
        steps, infinite where a loss is, and `loss_*`, the median final loss, infinite where half of the runs diverged.
        `largest_without_spike` is the largest multiplier up to which no run spiked, diverged or was dead, NaN if the
        smallest did. `step_time` is the median over runs of the time of a step in the training loop over that of
        `reference`.
        Where there are ramps, THRESHOLD has what the table `thresholds` says of the same setup and optimizer.
    """
    rows = []
    by_task = grouped(results.with_result, "task_label")
    thresholds = of_setups(threshold_table(results), results.ramps)
    best = {(row["task"], row["optimizer"]): row for row in results.best_rates.to_dict("records")}
    for task, runs in by_task.items():
        by_optimizer = grouped(runs, "optimizer_label")
        reference = reference_among(by_optimizer)
        for optimizer, own in by_optimizer.items():
            if (task, optimizer) in results.untuned:
                continue
            found = best[task, optimizer]
            multiplier = float(found["best_multiplier"])
            row: dict[str, Any] = {"task": task, "optimizer": optimizer}
            row |= {"best_multiplier": multiplier, "edge": bool(found["edge"])}
            row["largest_without_spike"] = cells.largest_without_spike(run_table(own))
            for name, factor in FACTORS.items():
                row |= _at(own, factor * multiplier, name)
            row["n"] = sum(run.lr_multiplier == multiplier for run in own)
            if reference is not None:
                row |= {"step_time": _step_time(own) / _step_time(by_optimizer[reference]), "reference": reference}
            ramped = thresholds.get((own[0].setup, optimizer), {})
            rows.append(row | {column: ramped.get(column, math.nan) for column in THRESHOLD})
    return pd.DataFrame(rows, columns=[*COLUMNS, *(THRESHOLD if results.ramps else [])])


def _at(runs: Sequence[Run], multiplier: float, name: str) -> dict[str, Any]:
    """Return the columns of one multiplier; none if the grid lacks it."""
    there = [run for run in runs if math.isclose(run.lr_multiplier, multiplier, rel_tol=0.12)]  # the grid has 0.3 and 1
    if not there:
        return {}
    spikes, steps = [spike for run in there for spike in run.spikes], sum(run.steps for run in there)
    low, high = poisson_interval(len(spikes), steps)
    area = sum(spike.area if math.isfinite(spike.height) else math.inf for spike in spikes)
    loss = float(np.median([run.final_loss for run in there]))
    values = [len(spikes), steps, per_10k(len(spikes), steps), low, high, 1e4 * area / steps, loss]
    return {f"{column}_{name}": value for column, value in zip(AT, values, strict=True)}


def _step_time(runs: Sequence[Run]) -> float:
    """Return the median seconds of a step in the training loop; NaN if no run says."""
    times = [run.summary["train_seconds"] / run.steps for run in runs if "train_seconds" in run.summary and run.steps]
    return float(np.median(times)) if times else math.nan
