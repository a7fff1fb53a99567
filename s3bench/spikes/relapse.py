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

    From `window` steps after the highest loss on, and once nine tenths of the way back, a second baseline follows the
    loss. What is a spike above it is another one, as long as its level is that far back.

    Args:
        new_baseline: makes a baseline.
        window: steps after the highest loss before which all is one spike.
        settle: how many steps in a row under half the threshold end an excursion.
    """

    def __init__(self, new_baseline: Callable[[], Baseline], *, window: int, settle: int) -> None:
        self._new_baseline, self._window, self._settle = new_baseline, window, settle
        self.baseline: Baseline | None = None
        self.excursion: Excursion | None = None  # what may be the second spike
        self.first: Spike | None = None  # the first one, as if it ended where that begins

    def add(self, event: Excursion, step: int, loss: float) -> bool:
        """Add the loss of the next step, before the event does; return whether the second spike is proven."""
        if self.excursion is None:
            self._follow(event, step, loss)
            return False
        self.excursion.add(step, loss)
        if self.excursion.calm == self._settle and not self.excursion.is_proven:
            calm = self.excursion.last(self._window)
            self.excursion = self.first = None
            for calm_step, value in calm:
                self._add(calm_step, value)
            return False
        return self.excursion.is_proven

    def _follow(self, event: Excursion, step: int, loss: float) -> None:
        """Follow a loss that is nearly back, unless another excursion begins."""
        left = LEFT * event.height
        if step - event.peak <= self._window:
            self.baseline = None
        elif self.baseline is None and loss - event.level <= left:
            self.baseline = self._new_baseline()
            for past_step, value in event.last(self._window):
                self._add(past_step, value)
        if self.baseline is None:
            return
        if self.baseline.level - event.level <= left:
            self.excursion = self.baseline.excursion(step, loss)
        if self.excursion is None:
            self._add(step, loss)
            return
        self.first = event.spike(step)
        self.excursion.add(step, loss)

    def _add(self, step: int, loss: float) -> None:
        if self.baseline is not None and math.isfinite(loss):
            self.baseline.add(step, loss)

    def state(self) -> State:
        """Return what is needed to go on."""
        return {
            "baseline": None if self.baseline is None else self.baseline.state(),
            "excursion": None if self.excursion is None else self.excursion.state(),
            "first": None if self.first is None else asdict(self.first),
        }

    def restore(self, state: State, *, patience: int) -> None:
        """Go on from a state in plain data; raise ValueError, TypeError or KeyError if it is none."""
        if (baseline := state["baseline"]) is not None:
            self.baseline = self._new_baseline()
            self.baseline.restore(baseline)
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
