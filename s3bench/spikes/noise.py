"""Robust estimates of the noise of a loss curve.

A falling loss, outliers and correlation between steps hardly mislead them.
"""

import math
from collections.abc import Callable

import numpy as np
import numpy.typing as npt

QUARTILE, OCTILE = 0.6745, 1.1503  # the upper quartile and octile of the standard normal distribution
LAG = 8  # steps over which the noise may be correlated
LAG_PART = 6  # the lag is at most this part of the losses: two thirds of few losses have a second difference
SECOND_WINDOWS = 2  # windows of second differences, each of which shares losses with four others
BY_CHANCE = 1.4  # how many times wider the second differences of few losses may spread by chance
POWER, LARGEST_RATIO = 1.3, 2.0  # what turns the ratio of the spreads into a factor; beyond twofold it is curvature
LARGEST_EXCESS = 1.5  # the spread about a level that lags behind is at most this many times the noise without a level
MOST_RELATIVE = 0.5  # the most that the noise of a falling loss can be, in parts of its level
RISE_MARGIN = 10  # n changes raise the estimate from their upper half by 1 + RISE_MARGIN/n
MARGIN, MARGIN_SQUARED = 8, 30  # n changes raise an estimate by MARGIN/n + MARGIN_SQUARED/n²

Array = npt.NDArray[np.float64]


def spread(rows: Array, part: int = 4) -> Array:
    """Return a robust standard deviation of each row, shape (rows,).

    It is the distance between the outer quartiles (`part` 4) or octiles (`part` 8) over that of the standard normal
    distribution. Outliers hardly move the quartiles; of few values, the octiles say more.
    """
    last = rows.shape[1] - 1
    low, high = np.sort(rows, axis=1)[:, [last // part, last - last // part]].T  # faster than to partition
    result: Array = (high - low) / (2 * {4: QUARTILE, 8: OCTILE}[part])
    return result


def noise_about(excesses: Array, losses: Array, window: int) -> Array:
    """Return the standard deviation of the noise about the level, shape (rows,).

    It is the spread of the losses about their level, which no correlation between steps distorts. A level that follows
    a falling loss lags behind it, more or less as the fall changes. The spread therefore counts at most LARGEST_EXCESS
    times the noise without a level.

    Args:
        excesses: shape (rows, steps), losses less their level.
        losses: shape (rows, more steps), up to the same steps.
        window: how many changes from step to step are used.
    """
    result = spread(excesses)
    wide = result > LARGEST_EXCESS * _of_changes(losses, window) * _margin(window)  # more may be due to correlation
    if wide.any():
        result[wide] = np.minimum(result[wide], LARGEST_EXCESS * noise(losses[wide], window))
    return _beyond_rounding(result, losses, window)


def early_noise(rows: Array, level: float, window: int) -> Array:
    """Return the smaller of two estimates of the noise at each row's end: of the losses, and in parts of the level.

    Where a positive loss falls steeply, its noise falls with it: then that of its logarithm, times the level, is less.
    A logarithm that spreads by more than MOST_RELATIVE is not that of a falling loss.
    """
    result = noise(rows, window)
    if rows.min() <= 0:
        return result
    relative = noise(np.log(rows), window)
    return np.where(relative <= MOST_RELATIVE, np.minimum(result, level * relative), result)


def noise(rows: Array, window: int) -> Array:
    """Return the standard deviation of the noise at the end of each row of losses, without a level, shape (rows,).

    It is the spread of the changes from step to step, over √2, which a trend hardly affects; or that of their upper
    half, if it is less, as a steep fall that bends is not noise. These changes
    underestimate correlated noise, which wanders far in small steps. They are therefore compared with the second
    differences x_t - 2 x_{t-8} + x_{t-16}, over √6, which ignore any linear trend. How many times wider those spread,
    beyond what happens by chance, is limited to 2, as more is due to curvature of the fall; to the power 1.3, it is
    about the factor by which the changes underestimate an autoregressive process.

    Few changes may be small by chance: n of them raise the result by 8/n + 30/n².
    """
    near = np.minimum(_of_changes(rows, window), _of_rises(rows, window))
    lag = min(LAG, rows.shape[1] // LAG_PART)
    if lag > 1:
        second = (rows[:, 2 * lag :] - 2 * rows[:, lag:-lag] + rows[:, : -2 * lag])[:, -SECOND_WINDOWS * window :]
        far = spread(second, 8) / math.sqrt(6) / BY_CHANCE
        ratio = np.divide(far, near, out=np.ones_like(near), where=near > 0)
        near = np.where(near > 0, near * np.clip(ratio, 1.0, LARGEST_RATIO) ** POWER, far)
    return _beyond_rounding(near * _margin(min(window, rows.shape[1] - 1)), rows, window)


def _beyond_rounding(sigma: Array, rows: Array, window: int) -> Array:
    """Replace estimates of 0 by the noise that rounding hides: half the smallest change, the unit of the log.

    An estimate is 0 where most losses are equal; it stays 0 where all are. Changes `sigma` in place.
    """
    same = sigma == 0
    if same.any():
        changes = np.abs(np.diff(rows[same, -window - 1 :]))
        unit = np.where(changes > 0, changes, np.inf).min(axis=1)
        sigma[same] = np.where(unit < np.inf, unit / 2, 0.0)
    return sigma


def _of_changes(rows: Array, window: int) -> Array:
    """Return the standard deviation of noise whose steps are independent, from at most `window` changes."""
    return _measured(rows, window, lambda changes: spread(changes, 8)) / math.sqrt(2)


def _of_rises(rows: Array, window: int) -> Array:
    """Return the same from the upper half of the changes alone, which a steep fall does not widen."""
    return _measured(rows, window, _upper_spread) / math.sqrt(2)


def _upper_spread(changes: Array) -> Array:
    """Return the distance from the median to the upper octile over that of the standard normal distribution."""
    last = changes.shape[1] - 1
    middle, high = np.sort(changes, axis=1)[:, [last // 2, last - last // 8]].T
    result: Array = (high - middle) / OCTILE * (1 + RISE_MARGIN / (last + 1))
    return result


def _measured(rows: Array, window: int, measure: Callable[[Array], Array]) -> Array:
    """Return a measure of the last changes from step to step of each row; of those over LAG steps where most are 0.

    A log that holds each value for some steps, or that rounds, says nothing from step to step.
    """
    changes = np.diff(rows[:, -window - 1 :])
    result = measure(changes)
    held = np.count_nonzero(changes, axis=1) < changes.shape[1] / 2
    lag = min(LAG, rows.shape[1] // LAG_PART)
    if lag > 1 and held.any():
        result[held] = measure((rows[held, lag:] - rows[held, :-lag])[:, -window:])
    return result


def _margin(changes: int) -> float:
    return 1 + MARGIN / changes + MARGIN_SQUARED / changes**2
