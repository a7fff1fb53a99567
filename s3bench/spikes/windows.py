"""Medians of a sliding window: value by value, or of a whole series at once."""

from bisect import bisect_left, insort
from collections import deque
from collections.abc import Iterable

import numpy as np
import numpy.typing as npt
from numpy.lib.stride_tricks import sliding_window_view

AT_ONCE = 4096  # windows that are looked at together: their values fit into the processor's cache

Array = npt.NDArray[np.float64]


class SortedWindow:
    """Keeps the last values sorted."""

    def __init__(self, values: Iterable[float] = ()) -> None:
        self._recent = deque(values)
        self._sorted = sorted(self._recent)

    def add(self, value: float, size: int) -> None:
        """Add a value, and keep the last `size` values."""
        self._recent.append(value)
        insort(self._sorted, value)
        while len(self._recent) > size:
            del self._sorted[bisect_left(self._sorted, self._recent.popleft())]

    def values(self) -> list[float]:
        """Return the values in the order in which they came."""
        return [float(value) for value in self._recent]

    def largest(self) -> float:
        """Return the largest value."""
        return self._sorted[-1]

    def median(self) -> float:
        """Return the middle value; of an even number of values, the upper of the two middle ones."""
        return self._sorted[len(self._sorted) // 2]


def sliding_medians(values: Array, width: int) -> Array:
    """Return the middle value of each window, as SortedWindow does, shape (windows,); that of NaN means nothing."""
    windows = sliding_window_view(values, width)
    medians = np.empty(len(windows))
    for start in range(0, len(windows), AT_ONCE):
        part = windows[start : start + AT_ONCE]
        medians[start : start + AT_ONCE] = np.partition(part, width // 2, axis=1)[:, width // 2]
    return medians
