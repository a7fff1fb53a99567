"""The baseline of a loss: its level and noise, estimated from calm steps alone, and where an excursion begins."""

import math
from array import array

import numpy as np
import numpy.typing as npt
from numpy.lib.stride_tricks import sliding_window_view

from s3bench.spikes.delta import usual_delta, usual_deltas
from s3bench.spikes.excursion import Excursion
from s3bench.spikes.noise import QUARTILE, early_noise, noise_about
from s3bench.spikes.state import State, real, reals, whole
from s3bench.spikes.tail import Tail
from s3bench.spikes.windows import SortedWindow, sliding_medians

LEVEL_PART = 4  # the level is the median of the last 1/LEVEL_PART window, and early on of that part of the steps
SHORT_PART = 2  # early on, or of the last 1/SHORT_PART of those steps, where that is lower: in a steep fall
LEAST_LEVEL_STEPS = 5  # but of this many steps at least
LOOKS = 5  # how many times per window a look is taken: σ is estimated, and the level noted
EARLY_LOOKS = 10  # early on, σ is estimated again after about 1/EARLY_LOOKS of the steps so far
OPENING = 9  # in the first steps, how many times the largest loss so far a loss has to be above it
HISTORY = 4  # windows of losses that σ is estimated from; as long as there are fewer, from their changes alone
SPREAD = 2  # windows of excesses that σ is estimated from
PROOF_DELTAS = 2  # how many δ one step's excess has to be as proof, and the level has to rise by
LEAST_REACH, EARLY_REACH = 1.15, 1  # proof is at least 1.15 + 1/n thresholds: after few steps n, σ is uncertain
RISE_WINDOWS = 2  # windows of levels that are needed to find a slow rise
LONG = 4  # windows of levels that a slow rise may start in

Array = npt.NDArray[np.float64]


