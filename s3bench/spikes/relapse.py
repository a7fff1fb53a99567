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
        self._baseline: Baseline | None = None
        self._excursion: Excursion | None = None  # what may be the second spike
        self._first: Spike | None = None  # the first one, as if it ended where that begins

    def add(self, event: Excursion, step: int, loss: float) -> tuple[Spike, Excursion, Baseline] | None:
        """Add the loss of the next step, before the event does.

        Returns:
            Once the second spike is proven the first, which ends where that begins, the second and its baseline.
        """
        if self._excursion is None:
            self._follow(event, step, loss)
        else:
            self._excursion.add(step, loss)
        if self._excursion is None or self._baseline is None or self._first is None:
            return None
        if self._excursion.is_proven:
            return self._first, self._excursion, self._baseline
        if self._excursion.calm == self._settle:
            for calm_step, value in self._excursion.last(self._window):
                self._baseline.add(calm_step, value)
            self._excursion = self._first = None
        return None

    def _follow(self, event: Excursion, step: int, loss: float) -> None:
        """Follow a loss that is nearly back, or begin an excursion from there."""
        left = LEFT * event.finite_height()
        if step - event.peak <= self._window:
            self._baseline = None
        elif self._baseline is None and loss - event.level <= left:
            self._baseline = self._new_baseline()
            for past_step, value in event.last(self._window):
                if math.isfinite(value):
                    self._baseline.add(past_step, value)
        if self._baseline is None:
            return
        if self._baseline.level - event.level <= left:
            begun = self._baseline.excursion(step, loss)
            if begun is not None and begun.onset == step:  # and not a slow rise, which began long before
                begun.add(step, loss)
                self._excursion, self._first = begun, event.spike(step)
                return
        if math.isfinite(loss):
            self._baseline.add(step, loss)

    def state(self) -> State:
        """Return what is needed to go on."""
        return {
            "baseline": None if self._baseline is None else self._baseline.state(),
            "excursion": None if self._excursion is None else self._excursion.state(),
            "first": None if self._first is None else asdict(self._first),
        }

    def restore(self, state: State, *, patience: int) -> None:
        """Go on from a state in plain data; raise ValueError, TypeError or KeyError if it is none."""
        if (baseline := state["baseline"]) is not None:
            self._baseline = self._new_baseline()
            self._baseline.restore(baseline)
        if (excursion := state["excursion"]) is not None:
            self._excursion = Excursion.of(excursion, window=self._window, patience=patience)
        if (first := state["first"]) is not None:
            self._first = Spike(
                onset=whole(first["onset"]),
                peak=whole(first["peak"]),
                end=whole(first["end"]),
                height=real(first["height"]),
                kind=str(first["kind"]),
                sigmas=real(first["sigmas"]),
                area=real(first["area"]),
            )
