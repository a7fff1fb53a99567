"""How large updates are just before a spike begins, next to what they were before."""

from collections.abc import Sequence

import numpy as np
import numpy.typing as npt

BEFORE = 5  # steps up to the onset: loss[onset] is the first that the update of step onset - 1 has changed
USUAL = (50, 10)  # steps before the onset, from and to, that say what is usual
NEEDED = 20  # of them

Array = npt.NDArray[np.float64]


def growth(sizes: npt.ArrayLike, onsets: Sequence[int]) -> Array:
    """log(mean size of the last updates before an onset / median of the usual ones), of each onset that has both.

    Args:
        sizes: shape (steps,), of each step's update; NaN where it was not measured.
        onsets: of the spikes, as steps.
    """
    values, found = np.asarray(sizes, dtype=np.float64), []
    for onset in onsets:
        usual = values[max(0, onset - USUAL[0]) : max(0, onset - USUAL[1])]
        last = values[max(0, onset - BEFORE) : onset]
        usual = usual[np.isfinite(usual)]
        if len(usual) >= NEEDED and len(last) == BEFORE and np.isfinite(last).all():
            found.append(np.log(last.mean() / np.median(usual)))
    grown: Array = np.array(found)
    return grown[np.isfinite(grown)]
