"""How noisy a loss curve is, robustly: not misled by a falling loss, by outliers, or by correlated steps."""

import math

import numpy as np
import numpy.typing as npt

QUARTILE, OCTILE = 0.6745, 1.1503  # the upper ones of the normal distribution
LAG = 8  # steps, over which the noise may be correlated

Array = npt.NDArray[np.float64]


def spread(rows: Array, part: int = 4) -> Array:
    """The distance of the outer quartiles (or octiles) of each row over that of the normal distribution, shape (rows,).

    A standard deviation. Outliers hardly move the quartiles; of few values the octiles say more.
    """
    last = rows.shape[1] - 1
    ranks = [last // part, last - last // part]
    low, high = np.partition(rows, ranks, axis=1)[:, ranks].T
    result: Array = (high - low) / (2 * {4: QUARTILE, 8: OCTILE}[part])
    return result


def noise_about(excesses: Array, losses: Array, window: int) -> Array:
    """The standard deviation of the noise about the level, shape (rows,).

    The spread of the losses above and below their level, whatever their correlation. A level that follows a fall is
    late, by a lag that changes as the fall does; the spread then counts at most 1.5 times the noise without a level.

    Args:
        excesses: shape (rows, steps), losses less their level.
        losses: shape (rows, more steps), up to the same steps.
        window: as in noise.
    """
    result = spread(excesses)
    wide = result > 1.5 * _of_changes(losses, window) * _margin(window)  # beyond that correlation may count
    if wide.any():
        result[wide] = np.minimum(result[wide], 1.5 * noise(losses[wide], window))
    return _beyond_rounding(result, losses, window)


def noise(rows: Array, window: int) -> Array:
    """The standard deviation of the noise at the end of each row of losses, without a level, shape (rows,).

    The spread of the changes from step to step, over √2, which a trend hardly touches. Correlated noise changes little
    from step to step and wanders far: the bends x_t - 2 x_{t-8} + x_{t-16}, over √6, which no straight trend touches,
    then spread wider. The ratio of the two, beyond chance, to the power 1.3 is about what the changes fall short by in
    an autoregression; more than twofold it is the fall's own bend. Few steps may look calm by chance: n changes raise
    the result by 4/n + 30/n².
    """
    near = _of_changes(rows, window)
    lag = min(LAG, rows.shape[1] // 6)
    if lag > 1:
        bends = (rows[:, 2 * lag :] - 2 * rows[:, lag:-lag] + rows[:, : -2 * lag])[:, -2 * window :]
        far = spread(bends, 8) / math.sqrt(6) / 1.2
        ratio = np.divide(far, near, out=np.ones_like(near), where=near > 0)
        near = np.where(near > 0, near * np.clip(ratio, 1.0, 2.0) ** 1.3, far)
    return _beyond_rounding(near * _margin(min(window, rows.shape[1] - 1)), rows, window)


def _beyond_rounding(sigma: Array, rows: Array, window: int) -> Array:
    """Where most losses are the same, the noise is what rounding them hides: half a unit, the smallest change."""
    same = sigma == 0
    if same.any():
        changes = np.abs(np.diff(rows[same, -window - 1 :]))
        unit = np.where(changes > 0, changes, np.inf).min(axis=1)
        sigma[same] = np.where(unit < np.inf, unit / 2, 0.0)
    return sigma


def _of_changes(rows: Array, window: int) -> Array:
    """The standard deviation of noise whose steps are independent, from at most `window` changes."""
    return spread(np.diff(rows[:, -window - 1 :]), 8) / math.sqrt(2)


def _margin(changes: int) -> float:
    return 1 + 4 / changes + 30 / changes**2
