"""When a loss has left, and at which learning rate: pure functions on the arrays of one run, and means over runs.

A loss has left where the median of its last WINDOW values is more than RISE above the lowest such median so far, or
where it is not finite. It began to leave at the first of these values that lies above. Nothing that comes after is
looked at, so a run that is ended once its loss has left gives the same answer as one that is not.

The rate that made it leave is that of the update just before: loss[t] is measured before update t. A run's threshold
is known, or lies in an interval: (last rate, ∞) if the loss never left, (0, first rate] if it left before the rate had
grown, (0, ∞) if nothing can be said.
"""

import math
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
from numpy.lib.stride_tricks import sliding_window_view
from scipy import stats

RISE = 0.5  # in the loss's unit, which is nats on all tasks but the synthetic ones
WINDOW = 15  # losses; more than half of them must lie above: a spike of up to seven steps is none
LEVEL = 0.95

Array = npt.NDArray[np.float64]


class Threshold(NamedTuple):
    """The rate at which a run's loss left: at least `least`, at most `most`; known where they are equal."""

    step: float  # of the first loss that lies above; infinite if the loss never left, NaN if that cannot be told
    least: float
    most: float

    @property
    def is_known(self) -> bool:
        """Whether it is one number."""
        return self.least == self.most


UNKNOWN = Threshold(math.nan, 0.0, math.inf)


class Mean(NamedTuple):
    """A geometric mean, which lies from `least` to `most`, with its 95% interval; NaN where there is none."""

    least: float
    most: float
    low: float
    high: float

    @property
    def value(self) -> float:
        """The mean if it is known, else NaN."""
        return self.least if self.least == self.most else math.nan


def left_at(loss: npt.ArrayLike, *, rise: float = RISE, window: int = WINDOW) -> int | None:
    """Return the step at which a loss begins to leave, see the module; None if it never does.

    Args:
        loss: shape (steps,), the raw loss of every step.
        rise: how far the running median must rise above its lowest value so far, in the loss's unit.
        window: how many losses each median is of; at the beginning it is of all so far.
    """
    values = np.asarray(loss, dtype=np.float64)
    finite = np.isfinite(values)
    medians = _running_medians(np.where(finite, values, np.inf), window)
    levels = np.minimum.accumulate(medians) + rise
    left = np.flatnonzero((medians > levels) | ~finite)
    if not len(left):
        return None
    end = int(left[0])
    begin = max(0, end - window + 1)
    above = (values[begin : end + 1] > levels[end]) | ~finite[begin : end + 1]
    return begin + int(above.argmax())


def is_stable(loss: npt.ArrayLike, *, diverged: bool = False, rise: float = RISE, window: int = WINDOW) -> bool:
    """Return whether a run at a fixed rate trains: its loss comes down by at least `rise`, and does not leave.

    A network that stays at a guess has nowhere to leave from: it is not stable.

    Args:
        loss, rise, window: as of `left_at`.
        diverged: whether the run diverged.
    """
    return not diverged and _comes_down(loss, rise, window) and left_at(loss, rise=rise, window=window) is None


def threshold(
    loss: npt.ArrayLike,
    rates: npt.ArrayLike,
    *,
    diverged: bool = False,
    rise: float = RISE,
    window: int = WINDOW,
) -> Threshold:
    """Return the rate at which the loss of a run with a growing rate left.

    Unknown if the loss neither left nor came down by `rise`: then it had nowhere to leave from.

    Args:
        loss: as of `left_at`, not empty.
        rates: shape (steps,), the rate of each update, such as lr_t over the task's base learning rate.
        diverged: whether the run diverged: then it left, if only between the first rate and the last.
        rise, window: as of `left_at`.
    """
    of_updates = np.asarray(rates, dtype=np.float64)
    step = left_at(loss, rise=rise, window=window)
    if step is None:
        if diverged:
            return Threshold(math.nan, 0.0, float(of_updates[-1]))
        down = _comes_down(loss, rise, window)
        return Threshold(math.inf, float(of_updates[-1]), math.inf) if down else UNKNOWN
    rate = float(of_updates[max(0, step - 1)])
    return Threshold(step, rate if rate > of_updates[0] else 0.0, rate)


def ratios(own: Sequence[Threshold], other: Sequence[Threshold]) -> Array:
    """Return the bounds of own / other of each pair, shape (pairs, 2)."""
    above, below = (np.array([(one.least, one.most) for one in side]).reshape(-1, 2) for side in (own, other))
    with np.errstate(divide="ignore"):
        least, most = above[:, 0] / below[:, 1], above[:, 1] / below[:, 0]
    return np.stack([least, most], axis=1)


def geometric_mean(bounds: npt.ArrayLike) -> Mean:
    """Return the geometric mean of rates that are known up to bounds, and its interval if all are known.

    The 95% interval is Student's, of the logarithms: exact if these are normal. A rate without an upper bound leaves
    the mean without one: no run counts as if it had left where it was only no longer watched.

    Args:
        bounds: shape (n, 2).
    """
    with np.errstate(divide="ignore"):
        logs = np.log(np.asarray(bounds, dtype=np.float64).reshape(-1, 2))
    n = len(logs)
    if not n:
        return Mean(math.nan, math.nan, math.nan, math.nan)
    least, most = np.exp(logs.mean(axis=0)).tolist()
    if n < 2 or (logs[:, 0] != logs[:, 1]).any():
        return Mean(least, most, math.nan, math.nan)
    half = stats.t.ppf((1 + LEVEL) / 2, n - 1) * logs[:, 0].std(ddof=1) / math.sqrt(n)
    return Mean(least, most, least * math.exp(-half), least * math.exp(half))


def _comes_down(loss: npt.ArrayLike, rise: float, window: int) -> bool:
    values = np.asarray(loss, dtype=np.float64)
    if not len(values) or not np.isfinite(values).all():
        return False
    return bool(_running_medians(values, window).min() <= values[0] - rise)


def _running_medians(values: Array, window: int) -> Array:
    """Return the median of the last `window` values at each step, of all so far at the beginning."""
    first = [np.median(values[: end + 1]) for end in range(min(window - 1, len(values)))]
    if len(values) < window:
        return np.array(first)
    return np.concatenate([first, np.median(sliding_window_view(values, window), axis=1)])
