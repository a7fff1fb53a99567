"""Finds the spikes of a loss curve: excursions of the loss above its baseline. Pure numpy, for one loss per step."""

import math
from collections import deque
from collections.abc import Callable
from functools import partial
from typing import TypedDict, Unpack

import numpy as np
import numpy.typing as npt

from s3bench.spikes.baseline import Baseline
from s3bench.spikes.excursion import BLIP_STEPS, Excursion, Spike
from s3bench.spikes.relapse import Relapse
from s3bench.spikes.state import VERSION, State, plain, real, reals, sealed, whole

K = 6.0  # the usual threshold, in σ
SMALLEST_BLOCK, LARGEST_BLOCK = 2**8, 2**16  # steps taken together: after a spike, and when all has long been calm

Array = npt.NDArray[np.float64]


class DetectorParameters(TypedDict, total=False):
    """The detector's parameters; SpikeMonitor has their meaning, ranges and defaults."""

    k: float
    delta: float | None
    ceiling: float
    window: int
    warmup: int
    settle: int
    patience: int


def find_spikes(loss: npt.ArrayLike, **parameters: Unpack[DetectorParameters]) -> list[Spike]:
    """Find the spikes of a loss curve, in order.

    A step is *above* if its loss is not finite, or exceeds level + max(kσ, δ), or exceeds level + ceiling. Level and σ
    are estimated from the steps before, without the spikes among them (see baseline.py).

    A spike begins at a step that is above if what follows proves it: a loss beyond the ceiling, or an excess that the
    tail of the noise would not give, or n excesses in a row whose sum over √n it would not give. A spike also begins
    where the level itself has risen that far above its lowest in the last four windows.

    While a spike lasts, level and σ are frozen. It ends where `settle` steps in a row are under half the threshold, or
    where the loss stays at another level, or where it is nine tenths of the way back and another spike begins.

    Args:
        loss: shape (steps,), one value per step; a value that is not finite is above.
        **parameters: k, delta, ceiling, window, warmup, settle and patience, as in SpikeMonitor.

    Returns:
        The spikes, with steps as indices into `loss`.

    Raises:
        ValueError: the loss is not one-dimensional, or a parameter is out of its range.

    Example:
        >>> loss = [2.0 + 0.01 * (step % 3) for step in range(500)]
        >>> loss[200:210] = [4.0] * 10
        >>> [(spike.onset, spike.end, spike.kind) for spike in find_spikes(loss, k=6.0)]
        [(200, 210, 'recovered')]
    """
    values = np.asarray(loss, dtype=np.float64)
    if values.ndim != 1:
        raise ValueError(f"loss has shape {values.shape}; it must be one-dimensional, one value per step")
    monitor = SpikeMonitor(**parameters)
    spikes = monitor.extend(values)
    last = monitor.unfinished()
    return spikes if last is None else [*spikes, last]


def baselines(loss: npt.ArrayLike, **parameters: Unpack[DetectorParameters]) -> tuple[Array, Array]:
    """Return the level and the threshold that each loss is compared with, for figures.

    Takes the losses one by one, so it is slower than find_spikes.

    Args:
        loss: shape (steps,), one value per step.
        **parameters: as in SpikeMonitor.

    Returns:
        The level and the threshold, each of shape (steps,). A loss is above if it exceeds their sum. Both are NaN in
        the first steps, and frozen while a spike lasts.

    Raises:
        ValueError: a parameter is out of its range.

    Example:
        >>> level, threshold = baselines([2.0] * 10)
        >>> float(level[9]), float(threshold[9])
        (2.0, 0.1)
    """
    monitor = SpikeMonitor(**parameters)
    seen = []
    for value in np.asarray(loss, dtype=np.float64).tolist():
        seen.append((monitor.level, monitor.threshold))
        monitor.add(value)
    levels, thresholds = np.array(seen).reshape(-1, 2).T
    return levels, thresholds


