"""Intervals that may be looked at after every block: the truth leaves none of them, ever, with probability 1 - alpha.

Each is the set of values that an e-process does not reject: a process that starts at 1 and whose mean stays at most 1
if the value is the true one, so that it ever reaches 1/alpha with a probability of at most alpha (Ville 1939). All are
mixtures of likelihood ratios (Robbins 1970). Because the bound is on the whole path, it holds however the last look is
chosen: by a verdict, by a budget, or by what other claims show.
"""

import math
from functools import lru_cache

import numpy as np
import numpy.typing as npt
from scipy.optimize import brentq
from scipy.special import betaln, expit, log_expit, logit, logsumexp, xlogy

from s3bench.report.stats.paired_tests import ALPHA, Array

MOST_BLOCKS = 10_000  # what would need more counts as out of reach
ROUNDING = 1e-12  # a spread below this share of the values is none: they are equal
NODES = 200  # of the mixture over ratios of rates
FARTHEST = 60.0  # ends of a logarithm of a ratio of rates beyond this are infinite


def mean_intervals(values: npt.ArrayLike, alpha: float = ALPHA) -> Array:
    """Return the interval of the mean after each block, shape (..., blocks, 2); infinite where nothing is known.

    The e-process against a mean m is the Bayes factor of the t statistic of n normal blocks, with the right Haar prior
    on their scale and a standard normal prior on the effect (mean - m) / scale, with ν = n - 1 and k = 1 + n:

        e = k^(-1/2) ((1 + t²/ν) / (1 + t²/(ν k)))^(n/2)

    It is a martingale in what the blocks show but for their scale (Lai 1976; Pérez-Ortiz, Lardy, de Heide and Grünwald
    2022; Wang and Ramdas 2023; for regressions: Lindon, Ham, Tingley and Bojinov 2022). Solved for m, with
    c = (k / alpha²)^(1/n), the interval is

        mean ± sd / sqrt(n) · sqrt(ν (c - 1) / (1 - c / k))

    It is infinite where c ≥ k: the first finite one is that of 5 blocks for alpha = 0.05. It is infinite too while all
    values are equal: normal values never are, and values such as counts say nothing of their spread by that.

    Args:
        values: shape (..., blocks), finite: one number a block, in the order of the blocks.
        alpha: the probability that any of the intervals misses the mean, in (0, 1).

    Raises:
        ValueError: a value is not finite, or alpha is not in (0, 1).
    """
    numbers = _finite(values)
    widths = mean_widths(_checked(alpha), numbers.shape[-1])
    n = np.arange(1, numbers.shape[-1] + 1)
    shifted = numbers - numbers[..., :1]  # so that sums of squares do not cancel
    centred = shifted.cumsum(axis=-1) / n
    squares = np.maximum((shifted**2).cumsum(axis=-1) - n * centred**2, 0.0)
    sd = np.sqrt(squares / np.maximum(n - 1, 1))
    spread = sd > ROUNDING * np.maximum.accumulate(np.abs(numbers), axis=-1)
    with np.errstate(invalid="ignore"):
        half = np.where(spread, widths * sd, np.inf)
    mean = centred + numbers[..., :1]
    return np.stack([mean - half, mean + half], axis=-1)


def mean_sequence(values: npt.ArrayLike, alpha: float = ALPHA) -> tuple[float, float]:
    """Return the interval of the mean for the blocks so far, see mean_intervals; (-∞, ∞) without blocks."""
    return _last(mean_intervals(values, alpha))


def mean_e_value(values: npt.ArrayLike, point: float) -> float:
    """Return the e-value of the blocks so far against "the mean is `point`", see mean_intervals.

    It is at least 1/alpha where the interval for alpha excludes the point, and 1 while all values are equal.
    """
    numbers = _finite(values)
    n = len(numbers)
    sd = float(numbers.std(ddof=1)) if n > 1 else 0.0
    if not n or sd <= ROUNDING * np.abs(numbers).max():
        return 1.0
    squared, k = n * ((numbers.mean() - point) / sd) ** 2 / (n - 1), 1.0 + n
    return float(np.exp((n * (np.log1p(squared) - np.log1p(squared / k)) - np.log(k)) / 2))


