"""Computes what a loss must exceed to be, or to prove, a spike."""

from typing import NamedTuple, Unpack

import numpy as np
import numpy.typing as npt

from s3bench.spikes import SpikeMonitor
from s3bench.spikes.detector import DetectorParameters

Array = npt.NDArray[np.float64]


class Bounds(NamedTuple):
    """What each loss is compared with, shape (n,); NaN in the first steps, frozen while an excursion lasts.

    Attributes:
        level: the level.
        necessary: a spike begins with a loss above this, unless the level itself rises slowly.
        sufficient: a single loss above this is a spike; several in a row that lie between the two may be one.
    """

    level: Array
    necessary: Array
    sufficient: Array


def spike_bounds(loss: npt.ArrayLike, **parameters: Unpack[DetectorParameters]) -> Bounds:
    """Return the bounds of a loss, shape (n,), for the detector's parameters.

    Example:
        >>> bounds = spike_bounds([2.0] * 10, delta=0.1)
        >>> float(bounds.level[9]), float(bounds.necessary[9]), float(bounds.sufficient[9])
        (2.0, 2.1, 2.2)
    """
    monitor = SpikeMonitor(**parameters)
    seen = []
    for value in np.asarray(loss, dtype=np.float64).tolist():
        seen.append((monitor.level, monitor.threshold, monitor.proof))
        monitor.add(value)
    level, threshold, proof = np.array(seen).reshape(-1, 3).T
    level[~np.isfinite(threshold)] = np.nan  # an excursion from the first steps has left no level
    return Bounds(level, level + threshold, level + proof)
