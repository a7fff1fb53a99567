"""δ in the loss's own scale: the smallest threshold, where a task sets none."""

import numpy as np
import numpy.typing as npt

DELTA = 0.1  # the usual δ, in the loss's unit
LEAST_PART, MOST_PART = 0.01, 0.1  # but at least and at most these parts of the level
FIRST_PART = 0.003  # of the first level, which a lower one counts as
FAR = 40  # how many σ are enough there, down to a tenth of that

Array = npt.NDArray[np.float64]


def usual_delta(level: float, first: float, sigma: float) -> float:
    """Return δ in the loss's own scale: DELTA, but at least LEAST_PART and at most MOST_PART of the level.

    A level under FIRST_PART of the first one counts as this much: what is left of a loss near 0 is rounding. But FAR σ
    are not, down to LEAST_PART of that.
    """
    size, small = abs(level), FIRST_PART * abs(first)
    floor = min(MOST_PART * small, max(LEAST_PART * small, FAR * sigma))
    return min(max(DELTA, LEAST_PART * size), max(MOST_PART * size, floor))


def usual_deltas(levels: Array, first: float, sigmas: Array) -> Array:
    """Return the same for each level and σ."""
    sizes, small = np.abs(levels), FIRST_PART * abs(first)
    floors = np.minimum(MOST_PART * small, np.maximum(LEAST_PART * small, FAR * sigmas))
    result: Array = np.minimum(np.maximum(DELTA, LEAST_PART * sizes), np.maximum(MOST_PART * sizes, floors))
    return result
