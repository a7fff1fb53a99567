"""Optimizers across tasks: performance profiles and geometric means. Pure functions on arrays.

Tasks are fixed, seeds are drawn: the intervals say what other seeds would give on these tasks, not on others.
"""

import math
from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

from s3bench.report.stats.bootstrap import expanded_tail, interval, median_bounds, resample, resample_weights
from s3bench.report.stats.paired_tests import pairs_needed

Array = npt.NDArray[np.float64]


def performance_ratios(costs: npt.ArrayLike) -> Array:
    """Each optimizer's cost over the smallest on the same problem (Dolan and Moré 2002), infinite where it is.

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
    """The share of problems that each optimizer solves within a factor of the best: ρ(τ), shape (factors, optimizers).

    A problem is a task and a seed; every task weighs the same, however many seeds it has.

    Args:
        ratios: shape (problems, optimizers), of performance_ratios.
        tasks: the task of each problem.
        within: the factors τ, at least 1.
    """
    shares: Array = np.mean([solved.mean(axis=0) for solved in _solved(ratios, tasks, within)], axis=0).T
    return shares


def profile_bands(ratios: npt.ArrayLike, tasks: Sequence[str], within: npt.ArrayLike) -> Array:
    """The 95% intervals of a performance profile, shape (optimizers, factors, 2); of no optimizers if there are none.

    By bootstrap of the seeds within each task, as for geometric means; none where a task has fewer than six seeds.
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
    """Of each task 1 where a seed's ratio is within a factor, else 0: shape (seeds, optimizers, factors)."""
    solved = (np.asarray(ratios)[:, :, None] <= np.asarray(within, dtype=np.float64)).astype(np.float64)
    names = np.array(tasks)
    return [solved[names == task] for task in dict.fromkeys(tasks)]


def geometric_mean(log_ratios: Sequence[npt.ArrayLike]) -> tuple[float, float, float]:
    """The geometric mean over tasks of the ratio to a baseline, and its 95% interval: exp(mean of the tasks' means).

    The interval is by bootstrap of the seeds within each task; NaN where a task has fewer than six.

    Args:
        log_ratios: of each task, the natural logarithm of the ratio of each pair, shape (pairs,); none is empty.
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
    """The bounds of the geometric mean over tasks of each task's median ratio, of ratios known up to bounds.

    Args:
        log_ratios: of each task, the bounds of each pair's logarithm, shape (pairs, 2), such as of censored.log_ratios.
    """
    bounds = np.array([median_bounds(pairs) for pairs in log_ratios])
    with np.errstate(invalid="ignore"):
        low, high = bounds.mean(axis=0)  # NaN of -∞ and ∞: nothing is known
    return math.exp(low) if low == low else 0.0, math.exp(high) if high == high else math.inf
