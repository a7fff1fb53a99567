"""Decides from all losses of a run whether it has diverged, and whether it is dead."""

import math

import numpy as np
import numpy.typing as npt

from s3bench.spikes.noise import QUARTILE

GUESS, LASTING = 0.9, 100  # a network is dead whose loss stays above this share of its first one for so many steps
MIN_LAST = 10  # losses at the end of a run that are compared with its first loss, at least

Array = npt.NDArray[np.float64]


def has_diverged(loss: npt.ArrayLike) -> bool:
    """Return whether a run diverged: a loss is not finite, or the last ones are above the first; see ends_above."""
    values = np.asarray(loss, dtype=np.float64)
    return not np.isfinite(values).all() or ends_above(values)


def ends_above(losses: Array) -> bool:
    """Return whether the last tenth of the losses, all finite, is above the first one beyond its noise.

    The last tenth has at least ten losses. It is above the first loss if its median less three times its spread
    (interquartile range / 1.349) is. The same test on the logarithms also counts, because a loss may come down from far
    above by decades. A run that has learned nothing hovers around its first loss; it has not diverged.
    """
    if len(losses) < 2:
        return False
    last = losses[-max(MIN_LAST, len(losses) // 10) :]
    if losses[0] > 0 and (last > 0).all() and _is_above(np.log(last), math.log(losses[0])):
        return True
    return _is_above(last, float(losses[0]))


def _is_above(values: Array, bound: float) -> bool:
    low, middle, high = np.quantile(values, [0.25, 0.5, 0.75])
    return bool(middle - 3 * (high - low) / (2 * QUARTILE) > bound)


def death(losses: Array, first: float) -> int:
    """Return the step from which on a loss stays at a guess, at GUESS of its first value or above; else their number.

    Args:
        losses: of each step, shape (steps,).
        first: the loss at initialisation.
    """
    low = np.flatnonzero(losses < GUESS * first)
    last = int(low[-1]) + 1 if len(low) else 0
    return last if len(losses) - last >= LASTING else len(losses)
