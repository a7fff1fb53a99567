"""Checks of what the interval of a mean assumes: blocks that are independent, and not skewed.

They can only warn: each finds nothing amiss in 95 of 100 samples that are as assumed, and few blocks hide much.
"""

import numpy as np
import numpy.typing as npt
from scipy import stats

from s3bench.report.stats.confidence_sequence import ROUNDING
from s3bench.report.stats.paired_tests import ALPHA, Array

FEWEST = 8  # blocks that a check needs; the normal approximation of the skewness is wrong below
ORDERS = 1000  # random orders that the correlation is compared with


def skewness(values: npt.ArrayLike) -> tuple[float, float]:
    """Return the skewness of a sample and its two-sided p for normal values (D'Agostino 1970).

    Args:
        values: shape (n,), n at least 8, not all equal.
    """
    numbers = np.asarray(values, dtype=np.float64)
    return float(stats.skew(numbers)), float(stats.skewtest(numbers).pvalue)


def dependence(values: npt.ArrayLike) -> tuple[float, float]:
    """Return the correlation of each block with the one before, and its two-sided p.

    The p is the share of random orders of the same values with a correlation that lies as far from their mean, the one
    seen included: exact for independent values of any distribution (Wald and Wolfowitz 1943).

    Args:
        values: shape (n,), in the order of the blocks, not all equal.
    """
    numbers = np.asarray(values, dtype=np.float64)
    residuals = (numbers - numbers.mean()) / numbers.std()
    drawn = np.random.default_rng(0).permuted(np.tile(residuals, (ORDERS, 1)), axis=1)
    found = _lag_one(np.concatenate([residuals[None], drawn]))
    away = np.abs(found - found.mean())
    return float(found[0]), float(np.mean(away >= away[0] - 1e-12))


def _lag_one(residuals: Array) -> Array:
    products: Array = (residuals[:, 1:] * residuals[:, :-1]).mean(axis=1)
    return products


def cautions(values: npt.ArrayLike, alpha: float = ALPHA) -> tuple[str, ...]:
    """Return a sentence for each assumption that the blocks speak against at the level of 5%; none below 8 blocks.

    Args:
        values: shape (blocks,), in the order of the blocks.
        alpha: the error that the interval of their mean was made for, which the sentences name.
    """
    numbers = np.asarray(values, dtype=np.float64)
    if len(numbers) > 1 and numbers.std() <= ROUNDING * np.abs(numbers).max():
        return (f"all {len(numbers)} blocks are equal: nothing is known of their spread",)
    if len(numbers) < FEWEST:
        return ()
    found = []
    skew, p = skewness(numbers)
    errs = f"the interval may err more often than {100 * alpha:.2g}%"
    if p <= ALPHA:
        side = "too low" if skew > 0 else "too high"  # the long tail is seldom seen, and then widens the interval
        found.append(f"the blocks are skewed (skewness {skew:.2g}, p = {p:.2g}): {errs}, and then lies {side}")
    lag, p = dependence(numbers)
    if p <= ALPHA:
        found.append(f"the blocks depend on those before (correlation {lag:.2g}, p = {p:.2g}): {errs}")
    return tuple(found)
