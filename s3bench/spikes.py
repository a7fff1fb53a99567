"""What a spike is: one excursion of the loss above its baseline. Pure numpy; for any curve of one loss per step."""

import math
from array import array
from bisect import bisect_left, insort
from collections import deque
from collections.abc import Iterable
from dataclasses import dataclass

import numpy as np
import numpy.typing as npt
from numpy.lib.stride_tricks import sliding_window_view

from s3bench.noise import QUARTILE, noise, noise_about

BLIP_STEPS = 3  # an excursion of at most so many steps is a blip
PROOF_DELTAS = 2  # what one step's excess has to be as proof, and what the level has to rise by, in δ
LOOKS = 5  # in a window: how often the noise is estimated anew
SPREAD = 2  # windows that σ is estimated from
LONG = 10  # windows of the levels that a slow rise starts from
TAIL = 100  # windows that the largest scores are remembered from
TAIL_STEPS = 35_000  # a fast excursion is to be what the noise reaches less often than once in so many steps
BLOCK = 2**16  # steps taken together

Array = npt.NDArray[np.float64]


@dataclass(frozen=True)
class Spike:
    """One excursion. `onset`, `peak` and `end` are indices into the loss: the first step above the threshold, the step
    of the largest loss, and the first step that is back (the length of the curve if none is).

    `height` is the peak above the baseline at onset, in the loss's unit, infinite for a non-finite loss; `sigmas` the
    same in σ; `area` the sum of the finite losses above the baseline from onset to end, in loss × steps. `kind`: "blip"
    (back within three steps), "recovered", "level_shift" (the loss stays at another level, or is not back when the
    curve ends) or "diverged" (the curve ends within it, non-finite, or with its last `settle` values above the first).
    """

    onset: int
    peak: int
    end: int
    height: float
    kind: str
    sigmas: float = math.nan
    area: float = math.nan

    @property
    def width(self) -> int:
        """Steps from onset to end."""
        return self.end - self.onset


def find_spikes(
    loss: npt.ArrayLike,
    *,
    k: float = 6.0,
    delta: float = 0.1,
    ceiling: float = math.inf,
    window: int = 100,
    warmup: int = 5,
    settle: int = 5,
    patience: int = 300,
) -> list[Spike]:
    """The spikes of a loss curve, in order.

    A step is above if its loss is non-finite or exceeds level + max(k σ, δ), both estimated from the steps before,
    without spikes (see Baseline), or exceeds level + ceiling. A spike begins at a step that is above, if what follows
    proves it: an excess, or the sum of n in a row over √n, that the tail of the noise would not give, or beyond the
    ceiling. It also begins where the level itself has risen as far above its lowest in the last ten windows. Level and
    σ are frozen while a spike lasts; it ends where `settle` steps in a row are under half the threshold, or where the
    loss stays at another level.

    Args:
        loss: shape (steps,), one value per step; non-finite values count as above.
        k: threshold in σ.
        delta: smallest threshold δ, in the loss's unit.
        ceiling: largest threshold, in the loss's unit: so far above its level a loss spikes, however noisy it is.
        window: steps from which σ is estimated.
        warmup: steps without a verdict at the start.
        settle: steps in a row that end a spike.
        patience: steps for which the loss stays at another level before this is its new baseline.

    Raises:
        ValueError: the loss is not one-dimensional, or a parameter is out of its range.
    """
    values = np.asarray(loss, dtype=np.float64)
    if values.ndim != 1:
        raise ValueError(f"loss has shape {values.shape}; it must be one-dimensional, one value per step")
    monitor = SpikeMonitor(
        k=k, delta=delta, ceiling=ceiling, window=window, warmup=warmup, settle=settle, patience=patience
    )
    spikes = monitor.extend(values)
    last = monitor.unfinished()
    return spikes if last is None else [*spikes, last]


def baselines(loss: npt.ArrayLike, **parameters: float) -> tuple[Array, Array]:
    """The level and the threshold that each loss is held against, both of shape (steps,), for figures; one by one.

    NaN in the first steps. For the parameters and what they raise see find_spikes.
    """
    monitor = SpikeMonitor(**parameters)  # type: ignore[arg-type]
    seen = []
    for value in np.asarray(loss, dtype=np.float64).tolist():
        seen.append((monitor.level, monitor.threshold))
        monitor.add(value)
    levels, thresholds = np.array(seen).reshape(-1, 2).T
    return levels, thresholds


