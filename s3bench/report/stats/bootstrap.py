"""Bootstrap intervals of means and medians over seeds."""

import math

import numpy as np
import numpy.typing as npt
from scipy import stats

from s3bench.report.stats.paired_tests import ALPHA, Array, pairs_needed

RESAMPLES = 10_000


def resample(values: npt.ArrayLike, stream: int = 0) -> Array:
    """Return bootstrap samples of the rows (seeds, or pairs) of an array of shape (n, ...): shape (RESAMPLES, n, ...).

    For several tasks, call it once per task with its own `stream`: seeds are drawn within each task; tasks are fixed.
    """
    rows = np.asarray(values, dtype=np.float64)
    samples: Array = rows[_drawn(len(rows), stream)]
    return samples


def resample_weights(n: int, stream: int = 0) -> Array:
    """Return the same samples of n values as weights, shape (RESAMPLES, n): weights @ values are the samples' means."""
    places = _drawn(n, stream) + n * np.arange(RESAMPLES)[:, None]
    weights: Array = np.bincount(places.ravel(), minlength=n * RESAMPLES).reshape(RESAMPLES, n) / n
    return weights


def _drawn(n: int, stream: int) -> npt.NDArray[np.int64]:
    return np.random.default_rng([stream, n]).integers(n, size=(RESAMPLES, n))


def interval(samples: npt.ArrayLike, n: int, highs: npt.ArrayLike | None = None) -> tuple[float, float]:
    """Return the expanded 95% percentile interval of a statistic's bootstrap samples (Hesterberg 2015, section 5.3).

    The plain percentile interval of n values is too narrow, by the factor sqrt((n-1)/n) and by the normal quantile in
    place of Student's; so the tails are Φ(-sqrt(n/(n-1)) t(0.975, n-1)) each. (NaN, NaN) below six values: not even
    their whole range would cover the median of a distribution with a probability of 0.95.

    Args:
        samples: shape (RESAMPLES,), the statistic of each sample, or its lower bound.
        n: how many values were resampled; for several tasks, the smallest number.
        highs: the statistic's upper bound, where it is known only up to bounds.
    """
    if n < pairs_needed():
        return math.nan, math.nan
    tail = expanded_tail(n)
    lows, uppers = np.asarray(samples), np.asarray(samples if highs is None else highs)
    low = np.quantile(lows, tail, method="inverted_cdf")  # no interpolation: it may be infinite
    return float(low), float(np.quantile(uppers, 1 - tail, method="inverted_cdf"))


def expanded_tail(n: int) -> float:
    """Return the share of the bootstrap samples of n values beyond each end of the expanded percentile interval."""
    return float(stats.norm.cdf(-math.sqrt(n / (n - 1)) * stats.t.ppf(1 - ALPHA / 2, n - 1)))


def mean_interval(values: npt.ArrayLike) -> tuple[float, float]:
    """Return the 95% bootstrap interval of a mean over seeds or pairs; NaN for fewer than six or infinite values."""
    numbers = np.asarray(values, dtype=np.float64)
    if len(numbers) < pairs_needed() or not np.isfinite(numbers).all():
        return math.nan, math.nan
    return interval(resample(numbers).mean(axis=1), len(numbers))


def median_bounds(bounds: npt.ArrayLike) -> tuple[float, float]:
    """Return the bounds of the median of values known up to bounds, shape (n, 2); (NaN, NaN) without values."""
    pairs = np.asarray(bounds, dtype=np.float64).reshape(-1, 2)
    if not len(pairs):
        return math.nan, math.nan
    (low,), (high,) = _medians(pairs[None, :, 0], -math.inf), _medians(pairs[None, :, 1], math.inf)
    return float(low), float(high)


def median_interval(bounds: npt.ArrayLike) -> tuple[float, float]:
    """Return the 95% bootstrap interval of the median of values known up to bounds, shape (n, 2); NaN below six.

    The lower end comes from the lower bounds and the upper end from the upper ones, so it holds for all values within.
    """
    pairs = np.asarray(bounds, dtype=np.float64).reshape(-1, 2)
    if len(pairs) < pairs_needed():
        return math.nan, math.nan
    samples = resample(pairs)
    lows, highs = _medians(samples[:, :, 0], -math.inf), _medians(samples[:, :, 1], math.inf)
    return interval(lows, len(pairs), highs)


def _medians(rows: Array, undecided: float) -> Array:
    """Return the median of each row; `undecided` where its middle values are -∞ and ∞."""
    ordered = np.sort(rows, axis=1)
    with np.errstate(invalid="ignore"):
        middle = (ordered[:, (rows.shape[1] - 1) // 2] + ordered[:, rows.shape[1] // 2]) / 2
    return np.where(np.isnan(middle), undecided, middle)
