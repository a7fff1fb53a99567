"""How a run takes a shock: its losses less those of its undisturbed twin, step by step. Pure functions on arrays.

Both runs see the same batches, so that what the batches differ by cancels. The response begins with the first loss that
the shock can have changed and that is of an undisturbed batch: after a shock of the gradient the step after its first,
for loss[t] is measured before update t; after noise or permuted labels the step after its last, for the loss of such a
batch says nothing of the model.
"""

import math
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from s3bench.report.stats.censored import NEVER, Steps

WINDOW = 100  # steps, of the response; less where the run ends before
SMOOTH = 5  # steps: the peak is of the running mean over so many, for two runs that part differ by noise at each step
BACK = 10  # steps: a run is back where the running mean over so many stays under the limit

Array = npt.NDArray[np.float64]


@dataclass(frozen=True)
class Response:
    """The response of one pair of runs; all in the loss's unit, or in steps from the response's first one on."""

    excess: (
        Array  # shocked less undisturbed, shape (steps,): at most WINDOW; infinite where the shocked one has no loss
    )
    peak: float  # the largest running mean over SMOOTH steps; infinite if a loss is not finite or the run diverged
    area: float  # the sum of the excess, in loss × steps; likewise
    recovery: Steps  # the first step from which on every running mean over BACK steps is at most the limit

    @property
    def window(self) -> int:
        """How many steps it is of."""
        return len(self.excess)


def first_step(kind: str, step: int, length: int) -> int:
    """The first step of the response to a shock of this kind."""
    return step + 1 if kind == "gradient" else step + length


def response(
    shocked: npt.ArrayLike, twin: npt.ArrayLike, first: int, *, limit: float, diverged: bool = False
) -> Response:
    """The response of a shocked run.

    Args:
        shocked: its losses from step 0 on, shape (steps,); one that ended early has fewer.
        twin: those of its undisturbed twin, of every step.
        first: the first step of the response, see `first_step`. There may be none after it.
        limit: of the loss's excess at which it counts as back; the spike detector's δ.
        diverged: whether the shocked run did; it then never recovered, and its peak and area are infinite.
    """
    base = np.asarray(twin, dtype=np.float64)[first : first + WINDOW]
    own = np.full(len(base), np.inf)
    there = np.asarray(shocked, dtype=np.float64)[first : first + len(base)]
    own[: len(there)] = np.where(np.isfinite(there), there, np.inf)
    excess = own - base
    if not len(excess):
        return Response(excess, math.nan, math.nan, Steps(0, math.inf))
    if diverged or np.isinf(excess).any():
        return Response(excess, math.inf, math.inf, NEVER)
    peak = float(running_mean(excess, SMOOTH).max())
    return Response(excess, peak, float(excess.sum()), _recovery(excess, limit))


def _recovery(excess: Array, limit: float) -> Steps:
    """Known to the step where it is back; else it lies beyond the last running mean."""
    means = running_mean(excess, BACK)
    away = np.flatnonzero(means > limit)
    back = int(away[-1]) + 1 if len(away) else 0
    return Steps(back, back) if back < len(means) else Steps(len(means), math.inf)


def running_mean(values: Array, width: int) -> Array:
    """The mean of each `width` values in a row, shape (values - width + 1,); of fewer values the mean of all."""
    width = min(width, len(values))
    return np.convolve(values, np.full(width, 1 / width), mode="valid")
