"""An excursion of a loss above its baseline, under way and ended: what a spike is, how long it lasts, of which kind."""

import math
from collections import deque
from dataclasses import dataclass

import numpy as np

BLIP_STEPS = 3  # an excursion of at most so many steps is a blip


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
