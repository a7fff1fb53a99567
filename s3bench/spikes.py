"""What a spike is: one excursion of the loss above its baseline. Pure numpy; for any curve of one loss per step."""

import math
from bisect import bisect_left, insort
from collections import deque
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt

BLIP_STEPS = 3  # an excursion of at most so many steps is a blip


@dataclass(frozen=True)
class Spike:
    """One excursion. `onset`, `peak` and `end` are indices into the loss: the first step above the threshold, the step
    of the largest loss, and the first step that is back (the length of the curve if none is).

    `height` is the peak above the baseline at onset, in the loss's unit, infinite for a non-finite loss. `kind`:
    "blip" (back within three steps), "recovered", "level_shift" (not back within `patience` steps, or not when the
    curve ends) or "diverged" (the curve ends within it, non-finite, or with its last `settle` values above the first).
    """

    onset: int
    peak: int
    end: int
    height: float
    kind: str


def find_spikes(
    loss: npt.ArrayLike,
    *,
    k: float = 6.0,
    delta: float = 0.1,
    window: int = 100,
    warmup: int = 5,
    settle: int = 5,
    patience: int = 300,
) -> list[Spike]:
    """The spikes of a loss curve, in order.

    A step is above if its loss is non-finite or exceeds baseline + max(k σ, δ), both estimated from the last `window`
    steps outside of spikes, or all there are early on (see Baseline). A spike begins at a step that is above; baseline
    and σ are frozen while it lasts; it ends where `settle` steps in a row are not above. One that lasts `patience`
    steps is a level shift, and the baseline begins anew.

    Args:
        loss: shape (steps,), one value per step; non-finite values count as above.
        k: threshold in σ.
        delta: smallest threshold δ, in the loss's unit.
        window: steps of the baseline.
        warmup: steps without a verdict at the start, and after a level shift.
        settle: steps in a row that end a spike.
        patience: steps after which a spike is a level shift.

    Raises:
        ValueError: the loss is not one-dimensional, or a parameter is out of its range.
    """
    values = np.asarray(loss, dtype=np.float64)
    if values.ndim != 1:
        raise ValueError(f"loss has shape {values.shape}; it must be one-dimensional, one value per step")
    _check_parameters(k, delta, window, warmup, settle, patience)
    spikes: list[Spike] = []
    baseline = Baseline(int(window))
    onset: int | None = None
    level = threshold = math.inf
    calm = 0  # steps in a row that are not above, within a spike
    for step, value in enumerate(values.tolist()):
        if onset is None:
            if len(baseline) >= warmup:
                level, sigma = baseline.level_and_sigma()
                threshold = level + max(k * sigma, delta)
            if math.isfinite(value) and not (value > threshold):
                baseline.add(value)
                continue
            onset, calm = step, 0
        above = not math.isfinite(value) or value > threshold
        calm = 0 if above else calm + 1
        if calm == settle:
            end = step - settle + 1
            spikes.append(_spike(values, onset, end, level, "blip" if end - onset <= BLIP_STEPS else "recovered"))
            for back in values[end : step + 1].tolist():
                baseline.add(back)
            onset = None
        elif step - onset + 1 >= patience and math.isfinite(value):
            spikes.append(_spike(values, onset, step + 1, level, "level_shift"))
            baseline, onset, threshold = Baseline(int(window)), None, math.inf
    if onset is not None:
        lost = not math.isfinite(values[-1]) or (values[-settle:] > values[0]).all()
        kind = "diverged" if lost else "blip" if len(values) - onset <= BLIP_STEPS else "level_shift"
        spikes.append(_spike(values, onset, len(values), level, kind))
    return spikes


def _check_parameters(k: float, delta: float, window: int, warmup: int, settle: int, patience: int) -> None:
    if not (k > 0 and delta >= 0 and warmup >= 2 and window >= warmup and settle >= 1 and patience >= settle):
        raise ValueError(
            f"k {k}, delta {delta}, window {window}, warmup {warmup}, settle {settle}, patience {patience}: needed are "
            "k > 0, delta >= 0, 2 <= warmup <= window, 1 <= settle <= patience"
        )


def has_diverged(loss: npt.ArrayLike) -> bool:
    """Whether a run diverged: a loss is non-finite, or the last tenth lies above the first loss beyond its own noise.

    That is, the median of the last tenth of the losses less three times their spread (interquartile range / 1.349). A
    run that has learned nothing hovers about its first loss: it has not diverged.
    """
    values = np.asarray(loss, dtype=np.float64)
    if not len(values):
        return False
    last = values[-max(1, len(values) // 10) :]
    if not np.isfinite(values).all():
        return True
    low, middle, high = np.quantile(last, [0.25, 0.5, 0.75])
    return bool(len(values) > 1 and middle - 3 * (high - low) / 1.349 > values[0])


class Baseline:
    """The level of the last steps and the noise around it, both robust, neither misled by a falling loss.

    The level is the median of the last `window // 4` steps, which lags little behind a fall. The noise is the spread of
    the changes from step to step over `window` steps, over √2, which a trend hardly touches: their interquartile range
    over 1.349, which is σ for normal noise. A few steps may look calm by chance: n changes raise it by 5/n.
    """

    def __init__(self, window: int) -> None:
        self._values = SortedWindow(max(2, window // 4))
        self._changes = SortedWindow(window)
        self._last: float | None = None

    def __len__(self) -> int:
        return len(self._changes)

    def add(self, value: float) -> None:
        """Take the next step in."""
        if self._last is not None:
            self._changes.add(value - self._last)
        self._values.add(value)
        self._last = value

    def level_and_sigma(self) -> tuple[float, float]:
        """The level and the noise, in the loss's unit."""
        spread = self._changes.quantile(0.75) - self._changes.quantile(0.25)
        sigma = spread / 1.349 / math.sqrt(2) * (1 + 5 / len(self._changes))
        return self._values.quantile(0.5), sigma


class SortedWindow:
    """The last values, kept sorted."""

    def __init__(self, size: int) -> None:
        self._size = size
        self._recent: deque[float] = deque()
        self._sorted: list[float] = []

    def __len__(self) -> int:
        return len(self._sorted)

    def add(self, value: float) -> None:
        """Take a value in; the oldest goes once the window is full."""
        if len(self._recent) == self._size:
            del self._sorted[bisect_left(self._sorted, self._recent.popleft())]
        self._recent.append(value)
        insort(self._sorted, value)

    def quantile(self, part: float) -> float:
        """Linear interpolation between the closest ranks, as numpy's default."""
        place = part * (len(self._sorted) - 1)
        below = int(place)
        above = min(below + 1, len(self._sorted) - 1)
        return self._sorted[below] + (place - below) * (self._sorted[above] - self._sorted[below])


def _spike(values: npt.NDArray[np.float64], onset: int, end: int, level: float, kind: str) -> Spike:
    excursion = values[onset:end]
    broken = np.flatnonzero(~np.isfinite(excursion))
    peak = onset + int(broken[0] if len(broken) else np.argmax(excursion))
    height = math.inf if len(broken) else float(values[peak] - (level if math.isfinite(level) else 0.0))
    return Spike(onset=onset, peak=peak, end=end, height=height, kind=kind)
