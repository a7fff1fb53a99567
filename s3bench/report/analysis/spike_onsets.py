"""Update sizes before each spike, relative to their usual size, and traces of the steps around it."""

from collections.abc import Mapping, Sequence

import numpy as np
import numpy.typing as npt

BEFORE = 5  # steps up to the onset: loss[onset] is the first that the update of step onset - 1 has changed
USUAL = (50, 10)  # steps before the onset, from and to, over which the usual size is measured
NEEDED = 20  # measured steps among them
AROUND = 50  # steps on either side of an onset that are kept for the figures
KEPT = 50  # spikes of a run for which they are kept: 60 kB

Array = npt.NDArray[np.float64]
Traces = npt.NDArray[np.float32]


def growth(sizes: npt.ArrayLike, onsets: Sequence[int]) -> Array:
    """Return log(mean size of the last updates before an onset / median usual size) of each onset that has both.

    Args:
        sizes: shape (steps,), of each step's update; NaN where it was not measured.
        onsets: of the spikes, as steps.
    """
    values = np.asarray(sizes, dtype=np.float64)
    found = [
        np.log(values[onset - BEFORE : onset].mean() / np.median(_usual(values, onset)))
        for onset in _measured(values, onsets)
    ]
    grown: Array = np.array(found)
    return grown[np.isfinite(grown)]


def traces(steps: Mapping[str, npt.NDArray[np.float64]], onsets: Sequence[int]) -> Traces:
    """Return traces around the first KEPT onsets that `growth` can judge, shape (onsets, 3, 2 AROUND + 1).

    The three rows are the update's root mean square over its usual median, the share of coordinates whose update is
    above 1, and the loss less its usual median, from AROUND steps before the onset to AROUND after. The update of step
    -1 leads to the loss of step 0. NaN where there is no step, or no number.

    Args:
        steps: the columns update_rms, update_above_1 and loss of a run, shape (steps,).
        onsets: of its spikes, as steps.
    """
    sizes, shares, loss = steps["update_rms"], steps["update_above_1"], steps["loss"]
    found = []
    for onset in _measured(sizes, onsets)[:KEPT]:
        with np.errstate(divide="ignore", invalid="ignore", over="ignore"):
            grown = _around(sizes, onset) / np.median(_usual(sizes, onset))
            risen = _around(loss, onset) - np.median(_usual(loss, onset))
            rows = np.stack([grown, _around(shares, onset), risen]).astype(np.float32)
        rows[~np.isfinite(rows)] = np.nan
        found.append(rows)
    return np.stack(found) if found else no_traces()


def no_traces() -> Traces:
    """Return the traces of a run without onsets."""
    return np.empty((0, 3, 2 * AROUND + 1), dtype=np.float32)


def _usual(values: Array, onset: int) -> Array:
    usual = values[max(0, onset - USUAL[0]) : max(0, onset - USUAL[1])]
    return usual[np.isfinite(usual)]


def _measured(sizes: Array, onsets: Sequence[int]) -> list[int]:
    """Return the onsets before which enough usual updates and all of the last ones were measured."""
    last = {onset: sizes[max(0, onset - BEFORE) : onset] for onset in onsets}
    return [
        onset
        for onset in onsets
        if len(_usual(sizes, onset)) >= NEEDED and len(last[onset]) == BEFORE and np.isfinite(last[onset]).all()
    ]


def _around(values: Array, step: int) -> Array:
    """Return the values from AROUND steps before to AROUND after; NaN outside the run."""
    window = np.full(2 * AROUND + 1, np.nan)
    first, end = max(0, step - AROUND), min(len(values), step + AROUND + 1)
    window[first - step + AROUND : end - step + AROUND] = values[first:end]
    return window
