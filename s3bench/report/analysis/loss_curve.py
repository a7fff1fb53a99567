"""The loss of one run, thinned for figures."""

import math
from collections.abc import Sequence
from dataclasses import dataclass, replace

import numpy as np
import numpy.typing as npt
from numpy.lib.stride_tricks import sliding_window_view

TREND_STEPS = 25  # window of the running median in the loss curves
CURVE_POINTS = 1000  # points kept of a run's loss

Array = npt.NDArray[np.float64]


@dataclass(frozen=True, kw_only=True)
class Curve:
    """The loss of one run for a figure.

    `steps`, `loss` and its `trend` have shape (n,); `peaks` holds the step and the loss of each spike's peak.
    """

    steps: npt.NDArray[np.integer]
    loss: npt.NDArray[np.floating]
    trend: npt.NDArray[np.floating]
    peaks: Sequence[tuple[int, float]] = ()
    diverged: bool = False


def thinned(loss: Array, peaks: Sequence[int], diverged: bool) -> Curve:
    """Keep about CURVE_POINTS losses: the smallest and the largest of each stretch, and the peaks of spikes."""
    kept = np.arange(len(loss))
    if len(loss) > CURVE_POINTS:
        width = math.ceil(len(loss) / (CURVE_POINTS // 2))
        stretches = np.pad(loss, (0, -len(loss) % width), mode="edge").reshape(-1, width)
        begins = np.arange(0, len(loss), width)
        extremes = [begins + stretches.argmin(axis=1), begins + stretches.argmax(axis=1)]
        kept = np.unique([0, *peaks, *np.minimum(np.concatenate(extremes), len(loss) - 1), len(loss) - 1])
    trends = running_median(kept, loss, TREND_STEPS)
    with np.errstate(over="ignore"):  # half the memory; a value too large for it is as good as infinite in a figure
        losses, trend = loss[kept].astype(np.float32), trends.astype(np.float32)
    heights = [(peak, float(loss[peak])) for peak in peaks]
    return Curve(steps=kept.astype(np.int32), loss=losses, trend=trend, peaks=heights, diverged=diverged)


def fewer(curve: Curve, points: int) -> Curve:
    """Return a curve with about this many of its points, or itself if it has no more.

    Kept are the smallest and the largest loss of each of equally many points, the first and the last finite one, the
    last one, and the peaks of spikes.
    """
    loss = curve.loss
    if len(loss) <= points:
        return curve
    width = math.ceil(len(loss) / max(1, points // 2))
    begins, finite = np.arange(0, len(loss), width), np.flatnonzero(np.isfinite(loss))
    peaks = np.searchsorted(curve.steps, [step for step, _ in curve.peaks])
    parts = [finite[:1], finite[-1:], np.array([len(loss) - 1]), peaks]
    for unknown, place in ((np.inf, np.argmin), (-np.inf, np.argmax)):
        known = np.full(len(begins) * width, unknown)
        known[finite] = loss[finite]
        parts.append(begins + place(known.reshape(-1, width), axis=1))
    kept = np.unique(np.concatenate(parts))
    return replace(curve, steps=curve.steps[kept], loss=loss[kept], trend=curve.trend[kept])


def running_median(steps: npt.NDArray[np.integer], values: npt.ArrayLike, window: int) -> Array:
    """Return the median of the last `window` values at each given step; NaN where none of them is finite.

    Non-finite values are left out.
    """
    before = np.concatenate([np.full(window - 1, np.nan), np.asarray(values, dtype=np.float64)])
    rows = sliding_window_view(before, window)[steps]
    whole = np.isfinite(rows).all(axis=1)
    medians = np.full(len(steps), np.nan)
    medians[whole] = np.median(rows[whole], axis=1)
    for index in np.flatnonzero(~whole):
        finite = rows[index][np.isfinite(rows[index])]
        if len(finite):
            medians[index] = np.median(finite)
    return medians
