"""Rolling statistics for the published definitions of a spike."""

import numpy as np
import numpy.typing as npt
import pandas as pd
from numpy.lib.stride_tricks import sliding_window_view

Array = npt.NDArray[np.float64]


def trailing_mean_and_sd(values: Array, window: int, *, fewest: int | None = None) -> tuple[Array, Array]:
    """Return mean and sample standard deviation of the values before each step.

    A value that is not finite affects the windows that contain it, and no others. Sums are taken forwards and backwards
    within blocks of `window` steps, about the block's median, and joined: nothing that was added is subtracted again,
    so a huge value leaves no trace once it is out of the window.

    Args:
        values: shape (steps,).
        window: how many values before a step are taken.
        fewest: how many suffice at the start, where all values before the step are taken; None: `window`.

    Returns:
        Two arrays of shape (steps,), NaN where there are too few values.
    """
    steps = len(values)
    mean, sd = np.full(steps, np.nan), np.full(steps, np.nan)
    if not steps:
        return mean, sd
    grid = np.full((-(-steps // window), window), np.nan)
    grid.reshape(-1)[:steps] = values
    centre = _medians_of_finite(grid)[:, None]
    with np.errstate(invalid="ignore", over="ignore"):
        heads = _mean_and_squares(grid, centre)
        tails = _mean_and_squares(grid[:, ::-1], centre)
        # The window that begins at offset r of a block is the tail of that block and the first r values of the next.
        windows = max(0, steps - window)
        r = np.resize(np.arange(window, dtype=np.float64), windows)
        mean_tail, squares_tail = (part[:, ::-1].reshape(-1)[:windows] for part in tails)
        mean_head, squares_head = (part.reshape(-1)[window - 1 : window - 1 + windows] for part in heads)
        apart = mean_head - mean_tail
        squares = squares_tail + squares_head
        apart[::window], squares[::window] = 0.0, squares_tail[::window]  # where r is 0 there is no head
        mean[window:] = mean_tail + apart * r / window
        endless = ~np.isfinite(apart)
        if endless.any():
            mean[window:][endless] = ((mean_tail * (window - r) + mean_head * r) / window)[endless]
        squares += apart**2 * (window - r) * r / window
        sd[window:] = np.sqrt(squares / (window - 1))
        if fewest is not None:
            few = np.arange(fewest, min(window, steps))
            mean[few] = heads[0][0, few - 1]
            sd[few] = np.sqrt(heads[1][0, few - 1] / (few - 1))
    return mean, sd


def medians_around(values: Array, begin: int, end: int, *, reach: int) -> Array:
    """Return the median of the finite values up to `reach` steps away, for each step from `begin` to before `end`."""
    first, last = max(0, begin - reach), end + reach
    near = pd.Series(np.where(np.isfinite(values), values, np.nan)[first:last])
    medians = near.rolling(2 * reach + 1, center=True, min_periods=1).median().to_numpy()
    return medians[begin - first : end - first]


def median_bounds(values: Array, *, reach: int, block: int) -> Array:
    """Return a lower bound of the median of the values up to `reach` steps away, the same for each `block` of steps.

    Faster than the medians. The windows of 2 reach + 1 values around the steps of a block have all but block - 1 values
    in common; the (reach + 2 - block)-th smallest of the common ones is at most the (reach + 1)-th smallest of any
    window, which is its median.

    Returns:
        Shape (steps,); -∞ where the window is cut off by an end of the curve or the block is incomplete, and everywhere
        if a value is not finite.
    """
    low = np.full(len(values), -np.inf)
    blocks = (len(values) - 2 * reach) // block
    if blocks > 0 and np.isfinite(values).all():
        rank = reach + 1 - block  # counted from 0
        common = sliding_window_view(values, 2 * reach + 2 - block)[block - 1 : block - 1 + block * blocks : block]
        low[reach : reach + block * blocks] = np.repeat(np.partition(common, rank, axis=1)[:, rank], block)
    return low


def _mean_and_squares(grid: Array, centre: Array) -> tuple[Array, Array]:
    """Return, for each row's first 1, 2, ... values, their mean and the sum of their squared deviations from it."""
    count = np.arange(1.0, grid.shape[1] + 1)
    off = grid - centre
    total = np.cumsum(off, axis=1)
    squares = np.cumsum(off**2, axis=1) - total**2 / count
    return centre + total / count, np.maximum(squares, 0.0)


def _medians_of_finite(rows: Array) -> Array:
    """Return the median of the finite values of each row, 0 where there are none."""
    medians = np.zeros(len(rows))
    whole = np.isfinite(rows).all(axis=1)
    middle = [(rows.shape[1] - 1) // 2, rows.shape[1] // 2]
    medians[whole] = np.partition(rows[whole], middle, axis=1)[:, middle].sum(axis=1) / 2
    for index in np.flatnonzero(~whole):
        finite = np.sort(rows[index][np.isfinite(rows[index])])
        if len(finite):
            medians[index] = (finite[(len(finite) - 1) // 2] + finite[len(finite) // 2]) / 2
    return medians
