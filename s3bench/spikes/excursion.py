"""A spike, and the excursion of a loss above its baseline that may turn out to be one."""

import math
from collections import deque
from dataclasses import KW_ONLY, dataclass

import numpy as np

from s3bench.spikes.noise import QUARTILE
from s3bench.spikes.state import State, real, reals, whole

BLIP_STEPS = 3  # the length of the longest blip
BACK = 0.5  # in parts of the threshold: a loss this close to its level is back, medians this close are one level
WANDER = 0.25  # in parts of how far a level is away: medians this close are one level too
OPENING_CALM = 20  # how many steps in a row that are back prove a spike that began where no noise was known yet,
OPENING_SIGMAS = 6  # if its logarithm is so many standard deviations of theirs above them
LEVEL_CHECKS = 4  # how many times per window an excursion is checked for having settled at another level
LEVEL_PARTS = 2  # how many parts per window are compared in that check


@dataclass(frozen=True)
class Spike:
    """One excursion of a loss above its baseline.

    Attributes:
        onset: the first step above the threshold, an index into the loss.
        peak: the step of the largest loss.
        end: the first step that is back; the length of the curve if none is.
        height: the peak above the baseline at onset, in the loss's unit; infinite for a non-finite loss.
        kind: "blip" (back within three steps), "recovered" (back later), "level_shift" (the loss stays at another
            level, or is not back when the curve ends) or "diverged" (the curve ends within the excursion, non-finite or
            with its last `settle` values above the first).
        sigmas: the height in σ, the standard deviation of the noise at onset.
        area: the sum of the finite losses above the baseline from onset to end, in loss × steps.

    Example:
        >>> spike = Spike(onset=200, peak=203, end=210, height=1.5, kind="recovered")
        >>> spike.width
        10
    """

    onset: int
    peak: int
    end: int
    height: float
    kind: str
    _: KW_ONLY
    sigmas: float = math.nan
    area: float = math.nan

    @property
    def width(self) -> int:
        """The number of steps from onset to end."""
        return self.end - self.onset


