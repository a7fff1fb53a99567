"""The data of the page's script: every run's loss, compact, with its spikes."""

import math
from collections.abc import Iterable, Sequence
from typing import Any

import numpy as np
import numpy.typing as npt
import pandas as pd

from s3bench.console import finite_or_none
from s3bench.report.analysis.loss_curve import Curve, fewer
from s3bench.report.analysis.results import Results
from s3bench.report.analysis.runs import Run, grouped
from s3bench.report.analysis.tables import rows_with
from s3bench.report.figures.style import looks

DIGITS = 5  # significant ones of a loss
POINTS = 250_000  # of all curves, about 20 bytes each: as many as 250 long runs have
MANY = 12  # optimizers: of more, the page at first draws the ENDS that end lowest and the ENDS that spike most
ENDS = 4


def curve_data(results: Results) -> dict[str, Any]:
    """Return the undisturbed runs with a result, in types that JSON can hold.

    Each run has `task` and `optimizer` as indices into the lists of names, `steps` as differences to the step before,
    `loss` and `trend` one per step, None where not finite, `spikes` as [step of the peak, loss], `best` whether it ran
    at its optimizer's best multiplier, and `median` whether its seed is the middle one of its cell by final loss.
    An optimizer is `picked` if the page draws it at first.
    `thinned` tells how many points a run has at most, beside its spikes, where all of them would be more than POINTS.
    """
    drawn, whole = _with_curves(results.runs)
    tasks = _places(run.task_label for run in drawn)
    look = looks(sorted({run.optimizer_label for run in results.runs}))
    with_curve = {run.optimizer_label for run in drawn}
    optimizers = _places(name for name in look if name in with_curve)
    best, median = _best_multipliers(drawn, results.best_rates), _median_runs(drawn)
    at_best = [run.lr_multiplier == best[run.task_label, run.optimizer_label] for run in drawn]
    is_median = [run.run_id in median for run in drawn]
    picked = _picked(drawn)
    at_first = [a and b and run.optimizer_label in picked for a, b, run in zip(at_best, is_median, drawn, strict=True)]
    points = _points(whole, at_first)
    curves = [fewer(curve, points[first]) for curve, first in zip(whole, at_first, strict=True)] if points else whole
    return {
        "tasks": list(tasks),
        "optimizers": [{"name": name, "colour": look[name].colour, "picked": name in picked} for name in optimizers],
        "multipliers": sorted({run.lr_multiplier for run in drawn}),
        "seeds": sorted({run.seed for run in drawn}),
        "positive": not any((run.curve.loss <= 0).any() for run in drawn if run.curve),  # for a logarithmic axis
        "thinned": points and {"first": points[True], "others": points[False]},
        "runs": [
            {
                "task": tasks[run.task_label],
                "optimizer": optimizers[run.optimizer_label],
                "multiplier": run.lr_multiplier,
                "seed": run.seed,
                "best": at_best[index],
                "median": is_median[index],
                **_curve(curves[index]),
            }
            for index, run in enumerate(drawn)
        ],
    }


def _with_curves(runs: Sequence[Run]) -> tuple[list[Run], list[Curve]]:
    """Return the runs with a curve, and these."""
    found = [(run, run.curve) for run in runs if run.curve is not None]
    return [run for run, _ in found], [curve for _, curve in found]


def _places(names: Iterable[str]) -> dict[str, int]:
    """Return the place of each name among the different ones."""
    return {name: place for place, name in enumerate(dict.fromkeys(names))}


def _picked(runs: Sequence[Run]) -> set[str]:
    """Return the optimizers that the page draws at first: all, or those at either end where there are many."""
    own = grouped(runs, "optimizer_label")
    if len(own) <= MANY:
        return set(own)
    lowest = sorted(own, key=lambda name: min(run.final_loss for run in own[name]))
    rates = {name: sum(len(run.spikes) for run in runs) / len(runs) for name, runs in own.items()}
    spikiest = sorted((name for name in own if rates[name]), key=lambda name: -rates[name])
    return {*lowest[:ENDS], *spikiest[:ENDS]}


def _points(curves: Sequence[Curve], at_first: Sequence[bool]) -> dict[bool, int] | None:
    """Return how many points a curve may have, by whether it is drawn at first; None if there is room for all.

    Those drawn at first get up to half of POINTS, and the others what they leave.
    """
    sizes = [len(curve.steps) for curve in curves]
    if sum(sizes) <= POINTS:
        return None
    of_first = [size for size, first in zip(sizes, at_first, strict=True) if first]
    first = min(max(of_first, default=0), POINTS // 2 // max(1, len(of_first)))
    left = POINTS - sum(min(size, first) for size in of_first)
    return {True: first, False: left // max(1, len(sizes) - len(of_first))}


def _curve(curve: Curve) -> dict[str, Any]:
    return {
        "diverged": curve.diverged,
        "steps": np.diff(curve.steps, prepend=0).tolist(),
        "loss": _rounded(curve.loss),
        "trend": _rounded(curve.trend),
        "spikes": [[peak, _rounded(np.array([height]))[0]] for peak, height in curve.peaks],
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
