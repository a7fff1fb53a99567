"""Exact tests on pairs of runs with one seed: the same data order and the same initialisation. For few pairs."""

import math
from collections.abc import Sequence

import numpy as np
import numpy.typing as npt
from scipy import stats

ALPHA = 0.05
EXACT_PAIRS = 14  # up to this number of pairs all 2^n signs are tried; above it 2^14 random ones

Array = npt.NDArray[np.float64]


def smallest_p(pairs: int) -> float:
    """Return the smallest two-sided p of a test by signs (sign test, sign flips, signed ranks): 2^(1-pairs)."""
    return min(1.0, 2.0 ** (1 - pairs))


def pairs_needed(alpha: float = ALPHA) -> int:
    """Return the fewest pairs with which a test by signs can give a two-sided p of at most alpha: six for 0.05."""
    return math.ceil(1 - math.log2(alpha))


def log_ratios(own: npt.ArrayLike, other: npt.ArrayLike) -> Array:
    """Return log(own / other) of paired positive losses, shape (pairs,); NaN where both are infinite."""
    with np.errstate(invalid="ignore"):
        logs: Array = np.log(np.asarray(own, dtype=np.float64) / np.asarray(other, dtype=np.float64))
    return logs


def sign_flip_p(differences: npt.ArrayLike, *, greater: bool = False) -> float:
    """Return the two-sided p of "each difference is as likely to have the other sign", by their mean (Fisher 1935).

    Exact up to EXACT_PAIRS pairs: the share of all 2^n signs that give a mean at least as far from 0 as the one seen.
    Above, the share of 2^14 random signs and the one seen. NaN for no differences.

    Args:
        differences: shape (pairs,).
        greater: whether the test is one-sided: a mean at least as large as the one seen.

    Raises:
        ValueError: a difference is not finite; signed_rank_p takes infinite ones.
    """
    # By hand, since scipy.stats.permutation_test loses ties to rounding where differences cancel (p 0.66 for 1 with
    # 0.1, -0.1, ...), refuses a single pair, and takes 7 to 120 times as long with 6 to 14 pairs (scipy 1.17)
    values = np.asarray(differences, dtype=np.float64)
    if not np.isfinite(values).all():
        raise ValueError("a difference is not finite; use signed_rank_p, which takes infinite ones")
    n = len(values)
    if not n:
        return math.nan
    if n <= EXACT_PAIRS:
        signs = 1.0 - 2.0 * ((np.arange(2**n)[:, None] >> np.arange(n)) & 1)
    else:
        drawn = np.random.default_rng(0).choice([-1.0, 1.0], size=(2**EXACT_PAIRS, n))
        signs = np.concatenate([np.ones((1, n)), drawn])
    means, seen = signs @ values, values.sum()
    if not greater:
        means, seen = np.abs(means), abs(seen)
    return float(np.mean(means >= seen - 1e-9 * np.abs(values).sum()))


def signed_rank_p(differences: npt.ArrayLike, *, greater: bool = False) -> float:
    """Return the two-sided p of Wilcoxon's signed ranks (1945), exact with ties; infinite differences rank highest.

    A NaN (both runs diverged) counts as a difference of 0. Differences of 0 have no sign and are left out.

    Args:
        differences: shape (pairs,).
        greater: whether the test is one-sided: ranks at least as high as those seen.
    """
    values = np.nan_to_num(np.asarray(differences, dtype=np.float64), nan=0.0, posinf=np.inf, neginf=-np.inf)
    values = values[values != 0]
    return sign_flip_p(np.sign(values) * stats.rankdata(np.abs(values)), greater=greater) if len(values) else 1.0


def sign_test_p(wins: int, losses: int) -> float:
    """Return the two-sided p of the sign test, ties left out."""
    return float(stats.binomtest(wins, wins + losses).pvalue) if wins + losses else 1.0


def holm(p_values: Sequence[float]) -> list[float]:
    """Return the p-values of a family, corrected so that each may be compared with alpha (Holm 1979); NaN stays NaN."""
    given = sorted((p, index) for index, p in enumerate(p_values) if not math.isnan(p))
    corrected, largest = [math.nan] * len(p_values), 0.0
    for rank, (p, index) in enumerate(given):
        largest = max(largest, min(1.0, p * (len(given) - rank)))
        corrected[index] = largest
    return corrected


def verdict(p_holm: float, pairs: int, comparisons: int, unequal: int | None = None) -> str:
    """Return what n pairs allow to conclude: "differs", "not told apart", "no pairs", or that they cannot reach 0.05.

    Args:
        p_holm: the corrected p.
        pairs: how many pairs the test had.
        comparisons: how many tests Holm's correction was over.
        unequal: pairs with a non-zero difference (None: all); ties carry no sign.
    """
    if not pairs:
        return "no pairs"
    if p_holm <= ALPHA:
        return "differs"
    unequal = pairs if unequal is None else unequal
    if smallest_p(unequal) * comparisons <= ALPHA:
        return "not told apart"
    if not unequal:
        return f"no difference known in {pairs} pair{'s' if pairs != 1 else ''}"
    needed = pairs_needed(ALPHA / comparisons)
    what = f"n = {pairs} pair{'s' if pairs != 1 else ''}" if unequal == pairs else f"{unequal} unequal of {pairs} pairs"
    return f"{what} cannot reach {ALPHA} ({needed} needed)"
