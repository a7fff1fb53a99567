"""Rates of events, such as spikes per 10,000 steps, with exact intervals and tests."""

import math

import numpy as np
import numpy.typing as npt
from scipy import stats
from scipy.special import betaincinv, gammainccinv, gammaincinv

from s3bench.report.stats.paired_tests import ALPHA


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


def per_10k(events: int, steps: int) -> float:
    """Events per 10,000 steps; NaN without steps."""
    return 1e4 * events / steps if steps else math.nan


def poisson_interval(events: int, steps: int, level: float = 0.95) -> tuple[float, float]:
    """The exact interval of a rate of events per 10,000 steps (Garwood 1936); (NaN, NaN) without steps."""
    if not steps:
        return math.nan, math.nan
    tail = (1 - level) / 2
    low = float(gammaincinv(events, tail)) if events else 0.0
    return per_10k(1, steps) * low, per_10k(1, steps) * float(gammainccinv(events + 1, tail))
