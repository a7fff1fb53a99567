"""The baseline of a loss: its level and its noise, from calm steps alone, and where an excursion from it begins."""

import math
from array import array
from bisect import bisect_left, insort
from collections import deque
from collections.abc import Iterable

import numpy as np
import numpy.typing as npt
from numpy.lib.stride_tricks import sliding_window_view

from s3bench.spikes.excursion import Excursion
from s3bench.spikes.noise import QUARTILE, noise, noise_about

PROOF_DELTAS = 2  # what one step's excess has to be as proof, and what the level has to rise by, in δ
LOOKS = 5  # in a window: how often the noise is estimated anew
SPREAD = 2  # windows that σ is estimated from
LONG = 10  # windows of the levels that a slow rise starts from
TAIL = 100  # windows that the largest scores are remembered from
TAIL_STEPS = 35_000  # a fast excursion is to be what the noise reaches less often than once in so many steps

Array = npt.NDArray[np.float64]


class Baseline:
    """The level of the last calm steps, the noise around it, and where an excursion begins.

    The level is the median of the last quarter window (early on of a quarter of the steps, 5 at least), short enough to
    follow a falling loss. σ is that of noise.py, estimated anew LOOKS times per window.
    """

    def __init__(self, k: float, delta: float, ceiling: float, window: int, warmup: int, patience: int) -> None:
        self._k, self._delta, self._ceiling = k, delta, ceiling
        self._window, self._warmup, self._patience = window, warmup, patience
        self._stride = window // LOOKS
        self._count = 0
        self._steps = array("q")  # of these the last LONG windows at least
        self._losses = array("d")
        self._excesses = array("d")  # of these losses above the level
        self._top = -math.inf  # the largest of them, in σ, since the last look
        self._tops = array("d")  # and between the looks before
        self._levels = array("d")  # at the looks since the last spike
        self._look_steps = array("q")
        self._rises = array("d")  # of the level over a window, at the looks
        self._nearest = SortedWindow()
        self._sigma = math.nan

    @property
    def level(self) -> float:
        """The median of the last calm steps; NaN before there are `warmup`."""
        return self._nearest.median() if self._count >= self._warmup else math.nan

    @property
    def threshold(self) -> float:
        """max(kσ, δ), at most the ceiling; NaN before there are `warmup` calm steps."""
        return self._threshold(self._sigma) if self._count >= self._warmup else math.nan

    def excursion(self, step: int, loss: float) -> Excursion | None:
        """What begins at this step, if something does."""
        if self._count < self._warmup:
            return None if math.isfinite(loss) else self._begun(step, 0.0, math.inf, math.inf)
        level = self._nearest.median()
        threshold = self._threshold(self._sigma)
        if loss > level + threshold or not math.isfinite(loss):
            proof = max(self._sigma * self._reach(), PROOF_DELTAS * self._delta)
            return self._begun(step, level, threshold, min(proof, self._ceiling))
        if self._count % self._stride == 0 and self._has_risen():
            return self._slow_rise()
        return None

    def _reach(self) -> float:
        """What the noise alone reaches about once in TAIL_STEPS steps, in σ.

        From the second largest score, which one odd step does not set; as in a tail that falls with the fourth power,
        which is heavier than most. Early on it is larger, as σ itself is hardly known.
        """
        least = self._k * (1.15 + 5 / self._count)
        tops = np.frombuffer(self._tops[-TAIL * LOOKS :])
        if len(tops) < 2:
            return least
        return max(least, float(np.partition(tops, -2)[-2]) * math.pow(TAIL_STEPS / (len(tops) * self._stride), 0.25))

    def _begun(self, onset: int, level: float, threshold: float, proof: float) -> Excursion:
        return Excursion(onset, level, self._sigma, threshold, proof, self._window, self._patience)

    def _threshold(self, sigma: float) -> float:
        return min(max(self._k * sigma, self._delta), self._ceiling)

    def _has_risen(self) -> bool:
        """Whether the level itself is above its lowest by the threshold."""
        if self._count < 3 * self._window or len(self._levels) <= 2 * LOOKS:
            return False
        rise = self._levels[-1] - min(self._levels[-LONG * LOOKS :])
        return rise > self._threshold(self._sigma) and rise > self._slow_threshold()

    def _slow_threshold(self) -> float:
        """What the level has to rise by to be a slow rise, beyond the drift that is usual.

        In σ or, if that is more, in what the level usually rises over a window, a normal distribution's quartile. Usual
        is what came before the lowest level, if anything is known of it: not the rise itself.
        """
        since = self._levels[-LONG * LOOKS :][::-1]
        looks = since.index(min(since))
        before = len(self._rises) - looks
        rises = np.frombuffer((self._rises[:before] if before > 0 else self._rises)[-LONG * LOOKS :])
        drift, often = float(np.median(rises)), float(np.quantile(rises, 0.75)) / QUARTILE
        threshold = max(self._threshold(max(self._sigma, often)), PROOF_DELTAS * self._delta)
        return min(threshold + max(drift, 0.0) * looks / LOOKS, self._ceiling)

    def _slow_rise(self) -> Excursion:
        """The excursion of the level above its lowest, from where it was last within half the threshold."""
        levels, steps = self._levels[-LONG * LOOKS :], self._look_steps[-LONG * LOOKS :]
        low, threshold = min(levels), self._slow_threshold()
        onset = max(step for step, level in zip(steps, levels, strict=True) if level <= low + threshold / 2)
        event = self._begun(onset, low, threshold, threshold)
        for step, loss in zip(self._steps, self._losses, strict=True):
            if step >= onset:
                event.add(step, loss)
        event.prove()
        return event

    def add(self, step: int, loss: float) -> None:
        """Take a calm step in."""
        if self._count >= self._warmup:
            excess = loss - self._nearest.median()
            self._excesses.append(excess)
            self._top = max(self._top, excess / self._sigma if self._sigma > 0 else 0.0)
        self._steps.append(step)
        self._losses.append(loss)
        self._count += 1
        self._nearest.add(loss, self._level_steps())
        if self._count >= self._warmup and self._count % min(self._stride, max(1, self._count // 10)) == 0:
            self._look(step + 1)

    def _level_steps(self) -> int:
        """Of how many steps the level is the median: an odd number."""
        return min(self._window // 4, max(5, self._count // 4)) | 1

    def _look(self, step: int) -> None:
        """Estimate the noise anew."""
        losses = np.frombuffer(self._losses[-3 * self._window :])[None]
        if self._count < 3 * self._window:
            (sigma,) = noise(losses, self._window)
        else:
            excesses = np.frombuffer(self._excesses[-SPREAD * self._window :])[None]
            (sigma,) = noise_about(excesses, losses, self._window)
        self._estimated(step, float(sigma), self._nearest.median())

    def _estimated(self, step: int, sigma: float, level: float) -> None:
        self._sigma = sigma
        if self._count % self._stride == 0:
            self._levels.append(level)
            if len(self._levels) > LOOKS:
                self._rises.append(level - self._levels[-1 - LOOKS])
            self._tops.append(self._top)
            self._top = -math.inf
            self._look_steps.append(step)
            self._trim()

    def _trim(self) -> None:
        far = 2 * LONG * self._window
        if len(self._losses) > 2 * far:
            for kept in (self._steps, self._losses, self._excesses):
                del kept[:-far]
        if len(self._levels) > 4 * LONG * LOOKS:
            del self._levels[: -2 * LONG * LOOKS], self._look_steps[: -2 * LONG * LOOKS]
        if len(self._rises) > 4 * LONG * LOOKS:
            del self._rises[: -2 * LONG * LOOKS]
        if len(self._tops) > 2 * TAIL * LOOKS:
            del self._tops[: -TAIL * LOOKS]

    def forget_levels(self) -> None:
        """A slow rise is one since the last spike."""
        del self._levels[:], self._look_steps[:]

    def add_calm(self, step: int, losses: Array) -> int:
        """Take in the losses before the first that begins an excursion; returns how many. `step` is the first's."""
        if self._count < 3 * self._window:
            return self._add_one_by_one(step, losses[: 3 * self._window - self._count])
        if self.excursion(step, float(losses[0])) is not None:
            return 0
        window, stride, steps, count = self._window, self._stride, self._level_steps(), len(losses)
        known = np.concatenate([np.frombuffer(self._losses[-3 * window :]), losses])
        looks = np.arange(stride - self._count % stride, count + 1, stride)  # after how many of the losses
        with np.errstate(invalid="ignore"):  # what follows a loss that is not finite will not be used
            nearest = sliding_window_view(known, steps)[3 * window - steps :]  # before each loss, and after the last
            levels = np.partition(nearest, steps // 2, axis=1)[:, steps // 2]
            excesses = losses - levels[:-1]
            recent = np.concatenate([np.frombuffer(self._excesses[-SPREAD * window :]), excesses])
            last = sliding_window_view(recent, SPREAD * window)[looks]
            seen = noise_about(last, sliding_window_view(known, 3 * window)[looks], window)
            sigmas = np.concatenate([[self._sigma], seen])[np.searchsorted(looks, np.arange(count), side="right")]
            thresholds = np.minimum(np.maximum(self._k * sigmas, self._delta), self._ceiling)
            above = (losses > levels[:-1] + thresholds) | ~np.isfinite(losses)
        calm = int(above.argmax()) if above.any() else count
        scores = np.divide(excesses[:calm], sigmas[:calm], out=np.zeros(calm), where=sigmas[:calm] > 0)
        first, start = self._count, 0
        looks = looks[looks <= calm]
        tops = np.maximum.reduceat(scores[: looks[-1]], [0, *looks[:-1]]) if len(looks) else looks
        for look, sigma, top in zip(looks.tolist(), seen.tolist(), tops.tolist(), strict=False):
            self._count = first + look
            self._top = max(self._top, top)
            start = look
            self._estimated(step + look, sigma, float(levels[look]))
            if self._has_risen():
                calm = look
                break
        self._count = first + calm
        if start < calm:
            self._top = max(self._top, float(scores[start:calm].max()))
        self._extend(step, losses[:calm], excesses[:calm])
        self._nearest = SortedWindow(self._losses[-steps:])
        return calm

    def _add_one_by_one(self, step: int, losses: Array) -> int:
        for taken, loss in enumerate(losses.tolist()):
            if self.excursion(step + taken, loss) is not None:
                return taken
            self.add(step + taken, loss)
        return len(losses)

    def _extend(self, step: int, losses: Array, excesses: Array) -> None:
        self._steps.extend(range(step, step + len(losses)))
        self._losses.frombytes(losses.tobytes())
        self._excesses.frombytes(excesses.tobytes())


class SortedWindow:
    """The last values, kept sorted."""

    def __init__(self, values: Iterable[float] = ()) -> None:
        self._recent = deque(values)
        self._sorted = sorted(self._recent)

    def add(self, value: float, size: int) -> None:
        """Take a value in, and keep the last `size`."""
        self._recent.append(value)
        insort(self._sorted, value)
        while len(self._recent) > size:
            del self._sorted[bisect_left(self._sorted, self._recent.popleft())]

    def median(self) -> float:
        """The middle one; of an even number the upper."""
        return self._sorted[len(self._sorted) // 2]
