"""Steps to a target that some runs never reach: pure functions on arrays.

A run's steps to a target lie in a known interval (low, high]: between two evaluations if the target was reached, (last
evaluation that missed it, ∞) if it was not, and (∞, ∞) for a diverged run, which never reaches it.
"""

import math
from collections.abc import Sequence
from typing import NamedTuple

import numpy as np
import numpy.typing as npt
from scipy import stats

IN_A_ROW = 2  # evaluations in a row at the target: a single one may be luck


class Steps(NamedTuple):
    """Steps to a target: more than `low` and at most `high`, which is infinite where the target was not reached."""

    low: float
    high: float

    @property
    def reached(self) -> bool:
        """Whether the target was reached."""
        return math.isfinite(self.high)


NEVER = Steps(math.inf, math.inf)  # of a diverged run


def steps_to_target(
    steps: npt.ArrayLike,
    values: npt.ArrayLike,
    *,
    at_most: float | None = None,
    at_least: float | None = None,
    in_a_row: int = IN_A_ROW,
) -> Steps:
    """Return the evaluations between which a target was reached.

    It is reached at the first of `in_a_row` evaluations in a row that are at or beyond it; so the last evaluation alone
    reaches nothing, and neither does NaN. `low` is the evaluation before (0 if there is none) or, where the target was
    not reached, the last one that missed it.

    Args:
        steps: shape (evaluations,), rising.
        values: shape (evaluations,), what was evaluated.
        at_most: the target of a loss.
        at_least: the target of a metric such as accuracy.
        in_a_row: evaluations in a row.

    Raises:
        ValueError: not exactly one of at_most and at_least is given, or in_a_row is below 1.
    """
    if (at_most is None) == (at_least is None):
        raise ValueError(f"at_most is {at_most} and at_least {at_least}; exactly one of them must be given")
    if in_a_row < 1:
        raise ValueError(f"in_a_row is {in_a_row}; it must be at least 1")
    numbers, places = np.asarray(values, dtype=np.float64), np.asarray(steps)
    there = numbers <= at_most if at_most is not None else numbers >= np.float64(at_least or 0)
    begins = [i for i in range(len(there) - in_a_row + 1) if there[i : i + in_a_row].all()]
    if begins:
        first = begins[0]
        return Steps(float(places[first - 1]) if first else 0.0, float(places[first]))
    missed = np.flatnonzero(~there)
    return Steps(float(places[missed[-1]]) if len(missed) else 0.0, math.inf)


def median_steps(times: Sequence[Steps]) -> float:
    """Return the median of the steps to target: infinite if at least half of the runs missed it, NaN without runs."""
    if not len(times):
        return math.nan
    highs = sorted(time.high for time in times)
    low, high = highs[(len(highs) - 1) // 2], highs[len(highs) // 2]
    return high if math.isinf(high) else (low + high) / 2


def expected_running_time(times: Sequence[Steps], spent: Sequence[float]) -> float:
    """Return the steps expected to reach a target if a run that misses it is followed by one with another seed.

    ERT = (steps to target of the runs that reached it + all steps `spent` by the others) / runs that reached it
    (Hansen, Auger, Ros, Mersmann, Tušar and Brockhoff 2021, COCO). A diverged run has spent the steps until it stopped.
    Infinite if none reached it, NaN without runs.
    """
    if not len(times):
        return math.nan
    total = sum(time.high if time.reached else steps for time, steps in zip(times, spent, strict=True))
    reached = sum(time.reached for time in times)
    return total / reached if reached else math.inf


def kaplan_meier(times: Sequence[Steps]) -> tuple[npt.NDArray[np.float64], npt.NDArray[np.float64]]:
    """Estimate the share of runs that have reached the target by each step (Kaplan and Meier 1958).

    A run that did not reach it leaves the count after its `low`. A diverged run never leaves, since it can no longer
    reach the target: counting it as censored would flatter its optimizer.

    Returns:
        Steps, from 0, and the share at and after each of them, both of shape (changes + 1,).
    """
    reached = [time.high for time in times if time.reached]
    if not reached:
        return np.zeros(1), np.zeros(1)
    last = max(reached)  # a later censored time changes nothing, and scipy does not take infinite times
    missed = [min(time.low, last + 1) for time in times if not time.reached]
    data = stats.CensoredData(uncensored=reached, right=missed)
    curve = stats.ecdf(data).cdf
    changes = np.isin(curve.quantiles, reached)
    return np.array([0.0, *curve.quantiles[changes]]), np.array([0.0, *curve.probabilities[changes]])


def log_step_ratios(numerator: Sequence[Steps], denominator: Sequence[Steps]) -> npt.NDArray[np.float64]:
    """Return the bounds of log(numerator / denominator) of each pair, shape (pairs, 2), natural logarithm.

    With the reference's steps as numerator, this is the log of the speed-up. If both reached the target, it is known up
    to the spacing of evaluations; if one did, it is bounded on one side; if neither did, or both diverged, it is
    unknown: (-∞, ∞).
    """
    above, below = np.array(numerator, dtype=float).reshape(-1, 2), np.array(denominator, dtype=float).reshape(-1, 2)
    with np.errstate(divide="ignore", invalid="ignore"):
        low, high = np.log(above[:, 0] / below[:, 1]), np.log(above[:, 1] / below[:, 0])
    return np.stack([np.where(np.isnan(low), -np.inf, low), np.where(np.isnan(high), np.inf, high)], axis=1)