def has_diverged(loss: npt.ArrayLike) -> bool:
    """Whether a run diverged: a loss is non-finite, or the last tenth lies above the first loss beyond its own noise.

    That is, the median of the last tenth of the losses less three times their spread (interquartile range / 1.349), or
    the same of their logarithms, as a loss may come down from far above by decades. A run that has learned nothing
    hovers about its first loss: it has not diverged.
    """
    values = np.asarray(loss, dtype=np.float64)
    if not np.isfinite(values).all():
        return True
    if len(values) < 2:
        return False
    last = values[-max(1, len(values) // 10) :]
    if values[0] > 0 and (last > 0).all() and _lies_above(np.log(last), math.log(values[0])):
        return True
    return _lies_above(last, float(values[0]))


def _lies_above(values: Array, bound: float) -> bool:
    low, middle, high = np.quantile(values, [0.25, 0.5, 0.75])
    return bool(middle - 3 * (high - low) / (2 * QUARTILE) > bound)


class SpikeMonitor:
    """Finds the spikes of a curve while it is made: the same ones as find_spikes, which see for the parameters.

    Example: ``monitor = SpikeMonitor()``, and in the loop ``if spike := monitor.add(loss.item()): print(spike)``.
    """

    def __init__(
        self,
        *,
        k: float = 6.0,
        delta: float = 0.1,
        ceiling: float = math.inf,
        window: int = 100,
        warmup: int = 5,
        settle: int = 5,
        patience: int = 300,
    ) -> None:
        in_range = k > 0 and 0 <= delta <= ceiling and ceiling > 0
        if not (in_range and 4 <= warmup <= window and window >= 20 and 1 <= settle <= patience):
            raise ValueError(
                f"k {k}, delta {delta}, ceiling {ceiling}, window {window}, warmup {warmup}, settle {settle}, "
                f"patience {patience}: needed are k > 0, 0 <= delta <= ceiling, ceiling > 0, 4 <= warmup <= window, "
                "window >= 20, 1 <= settle <= patience"
            )
        self._parameters = (float(k), float(delta), float(ceiling), int(window), int(warmup), int(patience))
        self._window, self._settle = int(window), int(settle)
        self._steps = 0
        self._first = math.nan
        self._last: deque[float] = deque(maxlen=self._settle)
        self._baseline = Baseline(*self._parameters)
        self._event: Excursion | None = None

    @property
    def onset(self) -> int | None:
        """The onset of the spike under way, None if there is none."""
        return self._event.onset if self._event and self._event.is_proven else None

    @property
    def level(self) -> float:
        """What the next loss is held against, frozen while a spike lasts; NaN in the first steps."""
        return self._event.level if self._event else self._baseline.level

    @property
    def threshold(self) -> float:
        """How far above the level the next loss is above, max(kσ, δ) or the ceiling; NaN in the first steps."""
        return self._event.threshold if self._event else self._baseline.threshold

    def add(self, loss: float) -> Spike | None:
        """Take the loss of the next step; returns the spike that ends by it, if one does."""
        step = self._steps
        self._note(np.array([loss]))
        if self._event is None:
            self._event = self._baseline.excursion(step, loss)
            if self._event is None:
                self._baseline.add(step, loss)
                return None
        event = self._event
        event.add(step, loss)
        if event.calm == self._settle:
            self._event = None
            if event.is_proven:
                self._baseline.forget_levels()
            for calm_step, value in event.last(self._settle if event.is_proven else self._window):
                self._baseline.add(calm_step, value)
            return event.spike(step - self._settle + 1) if event.is_proven else None
        if event.stays():
            self._event = None
            self._baseline = Baseline(*self._parameters)
            for new_step, value in event.last(self._window):
                self._baseline.add(new_step, value)
            return event.spike(step + 1, "level_shift")
        return None

    def extend(self, losses: Array) -> list[Spike]:
        """Take the losses of many steps: the same as add for each, some twenty times faster where all is calm."""
        spikes = []
        place, size = 0, 256
        while place < len(losses):
            if self._event is None:
                calm = self._baseline.add_calm(self._steps, losses[place : place + size])
                if calm:
                    self._note(losses[place : place + calm])
                    place += calm
                    size = min(2 * size, BLOCK)
                    continue
            size = 256
            spike = self.add(float(losses[place]))
            place += 1
            if spike is not None:
                spikes.append(spike)
        return spikes

    def _note(self, losses: Array) -> None:
        if self._steps == 0:
            self._first = float(losses[0])
        self._steps += len(losses)
        self._last.extend(losses[-self._settle :].tolist())

    def unfinished(self) -> Spike | None:
        """The spike under way, as if the curve ended here."""
        event = self._event
        if event is None or not event.is_proven:
            return None
        if not math.isfinite(self._last[-1]) or all(value > self._first for value in self._last):
            return event.spike(self._steps, "diverged")
        return event.spike(self._steps, "blip" if self._steps - event.onset <= BLIP_STEPS else "level_shift")


class Excursion:
    """What may be a spike, under way, with its frozen baseline."""

    def __init__(
        self, onset: int, level: float, sigma: float, threshold: float, proof: float, window: int, patience: int
    ) -> None:
        self.onset = onset
        self.calm = 0  # steps in a row under half the threshold
        self.is_proven = False
        self.level, self.threshold = level, threshold
        self._sigma, self._proof = sigma, proof
        self._window, self._patience = window, patience
        self._recent: deque[tuple[int, float]] = deque(maxlen=max(window, patience))
        self._above, self._sum = 0, 0.0  # steps in a row above, and their excesses
        self._peak, self._height = onset, -math.inf
        self._area, self._calm_area = 0.0, 0.0

    def add(self, step: int, loss: float) -> None:
        """Take the next step in."""
        excess = loss - self.level if math.isfinite(loss) else math.inf
        self._recent.append((step, loss))
        above = excess > self.threshold
        self._above, self._sum = (self._above + 1, self._sum + excess) if above else (0, 0.0)
        self.is_proven |= (
            excess == math.inf
            or (above and max(excess, self._sum / math.sqrt(self._above)) > self._proof)
            or step - self.onset + 1 >= self._window
        )
        self.calm = self.calm + 1 if excess < math.inf and excess <= self.threshold / 2 else 0
        finite = excess if excess < math.inf else 0.0
        if self.calm:
            self._calm_area += finite
        else:
            self._area, self._calm_area = self._area + self._calm_area + finite, 0.0
        if excess > self._height:
            self._peak, self._height = step, excess

    def prove(self) -> None:
        """Take it for a spike that is not yet back, whatever its first steps look like."""
        self.is_proven, self.calm = True, 0

    def last(self, count: int) -> list[tuple[int, float]]:
        """The last steps and their losses."""
        return list(self._recent)[-count:]

    def stays(self) -> bool:
        """Whether the loss has been away for `patience` steps and went neither up nor down over the last of them."""
        width = self._recent[-1][0] - self.onset + 1
        if not self.is_proven or width < self._patience or (width - self._patience) % (self._window // 4):
            return False
        values = np.array([loss for _, loss in self.last(self._patience)])
        parts = np.array_split(values, max(2, 2 * len(values) // self._window))
        return bool(np.isfinite(values).all() and np.ptp([np.median(part) for part in parts]) <= self.threshold / 2)

    def spike(self, end: int, kind: str | None = None) -> Spike:
        """The spike, ended."""
        if kind is None:
            kind, area = "blip" if end - self.onset <= BLIP_STEPS else "recovered", self._area
        else:
            area = self._area + self._calm_area
        sigmas = self._height / self._sigma if self._sigma > 0 else math.inf
        return Spike(self.onset, self._peak, end, self._height, kind, sigmas, area)


class Baseline:
    """The level of the last calm steps, the noise around it, and where an excursion begins.

    The level is the median of the last quarter window (early on of a quarter of the steps, 5 at least), short enough to
    follow a falling loss. σ is that of s3bench/noise.py, estimated anew LOOKS times per window.
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
        if not loss <= level + threshold:  # or not a number
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
            above = ~(losses <= levels[:-1] + thresholds)
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
