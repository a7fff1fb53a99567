"""What the page's script draws: every run's loss, compact, with its spikes."""

import math
from collections.abc import Mapping, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd

from s3bench.report.analysis.runs import Run
from s3bench.report.analysis.tables import part
from s3bench.report.figures.style import looks

DIGITS = 5  # significant ones of a loss


def curve_data(runs: Sequence[Run], tables: Mapping[str, pd.DataFrame]) -> dict[str, Any]:
    """The runs with a result, as JSON can hold them.

    Of each run: `task` and `optimizer` as indices into the lists of names, `steps` as differences to the step before,
    `loss` and `trend` one per step, None where not finite, `spikes` as [step of the peak, loss], `best` whether it ran
    at its optimizer's best multiplier, and `median` whether its seed is the middle one of its cell by final loss.
    """
    drawn = [run for run in runs if run.curve is not None]
    tasks = list(dict.fromkeys(run.row["task"] for run in drawn))
    look = looks(sorted({run.row["optimizer"] for run in runs}))
    optimizers = [name for name in look if any(run.row["optimizer"] == name for run in drawn)]
    best, median = _best_multipliers(drawn, tables["tuned"]), _median_runs(drawn)
    return {
        "tasks": tasks,
        "optimizers": [{"name": name, "colour": look[name].colour} for name in optimizers],
        "multipliers": sorted({run.row["lr_multiplier"] for run in drawn}),
        "seeds": sorted({run.row["seed"] for run in drawn}),
        "positive": not any((run.curve.loss <= 0).any() for run in drawn if run.curve),  # for a logarithmic axis
        "runs": [
            {
                "task": tasks.index(run.row["task"]),
                "optimizer": optimizers.index(run.row["optimizer"]),
                "multiplier": run.row["lr_multiplier"],
                "seed": run.row["seed"],
                "best": run.row["lr_multiplier"] == best[run.row["task"], run.row["optimizer"]],
                "median": run.row["run_id"] in median,
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
    """With so many digits that a zoomed curve has no stairs."""
    return [float(f"{value:.{DIGITS}g}") if math.isfinite(value) else None for value in values.tolist()]


def _best_multipliers(runs: Sequence[Run], tuned: pd.DataFrame) -> dict[tuple[str, str], float]:
    """By task and optimizer: the one of the tables; where they have none, that of the run that ended lowest."""
    best: dict[tuple[str, str], float] = {}
    for run in sorted(runs, key=lambda run: run.scores["final_loss"]):
        key = (run.row["task"], run.row["optimizer"])
        if key not in best:
            (chosen,) = part(tuned, task=key[0], optimizer=key[1]).best_multiplier.tolist()
            best[key] = run.row["lr_multiplier"] if math.isnan(chosen) else chosen
    return best


def _median_runs(runs: Sequence[Run]) -> set[str]:
    """The run_ids of each cell's run with the middle final loss, the lower one of two."""
    cells: dict[tuple[Any, ...], list[Run]] = {}
    for run in sorted(runs, key=lambda run: run.scores["final_loss"]):
        cells.setdefault(tuple(run.row[key] for key in ("task", "optimizer", "lr_multiplier")), []).append(run)
    return {cell[(len(cell) - 1) // 2].row["run_id"] for cell in cells.values()}
