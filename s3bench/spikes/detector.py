"""The spikes of a loss curve: excursions of the loss above its baseline. Pure numpy; for any curve, a loss a step."""

import math
from collections import deque

import numpy as np
import numpy.typing as npt

from s3bench.spikes.baseline import Baseline
from s3bench.spikes.excursion import BLIP_STEPS, Excursion, Spike

K, DELTA = 6.0, 0.1  # the usual threshold, in σ, and the smallest one, in the loss's unit
BLOCK = 2**16  # steps taken together

Array = npt.NDArray[np.float64]


def find_spikes(
    loss: npt.ArrayLike,
    *,
    k: float = K,
    delta: float = DELTA,
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


class SpikeMonitor:
    """Finds the spikes of a curve while it is made: the same ones as find_spikes, which see for the parameters.

    Example: ``monitor = SpikeMonitor()``, and in the loop ``if spike := monitor.add(loss.item()): print(spike)``.
    """

    def __init__(
        self,
        *,
        k: float = K,
        delta: float = DELTA,
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