class Baseline:
    """Estimates the level of the last calm steps and the noise about it, and finds where an excursion begins.

    The level is the median of the last quarter window, short enough to follow a falling loss; early on it is the median
    of a quarter of the steps, at least 5. σ is estimated as in noise.py, LOOKS times per window.

    Args:
        k: threshold in σ.
        delta: smallest threshold δ, in the loss's unit; None for usual_delta.
        ceiling: largest threshold, in the loss's unit.
        window: steps from which σ is estimated.
        warmup: steps without a verdict at the start.
        patience: see Excursion.
    """

    def __init__(
        self, *, k: float, delta: float | None, ceiling: float, window: int, warmup: int, patience: int
    ) -> None:
        self._k, self._delta, self._ceiling = k, delta, ceiling
        self._window, self._warmup, self._patience = window, warmup, patience
        self._history = HISTORY * window  # in steps
        self._stride = window // LOOKS  # in steps, from look to look
        self._count = 0
        self._steps = array("q")  # at least the last LONG windows of calm steps
        self._losses = array("d")  # their losses
        self._excesses = array("d")  # the last losses less their level
        self._tails = Tail(self._stride), Tail(self._stride)  # of the noise, in kσ and in max(kσ, δ)
        self._levels = array("d")  # at the looks since the last spike
        self._look_steps = array("q")  # the steps of those looks
        self._rises = array("d")  # of the level over a window, at each look
        self._nearest = SortedWindow()  # the losses whose median is the level
        self._last_few = SortedWindow()  # the last of these
        self._sigma = math.nan
        self._first = math.nan  # the first level
        self._known_for, self._known = (math.nan, math.nan), math.nan  # a level and σ, and δ for them
        self._rise = 0.0  # of the loss in a step, early on
        self._unit = math.inf  # the smallest change early on: that of a log that rounds

    @property
    def level(self) -> float:
        """The median of the last calm steps; NaN before there are `warmup`."""
        return self._level() if self._count >= self._warmup else math.nan

    @property
    def threshold(self) -> float:
        """max(kσ, δ), at most the ceiling; NaN before there are `warmup` calm steps."""
        return self._threshold(self._sigma, self._level()) if self._count >= self._warmup else math.nan

    @property
    def proof(self) -> float:
        """By how much a loss has to exceed the level to be a spike by itself; NaN before there are `warmup`."""
        if self._count < self._warmup:
            return math.nan
        level, least = self._level(), LEAST_REACH + EARLY_REACH / self._count
        noise = min(unit * max(least, tail.reach()) for unit, tail in zip(self._units(level), self._tails, strict=True))
        return min(max(noise, PROOF_DELTAS * self._delta_at(level)), self._ceiling)

    def _level(self) -> float:
        """Return the median of the last steps; early on, of the last few where these all lie below it, and raised by
        how far a loss that rises steadily has come since the middle of these steps.
        """
        level = self._nearest.median()
        if self._count >= self._history:
            return level
        if self._last_few.largest() < level:
            return self._last_few.median()
        return level + self._rise * (self._level_steps() + 1) / 2

    def excursion(self, step: int, loss: float) -> Excursion | None:
        """Return the excursion that begins at this step; None if none does."""
        if self._count < self._warmup:
            return self._opening(step, loss)
        level = self._level()
        threshold = self._threshold(self._sigma, level)
        if loss > level + threshold or not math.isfinite(loss):
            return self._begin(onset=step, level=level, threshold=threshold, proof=self.proof)
        if self._count % self._stride == 0 and self._has_risen():
            return self._slow_rise()
        return None

    def _opening(self, step: int, loss: float) -> Excursion | None:
        """Return the excursion that begins in the first steps, where no noise is known yet; None if none does."""
        if not math.isfinite(loss):
            return self._begin(onset=step, level=0.0, threshold=math.inf, proof=math.inf)
        highest = max(self._losses, default=0.0)
        if 0 < highest * (1 + OPENING) < loss:
            return self._begin(onset=step, level=highest, threshold=OPENING * highest, proof=math.inf)
        return None

    def _begin(self, *, onset: int, level: float, threshold: float, proof: float) -> Excursion:
        return Excursion(
            onset=onset,
            level=level,
            sigma=self._sigma,
            threshold=threshold,
            proof=proof,
            window=self._window,
            patience=self._patience,
        )

    def _delta_at(self, level: float) -> float:
        if self._delta is not None:
            return self._delta
        if (level, self._sigma) != self._known_for:  # a step asks for the same again and again
            self._known_for, self._known = (level, self._sigma), usual_delta(level, self._first, self._sigma)
        return self._known

    def _units(self, level: float) -> tuple[float, float]:
        """Return what the tails are in: kσ, and max(kσ, δ). Noise that has become less is known by the first, and the
        slow end of a spike on a curve almost without noise by the second: the lesser reach counts.
        """
        return self._k * self._sigma, max(self._k * self._sigma, self._delta_at(level))

    def _threshold(self, sigma: float, level: float) -> float:
        return min(max(self._k * sigma, self._delta_at(level)), self._ceiling)

    def _has_risen(self) -> bool:
        """Return whether the level itself is above its lowest by more than the thresholds."""
        if self._count < self._history or len(self._levels) <= RISE_WINDOWS * LOOKS:
            return False
        low = min(self._levels[-LONG * LOOKS :])
        rise = self._levels[-1] - low
        return rise > self._threshold(self._sigma, low) and rise > self._slow_threshold()

    def _slow_threshold(self) -> float:
        """Return how far the level has to rise for a slow rise: by the threshold and 2δ, beyond its usual drift.

        The threshold takes the level's usual rise over a window (the upper quartile, over that of the normal
        distribution) instead of σ where that is larger. Usual are the rises before the lowest level, if any are known:
        the rise itself is not usual.
        """
        since = self._levels[-LONG * LOOKS :][::-1]
        low = min(since)
        looks = since.index(low)
        before = len(self._rises) - looks
        rises = np.frombuffer((self._rises[:before] if before > 0 else self._rises)[-LONG * LOOKS :])
        drift, usual = float(np.median(rises)), float(np.quantile(rises, 0.75)) / QUARTILE
        threshold = max(self._threshold(max(self._sigma, usual), low), PROOF_DELTAS * self._delta_at(low))
        return min(threshold + max(drift, 0.0) * looks / LOOKS, self._ceiling)

    def _slow_rise(self) -> Excursion:
        """Return the excursion of the level above its lowest, from where it was last within half the threshold."""
        levels, steps = self._levels[-LONG * LOOKS :], self._look_steps[-LONG * LOOKS :]
        low, threshold = min(levels), self._slow_threshold()
        onset = max(step for step, level in zip(steps, levels, strict=True) if level <= low + threshold / 2)
        event = self._begin(onset=onset, level=low, threshold=threshold, proof=threshold)
        for step, loss in zip(self._steps, self._losses, strict=True):
            if step >= onset:
                event.add(step, loss)
        event.prove()
        return event

    def add(self, step: int, loss: float) -> None:
        """Add a calm step; zeros before the first loss are none: nothing was measured there."""
        if self._count == 0 and loss == 0:
            return
        if self._count >= self._warmup:
            level = self._level()
            excess = loss - level
            self._excesses.append(excess)
            for unit, tail in zip(self._units(level), self._tails, strict=True):
                tail.add(excess / unit if unit > 0 else 0.0)
        if 0 < self._count < self._history and loss != self._losses[-1]:
            self._unit = min(self._unit, abs(loss - self._losses[-1]))
        self._steps.append(step)
        self._losses.append(loss)
        self._count += 1
        steps = self._level_steps()
        self._nearest.add(loss, steps)
        if self._count <= self._history:  # later nobody looks at them
            self._last_few.add(loss, short_steps(steps))
        if self._count == self._warmup:
            self._first = self._level()
        if self._count >= self._warmup and self._count % min(self._stride, max(1, self._count // EARLY_LOOKS)) == 0:
            self._look(step + 1)

    def _level_steps(self) -> int:
        """Return how many steps the level is the median of: an odd number."""
        return min(self._window // LEVEL_PART, max(LEAST_LEVEL_STEPS, self._count // LEVEL_PART)) | 1

    def _look(self, step: int) -> None:
        """Estimate σ from the steps before this one."""
        losses = np.frombuffer(self._losses[-self._history :])[None]
        if self._count < self._history:
            (sigma,) = early_noise(losses, self._level(), self._window)
            self._rise = max(0.0, slope(losses[0, -self._window :]))
        else:
            excesses = np.frombuffer(self._excesses[-SPREAD * self._window :])[None]
            (sigma,) = noise_about(excesses, losses, self._window)
        self._take_estimate(step, float(sigma) or self._rounding(), self._level())

    def _rounding(self) -> float:
        """Return the noise that rounding hides where all losses are equal: half the unit of the log."""
        return self._unit / 2 if self._unit < math.inf else 0.0

    def _take_estimate(self, step: int, sigma: float, level: float) -> None:
        """Set σ and, at a look, note the level, its rise over a window, and the largest score."""
        self._sigma = sigma
        if self._count % self._stride == 0:
            self._levels.append(level)
            if len(self._levels) > LOOKS:
                self._rises.append(level - self._levels[-1 - LOOKS])
            self._look_steps.append(step)
            for tail in self._tails:
                tail.look()
            self._trim()

    def _trim(self) -> None:
        """Drop what is too old to be used; each array is cut only when it is twice too long."""
        far = 2 * LONG * self._window
        if len(self._losses) > 2 * far:
            for kept in (self._steps, self._losses, self._excesses):
                del kept[:-far]
        if len(self._levels) > 4 * LONG * LOOKS:
            del self._levels[: -2 * LONG * LOOKS], self._look_steps[: -2 * LONG * LOOKS]
        if len(self._rises) > 4 * LONG * LOOKS:
            del self._rises[: -2 * LONG * LOOKS]

    def forget_levels(self) -> None:
        """Forget the levels so far, so that a slow rise can only start after the last spike."""
        del self._levels[:], self._look_steps[:]

    def add_calm(self, step: int, losses: Array) -> int:
        """Add the losses before the first that begins an excursion, and return how many; `step` is that of the first.

        Gives exactly what adding them one by one gives, but estimates everything for all losses at once.
        """
        if self._count < self._history:
            return self._add_one_by_one(step, losses[: self._history - self._count])
        if self.excursion(step, float(losses[0])) is not None:
            return 0
        window, stride, steps, count = self._window, self._stride, self._level_steps(), len(losses)
        known = np.concatenate([np.frombuffer(self._losses[-self._history :]), losses])
        first = stride - self._count % stride
        looks = np.arange(first, count + 1, stride)  # after how many of the losses
        with np.errstate(invalid="ignore"):  # what follows a loss that is not finite is not used
            levels = sliding_medians(known[self._history - steps :], steps)  # before each loss, and after the last
            excesses = losses - levels[:-1]
            recent = np.concatenate([np.frombuffer(self._excesses[-SPREAD * window :]), excesses])
            last = sliding_window_view(recent, SPREAD * window)[first::stride]
            estimates = noise_about(last, sliding_window_view(known, self._history)[first::stride], window)
            estimates[estimates == 0] = self._rounding()
            sigmas = np.repeat(np.append(self._sigma, estimates), np.diff(looks, prepend=0, append=count))
            least = usual_deltas(levels[:-1], self._first, sigmas) if self._delta is None else self._delta
            units = self._k * sigmas, np.maximum(self._k * sigmas, least)
            above = (losses > levels[:-1] + np.minimum(units[1], self._ceiling)) | ~np.isfinite(losses)
        calm = int(above.argmax()) if above.any() else count
        looks = looks[looks <= calm]
        before = self._count
        taken = self._take_estimates(step, looks, estimates[: len(looks)], levels[looks])
        start = int(looks[taken - 1]) if taken else 0
        if taken and self._has_risen():
            calm = start
        self._count = before + calm
        for unit, tail in zip(units, self._tails, strict=True):
            scores = np.divide(excesses[:calm], unit[:calm], out=np.zeros(calm), where=unit[:calm] > 0)
            tail.extend(scores, looks[:taken])
        self._extend(step, losses[:calm], excesses[:calm])
        self._nearest = SortedWindow(self._losses[-steps:])
        return calm

    def _take_estimates(self, step: int, looks: npt.NDArray[np.int64], sigmas: Array, levels: Array) -> int:
        """Take the estimates at many looks, up to one after which the level has risen; return how many were taken.

        Between the looks after which it may have, all are taken at once.
        """
        taken, before = 0, self._count
        if not len(looks):
            return 0
        for end in [*(np.flatnonzero(self._may_have_risen(sigmas, levels)) + 1).tolist(), len(looks)]:
            if end == taken:
                continue
            part = slice(taken, end)
            since = np.concatenate([self._levels[-LOOKS:], levels[part]])
            self._levels.frombytes(levels[part].tobytes())
            self._rises.frombytes((since[LOOKS:] - since[:-LOOKS]).tobytes())
            self._look_steps.frombytes((step + looks[part]).tobytes())
            self._sigma, self._count = float(sigmas[end - 1]), before + int(looks[end - 1])
            self._trim()
            taken = end
            if self._has_risen():
                break
        return taken

    def _may_have_risen(self, sigmas: Array, levels: Array) -> npt.NDArray[np.bool_]:
        """Return after which looks the level is above its lowest by the least that a slow rise can be."""
        before = self._levels[1 - LONG * LOOKS :]
        known = np.concatenate([np.full(LONG * LOOKS - 1 - len(before), np.inf), before, levels])
        lows = sliding_window_view(known, LONG * LOOKS).min(axis=1)
        deltas = usual_deltas(lows, self._first, sigmas) if self._delta is None else self._delta
        may: npt.NDArray[np.bool_] = levels - lows > np.minimum(
            np.maximum(self._k * sigmas, PROOF_DELTAS * deltas), self._ceiling
        )
        return may

    def state(self) -> State:
        """Return what is needed to go on: of each array, the last entries that are ever looked at."""
        far, looks = (LONG + 1) * self._window, 2 * LONG * LOOKS
        return {
            "count": self._count,
            "steps": self._steps[-far:],
            "losses": self._losses[-far:],
            "excesses": self._excesses[-SPREAD * self._window :],
            "tails": [tail.state() for tail in self._tails],
            "levels": self._levels[-looks:],
            "look_steps": self._look_steps[-looks:],
            "rises": self._rises[-looks:],
            "nearest": self._nearest.values(),
            "last_few": self._last_few.values(),
            "sigma": self._sigma,
            "first": self._first,
            "rise": self._rise,
            "unit": self._unit,
        }

    def restore(self, state: State) -> None:
        """Go on from a state in plain data; raise ValueError, TypeError or KeyError if it is none."""
        self._count = whole(state["count"])
        self._steps = array("q", map(whole, state["steps"]))
        self._look_steps = array("q", map(whole, state["look_steps"]))
        self._losses, self._excesses = array("d", reals(state["losses"])), array("d", reals(state["excesses"]))
        for tail, part in zip(self._tails, state["tails"], strict=True):
            tail.restore(part)
        self._levels, self._rises = array("d", reals(state["levels"])), array("d", reals(state["rises"]))
        self._nearest = SortedWindow(reals(state["nearest"]))
        self._last_few = SortedWindow(reals(state["last_few"]))
        self._sigma, self._first, self._rise, self._unit = (
            real(state[name]) for name in ("sigma", "first", "rise", "unit")
        )

    def _add_one_by_one(self, step: int, losses: Array) -> int:
        for taken, loss in enumerate(losses.tolist()):
            if self.excursion(step + taken, loss) is not None:
                return taken
            self.add(step + taken, loss)
        return len(losses)

    def _extend(self, step: int, losses: Array, excesses: Array) -> None:
        self._steps.frombytes(np.arange(step, step + len(losses), dtype=np.int64).tobytes())
        self._losses.frombytes(losses.tobytes())
        self._excesses.frombytes(excesses.tobytes())


def short_steps(steps: int) -> int:
    """Return of how many of the last `steps` losses the short median is taken: an odd number."""
    return max(LEAST_LEVEL_STEPS, steps // SHORT_PART) | 1


def slope(losses: Array) -> float:
    """Return by how much the losses rise in a step, at least: from the median of each third to that of the next."""
    third = len(losses) // 3
    parts = losses[:third], losses[(len(losses) - third) // 2 :][:third], losses[-third:]
    first, middle, last = (float(np.sort(part)[third // 2]) for part in parts)
    return 2 * min(middle - first, last - middle) / (len(losses) - third)
