"""The response of a run to a shock: its losses less those of its undisturbed twin. Pure functions on arrays.

Both runs see the same batches, so differences between batches cancel. The response begins with the first loss that the
shock can have changed and that belongs to an undisturbed batch. After a shock of the gradients, the learning rate, the
optimizer's state or the parameters, that is the step after its first one, since loss[t] is measured before update t.
After disturbed batches it is the step after the last one, since the loss of such a batch tells nothing of the model.
"""

import math
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

from s3bench.record.shock_kinds import KINDS
from s3bench.report.stats.censored import NEVER, Steps

WINDOW = 100  # steps of the response; fewer where the run ends earlier
SMOOTH = 5  # steps: the peak is that of the running mean over this many, since runs that part differ by noise
BACK = 10  # steps: a run is back where the running mean over this many stays under the limit

Array = npt.NDArray[np.float64]


@dataclass(frozen=True, kw_only=True)
class Response:
    """The response of one pair of runs, in the loss's unit, or in steps counted from its first one.

    Attributes:
        excess: shocked less undisturbed loss, shape (steps,), at most WINDOW; infinite where there is no shocked loss.
        peak: the largest running mean over SMOOTH steps; infinite if a loss is not finite or the run diverged.
        area: the sum of the excess, in loss × steps; infinite likewise.
        recovery: the first step from which on every running mean over BACK steps is at most the limit.
    """

    excess: Array
    peak: float
    area: float
    recovery: Steps

    @property
    def window(self) -> int:
        """How many steps the response has."""
        return len(self.excess)


def first_step(kind: str, step: int, length: int) -> int:
    """Return the first step of the response to a shock of this kind."""
    return step + length if KINDS[kind].in_batch else step + 1


def response(
    shocked: npt.ArrayLike, twin: npt.ArrayLike, first: int, *, limit: float, diverged: bool = False
) -> Response:
    """Measure the response of a shocked run.

    Args:
        shocked: its losses from step 0 on, shape (steps,); fewer if it ended early.
        twin: the losses of its undisturbed twin at every step.
        first: the first step of the response, see `first_step`; it may lie after the end.
        limit: the excess at which the run counts as back: the spike detector's δ.
        diverged: whether the shocked run diverged: it never recovered, and its peak and area are infinite.
    """
    base = np.asarray(twin, dtype=np.float64)[first : first + WINDOW]
    own = np.full(len(base), np.inf)
    there = np.asarray(shocked, dtype=np.float64)[first : first + len(base)]
    own[: len(there)] = np.where(np.isfinite(there), there, np.inf)
    excess = own - base
    if not len(excess):
        return Response(excess=excess, peak=math.nan, area=math.nan, recovery=Steps(0, math.inf))
    if diverged or np.isinf(excess).any():
        return Response(excess=excess, peak=math.inf, area=math.inf, recovery=NEVER)
    peak = float(running_mean(excess, SMOOTH).max())
    return Response(excess=excess, peak=peak, area=float(excess.sum()), recovery=_recovery(excess, limit))


def _recovery(excess: Array, limit: float) -> Steps:
    """Return the exact step at which the run is back; else that it lies beyond the last running mean."""
    means = running_mean(excess, BACK)
    away = np.flatnonzero(means > limit)
    back = int(away[-1]) + 1 if len(away) else 0
    return Steps(back, back) if back < len(means) else Steps(len(means), math.inf)


def running_mean(values: Array, width: int) -> Array:
    """Return the mean of each `width` values in a row, shape (values - width + 1,); at most all of them."""
    width = min(width, len(values))
    return np.convolve(values, np.full(width, 1 / width), mode="valid")
