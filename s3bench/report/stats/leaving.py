"""When a loss has left, and at which learning rate: pure functions on the arrays of one run, and means over runs.

A loss has left where the median of its last WINDOW values is more than RISE above the lowest such median so far, or
where it is not finite. It began to leave at the first of these values that lies above. Nothing that comes after is
looked at, so a run that is ended once its loss has left gives the same answer as one that is not.

The rate that made it leave is that of the update just before: loss[t] is measured before update t. A run's threshold
is known, or lies in an interval: (last rate, ∞) if the loss never left, (0, first rate] if it left before the rate had
grown, (0, ∞) if nothing can be said.
"""

import math
from collections.abc import Mapping, Sequence
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
from numpy.lib.stride_tricks import sliding_window_view
from scipy import stats

RISE = 0.5  # in the loss's unit, which is nats on all tasks but the synthetic ones
WINDOW = 15  # losses; more than half of them must lie above: a spike of up to seven steps is none
LEVEL = 0.95
OCTAVE = 2  # rates of a bisection in a factor of 2
STRIDE = 4.0  # by which the rate changes until a stable and an unstable one are known

Array = npt.NDArray[np.float64]


class Threshold(NamedTuple):
    """The rate at which a run's loss left: at least `least`, at most `most`; known where they are equal."""

    step: float  # of the first loss that lies above; infinite if the loss never left, NaN if that cannot be told
    lowest: float  # the lowest running median before that
    least: float
    most: float

    @property
    def is_known(self) -> bool:
        """Whether it is one number."""
        return self.least == self.most


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
    return _leaving(loss, rise, window)[0]


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
    first, last = float(of_updates[0]), float(of_updates[-1])
    step, lowest = _leaving(loss, rise, window)
    if step is not None:
        rate = float(of_updates[max(0, step - 1)])
        return Threshold(step, lowest, rate if rate > first else 0.0, rate)
    if diverged:
        return Threshold(math.nan, lowest, 0.0, last)
    if lowest > float(np.asarray(loss, dtype=np.float64)[0]) - rise:
        return Threshold(math.nan, lowest, 0.0, math.inf)
    return Threshold(math.inf, lowest, last, math.inf)


def end_level(loss: npt.ArrayLike, *, diverged: bool = False, rise: float = RISE, window: int = WINDOW) -> float:
    """Return the level at which a run at a fixed rate ends: the median of its last losses, infinite if its loss left.

    Args:
        loss, rise, window: as of `left_at`; `loss` is not empty.
        diverged: whether the run diverged: as if its loss had left.
    """
    left = diverged or left_at(loss, rise=rise, window=window) is not None
    return math.inf if left else float(np.median(np.asarray(loss, dtype=np.float64)[-window:]))


def is_stable(level: float, lowest: float, *, rise: float = RISE) -> bool:
    """Return whether a run at a fixed rate is stable by the measure of a ramp of the same seed.

    That is, whether it ends no higher than the ramp may rise before it has left. A network that stays at a guess leaves
    from nowhere, but ends too high.

    Args:
        level: the `end_level` of the run.
        lowest: that of the ramp's Threshold.
        rise: as of `left_at`.
    """
    return math.isfinite(level) and level <= lowest + rise


def largest_stable(stable: Mapping[float, bool]) -> tuple[float, float]:
    """Return the bounds of the largest stable fixed rate of a seed: a rate that was stable, and one that was not.

    An unstable rate below all stable ones does not count: there the loss did not come down within the horizon. A stable
    rate above an unstable one does not count either. (0, ∞) if no rate was tried, (0, rate) if none was stable.
    """
    lowest = min((rate for rate, held in stable.items() if held), default=0.0)
    most = min((rate for rate, held in stable.items() if not held and rate > lowest), default=math.inf)
    return max((rate for rate, held in stable.items() if held and rate < most), default=0.0), most


def next_rate(stable: Mapping[float, bool], ramp: Threshold, first: float, last: float) -> float | None:
    """Return the fixed rate that a bisection tries next; None once it is over.

    It begins at the ramp's threshold, moves by STRIDE until one stable and one unstable rate are known, and halves the
    logarithm of what lies between them. The rates are powers of √2, rounded to three digits. It is over when no such
    power lies between the bounds, which are then at most a factor of 2 apart, most often √2.

    Args:
        stable: which rates were tried, and whether they were stable.
        ramp: the threshold of the seed's ramp.
        first, last: the rates from which and to which the ramp grew, which the search does not leave.
    """
    least, most = largest_stable(stable)
    if not stable:
        middle = min(max(ramp.least, first), ramp.most, last)
    elif least == 0:
        middle = most / STRIDE
    elif math.isinf(most):
        middle = least * STRIDE
    else:
        middle = math.sqrt(least * most)
    grid = [_of_grid(step) for step in range(*_steps(first, last))]
    inside = [rate for rate in grid if least < rate < most and rate not in stable]
    return min(inside, key=lambda rate: abs(math.log(rate / middle)), default=None)


def _steps(first: float, last: float) -> tuple[int, int]:
    """Return the range of the powers of √2 between two rates, both included where they are powers."""
    low, high = (OCTAVE * math.log2(rate) for rate in (first, last))
    return math.ceil(low - 1e-9), math.floor(high + 1e-9) + 1


def _of_grid(step: int) -> float:
    return float(f"{2 ** (step / OCTAVE):.3g}")


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


def _leaving(loss: npt.ArrayLike, rise: float, window: int) -> tuple[int | None, float]:
    """Return the step at which a loss begins to leave, None if it never does, and the lowest running median till then.

    "Then" is the step at which it has left. The lowest median is infinite if no loss before is finite.
    """
    values = np.asarray(loss, dtype=np.float64)
    finite = np.isfinite(values)
    medians = _running_medians(np.where(finite, values, np.inf), window)
    lowest = np.minimum.accumulate(medians)
    left = np.flatnonzero((medians > lowest + rise) | ~finite)
    if not len(left):
        return None, float(lowest[-1]) if len(lowest) else math.inf
    end = int(left[0])
    begin = max(0, end - window + 1)
    above = (values[begin : end + 1] > lowest[end] + rise) | ~finite[begin : end + 1]
    return begin + int(above.argmax()), float(lowest[end])


def _running_medians(values: Array, window: int) -> Array:
    """Return the median of the last `window` values at each step, of all so far at the beginning."""
    first = [np.median(values[: end + 1]) for end in range(min(window - 1, len(values)))]
    if len(values) < window:
        return np.array(first)
    return np.concatenate([first, np.median(sliding_window_view(values, window), axis=1)])
