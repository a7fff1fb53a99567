"""Decides at which loss a diverged run stops; s3bench.spikes.divergence decides from all its losses afterwards."""

import math
from typing import Any


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
