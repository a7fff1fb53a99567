"""Watches the losses that a trainer hands on: what to log about their spikes, and when to stop."""

import math
from bisect import bisect_right
from collections.abc import Iterable
from typing import Unpack

from s3bench.spikes import Spike, SpikeMonitor
from s3bench.spikes.detector import DetectorParameters
from s3bench.spikes.state import State, real, whole

KINDS = ("blip", "recovered", "level_shift", "diverged")
DIVERGED_AFTER = 20  # losses in a row
PREFIX = "spike/"


class Watch:
    """Finds spikes as losses come in, and counts them by kind.

    A spike has diverged, as long as a training lasts, once `diverged_after` losses in a row within it are not finite or
    above the first loss.

    Args:
        stop_on: the kinds of spikes after which the training is to stop.
        diverged_after: how many losses; 1 or more.
        **parameters: those of SpikeMonitor.

    Attributes:
        stop: why the training is to stop; None as long as it is not.

    Raises:
        ValueError: a kind is unknown, or a parameter is out of its range.
    """

    def __init__(
        self,
        stop_on: Iterable[str] = (),
        diverged_after: int = DIVERGED_AFTER,
        **parameters: Unpack[DetectorParameters],
    ) -> None:
        self._stop_on = (stop_on,) if isinstance(stop_on, str) else tuple(stop_on)
        for kind in self._stop_on:
            if kind not in KINDS:
                raise ValueError(f"stop_on {kind!r} must be one of: {', '.join(KINDS)}")
        if diverged_after < 1:
            raise ValueError(f"diverged_after {diverged_after} must be at least 1")
        self._diverged_after = diverged_after
        self._monitor = SpikeMonitor(**parameters)
        self._steps = Steps()
        self._counts = dict.fromkeys(KINDS, 0)
        self._first = math.nan
        self._astray = 0  # losses in a row, within a spike, that are not finite or above the first
        self._is_logged = False  # whether the onset of the spike under way is
        self.stop: str | None = None

    def add(self, step: int, loss: float) -> dict[str, float]:
        """Add the loss of a step, and return what is to be logged: where a spike begins, and what it was once it ends.

        Numbers that are not finite are left out, as some loggers cannot take them.
        """
        if not len(self._steps):
            self._first = loss
        self._steps.add(step)
        spike = self._monitor.add(loss)
        if spike is not None:
            self._is_logged, self._astray = False, 0
            return self._ended(spike)
        onset = self._monitor.onset
        if onset is None:
            return {}
        self._astray = 0 if loss <= self._first < math.inf and math.isfinite(loss) else self._astray + 1
        values: dict[str, float] = {}
        if not self._is_logged:
            self._is_logged = True
            values[f"{PREFIX}onset"] = self._steps[onset]
        if self._astray == self._diverged_after:
            values |= self._counted("diverged", f"{self._astray} losses in a row are not finite or above the first")
        return values

    def _ended(self, spike: Spike) -> dict[str, float]:
        onset, peak, end = (self._steps[at] for at in (spike.onset, spike.peak, spike.end))
        values: dict[str, float] = {f"{PREFIX}onset": onset, f"{PREFIX}peak": peak, f"{PREFIX}end": end}
        if math.isfinite(spike.height):
            values[f"{PREFIX}height"] = spike.height
        return values | self._counted(spike.kind, f"onset {onset}, end {end}, height {spike.height:.4g}")

    def _counted(self, kind: str, what: str) -> dict[str, float]:
        self._counts[kind] += 1
        if kind in self._stop_on and self.stop is None:
            self.stop = f"a spike of the kind {kind!r} stops the training ({what})"
        return {f"{PREFIX}{kind}": self._counts[kind]}

    def state_dict(self) -> State:
        """Return the state in plain data; why a training stopped is no part of it, as a resumed one goes on."""
        return {
            "monitor": self._monitor.state_dict(),
            "steps": [list(part) for part in self._steps.parts],
            "counts": dict(self._counts),
            "first": self._first if math.isfinite(self._first) else str(self._first),
            "astray": self._astray,
            "is_logged": self._is_logged,
        }

    def load_state_dict(self, state: State) -> None:
        """Go on from a saved state.

        Raises:
            ValueError: it is damaged, or that of other detector parameters. The watch then stays as it was.
        """
        try:
            steps = Steps([(whole(index), whole(step), whole(apart)) for index, step, apart in state["steps"]])
            steps.count = whole(state["monitor"]["steps"])
            counts = {kind: whole(state["counts"][kind]) for kind in KINDS}
            first, astray, is_logged = real(state["first"]), whole(state["astray"]), state["is_logged"] is True
            monitor = state["monitor"]
        except (ValueError, TypeError, KeyError) as error:
            raise ValueError("the state of the spike callback is damaged") from error
        self._monitor.load_state_dict(monitor)
        self._steps, self._counts = steps, counts
        self._first, self._astray, self._is_logged = first, astray, is_logged


class Steps:
    """Remembers the step of each loss; losses that are equally far apart take no memory.

    Args:
        parts: (index, step, distance to the next step) where the distance changes.
    """

    def __init__(self, parts: Iterable[tuple[int, int, int]] = ()) -> None:
        self.parts = list(parts)
        self.count = 0

    def __len__(self) -> int:
        return self.count

    def add(self, step: int) -> None:
        """Add the step of the next loss."""
        if not self.parts or self[self.count] != step:
            if self.parts and self.parts[-1][0] == self.count - 1:
                index, last, _ = self.parts[-1]
                self.parts[-1] = (index, last, step - last)
            else:
                self.parts.append((self.count, step, 1))
        self.count += 1

    def __getitem__(self, index: int) -> int:
        """Return the step of a loss, or what the next one is expected to be."""
        first, step, apart = self.parts[bisect_right(self.parts, index, key=lambda part: part[0]) - 1]
        return step + (index - first) * apart
