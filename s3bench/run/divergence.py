"""Decides whether a run has diverged: at a loss while it trains, or from all its losses afterwards."""

import math
from typing import Any

import numpy as np
import numpy.typing as npt

from s3bench.spikes.detector import Array
from s3bench.spikes.noise import QUARTILE

MIN_LAST = 10  # losses at the end of a run that are compared with its first loss, at least


class EarlyStop:
    """Decides at which loss a diverged run stops before its horizon.

    That is the first non-finite loss or, if `above` is set, the last of `above` consecutive losses higher than the
    run's first.

    Args:
        above: how many consecutive losses; None: only a non-finite loss stops the run.
        state: the `state` of an earlier EarlyStop, to continue from.

    Attributes:
        stopped: whether a loss was the run's last.
        state: the first loss, and how many of the latest consecutive losses were above it.
    """

    def __init__(self, above: int | None = None, state: dict[str, Any] | None = None) -> None:
        self._above = above
        self.stopped = False
        self.state = state or {"first": None, "in_a_row": 0}

    def add(self, loss: float) -> bool:
        """Take the next loss, and return whether it is the run's last."""
        if self.state["first"] is None:
            self.state["first"] = loss
        self.state["in_a_row"] = self.state["in_a_row"] + 1 if loss > self.state["first"] else 0
        too_many = self._above is not None and self.state["in_a_row"] >= self._above
        self.stopped = not math.isfinite(loss) or too_many
        return self.stopped


def has_diverged(loss: npt.ArrayLike) -> bool:
    """Return whether a run diverged: a loss is non-finite, or the last tenth is above the first loss beyond its noise.

    The last tenth has at least ten losses. It is above the first loss if its median less three times its spread
    (interquartile range / 1.349) is. The same test on the logarithms also counts, because a loss may come down from far
    above by decades. A run that has learned nothing hovers around its first loss; it has not diverged.
    """
    values = np.asarray(loss, dtype=np.float64)
    if not np.isfinite(values).all():
        return True
    if len(values) < 2:
        return False
    last = values[-max(MIN_LAST, len(values) // 10) :]
    if values[0] > 0 and (last > 0).all() and _is_above(np.log(last), math.log(values[0])):
        return True
    return _is_above(last, float(values[0]))


def _is_above(values: Array, bound: float) -> bool:
    low, middle, high = np.quantile(values, [0.25, 0.5, 0.75])
    return bool(middle - 3 * (high - low) / (2 * QUARTILE) > bound)
