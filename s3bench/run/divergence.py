"""Decides when a run has diverged: at a loss while it trains, or by all its losses afterwards."""

import math
from typing import Any

import numpy as np
import numpy.typing as npt

from s3bench.spikes.detector import Array
from s3bench.spikes.noise import QUARTILE


class End:
    """Decides at which loss a run is over before its horizon: the first that is not finite; and, where that is asked
    for, the last of so many in a row above the run's first loss.

    Args:
        above: how many in a row; None: however many.
        state: that of an earlier End, to go on from.
    """

    def __init__(self, above: int | None = None, state: dict[str, Any] | None = None) -> None:
        self._above = above
        self.is_over = False  # whether a loss was the last
        self.state = state or {"first": None, "in_a_row": 0}

    def is_at(self, loss: float) -> bool:
        """Whether this loss, the next one, is the last."""
        if self.state["first"] is None:
            self.state["first"] = loss
        self.state["in_a_row"] = self.state["in_a_row"] + 1 if loss > self.state["first"] else 0
        many = self._above is not None and self.state["in_a_row"] >= self._above
        self.is_over = not math.isfinite(loss) or many
        return self.is_over


LAST = 10  # losses at least that tell whether a run has diverged


def has_diverged(loss: npt.ArrayLike) -> bool:
    """Whether a run diverged: a loss is non-finite, or the last tenth lies above the first loss beyond its own noise.

    That is, the median of the last tenth of the losses, ten at least, less three times their spread (interquartile
    range / 1.349), or the same of their logarithms, as a loss may come down from far above by decades. A run that has
    learned nothing hovers about its first loss: it has not diverged.
    """
    values = np.asarray(loss, dtype=np.float64)
    if not np.isfinite(values).all():
        return True
    if len(values) < 2:
        return False
    last = values[-max(LAST, len(values) // 10) :]
    if values[0] > 0 and (last > 0).all() and _lies_above(np.log(last), math.log(values[0])):
        return True
    return _lies_above(last, float(values[0]))


def _lies_above(values: Array, bound: float) -> bool:
    low, middle, high = np.quantile(values, [0.25, 0.5, 0.75])
    return bool(middle - 3 * (high - low) / (2 * QUARTILE) > bound)