def mean_widths(alpha: float, blocks: int) -> Array:
    """Return half the width of the interval of a mean after 1, 2, ... blocks, in their standard deviations."""
    return _widths(alpha, max(blocks, MOST_BLOCKS))[:blocks]


@lru_cache(maxsize=16)
def _widths(alpha: float, blocks: int) -> Array:
    n = np.arange(1.0, blocks + 1)
    k = 1 + n
    c = np.exp((np.log(k) - 2 * math.log(alpha)) / n)
    finite = c < k
    squares = np.divide((n - 1) * (c - 1), (1 - c / k) * n, out=np.full(len(n), np.inf), where=finite)
    widths: Array = np.sqrt(squares)
    return widths


def fewest_blocks(alpha: float = ALPHA) -> int:
    """Return the fewest blocks with which the interval of a mean is finite: 5 for 0.05, 7 for a ninth of it."""
    return int(blocks_needed(math.inf, 1.0, alpha))


def blocks_needed(distance: float, sd: float, alpha: float = ALPHA) -> float:
    """Return after how many blocks in all the interval of a mean reaches less far than `distance` to each side.

    It takes the standard deviation as known. With `distance` from the present mean to the value that has to be
    excluded, it is about the median of the number at which it will be: means wander, to either side.
    Infinite above MOST_BLOCKS, for a distance of 0, and while all blocks are equal.

    Args:
        distance: at least 0, in the values' unit.
        sd: the standard deviation of the blocks so far, at least 0.
        alpha: as for mean_intervals.
    """
    if not (distance > 0 and sd > 0):
        return math.inf
    before = int(np.searchsorted(-mean_widths(_checked(alpha), MOST_BLOCKS), -distance / sd, side="right"))
    return before + 1 if before < MOST_BLOCKS else math.inf


def share_intervals(shares: npt.ArrayLike, alpha: float = ALPHA) -> Array:
    """Return the interval of a mean share after each block, shape (..., blocks, 2).

    The e-process against a share p, after hits S and misses F, is the mixture of likelihood ratios over a uniform prior
    (Ville 1939; Robbins 1970):

        e = B(1 + S, 1 + F) / (p^S (1 - p)^F)

    For outcomes of 0 and 1, such as which of a discordant pair won, it is a martingale. A block with several outcomes
    counts with the share of them that are hits: S grows by x and F by 1 - x. This is valid whatever ties a block's
    outcomes to each other, as long as a block's expected share is p given the blocks before: by convexity
    (q/p)^x ((1-q)/(1-p))^(1-x) ≤ x q/p + (1-x) (1-q)/(1-p), whose mean is 1 (Hoeffding 1963). Where the outcomes
    of a block are independent, each may be given as a block of its own, which is narrower.

    Args:
        shares: shape (..., blocks), from 0 to 1, in the order of the blocks.
        alpha: the probability that any of the intervals misses the share, in (0, 1).

    Raises:
        ValueError: a share is not in [0, 1], or alpha is not in (0, 1).
    """
    numbers = _finite(shares)
    if ((numbers < 0) | (numbers > 1)).any():
        raise ValueError("a share is not between 0 and 1")
    hits = numbers.cumsum(axis=-1)
    misses = np.maximum(np.arange(1, numbers.shape[-1] + 1) - hits, 0.0)
    level = betaln(1 + hits, 1 + misses) + math.log(_checked(alpha))  # rejected where the log likelihood is below

    def end(outside: Array, inside: Array) -> Array:
        for _ in range(60):
            middle = (outside + inside) / 2
            rejected = xlogy(hits, middle) + xlogy(misses, 1 - middle) < level
            outside, inside = np.where(rejected, middle, outside), np.where(rejected, inside, middle)
        return outside  # the wider

    best = hits / np.maximum(hits + misses, 1)
    return np.stack([end(np.zeros_like(best), best), end(np.ones_like(best), best)], axis=-1)


def share_sequence(shares: npt.ArrayLike, alpha: float = ALPHA) -> tuple[float, float]:
    """Return the interval of a mean share for the blocks so far, see share_intervals; (-∞, ∞) without blocks."""
    return _last(share_intervals(shares, alpha))


