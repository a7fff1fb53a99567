"""Horizon speed-up: how many steps the reference needs to end where an optimizer ends, each with its own schedule."""

import math

import numpy as np
import numpy.typing as npt

from s3bench.report.stats.bootstrap import interval, resample
from s3bench.report.stats.paired_tests import pairs_needed


def equal_horizon(horizons: npt.ArrayLike, losses: npt.ArrayLike, loss: float) -> tuple[float, float]:
    """Return the horizon at which a ladder of runs, each with its own full schedule, ends at `loss`, as (low, high).

    Between two neighbouring horizons the logarithm of the horizon is taken as linear in the loss; the first crossing
    counts. Outside the ladder only a bound is known: (0, shortest) if the shortest already ends lower, (longest, ∞) if
    none ends so low. (0, ∞) for a NaN.

    Args:
        horizons: shape (n,), rising, in steps.
        losses: shape (n,), the mean final loss at each, infinite where a run diverged.
        loss: the final loss to match.
    """
    steps, ends = np.asarray(horizons, dtype=np.float64), np.asarray(losses, dtype=np.float64)
    if not len(steps) or math.isnan(loss) or np.isnan(ends).any():
        return 0.0, math.inf
    there = np.flatnonzero(ends <= loss)
    if not len(there):
        return float(steps[-1]), math.inf
    first = int(there[0])
    if first == 0 and ends[0] < loss:
        return 0.0, float(steps[0])
    above = ends[max(0, first - 1)]
    if first == 0 or math.isinf(above):
        return float(steps[max(0, first - 1)]), float(steps[first])
    part = (above - loss) / (above - ends[first])
    between = math.exp((1 - part) * math.log(steps[first - 1]) + part * math.log(steps[first]))
    return between, between


def horizon_speedup(
    own: npt.ArrayLike, horizon: int, horizons: npt.ArrayLike, losses: npt.ArrayLike
) -> tuple[tuple[float, float], tuple[float, float]]:
    """Return the reference's horizon that ends where the optimizer ends, over the optimizer's; above 1 it is faster.

    Final losses are averaged over seeds before they are compared. The interval comes from a bootstrap of the seeds,
    which are the same for all horizons and both optimizers.

    Args:
        own: shape (seeds,), final losses of the optimizer.
        horizon: of the optimizer's runs, in steps.
        horizons: shape (n,), of the reference's runs, rising.
        losses: shape (seeds, n), the reference's final losses; infinite where a run diverged.

    Returns:
        The bounds of the ratio, equal where it lies within the ladder, and its 95% interval, NaN below six seeds.
    """
    mine, ladder = np.asarray(own, dtype=np.float64), np.asarray(losses, dtype=np.float64)
    low, high = equal_horizon(horizons, ladder.mean(axis=0), float(mine.mean()))
    bounds = low / horizon, high / horizon
    if len(mine) < pairs_needed():
        return bounds, (math.nan, math.nan)
    samples = resample(np.column_stack([mine, ladder])).mean(axis=1)
    ratios = np.array([equal_horizon(horizons, sample[1:], float(sample[0])) for sample in samples]) / horizon
    return bounds, interval(ratios[:, 0], len(mine), ratios[:, 1])
