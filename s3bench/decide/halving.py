"""Chooses learning rates by successive halving, on seeds that no verdict rests on.

Every rate of a grid is trained on one seed; the grid is widened while its best rate is at an edge; the best one's
neighbours at a factor of √3 join; the best two are trained on two more seeds. The one that is better on average over
the three is frozen, and so is the other as the second best.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass

import numpy as np

FIRST, LATER = 100, (101, 102)  # seeds: those from 100 to 199 are for tuning
WIDENED = 4  # at most so many rates are added at each side of a grid
STEPS = tuple(float(f"{digit}e{power}") for power in range(-5, 6) for digit in (1, 3))  # multipliers, ascending

Losses = Mapping[tuple[float, int], float]  # log loss (or norm) by (multiplier, seed); infinite if a run diverged


@dataclass(frozen=True, kw_only=True)
class Frozen:
    """The best and the second best multiplier, and the mean log loss of each over the three seeds."""

    best: float
    second: float
    log_loss: float
    second_log_loss: float


def wanted(grid: Sequence[float], losses: Losses) -> list[tuple[float, int]]:
    """Return the (multiplier, seed) that are to be trained next; none once the rates can be frozen."""
    missing = [(rate, FIRST) for rate in grid if (rate, FIRST) not in losses]
    if missing:
        return missing
    tried = sorted(rate for rate, seed in losses if seed == FIRST)
    coarse = [rate for rate in tried if rate in grid or rate in STEPS]
    best = _ranked(coarse, losses)[0]
    if best == coarse[0] and sum(rate < min(grid) for rate in coarse) < WIDENED:
        return [(max(step for step in STEPS if step < best), FIRST)]
    if best == coarse[-1] and sum(rate > max(grid) for rate in coarse) < WIDENED:
        return [(min(step for step in STEPS if step > best), FIRST)]
    fine = [float(f"{best * factor:.3g}") for factor in (3**-0.5, 3**0.5)]
    if missing := [(rate, FIRST) for rate in fine if (rate, FIRST) not in losses]:
        return missing
    return [(rate, seed) for rate in _ranked(tried, losses)[:2] for seed in LATER if (rate, seed) not in losses]


def frozen(losses: Losses) -> Frozen:
    """Return the rates once `wanted` wants no more."""
    seeds = (FIRST, *LATER)
    rates = sorted({rate for rate, _ in losses})
    means = {r: float(np.mean([losses[r, s] for s in seeds])) for r in rates if all((r, s) in losses for s in seeds)}
    best, second = sorted(means, key=lambda rate: (means[rate], rate))[:2]
    return Frozen(best=best, second=second, log_loss=means[best], second_log_loss=means[second])


def _ranked(rates: Sequence[float], losses: Losses) -> list[float]:
    """Return rates by their loss on the first seed, on a tie the smaller one first."""
    return sorted(rates, key=lambda rate: (losses[rate, FIRST], rate))