def shares_needed(share: float, point: float, alpha: float = ALPHA) -> float:
    """Return after how many outcomes the interval of a share leaves out a point, if the hits keep to this share.

    Infinite above MOST_BLOCKS. All in [0, 1]; see share_intervals.
    """
    n = np.arange(1.0, MOST_BLOCKS + 1)
    hits, misses = n * share, n * (1 - share)
    log_e = betaln(1 + hits, 1 + misses) - xlogy(hits, point) - xlogy(misses, 1 - point)
    enough = np.flatnonzero((log_e >= -math.log(_checked(alpha))) & (share != point))
    return float(n[enough[0]]) if len(enough) else math.inf


def rate_ratio_sequence(counts: npt.ArrayLike, alpha: float = ALPHA) -> tuple[float, float]:
    """Return the interval of the ratio of two rates of independent events for the blocks so far; (0, ∞) without events.

    Given that an event happened in a block, it is the first optimizer's with the chance r T / (r T + T'), with r the
    ratio of the rates and T, T' the steps (Przyborowski and Wilenski 1940), whatever the block's own level of rates.
    The e-process is a mixture of these likelihoods, uniform over the chance at equal steps, on a fixed set of ratios:
    any mixture is a martingale, so the sum is no approximation.

    Events that come in bursts are not independent, and the interval is then too narrow. There, give share_intervals the
    first one's share of the events of each block that has any, with T = T': r = share / (1 - share). If bursts of
    one size distribution come independently, a block's expected share is r / (1 + r), given the bursts' sizes.

    Args:
        counts: shape (blocks, 4): events and steps of the first, events and steps of the second; steps above 0.
        alpha: the probability that any of the intervals misses the ratio, in (0, 1).

    Raises:
        ValueError: a count is negative or not finite, steps are not above 0, or alpha is not in (0, 1).
    """
    table = _finite(counts).reshape(-1, 4)
    own, steps, other, other_steps = table.T
    if (table < 0).any() or not (steps > 0).all() or not (other_steps > 0).all():
        raise ValueError("events must be at least 0, and steps above 0")
    level = math.log(_checked(alpha))
    if not own.sum() + other.sum():
        return 0.0, math.inf
    exposure = np.log(steps / other_steps)

    def log_likelihood(log_ratios: Array) -> Array:
        chances = log_ratios[..., None] + exposure
        total: Array = log_expit(chances) @ own + log_expit(-chances) @ other
        return total

    points, weights = np.polynomial.legendre.leggauss(NODES)
    mixture = logsumexp(log_likelihood(logit((points + 1) / 2)), b=weights / 2)

    def inside(log_ratio: float) -> float:
        return float(log_likelihood(np.array(log_ratio)) - mixture - level)

    def slope(log_ratio: float) -> float:
        return float(own.sum() - expit(log_ratio + exposure) @ (own + other))

    best = FARTHEST if not other.sum() else -FARTHEST if not own.sum() else brentq(slope, -FARTHEST, FARTHEST)
    low = math.exp(brentq(inside, -FARTHEST, best)) if inside(-FARTHEST) < 0 else 0.0
    return low, math.exp(brentq(inside, best, FARTHEST)) if inside(FARTHEST) < 0 else math.inf


def intersected(intervals: npt.ArrayLike) -> Array:
    """Return the intersection of each interval with all earlier ones, shape (..., blocks, 2).

    The truth lies in all of them at once with probability 1 - alpha, so in the intersection: what an interval has
    excluded stays excluded, and a verdict stays once it is given. Where the low end is above the high one, later blocks
    exclude what earlier ones do not: the blocks are no sample of one distribution, or the rare event has happened.
    """
    ends = np.asarray(intervals, dtype=np.float64)
    lows, highs = np.maximum.accumulate(ends[..., 0], axis=-1), np.minimum.accumulate(ends[..., 1], axis=-1)
    return np.stack([lows, highs], axis=-1)


def _finite(values: npt.ArrayLike) -> Array:
    numbers = np.asarray(values, dtype=np.float64)
    if not np.isfinite(numbers).all():
        raise ValueError("a block's value is not finite")
    return numbers


def _checked(alpha: float) -> float:
    if not 0 < alpha < 1:
        raise ValueError(f"alpha is {alpha}; it must be between 0 and 1")
    return alpha


def _last(intervals: Array) -> tuple[float, float]:
    return (float(intervals[-1, 0]), float(intervals[-1, 1])) if len(intervals) else (-math.inf, math.inf)