class SpikeMonitor:
    """Finds the spikes of a curve while it is being made: the same ones as find_spikes.

    Args:
        k: threshold in σ; above 0.
        delta: smallest threshold δ, in the loss's unit, from 0 to the ceiling; None for one in the loss's own scale:
            0.1, but at least 1% and at most 10% of the level.
        ceiling: largest threshold, in the loss's unit; above 0. A loss this far above its level is a spike, however
            noisy the curve is.
        window: steps from which σ is estimated; 20 or more.
        warmup: steps without a verdict at the start; from 4 to `window`.
        settle: how many steps in a row under half the threshold end a spike; from 1 to `patience`.
        patience: for how many steps the loss stays at another level before that becomes its baseline.

    Raises:
        ValueError: a parameter is out of its range.

    Example:
        >>> monitor = SpikeMonitor()
        >>> for loss in [2.0] * 100 + [4.0] * 10 + [2.0] * 5:
        ...     if spike := monitor.add(loss):
        ...         print(spike.onset, spike.end, spike.kind)
        100 110 recovered
    """

    def __init__(
        self,
        *,
        k: float = K,
        delta: float | None = None,
        ceiling: float = math.inf,
        window: int = 100,
        warmup: int = 5,
        settle: int = 5,
        patience: int = 300,
    ) -> None:
        in_range = k > 0 and 0 <= (delta or 0) <= ceiling and ceiling > 0
        if not (in_range and 4 <= warmup <= window and window >= 20 and 1 <= settle <= patience):
            raise ValueError(
                f"k {k}, delta {delta}, ceiling {ceiling}, window {window}, warmup {warmup}, settle {settle}, "
                f"patience {patience}: these must satisfy k > 0, 0 <= delta <= ceiling, ceiling > 0, "
                "4 <= warmup <= window, window >= 20, 1 <= settle <= patience"
            )
        self._parameters: DetectorParameters = {
            "k": float(k),
            "delta": None if delta is None else float(delta),
            "ceiling": float(ceiling),
            "window": int(window),
            "warmup": int(warmup),
            "settle": int(settle),
            "patience": int(patience),
        }
        self._new_baseline: Callable[[], Baseline] = partial(
            Baseline,
            k=float(k),
            delta=self._parameters["delta"],
            ceiling=float(ceiling),
            window=int(window),
            warmup=int(warmup),
            patience=int(patience),
        )
        self._window, self._settle, self._patience = int(window), int(settle), int(patience)
        self._steps = 0
        self._first = math.nan
        self._last: deque[float] = deque(maxlen=self._settle)
        self._baseline = self._new_baseline()
        self._event: Excursion | None = None
        self._new_relapse: Callable[[], Relapse] = partial(
            Relapse, self._new_baseline, window=int(window), settle=int(settle)
        )
        self._relapse = self._new_relapse()

    @property
    def onset(self) -> int | None:
        """The onset of the spike in progress; None if there is none."""
        return self._event.onset if self._event and self._event.is_proven else None

    @property
    def level(self) -> float:
        """The level that the next loss is compared with, frozen while a spike lasts; NaN in the first steps."""
        return self._event.level if self._event else self._baseline.level

    @property
    def threshold(self) -> float:
        """By how much a loss must exceed the level, max(kσ, δ) but at most the ceiling; NaN in the first steps."""
        return self._event.threshold if self._event else self._baseline.threshold

    @property
    def proof(self) -> float:
        """By how much a single loss must exceed the level to be a spike by itself; NaN in the first steps."""
        return self._event.proof if self._event else self._baseline.proof

    def add(self, loss: float) -> Spike | None:
        """Add the loss of the next step; return the spike that it ends, or None if it ends none."""
        step = self._steps
        if step == 0:
            self._first = float(loss)
        self._steps += 1
        self._last.append(float(loss))
        if self._event is None:
            self._event = self._baseline.excursion(step, loss)
            if self._event is None:
                self._baseline.add(step, loss)
                return None
        event = self._event
        if event.is_proven and (relapse := self._relapse.add(event, step, loss)) is not None:
            first, self._event, self._baseline = relapse
            self._baseline.forget_levels()
            self._relapse = self._new_relapse()
            return first
        event.add(step, loss)
        if event.is_over(self._settle):
            self._event, self._relapse = None, self._new_relapse()
            if event.is_proven:
                self._baseline.forget_levels()
            for calm_step, value in event.last(event.calm if event.is_proven else self._window):
                self._baseline.add(calm_step, value)
            return event.spike(step - event.calm + 1) if event.is_proven else None
        if event.stays():
            self._event, self._relapse = None, self._new_relapse()
            self._baseline = self._new_baseline()
            for new_step, value in event.last(self._window):
                self._baseline.add(new_step, value)
            self._baseline.forget_levels()
            return event.spike(step + 1, "level_shift")
        return None

    def extend(self, losses: Array) -> list[Spike]:
        """Add the losses of many steps: the same as `add` for each, some twenty times faster where all is calm."""
        spikes = []
        start, size = 0, SMALLEST_BLOCK
        while start < len(losses):
            if self._event is None:
                calm = self._baseline.add_calm(self._steps, losses[start : start + size])
                if calm:
                    self._note(losses[start : start + calm])
                    start += calm
                    size = min(2 * size, LARGEST_BLOCK)
                    continue
            size = SMALLEST_BLOCK
            spike = self.add(float(losses[start]))
            start += 1
            if spike is not None:
                spikes.append(spike)
        return spikes

    def _note(self, losses: Array) -> None:
        if self._steps == 0:
            self._first = float(losses[0])
        self._steps += len(losses)
        self._last.extend(losses[-self._settle :].tolist())

    def state_dict(self) -> State:
        """Return the state in plain data, to be saved with a checkpoint: numbers, strings, lists and None.

        Numbers that are not finite are saved by their names, so that any JSON can hold them. It takes some 60 kB.

        Example:
            >>> stopped, resumed = SpikeMonitor(), SpikeMonitor()
            >>> for loss in [2.0] * 100 + [4.0]:
            ...     _ = stopped.add(loss)
            >>> resumed.load_state_dict(stopped.state_dict())
            >>> resumed.onset
            100
        """
        state = {
            "parameters": self._parameters,
            "steps": self._steps,
            "first": self._first,
            "last": self._last,
            "baseline": self._baseline.state(),
            "event": None if self._event is None else self._event.state(),
            "relapse": None if self._event is None else self._relapse.state(),
        }
        return sealed(state)

    def load_state_dict(self, state: State) -> None:
        """Go on from a saved state: all that follows is found as if the monitor had never stopped.

        Raises:
            ValueError: the state is that of other parameters or of another version, or damaged. The monitor then stays
                as it was.
        """
        if not isinstance(state, dict) or "version" not in state:
            raise ValueError("this is no state of a SpikeMonitor; state_dict() returns one")
        if state["version"] != VERSION:
            raise ValueError(f"the state has version {state['version']!r}; this SpikeMonitor reads version {VERSION}")
        own, saved = plain(self._parameters), state.get("parameters")
        if isinstance(saved, dict) and set(saved) == set(own) and saved != own:
            others = ", ".join(f"{name} {saved[name]}, here {own[name]}" for name in own if saved[name] != own[name])
            raise ValueError(f"the state is of a SpikeMonitor with other parameters: {others}")
        made = SpikeMonitor(**self._parameters)
        try:
            made._restore(state)
            is_whole = made.state_dict() == state
        except (ValueError, TypeError, KeyError, AttributeError, OverflowError):
            is_whole = False
        if not is_whole:
            raise ValueError("the state is damaged: its digest does not fit what it holds")
        vars(self).update(vars(made))

    def _restore(self, state: State) -> None:
        self._steps, self._first = whole(state["steps"]), real(state["first"])
        self._last.extend(reals(state["last"]))
        self._baseline.restore(state["baseline"])
        if (event := state["event"]) is not None:
            self._event = Excursion.of(event, window=self._window, patience=self._patience)
            self._relapse.restore(state["relapse"], patience=self._patience)

    def unfinished(self) -> Spike | None:
        """Return the spike in progress as if the curve ended here; None if there is none.

        One loss that is back suffices then to end a blip, and two to end a longer spike.
        """
        event = self._event
        if event is None or not event.is_proven:
            return None
        end = self._steps - event.calm
        if event.calm >= (1 if end - event.onset <= BLIP_STEPS else 2):
            return event.spike(end)
        if not math.isfinite(self._last[-1]) or all(value > self._first for value in self._last):
            return event.spike(self._steps, "diverged")
        return event.spike(self._steps, "blip" if self._steps - event.onset <= BLIP_STEPS else "level_shift")
