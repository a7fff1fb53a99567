"""Another spike that begins before one is back: a relapse."""

import math
from collections.abc import Callable
from dataclasses import asdict

from s3bench.spikes.baseline import Baseline
from s3bench.spikes.excursion import Excursion, Spike
from s3bench.spikes.state import State, real, whole

LEFT = 0.1  # of its height may be left of the first spike; more is another hump of the same


class Relapse:
    """Watches a spike under way for another one, above where the loss has come to since the highest.

    From the first one's highest loss on, a second baseline follows the loss. Once it knows `window` steps, and lies
    nine tenths of the way back to the level before, what would be a spike above it is one.

    Args:
        new_baseline: makes a baseline.
        window: steps since the highest loss before which all is one spike.
        settle: how many steps in a row under half the threshold end an excursion.
    """

    def __init__(self, new_baseline: Callable[[], Baseline], *, window: int, settle: int) -> None:
        self._new_baseline, self._window, self._settle = new_baseline, window, settle
        self.baseline = new_baseline()
        self._steps = 0  # that it has followed
        self.excursion: Excursion | None = None  # what may be the second spike
        self.first: Spike | None = None  # the first one, as if it ended where that begins

    def add(self, event: Excursion, step: int, loss: float) -> bool:
        """Add the loss of the next step, before the event does; return whether the second spike is proven."""
        if self.excursion is None and self._steps >= self._window and self._is_nearly_back(event):
            self.excursion = self.baseline.excursion(step, loss)
            self.first = event.spike(step)
        if self.excursion is None:
            self._follow(event, step, loss)
            return False
        self.excursion.add(step, loss)
        if self.excursion.calm == self._settle and not self.excursion.is_proven:
            for calm_step, value in self.excursion.last(self._window):
                self._follow(event, calm_step, value)
            self.excursion = self.first = None
            return False
        return self.excursion.is_proven

    def _is_nearly_back(self, event: Excursion) -> bool:
        return self.baseline.level - event.level <= LEFT * event.height

    def _follow(self, event: Excursion, step: int, loss: float) -> None:
        if math.isfinite(loss) and loss - event.level < event.height:
            self.baseline.add(step, loss)
            self._steps += 1
        else:
            self.baseline, self._steps = self._new_baseline(), 0

    def state(self) -> State:
        """Return what is needed to go on."""
        return {
            "steps": self._steps,
            "baseline": self.baseline.state(),
            "excursion": None if self.excursion is None else self.excursion.state(),
            "first": None if self.first is None else asdict(self.first),
        }

    def restore(self, state: State, *, patience: int) -> None:
        """Go on from a state in plain data; raise ValueError, TypeError or KeyError if it is none."""
        self._steps = whole(state["steps"])
        self.baseline.restore(state["baseline"])
        if (excursion := state["excursion"]) is not None:
            self.excursion = Excursion.of(excursion, window=self._window, patience=patience)
        if (first := state["first"]) is not None:
            self.first = Spike(
                *(whole(first[name]) for name in ("onset", "peak", "end")),
                height=real(first["height"]),
                kind=str(first["kind"]),
                sigmas=real(first["sigmas"]),
                area=real(first["area"]),
            )
