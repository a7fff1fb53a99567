"""Measures the detector's k, δ and ceiling for a task from runs in which nothing should spike: at low rates."""

import itertools
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import numpy as np
import numpy.typing as npt

from s3bench import record
from s3bench.errors import UserError
from s3bench.record import identity
from s3bench.report.analysis.labels import flat
from s3bench.report.stats.rates import poisson_interval
from s3bench.spikes import baselines, find_spikes

LOW = 0.3  # largest lr_multiplier of a run that should not spike
FREE = ("optimizer", "decay", "eval_every", "measure_every", "code")  # settings that may differ in one calibration
CEILING = 2.0  # times the largest loss above its level in these runs
PER_10K = 1.0  # spikes per 10,000 steps that the runs must rule out, at 95%
K = (6.0, 7.0, 8.0, 10.0, 12.0, 15.0)
SMALLEST = 0.1  # height that matters, in the loss's unit, where the task's YAML has no smaller δ
DELTA = (1.0, 2.0, 3.0, 5.0, 7.0, 10.0, 20.0, 50.0)  # in the smallest height that matters

Array = npt.NDArray[np.float64]


@dataclass(frozen=True, kw_only=True)
class Calibration:
    """The detector's parameters, and what it finds with them in the runs."""

    k: float
    delta: float
    ceiling: float
    threshold: float  # mean of max(kσ, δ) over the steps, in the loss's unit
    spikes: int
    steps: int
    runs: int


def calibrate(losses: Sequence[Array], smallest: float = SMALLEST) -> Calibration | None:
    """Choose the pair of k and δ on the grid with the lowest mean threshold and almost no spike.

    "Almost no spike" means that the runs rule out, at 95%, more than one per 10,000 steps (exact one-sided Poisson
    bound; 30,000 steps without a spike are enough). None if no pair on the grid is so quiet, or there are too few
    steps. The ceiling is CEILING times the furthest that any loss of these runs was above its level: a loss beyond it
    spikes, however noisy it is.

    Args:
        losses: for each run, shape (steps,).
        smallest: height of a spike that matters, the smallest δ on the grid, in the loss's unit.
    """
    deltas = [float(f"{smallest * factor:.3g}") for factor in DELTA]
    steps = sum(map(len, losses))
    levels, thresholds = np.concatenate([baselines(loss, k=max(K), delta=0) for loss in losses], axis=1)
    sigmas = thresholds[np.isfinite(thresholds)] / max(K)
    highest = float(np.nanmax(np.concatenate(losses) - levels, initial=0.0))
    pairs = sorted((float(np.maximum(k * sigmas, delta).mean()), k, delta) for k, delta in itertools.product(K, deltas))
    for threshold, k, delta in pairs:
        spikes = sum(len(find_spikes(loss, k=k, delta=delta)) for loss in losses)
        if _rate_bound(spikes, steps) <= PER_10K:
            ceiling = max(float(f"{CEILING * highest:.2g}"), delta)
            return Calibration(
                k=k,
                delta=delta,
                ceiling=ceiling,
                threshold=threshold,
                spikes=spikes,
                steps=steps,
                runs=len(losses),
            )
    return None


def _rate_bound(spikes: int, steps: int) -> float:
    """Return the 95% upper bound of spikes per 10,000 steps."""
    return poisson_interval(spikes, steps, level=0.9)[1]


def smallest_height(config: dict[str, Any]) -> float:
    """Return the smallest height that matters: SMALLEST, or the δ of the task's YAML where that is smaller."""
    return float(min(SMALLEST, config["task"]["spikes"].get("delta", SMALLEST)))


def calibrate_tasks(results_dir: str | Path) -> dict[str, Calibration]:
    """Calibrate each task from its undisturbed records at an lr_multiplier of at most LOW.

    Raises UserError: no records, a damaged one, none at so low a learning rate, runs of one task with different
    settings, or runs that are too few or not calm.
    """
    losses: dict[str, list[Array]] = {}
    smallest: dict[str, float] = {}
    settings: dict[str, dict[str, Any]] = {}
    for row in map(record.load_record, record.folders(results_dir)):
        calm = row["lr_multiplier"] <= LOW and identity.shock(row["config"]) is None
        if row["state"] in record.OVER and calm:
            given = flat({key: value for key, value in identity.settings(row["config"]).items() if key not in FREE})
            first = settings.setdefault(row["task"], given)
            different = [key for key in given | first if given.get(key) != first.get(key)]
            if different:
                raise UserError(
                    f"{results_dir} has runs of {row['task']} that differ in {', '.join(different)}; "
                    "calibrate them in separate folders"
                )
            loss = record.load_steps(row["folder"], ["loss"]).loss.to_numpy()
            losses.setdefault(row["task"], []).append(loss)
            smallest[row["task"]] = smallest_height(row["config"])
    if not losses:
        raise UserError(f"{results_dir} has no finished or diverged run at an lr_multiplier of at most {LOW}")
    found = {}
    for task, of_task in losses.items():
        calibration = calibrate(of_task, smallest[task])
        if calibration is None:
            steps = sum(map(len, of_task))
            too_few = _rate_bound(0, steps) > PER_10K
            why = (
                "too few to set k and δ (at least 30,000 needed)"
                if too_few
                else f"not calm: even k = {K[-1]:g} and δ = {smallest[task] * DELTA[-1]:g} find spikes"
            )
            raise UserError(f"{task}: {steps:,} steps in {len(of_task)} runs are {why}")
        found[task] = calibration
    return found
