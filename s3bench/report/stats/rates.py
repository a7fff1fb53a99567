"""Rates of events, such as spikes per 10,000 steps, with exact intervals and tests."""

import math

import numpy as np
import numpy.typing as npt
from scipy import stats
from scipy.special import betaincinv, gammainccinv, gammaincinv

from s3bench.report.stats.paired_tests import ALPHA


def rates_p(
    events: npt.ArrayLike, steps: npt.ArrayLike, other_events: npt.ArrayLike, other_steps: npt.ArrayLike
) -> float:
    """Return the two-sided p of "the rates of rare events are equal within each pair", exact for Poisson counts.

    Given how many events a pair has in all, the count of its first run is binomial with that run's share of the steps
    (Przyborowski and Wilenski 1940). The sum over the pairs is tested, so rates may differ from seed to seed; a single
    pair gives the plain comparison of two rates. The p adds up all totals that are at most as likely as the one seen.

    Args:
        events, steps: shape (pairs,), of the first run of each pair.
        other_events, other_steps: shape (pairs,), of the second.
    """
    chances = np.ones(1)
    own, exposure, other_exposure = np.asarray(events), np.asarray(steps), np.asarray(other_steps)
    totals = own + np.asarray(other_events)
    for total, share in zip(totals.tolist(), exposure / (exposure + other_exposure), strict=True):
        if total:
            chances = np.convolve(chances, stats.binom.pmf(np.arange(total + 1), total, share))
    return float(min(1.0, chances[chances <= chances[own.sum()] * (1 + 1e-7)].sum()))


def rate_ratio(events: int, steps: int, other_events: int, other_steps: int) -> tuple[float, float, float]:
    """Return the ratio of two rates of rare events and its exact 95% interval (Clopper and Pearson 1934).

    The ratio is 0 or infinite where one has no event. It is (NaN, 0, ∞) where neither has one: the ratio is unknown.
    """
    # The interval of the share of events; scipy's binomtest gives the same one, but not to the last digit
    if not events + other_events or not steps or not other_steps:
        return math.nan, 0.0, math.inf
    low = betaincinv(events, other_events + 1, ALPHA / 2) if events else 0.0
    high = betaincinv(events + 1, other_events, 1 - ALPHA / 2) if other_events else 1.0

    def ratio(share: float) -> float:
        return float(share / (1 - share) * other_steps / steps) if share < 1 else math.inf

    return ratio(events / (events + other_events)), ratio(low), ratio(high)


def per_10k(events: int, steps: int) -> float:
    """Return events per 10,000 steps; NaN without steps."""
    return 1e4 * events / steps if steps else math.nan


def poisson_interval(events: int, steps: int, level: float = 0.95) -> tuple[float, float]:
    """Return the exact interval of a rate of events per 10,000 steps (Garwood 1936); (NaN, NaN) without steps."""
    if not steps:
        return math.nan, math.nan
    tail = (1 - level) / 2
    low = float(gammaincinv(events, tail)) if events else 0.0
    return per_10k(1, steps) * low, per_10k(1, steps) * float(gammainccinv(events + 1, tail))
