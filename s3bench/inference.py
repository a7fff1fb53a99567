"""How sure one can be with few seeds: exact tests on pairs, bootstrap intervals over seeds, rates of rare events.

Pure functions on arrays. A pair is two runs of one seed: the same data order and the same initialisation.
"""

import math
from collections.abc import Sequence

import numpy as np
import numpy.typing as npt
from scipy import stats
from scipy.special import betaincinv

ALPHA = 0.05
RESAMPLES = 10_000
EXACT_PAIRS = 14  # up to so many pairs all 2^n signs are tried, above it as many drawn ones

Array = npt.NDArray[np.float64]


def smallest_p(pairs: int) -> float:
    """The smallest two-sided p that a test by signs (sign test, sign flips, signed ranks) can give: 2^(1-pairs)."""
    return min(1.0, 2.0 ** (1 - pairs))


def pairs_needed(alpha: float = ALPHA) -> int:
    """The fewest pairs of which a test by signs can give a two-sided p of at most alpha: six for 0.05."""
    return math.ceil(1 - math.log2(alpha))


def sign_flip_p(differences: npt.ArrayLike, *, greater: bool = False) -> float:
    """The two-sided p of "each difference is as likely to have the other sign", by their mean (Fisher 1935).

    Exact up to EXACT_PAIRS pairs: the share of all 2^n signs that give a mean at least as far from 0 as the one seen;
    where `greater`, one-sided: at least as large. Above, of 2^14 drawn signs and the one seen. NaN of nothing.

    Raises:
        ValueError: a difference is not finite; signed_rank_p takes infinite ones.
    """
    values = np.asarray(differences, dtype=np.float64)
    if not np.isfinite(values).all():
        raise ValueError("a difference is not finite; the signed ranks are for such")
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
    """The two-sided p of Wilcoxon's signed ranks (1945), exact also with ties; infinite differences rank highest.

    Where `greater`, one-sided: of ranks at least as high.

    A NaN (both runs diverged) is no difference: it counts as 0. Differences of 0 have no sign and are left out.
    """
    values = np.nan_to_num(np.asarray(differences, dtype=np.float64), nan=0.0, posinf=np.inf, neginf=-np.inf)
    values = values[values != 0]
    return sign_flip_p(np.sign(values) * stats.rankdata(np.abs(values)), greater=greater) if len(values) else 1.0


def sign_test_p(wins: int, losses: int) -> float:
    """The two-sided p of the sign test, ties left out."""
    return float(stats.binomtest(wins, wins + losses).pvalue) if wins + losses else 1.0


def holm(p_values: Sequence[float]) -> list[float]:
    """Holm's correction (1979): the p-values of a family such that each may be held against alpha; NaN stays NaN."""
    given = sorted((p, index) for index, p in enumerate(p_values) if not math.isnan(p))
    corrected, largest = [math.nan] * len(p_values), 0.0
    for rank, (p, index) in enumerate(given):
        largest = max(largest, min(1.0, p * (len(given) - rank)))
        corrected[index] = largest
    return corrected


def verdict(p_holm: float, pairs: int, comparisons: int, unequal: int | None = None) -> str:
    """What n pairs allow to say: "differs", "not told apart", or that they cannot reach 0.05 at all, or "no pairs".

    Args:
        p_holm: the corrected p.
        pairs: how many pairs the test had.
        comparisons: how many tests Holm's correction was over.
        unequal: in how many of them there was a difference, None: in all. Others say nothing by their signs.
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


def resample(values: npt.ArrayLike, stream: int = 0) -> Array:
    """Bootstrap samples of the rows (seeds, or pairs) of an array of shape (n, ...): shape (RESAMPLES, n, ...).

    For several tasks: one call each, with its own `stream`, so that seeds are drawn within each task; tasks are fixed.
    """
    rows = np.asarray(values, dtype=np.float64)
    samples: Array = rows[_drawn(len(rows), stream)]
    return samples


def resample_weights(n: int, stream: int = 0) -> Array:
    """The same samples of n values as weights, shape (RESAMPLES, n): times the values they are the samples' means."""
    places = _drawn(n, stream) + n * np.arange(RESAMPLES)[:, None]
    weights: Array = np.bincount(places.ravel(), minlength=n * RESAMPLES).reshape(RESAMPLES, n) / n
    return weights


def _drawn(n: int, stream: int) -> npt.NDArray[np.int64]:
    return np.random.default_rng([stream, n]).integers(n, size=(RESAMPLES, n))