class Excursion:
    """Follows a loss that has left its baseline, until it is back or stays at another level.

    Level and threshold are frozen while it lasts.

    Args:
        onset: the first step.
        level: the level that the loss has left.
        sigma: the standard deviation of the noise about it.
        threshold: a loss is above if it exceeds the level by more than this.
        proof: the excursion is a spike if an excess is larger than this, or the sum of n excesses in a row over √n is.
        window: steps from which σ is estimated; an excursion this long is a spike however low it is.
        patience: steps for which the loss stays at another level before this is its new baseline.
    """

    def __init__(
        self, *, onset: int, level: float, sigma: float, threshold: float, proof: float, window: int, patience: int
    ) -> None:
        self.onset = onset
        self.calm = 0  # how many steps in a row are back
        self.is_proven = False
        self.level, self.threshold = level, threshold
        self._sigma, self.proof = sigma, proof
        self._window, self._patience = window, patience
        self._recent: deque[tuple[int, float]] = deque(maxlen=max(window, patience))  # steps and their losses
        self._above, self._sum = 0, 0.0  # how many steps in a row are above, and the sum of their excesses
        self.peak, self.height = onset, -math.inf
        self._area, self._calm_area = 0.0, 0.0  # up to the last step that is not back, and after it

    def add(self, step: int, loss: float) -> None:
        """Add the loss of the next step."""
        excess = loss - self.level if math.isfinite(loss) else math.inf
        self._recent.append((step, loss))
        above = excess > self.threshold
        self._above, self._sum = (self._above + 1, self._sum + excess) if above else (0, 0.0)
        self.is_proven |= (
            excess == math.inf
            or (above and max(excess, self._sum / math.sqrt(self._above)) > self.proof)
            or (not self.is_opening and step - self.onset + 1 >= self._window)
        )
        self.calm = self.calm + 1 if excess < math.inf and excess <= self.threshold * BACK else 0
        finite = excess if excess < math.inf else 0.0
        if self.calm:
            self._calm_area += finite
        else:
            self._area, self._calm_area = self._area + self._calm_area + finite, 0.0
        self.is_proven |= self.is_opening and self.calm == OPENING_CALM and self._stands_out()
        if excess > self.height:
            self.peak, self.height = step, excess

    @property
    def is_opening(self) -> bool:
        """Whether it began where no noise was known yet and is not proven: by a loss not finite, or once it is back."""
        return self.threshold < self.proof == math.inf and not self.is_proven

    def is_over(self, settle: int) -> bool:
        """Return whether the last `settle` steps are back; an opening is given up that they do not prove, or that is
        away for a window: the curve began low.
        """
        if self.is_opening:
            return self.calm == OPENING_CALM or self._recent[-1][0] - self.onset + 1 >= self._window
        return self.calm >= settle

    def _stands_out(self) -> bool:
        """Return whether the highest loss of an opening is far out of the noise of the steps that are back.

        Both are logarithms, as noise that leaps by powers begins like an opening.
        """
        calm = np.array([loss for _, loss in self.last(OPENING_CALM)])
        if calm.min() <= 0:
            return False
        low, middle, high = np.quantile(np.log(calm), [0.25, 0.5, 0.75])
        return bool(math.log(self.level + self.height) - middle > OPENING_SIGMAS * (high - low) / (2 * QUARTILE))

    def prove(self) -> None:
        """Mark the excursion as a spike that is not back yet, whatever its steps so far look like."""
        self.is_proven, self.calm = True, 0

    def finite_height(self) -> float:
        """Return the height, or that of the highest finite loss of late where one was not finite; 0 if none is."""
        if math.isfinite(self.height):
            return self.height
        return max((loss - self.level for _, loss in self._recent if math.isfinite(loss)), default=0.0)

    def last(self, count: int) -> list[tuple[int, float]]:
        """Return the last `count` steps and their losses."""
        return list(self._recent)[-count:]

    def stays(self) -> bool:
        """Return whether the loss has been away for `patience` steps, and over the last of them neither rose nor fell.

        That is so where the medians of half windows differ by at most half the threshold, or by a quarter of how far
        they are away from the level before: a level may wander.
        """
        width = self._recent[-1][0] - self.onset + 1
        if not self.is_proven or width < self._patience or (width - self._patience) % (self._window // LEVEL_CHECKS):
            return False
        values = np.array([loss for _, loss in self.last(self._patience)])
        if not np.isfinite(values).all():
            return False
        parts = np.array_split(values, max(2, LEVEL_PARTS * len(values) // self._window))
        medians = [np.median(part) for part in parts]
        away = abs(min(medians) - self.level)
        return bool(np.ptp(medians) <= max(self.threshold * BACK, away * WANDER))

    def state(self) -> State:
        """Return what is needed to go on."""
        return {
            "onset": self.onset,
            "calm": self.calm,
            "is_proven": bool(self.is_proven),
            "level": float(self.level),
            "threshold": float(self.threshold),
            "proof": float(self.proof),
            "sigma": float(self._sigma),
            "steps": [step for step, _ in self._recent],
            "losses": [float(loss) for _, loss in self._recent],
            "above": self._above,
            "sum": float(self._sum),
            "peak": self.peak,
            "height": float(self.height),
            "area": float(self._area),
            "calm_area": float(self._calm_area),
        }

    @classmethod
    def of(cls, state: State, *, window: int, patience: int) -> "Excursion":
        """Return the excursion of a state in plain data; raise ValueError, TypeError or KeyError if it is none."""
        level, sigma, threshold, proof = (real(state[name]) for name in ("level", "sigma", "threshold", "proof"))
        self = cls(
            onset=whole(state["onset"]),
            level=level,
            sigma=sigma,
            threshold=threshold,
            proof=proof,
            window=window,
            patience=patience,
        )
        self.calm, self.is_proven = whole(state["calm"]), state["is_proven"] is True
        self._recent.extend(zip(map(whole, state["steps"]), reals(state["losses"]), strict=True))
        self._above, self._sum = whole(state["above"]), real(state["sum"])
        self.peak, self.height = whole(state["peak"]), real(state["height"])
        self._area, self._calm_area = real(state["area"]), real(state["calm_area"])
        return self

    def spike(self, end: int, kind: str | None = None) -> Spike:
        """Return the spike that ends before step `end`; its kind is "blip" or "recovered" unless given.

        The area of a spike of a given kind includes the last steps, which may be back.
        """
        area = self._area
        if kind is None:
            kind = "blip" if end - self.onset <= BLIP_STEPS else "recovered"
        else:
            area += self._calm_area
        return Spike(
            onset=self.onset,
            peak=self.peak,
            end=end,
            height=self.height,
            kind=kind,
            sigmas=self.height / self._sigma if self._sigma > 0 else math.inf,
            area=area,
        )
