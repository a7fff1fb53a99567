"""Compares optimizers across tasks: performance profiles and geometric means, as pure functions on arrays.

Tasks are fixed, seeds are drawn: the intervals are about other seeds on these tasks, not about other tasks.
"""

import math
from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from s3bench.report.stats.bootstrap import expanded_tail, interval, median_bounds, resample, resample_weights
from s3bench.report.stats.paired_tests import pairs_needed

Array = npt.NDArray[np.float64]


def performance_ratios(costs: npt.ArrayLike) -> Array:
    """Return each optimizer's cost over the smallest on the same problem (Dolan and Moré 2002); infinite costs stay so.

    Args:
        costs: shape (problems, optimizers), such as steps to target; above 0, infinite where not solved.

    Raises:
        ValueError: a cost is not above 0, or NaN.
    """
    numbers = np.asarray(costs, dtype=np.float64)
    if not (numbers > 0).all():
        raise ValueError("a cost is not above 0")
    best = numbers.min(axis=1, keepdims=True, initial=math.inf)
    with np.errstate(invalid="ignore"):
        ratios = numbers / best
    return np.where(np.isinf(numbers), np.inf, ratios)


def performance_profile(ratios: npt.ArrayLike, tasks: Sequence[str], within: npt.ArrayLike) -> Array:
    """Return the share of problems solved within a factor of the best: ρ(τ), shape (factors, optimizers).

    A problem is a task and a seed; every task weighs the same, however many seeds it has.

    Args:
        ratios: shape (problems, optimizers), of performance_ratios.
        tasks: the task of each problem.
        within: the factors τ, at least 1.
    """
    shares: Array = np.mean([solved.mean(axis=0) for solved in _solved(ratios, tasks, within)], axis=0).T
    return shares


def profile_bands(ratios: npt.ArrayLike, tasks: Sequence[str], within: npt.ArrayLike) -> Array:
    """Return the 95% intervals of a performance profile, shape (optimizers, factors, 2).

    The bootstrap resamples the seeds within each task, as for geometric means. The result has no optimizers where a
    task has fewer than six seeds.
    """
    solved = _solved(ratios, tasks, within)
    n = min(map(len, solved))
    if n < pairs_needed():
        return np.empty((0, np.size(within), 2))
    weights = [resample_weights(len(of_task), stream) for stream, of_task in enumerate(solved)]
    ends = [expanded_tail(n), 1 - expanded_tail(n)]
    bands = []
    for optimizer in range(solved[0].shape[1]):
        of_tasks = [drawn @ of_task[:, optimizer] for drawn, of_task in zip(weights, solved, strict=True)]
        bands.append(np.quantile(np.mean(of_tasks, axis=0), ends, axis=0, method="inverted_cdf").T)
    return np.array(bands)


def _solved(ratios: npt.ArrayLike, tasks: Sequence[str], within: npt.ArrayLike) -> list[Array]:
    """Return for each task 1 where a seed's ratio is within a factor, else 0: shape (seeds, optimizers, factors)."""
    solved = (np.asarray(ratios)[:, :, None] <= np.asarray(within, dtype=np.float64)).astype(np.float64)
    names = np.array(tasks)
    return [solved[names == task] for task in dict.fromkeys(tasks)]


def geometric_mean(log_ratios: Sequence[npt.ArrayLike]) -> tuple[float, float, float]:
    """Return the geometric mean over tasks of the ratio to a reference, exp(mean of task means), and its interval.

    The 95% interval comes from a bootstrap of the seeds within each task; NaN where a task has fewer than six.

    Args:
        log_ratios: for each task, the natural logarithm of each pair's ratio, shape (pairs,); none is empty.
    """
    tasks = [np.asarray(values, dtype=np.float64) for values in log_ratios]
    if not tasks or not all(np.isfinite(values).all() for values in tasks):
        with np.errstate(invalid="ignore"):
            return (
                float(np.exp(np.mean([values.mean() for values in tasks]))) if tasks else math.nan,
                math.nan,
                math.nan,
            )
    middle = math.exp(np.mean([values.mean() for values in tasks]))
    samples = np.mean([resample(values, stream).mean(axis=1) for stream, values in enumerate(tasks)], axis=0)
    low, high = interval(samples, min(map(len, tasks)))
    return middle, math.exp(low), math.exp(high)


def geometric_mean_bounds(log_ratios: Sequence[npt.ArrayLike]) -> tuple[float, float]:
    """Return the bounds of the geometric mean over tasks of each task's median ratio, for ratios known up to bounds.

    Args:
        log_ratios: for each task, the bounds of each pair's logarithm, shape (pairs, 2), see log_step_ratios.
    """
    bounds = np.array([median_bounds(pairs) for pairs in log_ratios])
    with np.errstate(invalid="ignore"):
        low, high = bounds.mean(axis=0)  # NaN for -∞ and ∞: unknown
    return math.exp(low) if low == low else 0.0, math.exp(high) if high == high else math.inf