def interval(samples: npt.ArrayLike, n: int, highs: npt.ArrayLike | None = None) -> tuple[float, float]:
    """The expanded percentile interval of 95% of a statistic's bootstrap samples (Hesterberg 2015, section 5.3).

    The plain percentile interval of n values is too narrow, by the factor sqrt((n-1)/n) and by the normal quantile in
    place of Student's; so the tails are Φ(-sqrt(n/(n-1)) t(0.975, n-1)) each. (NaN, NaN) below six values: not even
    their whole range would cover the median of a distribution with a probability of 0.95.

    Args:
        samples: shape (RESAMPLES,), the statistic of each; its lower bound, where it is known only up to bounds.
        n: how many values were resampled; the smallest number, of several tasks.
        highs: its upper bound, where it has another.
    """
    if n < pairs_needed():
        return math.nan, math.nan
    tail = expanded_tail(n)
    lows, uppers = np.asarray(samples), np.asarray(samples if highs is None else highs)
    low = np.quantile(lows, tail, method="inverted_cdf")  # no interpolation: it may be infinite
    return float(low), float(np.quantile(uppers, 1 - tail, method="inverted_cdf"))


def expanded_tail(n: int) -> float:
    """The share of the bootstrap samples of n values beyond each end of the expanded percentile interval."""
    return float(stats.norm.cdf(-math.sqrt(n / (n - 1)) * stats.t.ppf(1 - ALPHA / 2, n - 1)))


def mean_interval(values: npt.ArrayLike) -> tuple[float, float]:
    """The 95% bootstrap interval of a mean over seeds or paired differences; NaN of fewer than six, or of infinity."""
    numbers = np.asarray(values, dtype=np.float64)
    if len(numbers) < pairs_needed() or not np.isfinite(numbers).all():
        return math.nan, math.nan
    return interval(resample(numbers).mean(axis=1), len(numbers))


def median_bounds(bounds: npt.ArrayLike) -> tuple[float, float]:
    """The bounds of the median of values known up to bounds, shape (n, 2); no more is known. (NaN, NaN) of nothing."""
    pairs = np.asarray(bounds, dtype=np.float64).reshape(-1, 2)
    if not len(pairs):
        return math.nan, math.nan
    (low,), (high,) = _medians(pairs[None, :, 0], -math.inf), _medians(pairs[None, :, 1], math.inf)
    return float(low), float(high)


def median_interval(bounds: npt.ArrayLike) -> tuple[float, float]:
    """The 95% bootstrap interval of the median of values known up to bounds, shape (n, 2); NaN below six.

    Its lower end is of the lower bounds, its upper end of the upper ones: it covers whatever the values are within.
    """
    pairs = np.asarray(bounds, dtype=np.float64).reshape(-1, 2)
    if len(pairs) < pairs_needed():
        return math.nan, math.nan
    samples = resample(pairs)
    lows, highs = _medians(samples[:, :, 0], -math.inf), _medians(samples[:, :, 1], math.inf)
    return interval(lows, len(pairs), highs)


def _medians(rows: Array, undecided: float) -> Array:
    """The median of each row; `undecided` where its middle values are -∞ and ∞."""
    ordered = np.sort(rows, axis=1)
    with np.errstate(invalid="ignore"):
        middle = (ordered[:, (rows.shape[1] - 1) // 2] + ordered[:, rows.shape[1] // 2]) / 2
    return np.where(np.isnan(middle), undecided, middle)


def rates_p(
    events: npt.ArrayLike, steps: npt.ArrayLike, base_events: npt.ArrayLike, base_steps: npt.ArrayLike
) -> float:
    """The two-sided p of "the rates of rare events are equal within each pair", exact for Poisson counts.

    Given how many events a pair has in all, its first run's are binomial with the share of its steps (Przyborowski and
    Wilenski 1940); the sum over the pairs is tested, so rates may differ from seed to seed. One pair: the plain
    comparison of two rates. All totals at most as likely as the one seen count.
    """
    chances = np.ones(1)
    own, exposure, base_exposure = np.asarray(events), np.asarray(steps), np.asarray(base_steps)
    totals = own + np.asarray(base_events)
    for total, share in zip(totals.tolist(), exposure / (exposure + base_exposure), strict=True):
        if total:
            chances = np.convolve(chances, stats.binom.pmf(np.arange(total + 1), total, share))
    return float(min(1.0, chances[chances <= chances[own.sum()] * (1 + 1e-7)].sum()))


def rate_ratio(events: int, steps: int, base_events: int, base_steps: int) -> tuple[float, float, float]:
    """The ratio of two rates of rare events and its exact 95% interval (Clopper and Pearson, on the share of events).

    0 or infinite where one has no event; (NaN, 0, ∞) where neither has one: nothing is known of the ratio.
    """
    if not events + base_events or not steps or not base_steps:
        return math.nan, 0.0, math.inf
    low = betaincinv(events, base_events + 1, ALPHA / 2) if events else 0.0
    high = betaincinv(events + 1, base_events, 1 - ALPHA / 2) if base_events else 1.0

    def ratio(share: float) -> float:
        return float(share / (1 - share) * base_steps / steps) if share < 1 else math.inf

    return ratio(events / (events + base_events)), ratio(low), ratio(high)
