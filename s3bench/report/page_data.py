"""The data of the page's script: every run's loss, compact, with its spikes."""

import math
from collections.abc import Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd

from s3bench.console import finite_or_none
from s3bench.report.analysis.results import Results
from s3bench.report.analysis.runs import Run
from s3bench.report.analysis.tables import rows_with
from s3bench.report.figures.style import looks

DIGITS = 5  # significant ones of a loss


def curve_data(results: Results) -> dict[str, Any]:
    """Return the undisturbed runs with a result, in types that JSON can hold.

    Each run has `task` and `optimizer` as indices into the lists of names, `steps` as differences to the step before,
    `loss` and `trend` one per step, None where not finite, `spikes` as [step of the peak, loss], `best` whether it ran
    at its optimizer's best multiplier, and `median` whether its seed is the middle one of its cell by final loss.
    """
    drawn = [run for run in results.runs if run.curve is not None]
    tasks = list(dict.fromkeys(run.task_label for run in drawn))
    look = looks(sorted({run.optimizer_label for run in results.runs}))
    optimizers = [name for name in look if any(run.optimizer_label == name for run in drawn)]
    best, median = _best_multipliers(drawn, results.best_rates), _median_runs(drawn)
    return {
        "tasks": tasks,
        "optimizers": [{"name": name, "colour": look[name].colour} for name in optimizers],
        "multipliers": sorted({run.lr_multiplier for run in drawn}),
        "seeds": sorted({run.seed for run in drawn}),
        "positive": not any((run.curve.loss <= 0).any() for run in drawn if run.curve),  # for a logarithmic axis
        "runs": [
            {
                "task": tasks.index(run.task_label),
                "optimizer": optimizers.index(run.optimizer_label),
                "multiplier": run.lr_multiplier,
                "seed": run.seed,
                "best": run.lr_multiplier == best[run.task_label, run.optimizer_label],
                "median": run.run_id in median,
                **_curve(run),
            }
            for run in drawn
        ],
    }


def _curve(run: Run) -> dict[str, Any]:
    assert run.curve is not None
    return {
        "diverged": run.curve.diverged,
        "steps": np.diff(run.curve.steps, prepend=0).tolist(),
        "loss": _rounded(run.curve.loss),
        "trend": _rounded(run.curve.trend),
        "spikes": [[peak, _rounded(np.array([height]))[0]] for peak, height in run.curve.peaks],
    }


def _rounded(values: npt.NDArray[np.floating[Any]]) -> list[float | None]:
    """Round to enough digits that a zoomed curve shows no steps."""
    return [finite_or_none(float(f"{value:.{DIGITS}g}")) for value in values.tolist()]


def _best_multipliers(runs: Sequence[Run], best_rates: pd.DataFrame) -> dict[tuple[str, str], float]:
    """Return the best multiplier by task and optimizer; where none was chosen, that of the run that ended lowest."""
    best: dict[tuple[str, str], float] = {}
    for run in sorted(runs, key=lambda run: run.final_loss):
        key = (run.task_label, run.optimizer_label)
        if key not in best:
            (chosen,) = rows_with(best_rates, task=key[0], optimizer=key[1]).best_multiplier.tolist()
            best[key] = run.lr_multiplier if math.isnan(chosen) else chosen
    return best


def _median_runs(runs: Sequence[Run]) -> set[str]:
    """Return the run_id of each cell's run with the middle final loss, the lower one of two."""
    cells: dict[tuple[Any, ...], list[Run]] = {}
    for run in sorted(runs, key=lambda run: run.final_loss):
        cells.setdefault((run.task_label, run.optimizer_label, run.lr_multiplier), []).append(run)
    return {cell[(len(cell) - 1) // 2].run_id for cell in cells.values()}
